"""Poses of the vehicle over time, and the pose in between them."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fsmde_ros.geometry import interpolate_rigid

Array = NDArray[np.float64]

EXTRAPOLATION_NS = 100_000_000
# Poses of single sensors lie milliseconds apart; a velocity from so short a base is mostly noise.
VELOCITY_BASE_NS = 50_000_000


class PoseTrack:
    """Poses of the vehicle in the map, asked for at any stamp.

    Poses may come in any order; the last one given for a stamp counts. With ``limit`` or ``span_ns``
    the oldest are dropped, so that a node can feed it for as long as it lives.
    """

    def __init__(
        self, limit: int | None = None, extrapolation_ns: int = EXTRAPOLATION_NS, span_ns: int | None = None
    ) -> None:
        """Make an empty track.

        Args:
            limit: most poses to keep, at least 2; None keeps all.
            extrapolation_ns: how far outside the known stamps ``at`` still answers, nanoseconds.
            span_ns: poses older than the newest by more than this are dropped but for the last two, which are needed
                to interpolate between, nanoseconds; None keeps all.
        """
        if limit is not None and limit < 2:
            raise ValueError(f"limit must be at least 2 poses, got {limit}")
        if span_ns is not None and span_ns <= 0:
            raise ValueError(f"span_ns must be above 0, got {span_ns}")
        self._limit = limit
        self._extrapolation_ns, self._span_ns = extrapolation_ns, span_ns
        self._stamps_ns: list[int] = []
        self._poses: list[Array] = []

    def __len__(self) -> int:
        return len(self._stamps_ns)

    @property
    def stamps_ns(self) -> tuple[int, ...]:
        """Stamps of the known poses, ascending, nanoseconds."""
        return tuple(self._stamps_ns)

    @property
    def last_ns(self) -> int | None:
        """Stamp of the newest pose, nanoseconds; None where there is none."""
        return self._stamps_ns[-1] if self._stamps_ns else None

    def add(self, stamp_ns: int, vehicle_to_map: ArrayLike) -> None:
        """Add the pose ``[4, 4]`` of the vehicle at a stamp (nanoseconds)."""
        pose = np.array(vehicle_to_map, dtype=np.float64)
        if pose.shape != (4, 4) or not np.isfinite(pose).all():
            raise ValueError(f"vehicle_to_map must be a finite 4x4 transform, got {pose.tolist()}")
        index = bisect_left(self._stamps_ns, stamp_ns)
        if index < len(self) and self._stamps_ns[index] == stamp_ns:
            self._poses[index] = pose
            return
        self._stamps_ns.insert(index, stamp_ns)
        self._poses.insert(index, pose)
        while len(self) > 2 and self._is_too_old():
            del self._stamps_ns[0], self._poses[0]

    def _is_too_old(self) -> bool:
        """Whether the oldest pose is one too many."""
        if self._limit is not None and len(self) > self._limit:
            return True
        return self._span_ns is not None and self._stamps_ns[-1] - self._stamps_ns[0] > self._span_ns

    def clear(self) -> None:
        """Forget all poses, as after a jump back in time."""
        self._stamps_ns.clear()
        self._poses.clear()

    def at(self, stamp_ns: int) -> Array | None:
        """``vehicle_to_map [4, 4]`` at a stamp (nanoseconds).

        Between two known poses it is interpolated; up to ``extrapolation_ns`` before the first or
        after the last one it is extrapolated at constant velocity. Further out, and beside a
        single pose, it is not known: None.
        """
        index = bisect_left(self._stamps_ns, stamp_ns)
        if index < len(self) and self._stamps_ns[index] == stamp_ns:
            return self._poses[index].copy()
        if len(self) < 2:
            return None
        if 0 < index < len(self):
            return self._between(index - 1, index, stamp_ns)
        outside_ns = self._stamps_ns[0] - stamp_ns if index == 0 else stamp_ns - self._stamps_ns[-1]
        if outside_ns > self._extrapolation_ns:
            return None
        if index == 0:
            base = bisect_left(self._stamps_ns, self._stamps_ns[0] + VELOCITY_BASE_NS)
            return self._between(0, min(base, len(self) - 1), stamp_ns)
        base = bisect_left(self._stamps_ns, self._stamps_ns[-1] - VELOCITY_BASE_NS + 1) - 1
        return self._between(max(base, 0), len(self) - 1, stamp_ns)

    def _between(self, first: int, second: int, stamp_ns: int) -> Array:
        start, end = self._stamps_ns[first], self._stamps_ns[second]
        return interpolate_rigid(self._poses[first], self._poses[second], (stamp_ns - start) / (end - start))
