"""Boxes around what moves in a drive, as the annotation tables of nuScenes hold them.

Everything that has a course of its own is annotated at every key frame: vehicles, riders, people.
Parked cars stand for the whole drive and are part of the scenery; they have no box. Visibility in
the images is not measured, so ``visibility_token`` is empty, as in other data sets of this schema.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.geometry import invert, quaternion_from_rotation, transform
from training.town.drive import TownDrive, seconds
from training.town.layout import Mover
from training.town.primitives import CENTER, HALF, PITCH, ROLL, YAW, rotations

Row = dict[str, Any]
Array = NDArray[np.float64]

CATEGORIES = ("vehicle.car", "vehicle.truck", "vehicle.bus.rigid", "vehicle.bicycle", "human.pedestrian.adult")
MOVING, STANDING = "moving", "standing"  # attributes, for whatever category
REACH = 100.0  # metres from the vehicle: farther, nothing is annotated
MARGIN = 0.05  # metres around the box within which LiDAR points, which are noisy, count as its own


def box(mover: Mover) -> tuple[Array, Array]:
    """Centre and size (length, width, height) of a moving thing in its own frame, metres, each [3]."""
    rows = mover.rows
    reach = np.abs(rotations(rows[:, YAW], rows[:, PITCH], rows[:, ROLL])) @ rows[:, HALF, None]
    low, high = (rows[:, CENTER] - reach[..., 0]).min(0), (rows[:, CENTER] + reach[..., 0]).max(0)
    return (low + high) / 2, high - low


def moving_boxes(drive: TownDrive, key_sweeps: list[int]) -> list[tuple[int, int, Row]]:
    """(number of the mover, sweep, box fields) of all boxes, sorted by mover and sweep.

    The fields are those of ``sample_annotation`` that hold no token: ``translation`` and ``rotation``
    of the box in the map, ``size`` as nuScenes orders it (width, length, height), and how many points
    of the key frame's LiDAR turn lie in it.
    """
    found = []
    for sweep in key_sweeps:
        turn = drive.scan_index(sweep)
        scan = drive.scan(turn)
        stamp_ns = drive.scan_stamp_ns(turn)
        points = transform(drive.vehicle_to_map(stamp_ns), scan.points_vehicle)
        ego = drive.vehicle_to_map(stamp_ns)[:3, 3]
        for k, mover in enumerate(drive.world.layout.movers):
            pose = drive.world.mover_to_map(mover, seconds(stamp_ns))
            if np.linalg.norm(pose[:3, 3] - ego) <= REACH:
                found.append((k, sweep, _fields(mover, pose, points)))
    return sorted(found, key=lambda entry: entry[:2])


def _fields(mover: Mover, pose: Array, points: Array) -> Row:
    centre, size = box(mover)
    inside = np.abs(transform(invert(pose), points) - centre) <= size / 2 + MARGIN
    length, width, height = size.tolist()
    return {
        "translation": transform(pose, centre[None])[0].tolist(),
        "rotation": quaternion_from_rotation(pose[:3, :3]).tolist(),
        "size": [width, length, height],
        "num_lidar_pts": int(inside.all(axis=1).sum()),
        "num_radar_pts": 0,
    }
