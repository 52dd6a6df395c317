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
        self.go_by(first_stamps_ns)

    def go_by(self, first_stamps_ns: Mapping[str, Sequence[int]]) -> None:
        """Heed these cameras alone and forget what is under way; images of others pass at any time.

        ``first_stamps_ns``: some stamps of each camera, nanoseconds, to learn their offsets from.
        """
        self._cameras = frozenset(first_stamps_ns)
        self._offsets = StampOffsets(tuple(first_stamps_ns), "", WINDOW_NS)
        pairs = sorted((stamp, camera) for camera, stamps in first_stamps_ns.items() for stamp in stamps)
        for stamp, camera in pairs:
            self._offsets.learn(camera, stamp)
        self.under_way: int | None = None

    def may_publish(self, camera: str, stamp_ns: int) -> bool:
        """Whether the image belongs to the sweep under way, or none is, or the camera does not count."""
        period = self._offsets.period_ns
        if camera not in self._cameras:
            return True
        if self.under_way is None or period is None:  # without a period there is one sweep only
            return True
        return self._offsets.aligned(camera, stamp_ns) <= self.under_way + period // 2

    def published(self, camera: str, stamp_ns: int) -> None:
        """An image of the camera went out."""
        if self.under_way is None and camera in self._cameras:
            self.under_way = self._offsets.aligned(camera, stamp_ns)

    def reported(self, sweep_stamp_ns: int) -> None:
        """The node reported the sweep of this reference stamp, published or dropped."""
        period = self._offsets.period_ns
        if self.under_way is not None and (period is None or sweep_stamp_ns > self.under_way - period // 2):
            self.under_way = None

    def give_up(self) -> None:
        """No report came in time: forget what is under way and count it."""
        self.timeouts += 1
        self.under_way = None

    def restart(self) -> None:
        """The bag begins again: stamps jump back."""
        self.under_way = None
