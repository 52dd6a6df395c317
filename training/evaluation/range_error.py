"""Relative error against the true depth, of many points."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_ERROR_EDGES = np.concatenate(
    [[-np.inf], np.linspace(-1, 2, 601), [np.inf]]
)  # of the prediction over the truth, less 1
QUANTILES = (0.1, 0.5, 0.9)


class RangeError:
    """Mean and quantiles of (prediction - truth) / truth in cells of true depth."""

    def __init__(self, min_depth: float, max_depth: float, cells: int = 20) -> None:
        self.edges = np.geomspace(max(min_depth, 1.0), max_depth, cells + 1)
        self._histogram = np.zeros((cells, len(_ERROR_EDGES) - 1))
        self._absolute = np.zeros(cells)

    def add(self, predicted: Array, truth: Array) -> None:
        """Count depths [N] in metres; NaN predictions and truth outside the cells do not count."""
        cell = np.searchsorted(self.edges, truth, side="right") - 1
        used = ~np.isnan(predicted) & (cell >= 0) & (cell < len(self._absolute))
        cell, relative = cell[used], predicted[used] / truth[used] - 1
        np.add.at(self._absolute, cell, np.abs(relative))
        np.add.at(self._histogram, (cell, np.searchsorted(_ERROR_EDGES, relative, side="right") - 1), 1)

    def as_dict(self) -> list[dict[str, Any]]:
        """A row for each cell with points: its depth, the mean of |relative error| and quantiles of the signed one."""
        rows = []
        for index, (counts, absolute) in enumerate(zip(self._histogram, self._absolute, strict=True)):
            n = counts.sum()
            if n:
                cumulative = np.cumsum(counts) / n
                found = _ERROR_EDGES[1:][np.searchsorted(cumulative, QUANTILES)]
                rows.append(
                    {
                        "from_m": float(self.edges[index]),
                        "to_m": float(self.edges[index + 1]),
                        "abs_rel": float(absolute / n),
                        **{f"q{100 * q:.0f}": float(min(v, 2.0)) for q, v in zip(QUANTILES, found, strict=True)},
                        "n": int(n),
                    }
                )
        return rows
