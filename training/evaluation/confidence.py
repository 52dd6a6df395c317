"""How sure a mean over few sweeps is: percentile intervals of the bootstrap (Efron, 1979).

What is drawn with replacement: whole sweeps, where there are three or more, which keeps what their cameras have in
common; of one sweep its images, each by itself; of two nothing, for three different draws make no interval.

Percentiles of few draws are too narrow. Of 2,000 simulated drives with six cameras and normal scores, the interval of
0.95 held the true mean in 0.74 (3 sweeps), 0.83 (5), 0.90 (10) and 0.91 (20), and not less where the images of a sweep
had half of their variance in common. Of one sweep it held the mean of that moment in 0.86; that of the drive, which one
moment cannot tell, in 0.46 where sweeps differ as much as images do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Unit = Literal["sweeps", "images of one sweep"]

COVERAGE = (  # as above, for who reads the intervals
    "In simulations of normal scores such intervals held the true mean in 74 % (3 sweeps), 83 % (5), 90 % (10) and "
    "91 % (20); of one sweep, the mean of that moment in 86 %."
)
FEWEST = 3  # to draw from
RESAMPLES = 1000
LEVEL = 0.95


def bootstrap_unit(sweeps: int) -> Unit | None:
    """What is drawn with replacement where so many sweeps have scores; none where no interval can be given."""
    if sweeps >= FEWEST:
        return "sweeps"
    return "images of one sweep" if sweeps == 1 else None


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


def interval(
    table: Array, unit: Unit | None, level: float = LEVEL, resamples: int = RESAMPLES
) -> tuple[float, float] | None:
    """Interval of the protocol's mean of scores [S, C], NaN where there is none.

    Args:
        table: scores of the images of S sweeps and C cameras.
        unit: of ``bootstrap_unit``. What is drawn is taken as independent of each other; sweeps of one drive that
            follow closely are not, and the true interval is wider then.
        level: share of the resamples within the interval.
        resamples: how many are drawn; always the same ones.

    Returns:
        (low, high), or None where there are fewer than ``FEWEST`` to draw from.
    """
    known = ~np.isnan(table)
    if unit is None:
        return None
    rows = table[known.any(axis=1)] if unit == "sweeps" else table[known][:, None]
    if len(rows) < FEWEST:
        return None
    drawn = np.random.default_rng(0).multinomial(len(rows), np.full(len(rows), 1 / len(rows)), resamples)
    low, high = np.nanquantile(_weighted(rows, drawn.astype(np.float64)), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _weighted(table: Array, weights: Array) -> Array:
    """Means [B] of scores [S, C] under weights [B, S]: over the sweeps, then over the cameras."""
    known = ~np.isnan(table)
    total, count = weights @ np.where(known, table, 0.0), weights @ known
    cameras = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)  # [B, C]
    return np.asarray(np.nanmean(cameras, axis=1), dtype=np.float64)
