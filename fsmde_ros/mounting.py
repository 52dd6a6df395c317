"""How a camera is mounted, in the words a person would use: height, direction, field of view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.network_view import quarter_turns
from fsmde_ros.rig import Camera, Rig


@dataclass(frozen=True)
class Mounting:
    """Where a camera is and where it looks.

    Attributes:
        name: name of the camera.
        x, y: forward and to the left, in the vehicle frame, metres.
        height: of the camera above the road (``ground_z``), metres.
        yaw: direction of the optical axis, degrees to the left of straight ahead, -180 to 180.
        pitch: degrees above the horizon.
        roll: turn of the image about the optical axis, degrees, clockwise as seen from behind the camera.
        horizontal_fov, vertical_fov: between the edges of the rectified image, along its own x and y axes, degrees.
        level_fov: the one of the two that lies along the horizon, the vertical one of a camera on its side, degrees.
    """

    name: str
    x: float
    y: float
    height: float
    yaw: float
    pitch: float
    roll: float
    horizontal_fov: float
    vertical_fov: float
    level_fov: float


def mounting(camera: Camera, ground_z: float = 0.0) -> Mounting:
    """The mounting of a camera; ``ground_z`` as in ``Rig``, metres."""
    right, axis = camera.camera_to_vehicle[:3, 0], camera.camera_to_vehicle[:3, 2]
    x, y, z = camera.camera_to_vehicle[:3, 3]
    height, width = camera.size
    k = camera.intrinsics
    horizontal_fov = _field_of_view(k[0, 0], k[0, 2], width)
    vertical_fov = _field_of_view(k[1, 1], k[1, 2], height)
    return Mounting(
        name=camera.name,
        x=float(x),
        y=float(y),
        height=float(z - ground_z),
        yaw=float(np.degrees(np.arctan2(axis[1], axis[0]))),
        pitch=float(np.degrees(np.arcsin(np.clip(axis[2], -1, 1)))),
        roll=_roll(right, axis),
        horizontal_fov=horizontal_fov,
        vertical_fov=vertical_fov,
        level_fov=vertical_fov if quarter_turns(camera) % 2 else horizontal_fov,
    )


def mountings(rig: Rig) -> tuple[Mounting, ...]:
    """The mountings of all cameras, in the order of the rig."""
    return tuple(mounting(camera, rig.ground_z) for camera in rig.cameras)


def describe_heights(rig: Rig | None, ground_z: float) -> str:
    """Where the road is, and how high above it the cameras are, in words; without a rig, as before TF came, the road.

    ``ground_z``: height of the road in the vehicle frame, metres.
    """
    road = f"the road at z = {ground_z:.2f} m"
    if rig is None:
        return f"{road}, the heights of the cameras from TF"
    heights = [at.height for at in mountings(rig)]
    return f"{road}, the cameras {min(heights):.2f} to {max(heights):.2f} m above it"


def _roll(right: NDArray[np.float64], axis: NDArray[np.float64]) -> float:
    """Angle of the image's x axis to the horizontal, degrees; 0 for a camera that looks straight up or down."""
    level = np.cross(axis, [0.0, 0.0, 1.0])
    length = float(np.linalg.norm(level))
    if length < 1e-6:
        return 0.0
    level = level / length
    down = np.cross(axis, level)
    return float(np.degrees(np.arctan2(right @ down, right @ level)))


def _field_of_view(focal: float, centre: float, pixels: int) -> float:
    """Angle between the outer edges of the first and the last pixel, degrees."""
    return float(np.degrees(np.arctan((centre + 0.5) / focal) + np.arctan((pixels - 0.5 - centre) / focal)))
