"""How many cameras see a place around the vehicle: all around at a distance, and on the road."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.geometry import invert, project, transform
from fsmde_ros.rig import Rig
from fsmde_ros.self_occlusion import are_usable

STEPS = 720  # directions of a turn
EYE_HEIGHT = 1.0  # metres above the road: where the things are that a car must see


@dataclass(frozen=True)
class Coverage:
    """How much of a full turn is seen, at one distance from the middle of the cameras.

    Attributes:
        distance: metres.
        unseen, once, more: shares of the turn that no, one, and two or more cameras see; they sum to 1.
        gaps: (from, to) of what no camera sees, degrees to the left of straight ahead, counter-clockwise.
    """

    distance: float
    unseen: float
    once: float
    more: float
    gaps: tuple[tuple[float, float], ...]


def count_cameras(rig: Rig, points_vehicle: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many cameras have each of the points [..., 3] (metres, vehicle frame) in their image, and give it a depth."""
    counts = np.zeros(points_vehicle.shape[:-1], dtype=np.int64)
    for camera in rig.cameras:
        pixels, _ = project(camera.intrinsics, transform(invert(camera.camera_to_vehicle), points_vehicle))
        with np.errstate(invalid="ignore"):
            inside = ((pixels > -0.5) & (pixels < np.array(camera.size[::-1]) - 0.5)).all(-1)
        inside[inside] = are_usable(camera, camera.size, pixels[inside])
        counts += inside
    return counts


def coverage(rig: Rig, distance: float) -> Coverage:
    """Coverage at ``distance`` metres from the middle of the cameras, 1 m above the road."""
    middle = rig.camera_to_vehicle()[:, :2, 3].mean(0)
    angles = 2 * np.pi * (np.arange(STEPS) + 0.5) / STEPS - np.pi
    points = np.stack(
        [
            middle[0] + distance * np.cos(angles),
            middle[1] + distance * np.sin(angles),
            np.full(STEPS, rig.ground_z + EYE_HEIGHT),
        ],
        axis=-1,
    )
    counts = count_cameras(rig, points)
    return Coverage(
        distance=distance,
        unseen=float(np.mean(counts == 0)),
        once=float(np.mean(counts == 1)),
        more=float(np.mean(counts > 1)),
        gaps=_runs(counts == 0),
    )


def road_counts(rig: Rig, radius: float, side: int) -> NDArray[np.int64]:
    """[side, side]: cameras that see the road; row 0 is ``radius`` metres ahead, column 0 is to the left."""
    at = radius * (1 - 2 * (np.arange(side) + 0.5) / side)
    x, y = np.meshgrid(at, at, indexing="ij")
    return count_cameras(rig, np.stack([x, y, np.full_like(x, rig.ground_z)], axis=-1))


def _runs(marked: NDArray[np.bool_]) -> tuple[tuple[float, float], ...]:
    """Runs of a closed circle that begins at -180 degrees, as (from, to) in degrees, -180 to 180."""
    if marked.all():
        return ((-180.0, 180.0),)
    starts = np.flatnonzero(marked & ~np.roll(marked, 1))
    ends = np.flatnonzero(marked & ~np.roll(marked, -1)) + 1
    if len(starts) and ends[0] <= starts[0]:  # a run goes across the back
        ends = np.roll(ends, -1)
    step = 360.0 / len(marked)
    return tuple((float(start * step - 180), float(end * step - 180)) for start, end in zip(starts, ends, strict=True))
