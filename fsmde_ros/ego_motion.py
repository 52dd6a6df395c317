"""The motion of the vehicle within one sweep, so that one cloud can be made of it.

Cameras fire one after another: those of nuScenes over 42.6 ms, in which a vehicle at 15 m/s moves
0.64 m. The points of each view are taken to where they lie from the vehicle at the one reference
time of the sweep; what moved by itself in between keeps its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.geometry import compose, invert
from fsmde_ros.rig import Rig
from fsmde_ros.stamps import NS

MAX_SPEED = 100.0  # m/s, between reference and view; faster is a localisation that jumped, not a motion
SLACK_M = 0.3  # on top, for the noise of two poses that are almost of one time

Array = NDArray[np.float64]
PoseAt = Callable[[int], Array | None]
"""``vehicle_to_map [4, 4]`` at a stamp in nanoseconds; None where it is not known."""


def rig_at_reference(rig: Rig, stamps_ns: Mapping[str, int], reference_ns: int, pose_at: PoseAt) -> Rig | None:
    """The rig whose ``camera_to_vehicle`` lead to the vehicle frame at the reference time.

    Args:
        rig: the rig of a sweep.
        stamps_ns: time of the exposure of each of its cameras.
        reference_ns: the time that all views are taken to.
        pose_at: poses of the vehicle.

    Returns:
        the rig with ``camera_to_vehicle = invert(pose(reference)) pose(stamp) camera_to_vehicle``,
        or None where the pose is not known at one of these times, or jumps between them (``MAX_SPEED``).
    """
    reference = pose_at(reference_ns)
    if reference is None:
        return None
    cameras = []
    for camera in rig.cameras:
        pose = pose_at(stamps_ns[camera.name])
        if pose is None:
            return None
        moved = compose(invert(reference), pose, camera.camera_to_vehicle)
        limit = MAX_SPEED * abs(stamps_ns[camera.name] - reference_ns) / NS + SLACK_M
        if not np.linalg.norm(moved[:3, 3] - camera.camera_to_vehicle[:3, 3]) <= limit:  # so that NaN is refused
            return None
        cameras.append(replace(camera, camera_to_vehicle=moved))
    return replace(rig, cameras=tuple(cameras))


def largest_move_m(before: Rig, after: Rig) -> float:
    """How far the camera that moved most has moved between two rigs of the same cameras, metres."""
    moves = after.camera_to_vehicle()[:, :3, 3] - before.camera_to_vehicle()[:, :3, 3]
    return float(np.linalg.norm(moves, axis=1).max())
