"""What was estimated where the LiDAR knows the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.geometry import ground_plane_depth_at
from fsmde_ros.metrics import sample_bilinear
from fsmde_ros.self_occlusion import are_usable
from fsmde_ros.sweep import SurroundDepth, Sweep, lidar_in_view
from training.evaluation.overlap import seen_by_another
from training.hidden_points import is_surrounded, nearest_pixels

Array = NDArray[np.float64]

BASELINE_CAP = 20.0  # metres; see geometry.ground_plane_depth


@dataclass(frozen=True)
class DepthRange:
    """The true depth that counts, metres; predictions are clamped to it."""

    min: float = 0.1
    max: float = 80.0


@dataclass(frozen=True, eq=False)
class ImagePoints:
    """The N LiDAR points of one image, and what was estimated at each.

    Attributes:
        camera: name of the camera.
        pixels: [N, 2] (x, y) at the size of the estimate.
        truth: [N] metres, within the range that counts.
        predicted: [N] metres; +inf = out of range, NaN = no value.
        stddev: [N] metres; NaN = none.
        ground_plane: [N] metres, of the baseline.
        shared: [N] bool: another view of the sweep sees the point too.
        hidden: [N] bool: the camera cannot see it, by the nearer points on all sides of it.
        teacher: [N] disparity, higher is nearer, of a teacher, where there is one.
        mirrored: [N] metres, as ``predicted``: what the student says of the mirrored images, where it was asked.
        corrected: [N] metres, as ``predicted``: after motion stereo, where that was asked for.
        corrected_stddev: [N] metres, as ``stddev``; likewise.
    """

    camera: str
    pixels: Array
    truth: Array
    predicted: Array
    stddev: Array
    ground_plane: Array
    shared: NDArray[np.bool_]
    hidden: NDArray[np.bool_]
    teacher: Array | None = None
    mirrored: Array | None = None
    corrected: Array | None = None
    corrected_stddev: Array | None = None


def at_size_of(sweep: Sweep, estimate: SurroundDepth) -> Sweep:
    """``sweep`` with the rig of its estimate: only the views that were estimated, at their size there."""
    names = estimate.rig.names
    return Sweep(estimate.rig, sweep.stamp_ns, {name: sweep.views[name] for name in names}, sweep.lidar)


def is_motion_compensated(sweep: Sweep, name: str) -> bool:
    """Whether the LiDAR's points are moved to the exposure of a view, by the poses of both, or need not be."""
    view, scan = sweep.views[name], sweep.lidar
    if scan is None or view.stamp_ns == scan.stamp_ns:
        return scan is not None
    return view.vehicle_to_map is not None and scan.vehicle_to_map is not None


def points_of_sweep(
    sweep: Sweep,
    estimate: SurroundDepth,
    limits: DepthRange,
    teacher: NDArray[np.float32] | None = None,
    mirrored: SurroundDepth | None = None,
    corrected: SurroundDepth | None = None,
) -> tuple[ImagePoints, ...]:
    """The points of each estimated view that has any with a true depth within ``limits``, on pixels that can have one.

    ``teacher``: its disparity of the estimated views, [V, H, W]. ``mirrored`` and ``corrected``: second
    estimates of the same views.

    Depth is sampled between its pixels at the very place where the point is projected to, which is what
    enlarging it to the original size and taking the pixel comes to.
    """
    small = at_size_of(sweep, estimate)
    known = {}
    for camera in estimate.rig.cameras:
        pixels, truth = lidar_in_view(small, camera.name, limits.min)
        counted = (truth >= limits.min) & (truth <= limits.max)
        counted &= are_usable(sweep.rig[camera.name], camera.size, pixels)
        if counted.any():
            known[camera.name] = pixels[counted], truth[counted]
    hidden = _hidden(known, estimate.rig.cameras[0].size)
    found = []
    for index, camera in enumerate(estimate.rig.cameras):
        if camera.name not in known:
            continue
        pixels, truth = known[camera.name]
        depth, stddev = estimate.view(camera.name)
        second = (None, None) if corrected is None else corrected.view(camera.name)
        plane = ground_plane_depth_at(
            camera.intrinsics, camera.camera_to_vehicle, pixels, estimate.rig.ground_z, BASELINE_CAP
        )
        found.append(
            ImagePoints(
                camera=camera.name,
                pixels=pixels,
                truth=truth,
                predicted=sample_bilinear(depth, pixels),
                stddev=sample_bilinear(stddev, pixels),
                ground_plane=plane,
                shared=seen_by_another(small, camera.name, pixels, truth),
                hidden=hidden[camera.name],
                teacher=None if teacher is None else sample_bilinear(teacher[index], pixels),
                mirrored=None if mirrored is None else sample_bilinear(mirrored.view(camera.name)[0], pixels),
                corrected=None if second[0] is None else sample_bilinear(second[0], pixels),
                corrected_stddev=None if second[1] is None else sample_bilinear(second[1], pixels),
            )
        )
    return tuple(found)


def _hidden(points: Mapping[str, tuple[Array, Array]], size: tuple[int, int]) -> dict[str, NDArray[np.bool_]]:
    """By camera, which of its points (pixels [N, 2], depth [N]) it cannot see, in images of ``size`` (H, W)."""
    if not points:
        return {}
    counts = [len(depth) for _, depth in points.values()]
    views = np.repeat(np.arange(len(points)), counts)
    places = np.column_stack([views, np.concatenate([pixels for pixels, _ in points.values()])])
    depths = np.concatenate([depth for _, depth in points.values()])
    hidden = is_surrounded(depths, nearest_pixels(places, size), size)
    return dict(zip(points, np.split(hidden, np.cumsum(counts)[:-1]), strict=True))
