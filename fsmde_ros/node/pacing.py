"""When the player may publish the next message: by the clock, or when the node is ready for it.

Back-pressure: an image of the next sweep waits until the node has reported the sweep before it, so
that the node never has two sweeps to choose from. Which images belong together follows from their
stamps, with the offsets of the cameras taken out, as in the node itself (``stamp_offsets``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fsmde_ros.stamp_offsets import StampOffsets

WINDOW_NS = 50_000_000  # how far the images of a sweep may lie apart until their offsets are known


@dataclass(frozen=True)
class PlaybackClock:
    """Bag time against the wall: ``rate`` seconds of the bag pass in one second of the wall."""

    bag_start_ns: int
    wall_start_ns: int
    rate: float = 1.0

    def wall_ns(self, bag_ns: int) -> int:
        """Wall time at which the bag's time ``bag_ns`` is due."""
        return self.wall_start_ns + round((bag_ns - self.bag_start_ns) / self.rate)

    def bag_ns(self, wall_ns: int) -> int:
        """Bag time at the wall time ``wall_ns``."""
        return self.bag_start_ns + round((wall_ns - self.wall_start_ns) * self.rate)


class SweepGate:
    """Lets the images of one sweep out at a time (see the head of this module).

    Attributes:
        under_way: stamp of the sweep that has not been reported yet, nanoseconds; None if none.
        timeouts: sweeps whose report did not come in time.
    """

    def __init__(self, first_stamps_ns: Mapping[str, Sequence[int]]) -> None:
        """``first_stamps_ns``: as for ``go_by``."""
        self.timeouts = 0
        self.under_way: int | None = None
        self._over: int | None = None  # stamp of the last sweep that was under way
        self._first_stamps = first_stamps_ns
        self.restart()

    def go_by(self, first_stamps_ns: Mapping[str, Sequence[int]]) -> None:
        """Heed these cameras alone and forget what is under way; images of others pass at any time.

        ``first_stamps_ns``: the first stamps of each camera, nanoseconds, to learn their offsets from.
        """
        if first_stamps_ns.keys() != self._first_stamps.keys():
            self._first_stamps = first_stamps_ns
            self.restart()
        self.under_way = None

    def may_publish(self, camera: str, stamp_ns: int) -> bool:
        """Whether the image belongs to the sweep under way, or none is, or the camera does not count."""
        period = self._offsets.period_ns
        if camera not in self._first_stamps:
            return True
        if self.under_way is None or period is None:  # without a period there is one sweep only
            return True
        return self._offsets.aligned(camera, stamp_ns) <= self.under_way + period // 2

    def published(self, camera: str, stamp_ns: int) -> None:
        """An image of the camera went out; one of a sweep that is over begins none, as no report of it will come."""
        if camera not in self._first_stamps:
            return
        self._offsets.learn(camera, stamp_ns)  # as the node does: cameras without a common trigger drift
        moment, half = self._offsets.aligned(camera, stamp_ns), (self._offsets.period_ns or 0) // 2
        if self.under_way is None and (self._over is None or abs(moment - self._over) > half):
            self.under_way = moment

    def reported(self, sweep_stamp_ns: int) -> None:
        """The node reported the sweep of this reference stamp, published or dropped."""
        period = self._offsets.period_ns
        if self.under_way is not None and (period is None or sweep_stamp_ns > self.under_way - period // 2):
            self._end()

    def give_up(self) -> None:
        """No report came in time: forget what is under way and count it."""
        self.timeouts += 1
        self._end()

    def _end(self) -> None:
        self._over, self.under_way = self.under_way, None

    def restart(self) -> None:
        """The bag begins, or begins again: stamps jump back."""
        self.under_way = self._over = None
        self._offsets = StampOffsets(tuple(self._first_stamps), "", WINDOW_NS)
        for stamp, camera in sorted((stamp, name) for name, stamps in self._first_stamps.items() for stamp in stamps):
            self._offsets.learn(camera, stamp)
