"""How sure a mean over few sweeps is: percentile intervals of the bootstrap (Efron, 1979)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SWEEPS_ENOUGH = 10  # with fewer sweeps than this their images are drawn instead
RESAMPLES = 1000
LEVEL = 0.95


def bootstrap_unit(sweeps: int) -> str:
    """What is drawn with replacement: "sweeps", or "images" where there are few sweeps."""
    return "sweeps" if sweeps >= SWEEPS_ENOUGH else "images"


def score_table(scores: Mapping[str, Sequence[float]], sweeps: Mapping[str, Sequence[int]]) -> Array:
    """[S, C] of the scores of images, NaN where a camera has none in a sweep.

    Args:
        scores: of the images of each camera. sweeps: index of the sweep of each of them.
    """
    rows = sorted({index for indices in sweeps.values() for index in indices})
    position = {index: row for row, index in enumerate(rows)}
    table = np.full((len(rows), len(scores)), np.nan)
    for column, (camera, values) in enumerate(scores.items()):
        table[[position[index] for index in sweeps[camera]], column] = values
    return table


def interval(table: Array, unit: str, level: float = LEVEL, resamples: int = RESAMPLES) -> tuple[float, float] | None:
    """Interval of the protocol's mean of scores [S, C], NaN where there is none.

    Args:
        table: scores of the images of S sweeps and C cameras.
        unit: "sweeps": whole sweeps are drawn, which keeps what their cameras have in common; "images":
            single images are drawn. Both take them as independent of each other; those of one drive that
            follow closely are not, and the true interval is wider then.
        level: share of the resamples within the interval.
        resamples: how many are drawn; always the same ones.

    Returns:
        (low, high), or None where there are fewer than two to draw from.
    """
    rng = np.random.default_rng(0)
    known = ~np.isnan(table)
    if unit == "sweeps":
        used = table[known.any(axis=1)]
        if len(used) < 2:
            return None
        drawn = rng.multinomial(len(used), np.full(len(used), 1 / len(used)), resamples).astype(np.float64)
        means = _weighted(used, drawn[:, :, None])
    else:
        count = int(known.sum())
        if count < 2:
            return None
        weights = np.zeros((resamples, *table.shape))
        weights[:, known] = rng.multinomial(count, np.full(count, 1 / count), resamples)
        means = _weighted(table, weights)
    low, high = np.nanquantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _weighted(table: Array, weights: Array) -> Array:
    """Means [B] of scores [S, C] under weights [B, S, C] or [B, S, 1]: over the sweeps, then over the cameras."""
    known = ~np.isnan(table)
    filled = np.where(known, table, 0.0)
    if weights.shape[2] == 1:
        total, count = weights[:, :, 0] @ filled, weights[:, :, 0] @ known
    else:
        total, count = (weights * filled).sum(axis=1), (weights * known).sum(axis=1)
    cameras = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)  # [B, C]
    return np.asarray(np.nanmean(cameras, axis=1), dtype=np.float64)
