"""From compressed bytes to pixels: decoding, resizing and encoding, each in this one place.

The bytes come from outside, so the header is read before anything is decoded: an image is
refused by its size without allocating it, and a truncated one is refused although the decoder
would fill the missing part with grey.
"""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fsmde_ros.bit_depth import BitDepth
from fsmde_ros.errors import ImageError
from fsmde_ros.sweep import EncodedImage

MAX_PIXELS = 2**25  # 33.6 million: an 8K video frame (33.2 million) is the largest one accepted
MOST_BILINEAR = 4 / 3  # how many times smaller, along a side, bilinear resizing still leaves no pixel out
MAX_SCANS = 100  # of a JPEG; each passes over all pixels again, and encoders write about ten of a progressive one

_JPEG_START, _JPEG_END, _PNG_START = b"\xff\xd8", b"\xff\xd9", b"\x89PNG\r\n\x1a\n"
# ITU T.81 table B.1: start-of-frame markers are C0 to CF without DHT (C4), JPG (C8), DAC (CC);
# TEM (01) and RST0 to RST7 (D0 to D7) stand alone, without a length.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9

# OpenCV names a Bayer pattern by its second row and second column, ROS by the first: bayer_rggb8 is OpenCV's BayerBG.
BAYER = {
    "rggb": cv2.COLOR_BayerBG2RGB,
    "bggr": cv2.COLOR_BayerRG2RGB,
    "gbrg": cv2.COLOR_BayerGR2RGB,
    "grbg": cv2.COLOR_BayerGB2RGB,
}
"""Conversion of a mosaic to RGB, by the pattern in the name of its encoding."""
MIN_BAYER_SIDE = 3  # pixels; the colours of a pixel come from its neighbours
_BAYER_ENCODINGS = {f"bayer_{pattern}{bits}": code for pattern, code in BAYER.items() for bits in (8, 16)}

