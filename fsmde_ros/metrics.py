"""Depth metrics and the order in which they are averaged.

The order is that of SurroundDepth's evaluation: a score for each image, then the mean over the
images of a camera, then the mean over the cameras. All arithmetic is float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class DepthScore:
    """Errors of one image, or a mean of such errors.

    Attributes:
        abs_rel: mean of |p - g| / g.
        sq_rel: mean of (p - g)^2 / g, metres.
        rmse: root of the mean of (p - g)^2, metres.
        rmse_log: root of the mean of (ln p - ln g)^2.
        d1, d2, d3: share of pixels with max(p / g, g / p) below 1.25, 1.25^2, 1.25^3.
        n: number of pixels compared.
    """

    abs_rel: float
    sq_rel: float
    rmse: float
    rmse_log: float
    d1: float
    d2: float
    d3: float
    n: int

    def as_dict(self) -> dict[str, float | None]:
        """For JSON: NaN, which stands for "nothing to compare", becomes null."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: None if np.isnan(value) else value for name, value in values.items()}


def score_depth(predicted: ArrayLike, truth: ArrayLike, min_depth: float = 0.1, max_depth: float = 80.0) -> DepthScore:
    """Score depths in metres, [N] each (or any equal shapes), against true depths.

    Pixels count whose truth lies within [min_depth, max_depth] and whose prediction is a number;
    predictions are clamped to that range first, so +inf (out of range) counts as ``max_depth``.
    All errors are NaN and n is 0 where nothing is left to compare.
    """
    p = np.asarray(predicted, dtype=np.float64).ravel()
    g = np.asarray(truth, dtype=np.float64).ravel()
    if p.shape != g.shape:
        raise ValueError(f"predicted and truth must have the same number of values, got {p.size} and {g.size}")
    valid = (g >= min_depth) & (g <= max_depth) & ~np.isnan(p)
    p, g = np.clip(p[valid], min_depth, max_depth), g[valid]
    if not g.size:
        nan = float("nan")
        return DepthScore(nan, nan, nan, nan, nan, nan, nan, 0)
    difference = p - g
    ratio = np.maximum(p / g, g / p)
    return DepthScore(
        abs_rel=float(np.mean(np.abs(difference) / g)),
        sq_rel=float(np.mean(difference**2 / g)),
        rmse=float(np.sqrt(np.mean(difference**2))),
        rmse_log=float(np.sqrt(np.mean(np.log(p / g) ** 2))),
        d1=float(np.mean(ratio < 1.25)),
        d2=float(np.mean(ratio < 1.25**2)),
        d3=float(np.mean(ratio < 1.25**3)),
        n=int(g.size),
    )


def mean_score(scores: Iterable[DepthScore]) -> DepthScore:
    """Unweighted mean of scores; ``n`` is their sum. Scores with n = 0 do not count."""
    counted = [score for score in scores if score.n]
    means = {
        f.name: float(np.mean([getattr(score, f.name) for score in counted])) if counted else float("nan")
        for f in fields(DepthScore)
        if f.name != "n"
    }
    return DepthScore(**means, n=sum(score.n for score in counted))


@dataclass
class ScoreBoard:
    """Collects the scores of images and averages them: image, then camera, then cameras."""

    images: dict[str, list[DepthScore]] = field(default_factory=dict)

    def add(self, camera: str, score: DepthScore) -> None:
        """Add the score of one image of ``camera``."""
        self.images.setdefault(camera, []).append(score)

    def per_camera(self) -> dict[str, DepthScore]:
        """Mean over the images of each camera."""
        return {camera: mean_score(scores) for camera, scores in self.images.items()}

    def overall(self) -> DepthScore:
        """Mean over the cameras of their means."""
        return mean_score(self.per_camera().values())


def median_scale(predicted: ArrayLike, truth: ArrayLike) -> float:
    """The factor that brings the median of ``predicted`` to that of ``truth`` (one image)."""
    return float(np.median(np.asarray(truth)) / np.median(np.asarray(predicted)))


def median_scale_of_sweep(predicted: Mapping[str, ArrayLike], truth: Mapping[str, ArrayLike]) -> float:
    """One factor for all views of a sweep: medians over the pixels of all views together."""
    names = list(truth)
    return median_scale(
        np.concatenate([np.ravel(np.asarray(predicted[name])) for name in names]),
        np.concatenate([np.ravel(np.asarray(truth[name])) for name in names]),
    )


def align_affine(predicted_disparity: ArrayLike, truth: ArrayLike) -> Array:
    """Least-squares scale and shift in disparity: depth in metres, [N], for relative predictions.

    Minimises ``sum (s * predicted_disparity + t - 1 / truth)^2`` over s and t (Ranftl et al.,
    MiDaS, 2020) and returns ``1 / (s * predicted_disparity + t)``. Aligned disparity of zero or
    less lies beyond any range: +inf.
    """
    x = np.asarray(predicted_disparity, dtype=np.float64).ravel()
    y = 1.0 / np.asarray(truth, dtype=np.float64).ravel()
    (scale, shift), *_ = np.linalg.lstsq(np.stack([x, np.ones_like(x)], axis=1), y, rcond=None)
    aligned = scale * x + shift
    return np.where(aligned > 0, 1.0 / np.where(aligned > 0, aligned, 1.0), np.inf)


def sample_bilinear(image: ArrayLike, pixels: ArrayLike) -> Array:
    """Values of ``image`` [H, W] at sub-pixel positions [N, 2] (x, y), clamped at the border.

    Where one of the four neighbours is not finite the nearest neighbour is taken instead: the
    edge of the sky must not spread.
    """
    values = np.asarray(image, dtype=np.float64)
    height, width = values.shape
    xy = np.asarray(pixels, dtype=np.float64)
    x = np.clip(xy[:, 0], 0, width - 1)
    y = np.clip(xy[:, 1], 0, height - 1)
    x0, y0 = x.astype(int), y.astype(int)
    x1, y1 = np.minimum(x0 + 1, width - 1), np.minimum(y0 + 1, height - 1)
    fx, fy = x - x0, y - y0
    with np.errstate(invalid="ignore"):
        blended = (1 - fy) * ((1 - fx) * values[y0, x0] + fx * values[y0, x1]) + fy * (
            (1 - fx) * values[y1, x0] + fx * values[y1, x1]
        )
    nearest = values[np.rint(y).astype(int), np.rint(x).astype(int)]
    finite = (
        np.isfinite(values[y0, x0])
        & np.isfinite(values[y0, x1])
        & np.isfinite(values[y1, x0])
        & np.isfinite(values[y1, x1])
    )
    return np.where(finite, blended, nearest)
