"""The rows of a report: the same prediction, freed from scale in several ways, and what it has to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.metrics import align_affine, median_scale
from training.evaluation.points import DepthRange, ImagePoints

Array = NDArray[np.float64]

ROWS: Mapping[str, str] = {
    "metric": "as published, no scaling",
    "median": "scaled to the median of the truth, per image",
    "median_sweep": "scaled to the median of the truth, once for the sweep",
    "affine": "scale and shift fitted in disparity, per image",
    "ground_plane": "flat ground to 20 m, no network",
}


def rows_of_sweep(images: Sequence[ImagePoints], limits: DepthRange) -> dict[str, list[Array]]:
    """Depth [N] in metres of each image, by row of ``ROWS``.

    Predictions are clamped to the range before anything is fitted to them; where there is none (NaN) there
    is none in any row.
    """
    predicted = [np.clip(image.predicted, limits.min, limits.max) for image in images]
    truth = [image.truth for image in images]
    sweep_scale = _median_scale(np.concatenate(predicted), np.concatenate(truth)) if images else 1.0
    return {
        "metric": predicted,
        "median": [p * _median_scale(p, g) for p, g in zip(predicted, truth, strict=True)],
        "median_sweep": [p * sweep_scale for p in predicted],
        "affine": [fit_disparity(1.0 / p, g) for p, g in zip(predicted, truth, strict=True)],
        "ground_plane": [image.ground_plane for image in images],
    }


def fit_disparity(disparity: Array, truth: Array) -> Array:
    """``metrics.align_affine`` of the values [N] that are there; NaN stays NaN."""
    known = ~np.isnan(disparity)
    depth = np.full(disparity.shape, np.nan)
    if known.any():
        depth[known] = align_affine(disparity[known], truth[known])
    return depth


def _median_scale(predicted: Array, truth: Array) -> float:
    known = ~np.isnan(predicted)
    return median_scale(predicted[known], truth[known]) if known.any() else float("nan")
