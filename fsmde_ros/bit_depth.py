"""How many of the 16 bits of an image count: sensors of 10, 12 or 14 bits leave the upper ones empty.

Neither an encoding (``mono16``, ``bayer_rggb16``) nor a PNG says so, and some drivers shift their values up
while others do not: it is found out from the values.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import numpy as np
from numpy.typing import NDArray

DEPTHS = (8, 10, 12, 14, 16)
"""Bits of a value, as sensors have them."""


class BitDepth:
    """The bits of a camera: the fewest of ``DEPTHS`` that hold every value it has sent so far.

    They never become fewer, so that the brightness of a drive does not follow that of its pictures. One object for
    each camera; any thread may use it.
    """

    def __init__(self, tell: Callable[[int], object] | None = None) -> None:
        """``tell`` is called with the bits when they are known, and when they become more."""
        self._tell, self._bits, self._lock = tell, 0, Lock()

    def to_8_bits(self, values: NDArray[np.uint16]) -> NDArray[np.uint8]:
        """The upper 8 of the bits that count, of an image of any shape, which counts already."""
        needed = int(values.max(initial=0)).bit_length()
        with self._lock:
            is_news = needed > self._bits  # a black picture, as of a covered lens, says nothing
            if is_news:
                self._bits = next(depth for depth in DEPTHS if depth >= needed)
            bits = self._bits
        if is_news and self._tell is not None:
            self._tell(bits)
        return (values >> max(0, bits - 8)).astype(np.uint8)
