"""Interleaved repetitions: what disturbs the machine for a while disturbs every subject alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

# A sweep follows a sweep, as on a vehicle. A scheduler that keeps threads on one core for their first milliseconds, as
# that of a virtual machine may, has those of a short stage take turns where it is called once.
BUSY_S = 0.05

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
    """Call every subject a few times a round, and time the last call in all rounds after the first ``warm_up``.

    The calls before it, for ``BUSY_S`` or one, take what the subject before has left behind: cold caches, threads that
    still spin, cores that still sleep. A subject that answers with a float has measured itself, seconds: one in
    another process, to which the way is no part of it.
    """
    seconds: dict[Key, list[float]] = {name: [] for name in subjects}
    for index in range(warm_up + rounds):
        for name, call in subjects.items():
            begin = time.perf_counter()
            call()
            while time.perf_counter() - begin < BUSY_S:
                call()
            start = time.perf_counter()
            answer = call()
            took = time.perf_counter() - start
            if index >= warm_up:
                seconds[name].append(answer if isinstance(answer, float) else took)
    return {name: Timing.of(values) for name, values in seconds.items()}
