"""Whether the standard deviation that is published with the depth is the size of its errors.

For errors that are normal with the published sigma, the share of them inside k sigma is erf(k / sqrt 2):
38.3 % at 0.5, 68.3 % at 1, 95.4 % at 2, 99.7 % at 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.evaluation.points import ImagePoints

Array = NDArray[np.float64]

KS = (0.5, 1.0, 2.0, 3.0)
NOMINAL = tuple(round(0.05 * i, 2) for i in range(1, 20))
ONE_SIGMA = 0.6827
# Errors over sigma are counted between these edges: the k that are asked for, exactly, and a grid of 1 %.
_NOMINAL_KS = tuple(NormalDist().inv_cdf((1 + p) / 2) for p in NOMINAL)
_EDGES = np.unique(np.concatenate([[0.0], np.geomspace(1e-3, 1e3, 1389), KS, _NOMINAL_KS, [np.inf]]))
_STDDEV_EDGES = np.geomspace(0.02, 60.0, 15)  # metres


def expected_inside(k: float) -> float:
    """Share of normal errors inside k sigma."""
    return 2 * NormalDist().cdf(k) - 1


@dataclass
class SigmaCounts:
    """Errors over sigma of many points, as a histogram."""

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(_EDGES) - 1, dtype=np.int64))

    def add(self, error: Array, stddev: Array) -> None:
        """Count errors [N] with standard deviations [N] above 0, metres."""
        # Open above, so that "inside k" is "|error| <= k sigma": the histogram is taken from the other side.
        ratio = -np.abs(error) / stddev
        self.counts += np.histogram(ratio, -_EDGES[::-1])[0][::-1]

    @property
    def n(self) -> int:
        """Number of points."""
        return int(self.counts.sum())

    def inside(self, k: float) -> float:
        """Share of the errors inside k sigma; exact for ``KS`` and the reliability curve, else to 1 % of k."""
        if not self.n:
            return float("nan")
        share = np.concatenate([[0.0], np.cumsum(self.counts)]) / self.n
        return float(np.interp(k, _EDGES[:-1], share[:-1]))

    def scale(self, share: float = ONE_SIGMA) -> float:
        """The factor on sigma that brings ``share`` of the errors inside 1 sigma, to 1 %."""
        if not self.n:
            return float("nan")
        cumulative = np.concatenate([[0.0], np.cumsum(self.counts)]) / self.n
        return float(np.interp(share, cumulative[:-1], _EDGES[:-1]))


class SigmaCalibration:
    """Counts of all points, of each camera and each range of depth."""

    def __init__(self, ranges: tuple[tuple[float, float], ...]) -> None:
        self.ranges = ranges
        self.all = SigmaCounts()
        self.cameras: dict[str, SigmaCounts] = {}
        self.of_range = [SigmaCounts() for _ in ranges]
        self.points = 0
        self._sums = np.zeros((len(_STDDEV_EDGES) + 1, 3))  # by sigma: sigma^2, error^2, points

    def add(self, image: ImagePoints) -> None:
        """Count the points of an image; predictions are not clamped, and those without a finite sigma are left out."""
        self.points += len(image.truth)
        usable = np.isfinite(image.predicted) & np.isfinite(image.stddev) & (image.stddev > 0)
        truth, stddev = image.truth[usable], image.stddev[usable]
        error = image.predicted[usable] - truth
        self.all.add(error, stddev)
        self.cameras.setdefault(image.camera, SigmaCounts()).add(error, stddev)
        for counts, (low, high) in zip(self.of_range, self.ranges, strict=True):
            within = (truth >= low) & (truth < high)
            counts.add(error[within], stddev[within])
        cell = np.searchsorted(_STDDEV_EDGES, stddev)
        np.add.at(self._sums, cell, np.stack([stddev**2, error**2, np.ones(len(error))], axis=1))

    def as_dict(self) -> dict[str, Any]:
        """For JSON. ``scale_for_68``: the factor on sigma that brings 68.3 % of the errors inside 1 sigma."""
        return {
            "n": self.all.n,
            "points_without_sigma": self.points - self.all.n,
            "inside": {f"{k:g}": {"observed": _null(self.all.inside(k)), "expected": expected_inside(k)} for k in KS},
            "reliability": [[p, _null(self.all.inside(k))] for p, k in zip(NOMINAL, _NOMINAL_KS, strict=True)],
            "scale_for_68": _null(self.all.scale()),
            "inside_1_by_view": {name: _null(counts.inside(1.0)) for name, counts in self.cameras.items()},
            "inside_1_by_range": {
                f"{low:g}-{high:g}": _null(counts.inside(1.0))
                for (low, high), counts in zip(self.ranges, self.of_range, strict=True)
            },
            "by_stddev": [
                {"stddev_m": float(np.sqrt(s / n)), "rmse_m": float(np.sqrt(e / n)), "n": int(n)}
                for s, e, n in self._sums
                if n
            ],
        }


def _null(value: float) -> float | None:
    return None if np.isnan(value) else value
