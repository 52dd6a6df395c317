"""Interleaved repetitions: what disturbs the machine for a while disturbs every subject alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Key = TypeVar("Key", bound=Hashable)  # what a time belongs to, a name for example


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one call: median, 10 and 90 % quantiles, and how many calls they are of."""

    median_ms: float
    low_ms: float
    high_ms: float
    calls: int

    @staticmethod
    def of(seconds: list[float]) -> Timing:
        """Quantiles of measured times."""
        low, median, high = np.quantile(1000 * np.array(seconds), (0.1, 0.5, 0.9))
        return Timing(float(median), float(low), float(high), len(seconds))


def interleave(subjects: Mapping[Key, Callable[[], object]], rounds: int, warm_up: int = 1) -> dict[Key, Timing]:
    """Call every subject twice a round, and time the second call in all rounds after the first ``warm_up``.

    The first call takes what the subject before has left behind: cold caches, and threads that still spin. A subject
    that answers with a float has measured itself, seconds: one in another process, to which the way is no part of it.
    """
    seconds: dict[Key, list[float]] = {name: [] for name in subjects}
    for index in range(warm_up + rounds):
        for name, call in subjects.items():
            call()
            start = time.perf_counter()
            answer = call()
            took = time.perf_counter() - start
            if index >= warm_up:
                seconds[name].append(answer if isinstance(answer, float) else took)
    return {name: Timing.of(values) for name, values in seconds.items()}
