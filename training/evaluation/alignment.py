"""The rows of a report: the same prediction, freed from scale in several ways, and what it has to beat."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fsmde_ros.metrics import align_affine, median_scale
from training.evaluation.points import DepthRange, ImagePoints
from training.teachers.alignment import align_to_lidar, teacher_depth

Array = NDArray[np.float64]

ROWS: Mapping[str, str] = {
    "metric": "as published, no scaling",
    "mirrored": "the mean disparity of that and of the mirrored images, no scaling",
    "motion_stereo": "corrected by the sweeps before it, no scaling",
    "median": "scaled to the median of the truth, per image",
    "median_sweep": "scaled to the median of the truth, once for the sweep",
    "affine": "scale and shift fitted in disparity, per image",
    "ground_plane": "flat ground to 20 m, no network",
    "teacher_affine": "teacher, scale and shift fitted in disparity, per image",
    "teacher_sweep": "teacher, one robust scale and shift for the sweep, as the student is taught",
    "teacher_metric": "teacher, its own metres",
}


def rows_of_sweep(
    images: Sequence[ImagePoints], limits: DepthRange, teacher_is_metric: bool = False
) -> dict[str, list[Array]]:
    """Depth [N] in metres of each image, by row of ``ROWS``; some of these only where the points have them.

    Predictions are scaled by their median first and clamped to the range then, as SurroundDepth does: clamped first,
    what is 1.6 times too far everywhere would not be right when scaled. What is out of range (+inf) stays so. In
    disparity clamped predictions are fitted. Where there is none (NaN) there is none in any row.
    """
    predicted = [image.predicted for image in images]
    clamped = [np.clip(p, limits.min, limits.max) for p in predicted]
    truth = [image.truth for image in images]
    scales = [_median_scale(p, g, limits) for p, g in zip(predicted, truth, strict=True)]
    sweep_scale = _median_scale(np.concatenate(predicted), np.concatenate(truth), limits) if images else 1.0
    rows = {
        "metric": clamped,
        "median": [np.clip(p * s, limits.min, limits.max) for p, s in zip(predicted, scales, strict=True)],
        "median_sweep": [np.clip(p * sweep_scale, limits.min, limits.max) for p in predicted],
        "affine": [fit_disparity(1.0 / p, g) for p, g in zip(clamped, truth, strict=True)],
        "ground_plane": [image.ground_plane for image in images],
    }
    seconds = [image.mirrored for image in images if image.mirrored is not None]
    if seconds:
        means = [mean_in_disparity(p, m) for p, m in zip(predicted, seconds, strict=True)]
        rows["mirrored"] = [np.clip(mean, limits.min, limits.max) for mean in means]
    corrected = [image.corrected for image in images if image.corrected is not None]
    if corrected:
        rows["motion_stereo"] = [np.clip(c, limits.min, limits.max) for c in corrected]
    disparities = [image.teacher for image in images if image.teacher is not None]
    if disparities:
        rows["teacher_affine"] = [fit_disparity(d, g) for d, g in zip(disparities, truth, strict=True)]
        rows["teacher_sweep"] = _fit_sweep(disparities, truth)
        if teacher_is_metric:
            rows["teacher_metric"] = [_depth_of(d) for d in disparities]
    return rows


def mean_in_disparity(first: Array, second: Array) -> Array:
    """The depth [N] in metres whose disparity is the mean of two; +inf has none, and NaN stays NaN."""
    with np.errstate(divide="ignore"):  # out of range in both
        mean: Array = 2.0 / (1.0 / first + 1.0 / second)
    return mean


def fit_disparity(disparity: Array, truth: Array) -> Array:
    """``metrics.align_affine`` of the values [N] that are there; NaN stays NaN."""
    known = ~np.isnan(disparity)
    depth = np.full(disparity.shape, np.nan)
    if known.any():
        depth[known] = align_affine(disparity[known], truth[known])
    return depth


def _fit_sweep(disparities: list[Array], truth: list[Array]) -> list[Array]:
    """Depth [N] of each image by the alignment that training uses; NaN where no fit is possible."""
    x, y = (torch.from_numpy(np.concatenate(values))[None, None, None] for values in (disparities, truth))
    depth, _ = teacher_depth(x, *align_to_lidar(x, y), max_depth=math.inf)
    together: Array = depth[0, 0, 0].double().numpy()
    return np.split(together, np.cumsum([len(d) for d in disparities])[:-1])


def _depth_of(disparity: Array) -> Array:
    """1 / disparity, [N]: +inf where it is 0 or less, NaN where it is."""
    safe = np.where(disparity > 0, disparity, 1.0)
    return np.where(np.isnan(disparity), np.nan, np.where(disparity > 0, 1.0 / safe, np.inf))


def _median_scale(predicted: Array, truth: Array, limits: DepthRange) -> float:
    known = ~np.isnan(predicted)
    bounded = np.where(np.isposinf(predicted), limits.max, predicted)  # half of an image may be out of range
    return median_scale(bounded[known], truth[known]) if known.any() else float("nan")
