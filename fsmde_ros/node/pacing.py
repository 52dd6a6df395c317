"""When the player may publish the next message: by the clock, or when the node is ready for it.

Back-pressure without knowing the node's rule for sweeps: an image of a camera may go out only
when the image of the *same camera* before it has been dealt with, that is, when a sweep report
came whose stamp is not more than half a period before that image. Cameras that fire one after
another, cameras that miss a frame, and drives with one sweep only need no special case: no camera
ever has two images under way, so the node never has two sweeps to choose from.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

NS = 1_000_000_000


def header_stamp_ns(cdr: bytes) -> int:
    """Stamp in nanoseconds of a serialized message whose first field is a ``std_msgs/Header``.

    ``cdr``: CDR with its 4 bytes of encapsulation (byte 1 is the byte order: 1 = little endian,
    OMG DDS-RTPS 10.2); then int32 seconds and uint32 nanoseconds.
    """
    order = "<" if cdr[1] & 1 else ">"
    seconds, nanoseconds = struct.unpack_from(order + "iI", cdr, 4)
    return int(seconds) * NS + int(nanoseconds)


def shortest_period_ns(stamps_ns: Iterable[int]) -> int | None:
    """The shortest step between stamps of one camera, nanoseconds; None with fewer than two."""
    ordered = sorted(set(stamps_ns))
    return min((b - a for a, b in pairwise(ordered)), default=None)


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


@dataclass
class SweepGate:
    """Which cameras still have an image under way (see the head of this module).

    Attributes:
        period_ns: period of the cameras; None where no camera has two images, so none waits.
    """

    period_ns: int | None
    outstanding: dict[str, int] = field(default_factory=dict)
    timeouts: int = 0

    def may_publish(self, camera: str) -> bool:
        """Whether the camera's image before this one has been dealt with."""
        return camera not in self.outstanding

    def published(self, camera: str, stamp_ns: int) -> None:
        """An image of the camera went out."""
        self.outstanding[camera] = stamp_ns

    def reported(self, sweep_stamp_ns: int) -> None:
        """The node reported the sweep of this reference stamp, published or dropped."""
        reach_ns = sweep_stamp_ns + (self.period_ns or 0) // 2
        self.outstanding = {camera: stamp for camera, stamp in self.outstanding.items() if stamp > reach_ns}

    def give_up(self) -> None:
        """No report came in time: forget what is under way and count it."""
        self.timeouts += 1
        self.outstanding.clear()

    def restart(self) -> None:
        """The bag begins again: stamps jump back."""
        self.outstanding.clear()
