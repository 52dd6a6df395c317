"""Images from outside: right pixels, or an ImageError before anything is allocated."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsmde_ros.bit_depth import BitDepth
from fsmde_ros.errors import ImageError
from fsmde_ros.images import MAX_SCANS, decode, encode_jpeg, encoded_size, largest_reduction, resize
from fsmde_ros.pixel_layout import decode_pixels
from fsmde_ros.sweep import EncodedImage


def smooth_image(height: int = 48, width: int = 80) -> np.ndarray:
    ys, xs = np.mgrid[0:height, 0:width]
    return np.stack([xs * 3, ys * 5, 255 - xs * 3], axis=-1).astype(np.uint8)


def png(image_rgb: np.ndarray) -> EncodedImage:
    return EncodedImage(cv2.imencode(".png", image_rgb[..., ::-1])[1].tobytes(), "png")


def png_header_only(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")


def test_decode_gives_rgb_of_png_exactly_and_of_jpeg_closely():
    image = smooth_image()
    np.testing.assert_array_equal(decode(png(image)), image)
    decoded = decode(encode_jpeg(image, 95))
    assert decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - image).mean() < 4  # red and blue swapped would be > 80


def test_encoded_size_is_height_then_width():
    assert encoded_size(encode_jpeg(smooth_image(31, 77))) == (31, 77)
    assert encoded_size(png(smooth_image(31, 77))) == (31, 77)


def test_grey_images_become_three_channels():
    grey = np.arange(0, 240, 1, dtype=np.uint8).reshape(12, 20)
    decoded = decode(EncodedImage(cv2.imencode(".png", grey)[1].tobytes(), "png"))
    np.testing.assert_array_equal(decoded, np.repeat(grey[..., None], 3, axis=-1))


def test_progressive_jpeg_is_accepted():
    data = cv2.imencode(".jpg", smooth_image(), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    assert decode(EncodedImage(data)).shape == (48, 80, 3)


def test_a_jpeg_of_very_many_scans_is_refused_before_it_is_decoded():
    """A small file can otherwise keep a decoder busy for long: every scan passes over all pixels."""
    plain = cv2.imencode(".jpg", smooth_image(), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    scan = plain[plain.rindex(b"\xff\xda") : -2]
    scans = plain.count(b"\xff\xda")
    most = plain[:-2] + (MAX_SCANS - scans) * scan + b"\xff\xd9"
    assert encoded_size(EncodedImage(most)) == (48, 80)
    with pytest.raises(ImageError, match=f"has {MAX_SCANS + 1} scans, at most {MAX_SCANS}"):
        decode(EncodedImage(most[:-2] + scan + b"\xff\xd9"))


def test_orientation_tag_is_not_applied():
    """The intrinsics belong to the stored pixels, so a phone-like tag must not turn them."""
    data = encode_jpeg(smooth_image(48, 80)).data
    tiff = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    body = b"Exif\x00\x00" + tiff
    tagged = data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    assert decode(EncodedImage(tagged)).shape == (48, 80, 3)


@pytest.mark.parametrize("part", [0.02, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_truncated_is_refused(part, kind):
    whole = encode_jpeg(smooth_image()) if kind == "jpeg" else png(smooth_image())
    with pytest.raises(ImageError, match="truncated"):
        decode(EncodedImage(whole.data[: max(9, int(len(whole.data) * part))], kind))


def test_truncated_jpeg_with_the_end_marker_of_a_thumbnail_is_refused():
    data = encode_jpeg(smooth_image()).data
    thumbnail = encode_jpeg(smooth_image(8, 8)).data
    tagged = data[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + data[2:]
    assert decode(EncodedImage(tagged)).shape == (48, 80, 3)
    with pytest.raises(ImageError, match="truncated"):
        decode(EncodedImage(tagged[:-40]))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no data"),
        (b"hello world, this is no image", "neither JPEG nor PNG"),
        (b"\xff\xd8", "truncated or corrupt"),
        (b"\xff\xd8\xff\xd9", "truncated or corrupt"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "truncated or corrupt"),
        (png_header_only(100_000, 100_000), "at most"),
        (png_header_only(0, 7), "at least 1x1"),
        (png_header_only(30, 20), "corrupt data"),
    ],
)
def test_bad_data_is_refused_with_its_reason(data, message):
    with pytest.raises(ImageError, match=message):
        decode(EncodedImage(data))


def test_the_limit_is_inclusive():
    image = encode_jpeg(smooth_image(10, 20))
    assert decode(image, max_pixels=200).shape == (10, 20, 3)
    with pytest.raises(ImageError, match="20x10"):
        decode(image, max_pixels=199)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_damage_gives_an_image_or_an_image_error(data):
    whole = bytearray(
        data.draw(st.sampled_from([encode_jpeg(smooth_image(16, 24)).data, png(smooth_image(16, 24)).data]))
    )
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = decode(EncodedImage(bytes(whole)), max_pixels=10_000)
    except ImageError:
        return
    assert decoded.dtype == np.uint8
    assert decoded.ndim == 3


def test_resize_averages_when_shrinking_and_keeps_the_same_size_untouched():
    image = np.zeros((4, 6), np.float32)
    image[:2, :3] = 8.0
    image[0, 0] = 0.0
    np.testing.assert_allclose(resize(image, (2, 2)), [[8.0 * 5 / 6, 0.0], [0.0, 0.0]], atol=1e-5)
    assert resize(image, (4, 6)) is image


@pytest.mark.parametrize(("height", "width"), [(192, 320), (169, 301), (192, 399)])
def test_shrinking_a_little_leaves_no_pixel_out_and_moves_nothing(height: int, width: int) -> None:
    """As to 320x192 of a JPEG of 1600x900 decoded at a quarter: each pixel counts, a line stays where it is."""
    for x in range(0, 400, 7):
        line = np.zeros((225, 400), np.float32)
        line[:, x] = 100.0
        row = resize(line, (height, width))[height // 2]
        assert row.sum() > 30  # at one phase of four thirds two of three pixels share a weight of 1
        place = (x + 0.5) * width / 400 - 0.5
        assert abs((row * np.arange(width)).sum() / row.sum() - place) < 0.5


def test_resize_keeps_the_centre_by_the_half_pixel_rule():
    """A linear ramp stays the ramp of ``(x + 0.5) * s - 0.5`` away from the border."""
    ramp = np.tile(np.arange(8, dtype=np.float32), (4, 1))
    wide = resize(ramp, (4, 16))
    np.testing.assert_allclose(wide[0, 1:-1], ((np.arange(16) + 0.5) / 2 - 0.5)[1:-1], atol=1e-5)
    assert resize(np.zeros((4, 8, 1), np.uint8), (2, 4)).shape == (2, 4, 1)


@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_a_reduced_jpeg_is_the_mean_of_its_pixels(reduction: int) -> None:
    """What the network sees hardly depends on the shortcut: it is within the noise of the JPEG."""
    coarse = np.random.default_rng(0).integers(0, 256, (15, 20, 3), dtype=np.uint8)
    encoded = encode_jpeg(np.asarray(resize(coarse, (240, 320))), quality=95)
    full, reduced = decode(encoded), decode(encoded, reduction=reduction)
    assert reduced.shape == (240 // reduction, 320 // reduction, 3)
    blocks = full.reshape(240 // reduction, reduction, 320 // reduction, reduction, 3).mean(axis=(1, 3))
    assert np.abs(reduced - blocks).mean() < 1.5
    assert np.abs((reduced - blocks).mean()) < 0.5


def mosaic(pattern: str, image_rgb: np.ndarray) -> np.ndarray:
    """What a sensor with a Bayer pattern keeps of an image: one colour of each pixel."""
    result = np.empty(image_rgb.shape[:2], np.uint8)
    for place, color in enumerate(pattern):
        rows, columns = slice(place // 2, None, 2), slice(place % 2, None, 2)
        result[rows, columns] = image_rgb[rows, columns, "rgb".index(color)]
    return result


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_a_compressed_mosaic_gets_its_colours_back(pattern: str) -> None:
    """image_transport compresses the mosaic as it is; the format alone says that it is one."""
    image = smooth_image()
    stored = mosaic(pattern, image)
    lossless = cv2.imencode(".png", stored)[1].tobytes()
    decoded = decode(EncodedImage(lossless, f"bayer_{pattern}8; png compressed "))
    np.testing.assert_array_equal(decoded, decode_pixels(f"bayer_{pattern}8", 48, 80, 80, False, stored.tobytes()))
    assert np.abs(decoded.astype(int) - image).mean() < 4
    deep = cv2.imencode(".png", stored.astype(np.uint16) << 8 | 0x55)[1].tobytes()
    np.testing.assert_array_equal(decode(EncodedImage(deep, f"bayer_{pattern}16; png compressed ")), decoded)
    lossy = cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    difference = decode(EncodedImage(lossy, f"bayer_{pattern}8; jpeg compressed ")).astype(int) - image
    assert np.abs(difference.mean(axis=(0, 1))).max() < 4  # grey instead would be off by tens
    assert np.abs(difference).mean() < 12


@pytest.mark.parametrize("name", ["bayer_rggb16", "mono16", "rgb16"])
@pytest.mark.parametrize("reduction", [1, 2])
def test_pngs_of_a_12_bit_sensor_are_as_bright_as_those_of_8_bits(name: str, reduction: int) -> None:
    image = smooth_image()
    stored = {"bayer_rggb16": mosaic("rggb", image), "mono16": image[..., 1], "rgb16": image}[name]
    data = cv2.imencode(".png", stored.astype(np.uint16) << 4 | 0x5)[1].tobytes()
    decoded = decode(EncodedImage(data, f"{name}; png compressed "), reduction=reduction)
    plain = EncodedImage(cv2.imencode(".png", stored)[1].tobytes(), f"{name.replace('16', '8')}; png compressed ")
    np.testing.assert_array_equal(decoded, resize(decode(plain), decoded.shape[:2]))


def test_a_dark_png_is_dark_where_its_camera_has_sent_a_bright_one() -> None:
    depth = BitDepth()
    for value, shown in ((0xFFF, 255), (0x0F0, 15)):
        data = cv2.imencode(".png", np.full((4, 6), value, np.uint16))[1].tobytes()
        assert (decode(EncodedImage(data, "mono16; png compressed ", depth)) == shown).all()


@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_a_reduced_mosaic_is_the_mean_of_its_colours(reduction: int) -> None:
    image = smooth_image()
    encoded = EncodedImage(cv2.imencode(".png", mosaic("rggb", image))[1].tobytes(), "bayer_rggb8; png compressed ")
    assert encoded_size(encoded) == (48, 80)
    reduced = decode(encoded, reduction=reduction)
    means = decode(encoded).reshape(48 // reduction, reduction, 80 // reduction, reduction, 3).mean(axis=(1, 3))
    assert reduced.shape == means.shape
    np.testing.assert_allclose(reduced, means, atol=1)


def test_only_one_channel_is_a_mosaic() -> None:
    """A driver that demosaics first may still name the sensor's pattern."""
    image = smooth_image()
    np.testing.assert_array_equal(decode(EncodedImage(png(image).data, "bayer_rggb8; png compressed bgr8")), image)
    small = EncodedImage(cv2.imencode(".png", np.zeros((2, 9), np.uint8))[1].tobytes(), "bayer_rggb8; png compressed ")
    with pytest.raises(ImageError, match="mosaic cannot be 9x2"):
        decode(small)


def test_the_largest_reduction_that_is_enough() -> None:
    assert largest_reduction((900, 1600), (192, 320)) == 4
    assert largest_reduction((900, 1600), (352, 640)) == 2
    assert largest_reduction((900, 1600), (900, 1600)) == 1
    assert largest_reduction((450, 800), (64, 96)) == 2  # a quarter of 450 is no whole number
    assert largest_reduction((64, 96), (192, 320)) == 1
