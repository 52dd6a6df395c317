"""Scan-line stripes: how much depth ripples in step with the rings of the LiDAR that supervised it.

A student that sees true depth only where the rings fall is free between them, and single-sweep LiDAR leaves
always the same rows free: the depth shows stripes, which no error at the LiDAR's own points can tell. They are
measured against dense truth (the town has it).

With ``e = ln predicted - ln true``, take three neighbouring rings a, b, c in an image column and the points m, n
halfway between them. ``u = e_m - (e_a + e_b) / 2`` and its like for b, c say how much the error rises between
rings, ``v = e_b - (e_m and e_n, interpolated)`` how much it rises on one. A smooth error bends all three alike; a
stripe bends u and v against each other: ``s = (mean of both u - v) / 2`` is 0 for an error that is constant,
linear or quadratic in the row, and the height of the ripple where one is. Where the truth jumps, s is not taken.

Stripes have the same sign all along a ring, noise has not: s is averaged over tiles of the image, and the part of
the squared means that noise alone would leave, variance / count, is taken off. The result is the root of the mean
over the tiles: the height of the ripple in log depth (0.01: one per cent), 0 on average for noise.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

GAPS = (4, 32)  # pixels between two rings: nearer, nothing lies between them; farther, a ring is missing
MAX_STEP = 0.1  # of log true depth from row to row: more is an edge
TILE = (16, 32)  # (H, W) pixels
MIN_SAMPLES = 4  # of a tile


class StripeEnergy(NamedTuple):
    """Sum over the tiles of an image of their energy times their samples, and the number of samples."""

    energy: float
    samples: int


def stripes(views: Iterable[StripeEnergy]) -> float:
    """Height of the stripes of many views, in log depth; NaN where there is nothing to measure it on."""
    views = list(views)
    samples = sum(view.samples for view in views)
    return float(np.sqrt(max(sum(view.energy for view in views) / samples, 0.0))) if samples else float("nan")


def stripe_energy(
    predicted: NDArray[np.float32], truth: NDArray[np.float32], lidar: NDArray[np.float32]
) -> StripeEnergy:
    """Stripes of one view.

    Args:
        predicted: [H, W] metres, above 0.
        truth: [H, W] metres, NaN = no value, inf = sky.
        lidar: [H, W] metres, NaN = no point; only where the points lie counts.
    """
    rows, columns, ripple = _ripples(predicted, truth, lidar)
    tile = (rows // TILE[0]) * (truth.shape[1] // TILE[1] + 1) + columns // TILE[1]
    _, tile, count = np.unique(tile, return_inverse=True, return_counts=True)
    mean = np.bincount(tile, ripple) / count
    variance = np.bincount(tile, (ripple - mean[tile]) ** 2) / np.maximum(count - 1, 1)
    enough = count >= MIN_SAMPLES
    energy = (mean**2 - variance / count)[enough] * count[enough]
    return StripeEnergy(float(energy.sum()), int(count[enough].sum()))


def _ripples(
    predicted: NDArray[np.float32], truth: NDArray[np.float32], lidar: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Row and column of the middle ring, and s, of every usable triple of rings of a view."""
    with np.errstate(divide="ignore", invalid="ignore"):
        log_truth = np.where(np.isfinite(truth) & (truth > 0), np.log(truth.astype(np.float64)), np.nan)
        error = np.log(predicted.astype(np.float64)) - log_truth
    jumps = np.zeros(truth.shape, dtype=np.int64)  # rows above that are edges or unknown, counted from the top
    jumps[1:] = np.cumsum(~(np.abs(np.diff(log_truth, axis=0)) <= MAX_STEP), axis=0)
    column, row = np.nonzero(np.isfinite(lidar).T)  # column by column, from the top
    a, b, c, x = row[:-2], row[1:-1], row[2:], column[1:-1]
    upper, lower = b - a, c - b
    usable = (column[:-2] == x) & (column[2:] == x)
    for gap in (upper, lower):
        usable &= (gap >= GAPS[0]) & (gap <= GAPS[1])
    usable &= (upper <= 2 * lower) & (lower <= 2 * upper)
    a, b, c, x = a[usable], b[usable], c[usable], x[usable]
    smooth = jumps[c, x] == jumps[a, x]
    a, b, c, x = a[smooth], b[smooth], c[smooth], x[smooth]

    def halfway(first: NDArray[np.int64], second: NDArray[np.int64]) -> Array:
        between: Array = 0.5 * (error[(first + second) // 2, x] + error[(first + second + 1) // 2, x])
        return between

    m, n = halfway(a, b), halfway(b, c)
    off_rings = 0.5 * (m - 0.5 * (error[a, x] + error[b, x]) + n - 0.5 * (error[b, x] + error[c, x]))
    on_ring = error[b, x] - ((c - b) * m + (b - a) * n) / np.maximum(c - a, 1)
    return b, x, 0.5 * (off_rings - on_ring)
