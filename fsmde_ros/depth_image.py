"""The bytes of a depth image, a ``sensor_msgs/Image`` by REP 118, without ROS."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.errors import ImageError
from fsmde_ros.pixel_layout import check_rows, check_size, without_padding

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
    check_size(height, width)
    check_rows(height, step, len(data), row)
    values = without_padding(data, height, step, row).view(kind).reshape(height, width).astype(np.float32)
    return values if encoding == "32FC1" else np.where(values == 0, np.float32(np.nan), values / 1000)
