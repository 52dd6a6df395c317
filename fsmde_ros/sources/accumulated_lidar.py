"""One dense LiDAR scan out of several turns: the vehicle's motion taken out, annotated objects moved along.

Single turns supervise thin lines of an image; ten of them supervise surfaces. Three things must not go wrong:
the points of an object that moved belong where it is now, points that only an earlier place of the LiDAR could
see must not shine through what stands before them, and objects that are not annotated now must go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.errors import SourceError
from fsmde_ros.geometry import compose, invert, transform
from fsmde_ros.pose_track import PoseTrack
from fsmde_ros.sweep import LidarScan

Array = NDArray[np.float64]
Value = TypeVar("Value", bound=np.generic)

BOX_MARGIN = 0.15  # metres on each side: annotations are drawn close, and points are noisy
STANDS_STILL = 0.1  # metres: a box that moved less is left alone, its points are sharper than its annotations
CELL = np.radians(0.4)  # of the grid of directions in which what is hidden is found
HIDDEN_RATIO, HIDDEN_OFFSET = 1.15, 0.5  # farther than this times the nearest in the cell, plus metres: hidden


@dataclass(frozen=True, eq=False)
class ObjectTrack:
    """An annotated object.

    Attributes:
        size: [3] length, width, height along x, y, z of its box, metres.
        box_to_map: where its box was, by stamp.
    """

    size: Array
    box_to_map: PoseTrack

    def contains(self, box_to_map: Array, points_map: Array) -> NDArray[np.bool_]:
        """[N] which of the points [N, 3] lie in the box at a pose, with a margin."""
        near = np.linalg.norm(points_map - box_to_map[:3, 3], axis=1) < np.linalg.norm(self.size / 2 + BOX_MARGIN)
        inside: NDArray[np.bool_] = near.copy()
        inside[near] = (np.abs(transform(invert(box_to_map), points_map[near])) <= self.size / 2 + BOX_MARGIN).all(
            axis=1
        )
        return inside


def accumulate(target: LidarScan, others: Sequence[LidarScan], tracks: Sequence[ObjectTrack]) -> LidarScan:
    """The target scan with the points of other scans, at the stamp and in the vehicle frame of the target.

    Args:
        target: the scan to make dense; all its points are kept.
        others: scans of other stamps, each with the pose of the vehicle.
        tracks: annotated objects; points outside of all boxes count as standing still.

    Raises SourceError where a pose is missing.
    """
    if target.vehicle_to_map is None or any(scan.vehicle_to_map is None for scan in others):
        raise SourceError("LiDAR turns can only be put together where the vehicle's pose is known; use a single turn")
    moved = [_moved(scan, target, tracks) for scan in others]
    origin = np.zeros(3) if target.sensor_to_vehicle is None else target.sensor_to_vehicle[:3, 3]
    places = np.concatenate([target.points_vehicle, *(points for points, _ in moved)])
    added = np.concatenate([np.zeros(len(target.points_vehicle), bool), *(np.ones(len(p), bool) for p, _ in moved)])
    kept = ~(added & hidden(places - origin))
    scans = [target, *others]
    chosen = [np.ones(len(target.points_vehicle), bool), *(keep for _, keep in moved)]
    return replace(
        target,
        points_vehicle=places[kept],
        intensity=_joined([scan.intensity for scan in scans], chosen, kept),
        ring=_joined([scan.ring for scan in scans], chosen, kept),
    )


def hidden(rays: Array) -> NDArray[np.bool_]:
    """[N] which points lie clearly behind another in the same direction, seen from the origin of ``rays`` [N, 3].

    Directions are compared on a grid of ``CELL``; a road that is seen at a glancing angle within a cell loses its
    farthest points.
    """
    distance = np.linalg.norm(rays, axis=1)
    azimuth = np.arctan2(rays[:, 1], rays[:, 0])
    elevation = np.arctan2(rays[:, 2], np.hypot(rays[:, 0], rays[:, 1]))
    columns = int(2 * np.pi / CELL) + 2
    cell = ((elevation + np.pi / 2) // CELL).astype(np.int64) * columns + ((azimuth + np.pi) // CELL).astype(np.int64)
    nearest = np.full(int(cell.max(initial=0)) + 1, np.inf)
    np.minimum.at(nearest, cell, distance)
    result: NDArray[np.bool_] = distance > HIDDEN_RATIO * nearest[cell] + HIDDEN_OFFSET
    return result


def _moved(scan: LidarScan, target: LidarScan, tracks: Sequence[ObjectTrack]) -> tuple[Array, NDArray[np.bool_]]:
    """Points [M, 3] of a scan in the target's vehicle frame, and [N] which of its points these are."""
    assert scan.vehicle_to_map is not None
    assert target.vehicle_to_map is not None
    before = transform(scan.vehicle_to_map, scan.points_vehicle)
    after, keep = before.copy(), np.ones(len(before), dtype=bool)
    for track in tracks:
        then = track.box_to_map.at(scan.stamp_ns)
        if then is None:
            continue
        inside = track.contains(then, before)
        if not inside.any():
            continue
        now = track.box_to_map.at(target.stamp_ns)
        if now is None:  # gone, or out of the annotators' sight: where its points are now nobody knows
            keep &= ~inside
        elif np.linalg.norm(now[:3, 3] - then[:3, 3]) > STANDS_STILL:
            after[inside] = transform(compose(now, invert(then)), before[inside])
    return transform(invert(target.vehicle_to_map), after[keep]), keep


def _joined(
    values: Sequence[NDArray[Value] | None], chosen: Sequence[NDArray[np.bool_]], kept: NDArray[np.bool_]
) -> NDArray[Value] | None:
    """A column of all scans, where all have it."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    joined: NDArray[Value] = np.concatenate([value[keep] for value, keep in zip(known, chosen, strict=True)])[kept]
    return joined
