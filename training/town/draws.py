"""Random draws that several kinds of things in the town share."""

from __future__ import annotations

from typing import overload

import numpy as np
from numpy.typing import NDArray


@overload
def log_uniform(rng: np.random.Generator, low: float, high: float) -> float: ...


@overload
def log_uniform(rng: np.random.Generator, low: float, high: float, count: int) -> NDArray[np.float64]: ...


def log_uniform(
    rng: np.random.Generator, low: float, high: float, count: int | None = None
) -> float | NDArray[np.float64]:
    """Between two positive values, each ratio as likely as another: one, or [count]."""
    drawn = np.exp(rng.uniform(np.log(low), np.log(high), count))
    return float(drawn) if count is None else drawn


def skewed(rng: np.random.Generator, low: float, high: float, power: float) -> float:
    """Between two values, the nearer to the low one the likelier where ``power`` is above 1; 1 is uniform."""
    return float(low + (high - low) * rng.uniform() ** power)
