"""The bytes of a ``sensor_msgs/Image``, without ROS: rows of pixels in one of the usual encodings."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fsmde_ros.bit_depth import BitDepth
from fsmde_ros.errors import ImageError
from fsmde_ros.images import BAYER, MAX_PIXELS, MIN_BAYER_SIDE

# Encoding: type of a value, values of a pixel, conversion to RGB.
_ENCODINGS: dict[str, tuple[str, int, int | None]] = {
    "rgb8": ("u1", 3, None),
    "bgr8": ("u1", 3, cv2.COLOR_BGR2RGB),
    "rgba8": ("u1", 4, cv2.COLOR_RGBA2RGB),
    "bgra8": ("u1", 4, cv2.COLOR_BGRA2RGB),
    "mono8": ("u1", 1, cv2.COLOR_GRAY2RGB),
    "rgb16": ("u2", 3, None),
    "bgr16": ("u2", 3, cv2.COLOR_BGR2RGB),
    "mono16": ("u2", 1, cv2.COLOR_GRAY2RGB),
    "8UC1": ("u1", 1, cv2.COLOR_GRAY2RGB),
    "8UC3": ("u1", 3, cv2.COLOR_BGR2RGB),
    **{f"bayer_{pattern}8": ("u1", 1, conversion) for pattern, conversion in BAYER.items()},
    **{f"bayer_{pattern}16": ("u2", 1, conversion) for pattern, conversion in BAYER.items()},
    "yuv422": ("u1", 2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": ("u1", 2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": ("u1", 2, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": ("u1", 2, cv2.COLOR_YUV2RGB_YUY2),
    "nv12": ("u1", 1, cv2.COLOR_YUV2RGB_NV12),
    "nv21": ("u1", 1, cv2.COLOR_YUV2RGB_NV21),
}
# Below the rows of brightness lie half as many of colour, with a pair of bytes for 2x2 pixels.
_SEMI_PLANAR = ("nv12", "nv21")
ENCODINGS = tuple(_ENCODINGS)
"""The encodings that ``decode_pixels`` knows, by their names in ``sensor_msgs/image_encodings``."""


def check_layout(encoding: str, height: int, width: int, step: int, size: int, max_pixels: int = MAX_PIXELS) -> int:
    """Bytes of a row without padding; raises ImageError as ``decode_pixels``. ``size``: bytes of the data."""
    if encoding not in _ENCODINGS:
        raise ImageError(f"the image has encoding '{encoding}', expected one of {', '.join(_ENCODINGS)}")
    code, values, _ = _ENCODINGS[encoding]
    check_size(height, width, max_pixels)
    is_planar = encoding in _SEMI_PLANAR
    if (
        (encoding.startswith("bayer") and min(height, width) < MIN_BAYER_SIDE)
        or ((values == 2 or is_planar) and width % 2)
        or (is_planar and height % 2)
    ):
        raise ImageError(f"an image of encoding '{encoding}' cannot be {width}x{height} pixels")
    row = width * values * int(code[1])
    check_rows(_rows(encoding, height), step, size, row)
    return row


def check_size(height: int, width: int, max_pixels: int = MAX_PIXELS) -> None:
    """Raise ImageError for an image that is empty or of more than ``max_pixels``."""
    if min(height, width) < 1 or height * width > max_pixels:
        raise ImageError(f"the image is {width}x{height} pixels, expected 1x1 to {max_pixels} pixels; check its driver")


def check_rows(height: int, step: int, size: int, row: int) -> None:
    """Raise ImageError where rows of ``row`` bytes, ``step`` bytes apart, do not fit data of ``size`` bytes.

    The last row may lack the padding of the others.
    """
    if step < row or size < step * (height - 1) + row:
        raise ImageError(
            f"the image has {size} bytes with step {step}, expected {height} rows of at least {row} bytes; "
            "the message is truncated or its publisher is wrong"
        )


def without_padding(data: Any, height: int, step: int, row: int) -> NDArray[np.uint8]:
    """The rows [height, row] of data that ``check_rows`` has passed; a copy where there is padding."""
    raw = np.frombuffer(data, dtype=np.uint8)
    return np.ascontiguousarray(np.lib.stride_tricks.as_strided(raw, (height, row), (step, 1), writeable=False))


def decode_pixels(
    encoding: str,
    height: int,
    width: int,
    step: int,
    is_bigendian: bool,
    data: Any,
    max_pixels: int = MAX_PIXELS,
    depth: BitDepth | None = None,
) -> NDArray[np.uint8]:
    """Decode a raw image to RGB, [H, W, 3] uint8.

    ``step`` is the length of a row in bytes, padding included; ``data`` anything with a buffer. Values of 16 bits
    become 8 by ``depth``, what is known of their camera; by default only this image tells. The result does not share
    memory with ``data``.

    Raises:
        ImageError: the encoding is unknown, the image is empty or larger than ``max_pixels``, or
            its sizes contradict the data.
    """
    row = check_layout(encoding, height, width, step, len(data), max_pixels)
    code, values, conversion = _ENCODINGS[encoding]
    rows = _rows(encoding, height)
    pixels = without_padding(data, rows, step, row)
    if code == "u2":
        pixels = (depth or BitDepth()).to_8_bits(pixels.view(">u2" if is_bigendian else "<u2"))
    pixels = pixels.reshape((rows, width) if values == 1 else (rows, width, values))
    return pixels.copy() if conversion is None else np.asarray(cv2.cvtColor(pixels, conversion), dtype=np.uint8)


def _rows(encoding: str, height: int) -> int:
    return height * 3 // 2 if encoding in _SEMI_PLANAR else height
