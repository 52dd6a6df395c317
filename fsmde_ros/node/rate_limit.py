"""Which sweeps are worked on where the node may not take all of a machine."""

from __future__ import annotations

from fsmde_ros.stamps import NS

TOLERANCE = 0.1  # of a period: stamps tremble, and of cameras at 30 Hz 10 Hz are each third sweep


class RateLimit:
    """Lets sweeps through, at most so many a second by their stamps.

    Where one camera is faster than the others, most sweeps have only its view. One with at least twice the views of the
    last that was let through is let through as well, else those could be all there is for ever.
    """

    def __init__(self) -> None:
        self._last: tuple[int, int] | None = None  # stamp and views of the last one that was let through

    def passes(self, stamp_ns: int, views: int, max_rate_hz: float) -> bool:
        """Whether the next sweep comes late enough after the last that passed; with a rate of 0 each does."""
        if max_rate_hz > 0 and self._last is not None and views < 2 * self._last[1]:
            since = stamp_ns - self._last[0]
            if 0 <= since < (1 - TOLERANCE) * NS / max_rate_hz:  # below 0: the clock was set, or a bag begins again
                return False
        self._last = stamp_ns, views
        return True
