"""Camera rigs of the town's car: nominal nuScenes and DDAD rigs, and variations for training.

Sources of the figures: the nuScenes paper (Caesar et al., CVPR 2020, figure of the sensor
set-up), the DDAD README (Toyota Research Institute) and the calibration tables both datasets
publish, rounded to what is typical of a car of the fleet; no table of a dataset is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.geometry import rigid
from fsmde_ros.rig import Camera, Rig

Array = NDArray[np.float64]

# Optical axes (x right, y down, z forward) of a camera that looks along the vehicle's x axis.
_OPTICAL_TO_FORWARD = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


@dataclass(frozen=True)
class _Mount:
    """Nominal mounting of one camera: metres, degrees (yaw to the left), pixels at full size."""

    name: str
    x: float
    y: float
    z: float
    yaw: float
    focal: float
    centre: tuple[float, float]


_NUSCENES_SIZE = (900, 1600)
_NUSCENES = (
    _Mount("cam_front", 1.70, 0.0, 1.50, 0.0, 1266.0, (815.0, 490.0)),
    _Mount("cam_front_right", 1.55, -0.50, 1.50, -55.0, 1260.0, (810.0, 495.0)),
    _Mount("cam_back_right", 1.00, -0.50, 1.55, -110.0, 1260.0, (810.0, 500.0)),
    _Mount("cam_back", 0.0, 0.0, 1.55, 180.0, 809.0, (830.0, 480.0)),
    _Mount("cam_back_left", 1.05, 0.50, 1.55, 110.0, 1260.0, (795.0, 495.0)),
    _Mount("cam_front_left", 1.55, 0.50, 1.50, 55.0, 1270.0, (825.0, 480.0)),
)

_DDAD_SIZE = (1216, 1936)
_DDAD = (
    _Mount("camera_01", 1.50, 0.30, 1.55, 0.0, 2181.0, (930.0, 615.0)),
    _Mount("camera_05", 1.50, 0.45, 1.55, 50.0, 1060.0, (965.0, 590.0)),
    _Mount("camera_06", 1.50, -0.40, 1.55, -50.0, 1060.0, (950.0, 610.0)),
    _Mount("camera_07", 1.10, 0.45, 1.55, 125.0, 1060.0, (965.0, 615.0)),
    _Mount("camera_08", 1.10, -0.45, 1.55, -125.0, 1060.0, (965.0, 620.0)),
    _Mount("camera_09", 0.15, 0.15, 1.55, 180.0, 1060.0, (945.0, 615.0)),
)


def nuscenes_rig(size: tuple[int, int] = _NUSCENES_SIZE) -> Rig:
    """Six cameras as on the nuScenes cars; the back camera has the wider lens.

    Args:
        size: (H, W) of the images; the intrinsics are scaled to it from 900 x 1600.
    """
    return Rig(tuple(_mounted(mount, _NUSCENES_SIZE) for mount in _NUSCENES)).resized(size)


def ddad_rig(size: tuple[int, int] = _DDAD_SIZE) -> Rig:
    """Six cameras as on the DDAD cars: a long lens in front, five wide ones around.

    Args:
        size: (H, W) of the images; the intrinsics are scaled to it from 1216 x 1936.
    """
    return Rig(tuple(_mounted(mount, _DDAD_SIZE) for mount in _DDAD)).resized(size)


def jittered(rig: Rig, rng: np.random.Generator) -> Rig:
    """A rig mounted by another hand: no two cars, and no two fleets, have quite the same.

    Heights change by up to 0.3 m (0.2 m of it for all cameras alike, as for another car), yaw by
    up to 5, pitch 3 and roll 1.5 degrees, focal lengths by up to 15 %, all uniformly.
    """
    lift = rng.uniform(-0.2, 0.2)
    cameras = []
    for camera in rig.cameras:
        raised = np.array([0.0, 0.0, lift + rng.uniform(-0.1, 0.1)])
        yaw, pitch, roll = np.radians([rng.uniform(-5, 5), rng.uniform(-3, 3), rng.uniform(-1.5, 1.5)])
        matrix = np.array(camera.camera_to_vehicle)
        # yaw about the vehicle's vertical, pitch and roll about the camera's own axes
        turned = _about("z", yaw) @ matrix[:3, :3] @ _about("x", pitch) @ _about("z", roll)
        matrix[:3, :3], matrix[:3, 3] = turned, matrix[:3, 3] + raised
        intrinsics = np.array(camera.intrinsics)
        intrinsics[[0, 1], [0, 1]] *= rng.uniform(0.85, 1.15)
        cameras.append(replace(camera, intrinsics=intrinsics, camera_to_vehicle=matrix))
    return replace(rig, cameras=tuple(cameras))


def random_rig(rng: np.random.Generator, size: tuple[int, int]) -> Rig:
    """Three to eight cameras around a vehicle of another kind, from a cart to a lorry.

    The cameras look outwards, about evenly spread; their heights are 0.6 to 2.6 m and their
    horizontal fields of view 45 to 110 degrees.

    Args:
        rng: source of the choices.
        size: (H, W) of the images of all cameras.
    """
    count = int(rng.integers(3, 9))
    height = rng.uniform(0.7, 2.4)
    radii = rng.uniform(0.4, 2.0), rng.uniform(0.3, 1.1)
    field = rng.uniform(60, 100)
    return _ring(
        rng,
        size,
        count,
        radii,
        first_yaw=rng.uniform(-20, 20),
        field=lambda: field if rng.random() < 0.7 else rng.uniform(45, 110),
        height=lambda: np.clip(height + rng.uniform(-0.1, 0.2), 0.6, 2.6),
        down=lambda: rng.uniform(-3, 8) if height > 1.2 else rng.uniform(-2, 2),
        roll=lambda: 0.0,
    )


def unusual_rig(rng: np.random.Generator, size: tuple[int, int]) -> Rig:
    """One to eight cameras as on robots, carts, machines and lorries: no car has them.

    Heights of 0.2 to 4 m, fields of view of 30 to 130 degrees, pitched down by 5 to 43 degrees on every second
    rig, rolled by up to 15 on every third; otherwise as ``random_rig``.
    """
    count = int(rng.integers(1, 9))
    height = np.exp(rng.uniform(np.log(0.2), np.log(4.0)))
    radii = rng.uniform(0.2, 2.0), rng.uniform(0.15, 1.1)
    field = np.exp(rng.uniform(np.log(30), np.log(130)))
    down = rng.uniform(8, 40) if rng.random() < 0.5 else rng.uniform(-8, 8)
    rolled = 15.0 if rng.random() < 0.33 else 1.5
    return _ring(
        rng,
        size,
        count,
        radii,
        first_yaw=rng.uniform(-30, 30),
        field=lambda: field if rng.random() < 0.8 else np.exp(rng.uniform(np.log(30), np.log(130))),
        height=lambda: np.clip(height * np.exp(rng.uniform(-0.15, 0.15)), 0.2, 4.0),
        down=lambda: down + rng.uniform(-3, 3),
        roll=lambda: rng.uniform(-rolled, rolled),
    )


def _ring(
    rng: np.random.Generator,
    size: tuple[int, int],
    count: int,
    radii: tuple[float, float],
    *,
    first_yaw: float,
    field: Callable[[], float],
    height: Callable[[], float],
    down: Callable[[], float],
    roll: Callable[[], float],
) -> Rig:
    """``count`` cameras that look outwards, about evenly spread, on an ellipse about the middle of the vehicle.

    ``radii`` (m) of the ellipse, along the vehicle and across. Asked of every camera, in this order: its horizontal
    ``field`` of view, ``height`` (m), pitch ``down`` and ``roll``; angles in degrees.
    """
    cameras = []
    for i in range(count):
        yaw = first_yaw + 360.0 * i / count + rng.uniform(-8, 8)
        focal = _focal(field(), size[1])
        centre = (np.array([size[1], size[0]]) - 1) / 2 + rng.normal(0, 0.01, 2) * size[1]
        mount = _Mount(
            name=f"camera_{i}",
            x=0.8 + radii[0] * np.cos(np.radians(yaw)),
            y=radii[1] * np.sin(np.radians(yaw)),
            z=float(height()),
            yaw=yaw,
            focal=focal,
            centre=(centre[0], centre[1]),
        )
        camera = _mounted(mount, size, pitch_down=np.radians(down()))
        matrix = np.array(camera.camera_to_vehicle)
        matrix[:3, :3] = matrix[:3, :3] @ _about("z", np.radians(roll()))
        cameras.append(replace(camera, camera_to_vehicle=matrix))
    return Rig(tuple(cameras))


def camera_yaw(camera: Camera) -> float:
    """Direction of the optical axis in the vehicle frame, radians to the left of forward."""
    axis = camera.camera_to_vehicle[:3, 2]
    return float(np.arctan2(axis[1], axis[0]))


def spinning_offsets_s(cameras: Sequence[Camera], period_s: float, start_azimuth: float) -> dict[str, float]:
    """When each camera fires, in seconds after the end of the LiDAR's turn (so: below 0).

    As on nuScenes cars, a camera is triggered while the LiDAR, turning clockwise from
    ``start_azimuth`` (radians, vehicle frame), passes its optical axis. With the nuScenes rig, 20 Hz
    and a turn that ends just past the axis of the back left camera, the order is front left, front, front
    right, back right, back, back left, within 42 ms.
    """
    offsets = {}
    for camera in cameras:
        turned = (start_azimuth - camera_yaw(camera)) % (2 * np.pi)
        offsets[camera.name] = float(period_s * (turned / (2 * np.pi) - 1))
    return offsets


def _mounted(mount: _Mount, size: tuple[int, int], pitch_down: float = 0.0) -> Camera:
    rotation = _about("z", np.radians(mount.yaw)) @ _about("y", pitch_down) @ _OPTICAL_TO_FORWARD
    camera_to_vehicle = np.eye(4)
    camera_to_vehicle[:3, :3], camera_to_vehicle[:3, 3] = rotation, (mount.x, mount.y, mount.z)
    x, y = mount.centre
    intrinsics = np.array([[mount.focal, 0.0, x], [0.0, mount.focal, y], [0.0, 0.0, 1.0]])
    return Camera(mount.name, size, intrinsics, camera_to_vehicle)


def _focal(field_of_view_degrees: float, width: int) -> float:
    return 0.5 * width / float(np.tan(np.radians(field_of_view_degrees) / 2))


def _about(axis: str, angle: float) -> Array:
    """Rotation [3, 3] about one axis by an angle in radians."""
    vector = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}[axis]
    half = np.sin(angle / 2)
    return rigid((np.cos(angle / 2), *(half * v for v in vector)), (0, 0, 0))[:3, :3]
