from __future__ import annotations

import numpy as np
import pytest

from fsmde_ros.bit_depth import BitDepth
from fsmde_ros.errors import ImageError
from fsmde_ros.pixel_layout import ENCODINGS, decode_pixels

H, W = 4, 6
PIXELS = np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)


def padded(rows: np.ndarray, padding: int = 5) -> tuple[int, bytes]:
    """Step and bytes of rows with rubbish behind each."""
    raw = rows.reshape(len(rows), -1).view(np.uint8)
    step = raw.shape[1] + padding
    return step, b"".join(row.tobytes() + b"\xaa" * padding for row in raw)


@pytest.mark.parametrize(
    ("encoding", "stored"),
    [
        ("rgb8", PIXELS),
        ("bgr8", PIXELS[..., ::-1]),
        ("8UC3", PIXELS[..., ::-1]),
        ("rgba8", np.dstack([PIXELS, np.full((H, W), 7, np.uint8)])),
        ("bgra8", np.dstack([PIXELS[..., ::-1], np.full((H, W), 7, np.uint8)])),
    ],
)
def test_color_comes_out_as_rgb(encoding: str, stored: np.ndarray) -> None:
    step, data = padded(np.ascontiguousarray(stored))
    np.testing.assert_array_equal(decode_pixels(encoding, H, W, step, False, data), PIXELS)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(("encoding", "order"), [("rgb16", 1), ("bgr16", -1)])
def test_colour_of_16_bits_comes_out_as_rgb(encoding: str, order: int, big: bool) -> None:
    deep = (PIXELS[..., ::order].astype(np.uint16) << 8 | 0x55).astype(">u2" if big else "<u2")
    step, data = padded(deep)
    np.testing.assert_array_equal(decode_pixels(encoding, H, W, step, big, data), PIXELS)


@pytest.mark.parametrize("big", [False, True])
def test_grey_is_three_times_the_same(big: bool) -> None:
    grey = PIXELS[..., 0]
    step, data = padded(np.ascontiguousarray(grey))
    np.testing.assert_array_equal(decode_pixels("mono8", H, W, step, big, data), np.dstack([grey] * 3))
    deep = (grey.astype(np.uint16) << 8 | 0x55).astype(">u2" if big else "<u2")
    step, data = padded(deep)
    np.testing.assert_array_equal(decode_pixels("mono16", H, W, step, big, data), np.dstack([grey] * 3))


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_of_one_colour(pattern: str) -> None:
    color = {"r": 200, "g": 100, "b": 30}
    cell = np.array([[color[pattern[0]], color[pattern[1]]], [color[pattern[2]], color[pattern[3]]]], np.uint8)
    decoded = decode_pixels(f"bayer_{pattern}8", 8, 10, 10, False, np.tile(cell, (4, 5)).tobytes())
    np.testing.assert_array_equal(decoded, np.broadcast_to([200, 100, 30], (8, 10, 3)))
    deep = np.tile(cell, (4, 5)).astype(np.uint16) << 8 | 0x55
    for big, order in ((False, "<u2"), (True, ">u2")):
        deeper = decode_pixels(f"bayer_{pattern}16", 8, 10, 20, big, deep.astype(order).tobytes())
        np.testing.assert_array_equal(deeper, decoded)


@pytest.mark.parametrize("encoding", ["mono16", "bayer_rggb16"])
def test_values_of_a_12_bit_sensor_are_scaled_by_what_its_camera_has_sent(encoding: str) -> None:
    depth = BitDepth()
    for value, shown in ((0xFFF, 255), (0x0F0, 15)):
        data = np.full((H, W), value, "<u2").tobytes()
        assert (decode_pixels(encoding, H, W, 2 * W, False, data, depth=depth) == shown).all()


@pytest.mark.parametrize(("encoding", "luma"), [("yuv422", 1), ("uyvy", 1), ("yuv422_yuy2", 0), ("yuyv", 0)])
def test_yuv_without_chroma_is_grey(encoding: str, luma: int) -> None:
    stored = np.full((H, W, 2), 128, np.uint8)
    stored[:, : W // 2, luma], stored[:, W // 2 :, luma] = 16, 235  # black and white of video range
    decoded = decode_pixels(encoding, H, W, W * 2, False, stored.tobytes())
    assert decoded[:, : W // 2].max() <= 1
    assert decoded[:, W // 2 :].min() >= 254


@pytest.mark.parametrize(("encoding", "red"), [("nv12", 1), ("nv21", 0)])
def test_semi_planar_yuv_has_a_plane_of_colour_below_that_of_brightness(encoding: str, red: int) -> None:
    """BT.601 in video range; the pair of bytes of 2x2 pixels is U, V in nv12 and V, U in nv21."""
    chroma = np.full((H // 2, W // 2, 2), 128, np.uint8)
    chroma[0, 1] = np.roll([200, 90], red)  # V, U of nv21 turned round
    step, data = padded(np.concatenate([np.full((H, W), 120, np.uint8), chroma.reshape(H // 2, W)]))
    decoded = decode_pixels(encoding, H, W, step, False, data)
    grey = round(1.164 * (120 - 16))
    expected = np.full((H, W, 3), float(grey))
    expected[:2, 2:4] += [1.596 * (200 - 128), -0.813 * (200 - 128) - 0.392 * (90 - 128), 2.017 * (90 - 128)]
    np.testing.assert_allclose(decoded, expected, atol=2)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_gives_rgb_of_its_own(encoding: str) -> None:
    data = bytearray(H * 3 // 2 * W * 6)
    decoded = decode_pixels(encoding, H, W, W * 6, False, data)
    assert (decoded.shape, decoded.dtype) == ((H, W, 3), np.uint8)
    before = decoded.copy()
    data[:] = b"\xff" * len(data)
    np.testing.assert_array_equal(decoded, before)


@pytest.mark.parametrize(
    ("encoding", "height", "width", "step", "size", "message"),
    [
        ("32FC1", 2, 2, 8, 16, "encoding '32FC1', expected one of rgb8"),
        ("rgb8", 0, 2, 6, 0, "is 2x0 pixels"),
        ("rgb8", 100_000, 100_000, 300_000, 16, "is 100000x100000 pixels"),
        ("rgb8", 2, 2, 6, 11, "has 11 bytes with step 6, expected 2 rows of at least 6"),
        ("rgb8", 2, 2, 5, 12, "has 12 bytes with step 5"),
        ("yuyv", 2, 3, 6, 12, "'yuyv' cannot be 3x2"),
        ("bayer_rggb8", 2, 2, 2, 4, "cannot be 2x2"),
        ("nv12", 4, 3, 3, 18, "'nv12' cannot be 3x4"),
        ("nv21", 3, 4, 4, 18, "'nv21' cannot be 4x3"),
        ("nv12", 4, 4, 4, 23, "has 23 bytes with step 4, expected 6 rows of at least 4"),
    ],
)
def test_refuses_nonsense(encoding: str, height: int, width: int, step: int, size: int, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        decode_pixels(encoding, height, width, step, False, bytes(size))
