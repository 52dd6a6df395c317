"""The bytes of a depth image, a ``sensor_msgs/Image`` by REP 118, without ROS."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.errors import ImageError
from fsmde_ros.images import MAX_PIXELS

_KINDS = {"32FC1": "f4", "16UC1": "u2"}
"""Type of a value by encoding: metres, where NaN is no value; or millimetres, where 0 is."""


def decode_depth(
    encoding: str, height: int, width: int, step: int, is_bigendian: bool, data: Any
) -> NDArray[np.float32]:
    """Decode depth: [H, W] float32, metres along the optical axis, NaN = no value.

    ``step`` is the length of a row in bytes, padding included; ``data`` anything with a buffer. NaN and infinity of
    32FC1 stay what they are (REP 117). The result does not share memory with ``data``.

    Raises:
        ImageError: the encoding is neither 32FC1 nor 16UC1, the image is empty or larger than
            ``images.MAX_PIXELS``, or the data does not fill it.
    """
    if encoding not in _KINDS:
        raise ImageError(f"a depth image must be 32FC1 (metres) or 16UC1 (mm), got '{encoding}'")
    kind = np.dtype((">" if is_bigendian else "<") + _KINDS[encoding])
    row = width * kind.itemsize
    if min(height, width) < 1 or height * width > MAX_PIXELS:
        raise ImageError(f"the depth image is {width}x{height}, expected 1x1 to {MAX_PIXELS} pixels")
    if step < row or len(data) < step * (height - 1) + row:
        raise ImageError(
            f"the depth image has {len(data)} bytes with step {step}, expected {height} rows of at least {row} bytes; "
            "the message is truncated or its publisher is wrong"
        )
    raw = np.frombuffer(data, dtype=np.uint8)
    rows = np.lib.stride_tricks.as_strided(raw, (height, row), (step, 1), writeable=False)
    values = np.ascontiguousarray(rows).view(kind).reshape(height, width).astype(np.float32)
    return values if encoding == "32FC1" else np.where(values == 0, np.float32(np.nan), values / 1000)