# A JPEG can be decoded at these shares of its size, which leaves out most of the work.
_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def decode(image: EncodedImage, max_pixels: int = MAX_PIXELS, reduction: int = 1) -> NDArray[np.uint8]:
    """Decode a JPEG or PNG to RGB, [H / reduction, W / reduction, 3] uint8, in the orientation of the sensor.

    An orientation tag (EXIF) is not applied: the intrinsics belong to the stored pixels. ``reduction`` is 1, 2, 4
    or 8; each pixel of a JPEG is then the mean of as many, in a PNG that of some of them.

    image_transport compresses the mosaic of a Bayer sensor as it is, and names its pattern before a ";" of the
    format ("bayer_rggb8; jpeg compressed "). A picture of one channel under such a name is decoded at full size,
    demosaiced, and only then reduced, by means. A JPEG has blurred the mosaic: its colours are right but weak.
    So is a PNG of 16 bits, which become 8 by ``BitDepth``.

    Raises:
        ImageError: the data is empty, truncated, neither JPEG nor PNG, larger than
            ``max_pixels``, of more than ``MAX_SCANS``, or the decoder gives up on it.
    """
    height, width = encoded_size(image)
    if height * width > max_pixels:
        raise ImageError(
            f"the image is {width}x{height} pixels by its header, at most {max_pixels} pixels are accepted; "
            "publish smaller images"
        )
    reduced = (-(-height // reduction), -(-width // reduction))
    pattern = _bayer_pattern(image)
    if pattern is not None:
        mosaic = _imdecode(image, cv2.IMREAD_UNCHANGED, (height, width))
        if mosaic.ndim == 2:
            return resize(_demosaic(_to_8_bits(mosaic, image.depth), pattern), reduced)
    if _has_16_bits(image):
        deep = _imdecode(image, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION, (height, width))
        whole: NDArray[np.uint8] = cv2.cvtColor(_to_8_bits(deep, image.depth), cv2.COLOR_BGR2RGB).astype(np.uint8)
        return resize(whole, reduced)
    decoded = _imdecode(image, _REDUCED[reduction] | cv2.IMREAD_IGNORE_ORIENTATION, reduced)
    rgb: NDArray[np.uint8] = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
    return rgb


def encoded_size(image: EncodedImage) -> tuple[int, int]:
    """Size (H, W) of a JPEG or PNG from its header, without decoding it.

    Raises ImageError for data that is empty, truncated, or neither JPEG nor PNG.
    """
    data = bytes(image.data)
    if not data:
        raise ImageError("the image has no data (0 bytes), expected a JPEG or PNG; check the camera driver")
    if data.startswith(_JPEG_START):
        size = _jpeg_size(data)
    elif data.startswith(_PNG_START):
        size = _png_size(data)
    else:
        raise ImageError(
            f"the image (format '{image.format}', {len(data)} bytes, first bytes {data[:4].hex(' ')}) is neither "
            "JPEG nor PNG; publish one of these"
        )
    if min(size) < 1:
        raise ImageError(f"the image is {size[1]}x{size[0]} pixels by its header, expected at least 1x1")
    return size


def looks_right_anywhere(image: EncodedImage) -> bool:
    """Whether any viewer shows the bytes as ``decode`` does: not a Bayer mosaic, nor a PNG of 16 bits."""
    return _bayer_pattern(image) is None and not _has_16_bits(image)


def largest_reduction(size: tuple[int, int], wanted: tuple[int, int]) -> int:
    """The largest ``reduction`` of ``decode`` that leaves an image of ``size`` (H, W) no smaller than ``wanted``.

    Only one that divides the size: the pixels at the border would otherwise be of another width.
    """
    height, width = size
    fits = (
        r for r in _REDUCED if height % r == 0 == width % r and height // r >= wanted[0] and width // r >= wanted[1]
    )
    return max(fits, default=1)


def resize(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Resize ``image`` [h, w] or [h, w, C] to ``size`` (H, W), by the half-pixel rule.

    Shrinking averages over the area of a pixel, so that nothing aliases; enlarging is bilinear, and so is shrinking
    by less than ``MOST_BILINEAR``, as to what a JPEG was decoded near to: a sixth of the time.
    The input itself is returned where it has the size already. Not for depth: it would mix
    foreground and background.
    """
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    shares = image.shape[0] / height, image.shape[1] / width
    averages = min(shares) >= 1 and max(shares) >= MOST_BILINEAR
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if averages else cv2.INTER_LINEAR)
    return resized.reshape(height, width, *image.shape[2:])


def encode_jpeg(image: NDArray[np.uint8], quality: int = 90) -> EncodedImage:
    """Encode RGB, [H, W, 3] uint8, as a JPEG of ``quality`` 1 to 100."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ImageError(f"an image of shape {image.shape} cannot be encoded as JPEG")
    return EncodedImage(data.tobytes(), "jpeg")


def _imdecode(image: EncodedImage, flags: int, size: tuple[int, int]) -> NDArray[Any]:
    """What OpenCV makes of the bytes; ImageError where it is no picture of ``size`` (H, W)."""
    try:
        decoded = cv2.imdecode(np.frombuffer(image.data, dtype=np.uint8), flags)
    except cv2.error as error:
        raise ImageError(f"the image ({len(image.data)} bytes) cannot be decoded: {error}") from error
    if decoded is None or decoded.shape[:2] != size:
        raise ImageError(
            f"the image ({len(image.data)} bytes) cannot be decoded to the {size[1]}x{size[0]} pixels of its header: "
            "corrupt data; check the camera driver and the transport"
        )
    return decoded


def _bayer_pattern(image: EncodedImage) -> int | None:
    """Conversion of the mosaic that the format names; None where it names none."""
    return _BAYER_ENCODINGS.get(image.format.partition(";")[0].strip())


def _has_16_bits(image: EncodedImage) -> bool:
    """Whether the bytes begin as a PNG of 16 bits; the header is the first chunk."""
    return image.data[:8] == _PNG_START and image.data[24:25] == b"\x10"


def _to_8_bits(values: NDArray[Any], depth: BitDepth) -> NDArray[np.uint8]:
    return values if values.dtype == np.uint8 else depth.to_8_bits(values)


def _demosaic(mosaic: NDArray[np.uint8], pattern: int) -> NDArray[np.uint8]:
    """RGB [H, W, 3] of a mosaic [H, W]."""
    height, width = mosaic.shape
    if min(height, width) < MIN_BAYER_SIDE:
        raise ImageError(f"a Bayer mosaic cannot be {width}x{height} pixels, expected at least 3x3")
    return np.asarray(cv2.cvtColor(mosaic, pattern), dtype=np.uint8)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Walk the segments up to the first scan, then look for the end marker and more scans behind it.

    An end marker before the scan may belong to a thumbnail. Within the scan 0xFF is always
    followed by 0x00 or a restart marker, so that FF D9 there is the real end, and FF DA a further scan.
    """
    size: tuple[int, int] | None = None
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _WITHOUT_LENGTH:
            at += 2
            continue
        if marker == _END_OF_IMAGE:
            break
        length = int(struct.unpack_from(">H", data, at + 2)[0])
        if marker in _START_OF_FRAME and at + 9 <= len(data):
            size = struct.unpack_from(">HH", data, at + 5)
        at += 2 + length
        if marker == _START_OF_SCAN:
            if size is None:
                break
            if data.rfind(_JPEG_END, at) < 0:  # it is at the end: to look from there saves a pass over all bytes
                raise ImageError(
                    f"the JPEG is truncated: its {len(data)} bytes have no end marker; check the transport"
                )
            scan = np.frombuffer(data, dtype=np.uint8, offset=at)
            scans = 1 + int(np.count_nonzero((scan[:-1] == 0xFF) & (scan[1:] == _START_OF_SCAN)))
            if scans > MAX_SCANS:
                raise ImageError(
                    f"the JPEG has {scans} scans, at most {MAX_SCANS} are accepted; publish baseline or plain "
                    "progressive ones"
                )
            return size
    raise ImageError(f"the JPEG is truncated or corrupt: no image in its {len(data)} bytes; check the transport")


def _png_size(data: bytes) -> tuple[int, int]:
    """Size from the IHDR chunk, which must be the first; the IEND chunk must be there."""
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise ImageError(f"the PNG is truncated or corrupt: no header in its {len(data)} bytes; check the transport")
    width, height = struct.unpack_from(">II", data, 16)
    at = 8
    while at + 12 <= len(data):
        length = int(struct.unpack_from(">I", data, at)[0])
        if data[at + 4 : at + 8] == b"IEND":
            return height, width
        at += 12 + length
    raise ImageError(f"the PNG is truncated: its {len(data)} bytes have no end chunk; check the transport")
