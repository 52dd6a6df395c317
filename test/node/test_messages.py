"""Conversions between messages and arrays, on known pixels, with padding and W != H."""

from __future__ import annotations

import array

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header

from fsmde_ros.cloud_layout import unpack_cloud
from fsmde_ros.errors import ConfigError, ImageError, RigError
from fsmde_ros.fusion import Cloud
from fsmde_ros.images import decode, encode_jpeg
from fsmde_ros.node.messages import (
    camera_from_info,
    camera_to_info,
    check_image,
    cloud_to_message,
    compressed_to_encoded,
    depth_to_image,
    image_to_depth,
    image_to_rgb,
    picture_to_message,
    rgb_to_image,
    stamp_message,
    stamp_ns,
)
from fsmde_ros.pixel_layout import ENCODINGS

H, W = 4, 6
RGB = np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)


def message(pixels, encoding, padding=0):
    flat = pixels.reshape(H, -1)
    padded = np.concatenate([flat, np.full((H, padding), 77, np.uint8)], axis=1)
    data = array.array("B", padded.tobytes()[: len(padded.tobytes()) - padding])
    return Image(height=H, width=W, encoding=encoding, step=padded.shape[1], data=data)


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "pixels"),
    [
        ("rgb8", RGB),
        ("bgr8", RGB[..., ::-1]),
        ("8UC3", RGB[..., ::-1]),
        ("rgba8", np.dstack([RGB, np.full((H, W), 9, np.uint8)])),
        ("bgra8", np.dstack([RGB[..., ::-1], np.full((H, W), 9, np.uint8)])),
    ],
)
def test_colour_encodings_give_the_same_rgb(encoding, pixels, padding):
    rgb = image_to_rgb(message(np.ascontiguousarray(pixels), encoding, padding))
    np.testing.assert_array_equal(rgb, RGB)
    assert rgb.flags.c_contiguous


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey_is_repeated(encoding):
    grey = np.ascontiguousarray(RGB[..., 0])
    np.testing.assert_array_equal(image_to_rgb(message(grey, encoding, 3)), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_put_red_where_red_is(pattern):
    colour = {"r": 200, "g": 100, "b": 20}
    tile = np.array([[colour[pattern[0]], colour[pattern[1]]], [colour[pattern[2]], colour[pattern[3]]]], np.uint8)
    rgb = image_to_rgb(message(np.tile(tile, (H // 2, W // 2)), f"bayer_{pattern}8"))
    np.testing.assert_allclose(rgb[1:-1, 1:-1].reshape(-1, 3).mean(axis=0), [200, 100, 20], atol=2)


@pytest.mark.parametrize(
    ("encoding", "order"), [("yuv422", "uyvy"), ("uyvy", "uyvy"), ("yuv422_yuy2", "yuyv"), ("yuyv", "yuyv")]
)
def test_yuv_is_converted(encoding, order):
    values = {"u": 90, "y": 150, "v": 170}  # BT.601, studio range: about (220, 137, 76) in RGB
    pixels = np.tile(np.array([values[c] for c in order], np.uint8), (H, W // 2))
    y, u, v = 1.164 * (150 - 16), 90 - 128, 170 - 128
    expected = [y + 1.596 * v, y - 0.392 * u - 0.813 * v, y + 2.017 * u]
    np.testing.assert_allclose(image_to_rgb(message(pixels, encoding))[0, 0], expected, atol=2)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"encoding": "64FC9"}, "encoding '64FC9', expected one of rgb8"),
        ({"encoding": ""}, "expected one of"),
        ({"height": 0}, "6x0"),
        ({"width": 100_000, "height": 100_000}, "100000x100000"),
        ({"step": 3}, "expected 4 rows of at least 18 bytes"),
        ({"data": array.array("B", b"12345")}, "5 bytes"),
        ({"data": array.array("B")}, "0 bytes"),
    ],
)
def test_images_that_contradict_themselves_are_refused(change, text):
    wrong = message(RGB, "rgb8")
    for name, value in change.items():
        setattr(wrong, name, value)
    with pytest.raises(ImageError, match=text):
        check_image(wrong)
    with pytest.raises(ImageError, match=text):
        image_to_rgb(wrong)


def test_supported_encodings_are_named():
    assert {"rgb8", "bgr8", "rgba8", "bgra8", "mono8"} <= set(ENCODINGS)


def test_compressed_images_keep_their_bytes():
    data = encode_jpeg(RGB).data
    encoded = compressed_to_encoded(CompressedImage(format="rgb8; jpeg compressed bgr8", data=array.array("B", data)))
    assert encoded.data == data
    assert decode(encoded).shape == (H, W, 3)


def test_compressed_mosaics_keep_their_pattern():
    grey = np.tile(np.uint8([[200, 100], [100, 20]]), (H // 2, W // 2))
    data = array.array("B", cv2.imencode(".png", grey)[1].tobytes())
    encoded = compressed_to_encoded(CompressedImage(format="bayer_rggb8; png compressed ", data=data))
    np.testing.assert_array_equal(decode(encoded), np.broadcast_to([200, 100, 20], (H, W, 3)))


def info(**changes):
    values = {
        "height": 90,
        "width": 160,
        "distortion_model": "plumb_bob",
        "d": [-0.1, 0.02, 0.0, 0.0, 0.0],
        "k": [100.0, 0, 79.5, 0, 101.0, 44.5, 0, 0, 1],
        "p": [95.0, 0, 78.0, 0, 0, 96.0, 44.0, 0, 0, 0, 1, 0],
        "header": Header(frame_id="cam_optical"),
    }
    return CameraInfo(**{**values, **changes})


def test_rectified_takes_p_and_raw_takes_k_and_d():
    rectified = camera_from_info(info(), "cam", np.eye(4), rectified=True)
    assert rectified.size == (90, 160)
    assert rectified.frame == "cam_optical"
    assert rectified.is_rectified
    np.testing.assert_array_equal(rectified.intrinsics, [[95, 0, 78], [0, 96, 44], [0, 0, 1]])
    raw = camera_from_info(info(), "cam", np.eye(4), rectified=False)
    np.testing.assert_array_equal(raw.intrinsics, [[100, 0, 79.5], [0, 101, 44.5], [0, 0, 1]])
    np.testing.assert_array_equal(raw.distortion, [-0.1, 0.02, 0, 0, 0])


def test_a_rectified_camera_without_p_and_distortion_takes_k():
    camera = camera_from_info(info(p=[0.0] * 12, d=[]), "cam", np.eye(4))
    assert camera.intrinsics[0, 0] == 100


@pytest.mark.parametrize(
    ("model", "d", "expected"),
    [
        ("equidistant", [0.0] * 4, "equidistant"),
        ("fisheye", [0.1, 0, 0, 0], "equidistant"),
        ("", [0.0] * 5, "none"),
        ("rational_polynomial", [0.01] * 12, "rational_polynomial"),
    ],
)
def test_lenses_of_raw_images(model, d, expected):
    camera = camera_from_info(info(distortion_model=model, d=d), "cam", np.eye(4), rectified=False)
    assert camera.distortion_model == expected
    assert camera.is_rectified == (expected == "none")


@pytest.mark.parametrize(
    ("changes", "rectified", "text"),
    [
        ({"k": [0.0] * 9}, True, "uncalibrated"),
        ({"k": [0.0] * 9}, False, "uncalibrated"),
        ({"p": [0.0] * 12}, True, "no P but a distortion"),
        ({"binning_x": 2}, True, "binned or cropped"),
        ({"binning_y": 2}, False, "binned or cropped"),
        ({"roi": RegionOfInterest(width=160, height=60)}, True, "binned or cropped"),
        ({"roi": RegionOfInterest(width=90, height=90)}, True, "binned or cropped"),
        ({"distortion_model": "thin_prism"}, False, "thin_prism"),
        ({"d": [0.1]}, False, "coefficients"),
        ({"height": 0}, True, "1 to 65535 pixels"),
        ({"k": [float("nan")] * 9, "p": [float("nan")] * 12}, True, "finite"),
    ],
)
def test_unusable_camera_infos_are_refused(changes, rectified, text):
    with pytest.raises(RigError, match=text):
        camera_from_info(info(**changes), "cam", np.eye(4), rectified)


def test_what_a_camera_info_need_not_have():
    whole = info(binning_x=1, binning_y=1, roi=RegionOfInterest(width=160, height=90))
    assert camera_from_info(whole, "cam", np.eye(4)).size == (90, 160)
    raw = camera_from_info(info(p=[0.0] * 12), "cam", np.eye(4), rectified=False)
    assert raw.intrinsics[0, 0] == 100


def test_camera_info_of_a_camera_reads_back():
    camera = camera_from_info(info(), "cam", np.eye(4)).resized((45, 64))
    back = camera_from_info(camera_to_info(camera, Header(frame_id="cam_optical")), "cam", np.eye(4))
    np.testing.assert_allclose(back.intrinsics, camera.intrinsics)
    assert back.size == (45, 64)
    # by hand: 95 * 64 / 160 and (78 + 0.5) * 0.4 - 0.5
    np.testing.assert_allclose(back.intrinsics[0], [38.0, 0, 30.9])


DEPTH = np.float32([[1.5, np.nan, np.inf], [0.0004, 65.535, 70.0]])


def test_float_depth_keeps_nan_and_infinity():
    image = depth_to_image(DEPTH, Header(frame_id="cam"), "32FC1")
    assert (image.encoding, image.height, image.width, image.step) == ("32FC1", 2, 3, 12)
    np.testing.assert_array_equal(image_to_depth(image), DEPTH)


def test_millimetres_have_zero_for_everything_invalid():
    image = depth_to_image(DEPTH, Header(), "16UC1")
    assert image.step == 6
    raw = np.frombuffer(image.data, np.uint16).reshape(2, 3)
    np.testing.assert_array_equal(raw, [[1500, 0, 0], [0, 65535, 0]])
    np.testing.assert_array_equal(image_to_depth(image), np.float32([[1.5, np.nan, np.nan], [np.nan, 65.535, np.nan]]))
    with pytest.raises(ConfigError, match="32FC1 or 16UC1"):
        depth_to_image(DEPTH, Header(), "mono8")


def test_big_endian_depth_with_padding_is_read():
    padded = np.zeros((2, 16), np.uint8)
    padded[:, :12] = DEPTH.astype(">f4").view(np.uint8).reshape(2, 12)
    image = Image(height=2, width=3, encoding="32FC1", step=16, is_bigendian=1, data=array.array("B", padded.tobytes()))
    np.testing.assert_array_equal(image_to_depth(image), DEPTH)
    image.height = 3
    with pytest.raises(ImageError, match="3 rows"):
        image_to_depth(image)


def test_clouds_carry_their_columns():
    points = np.float32([[1, 2, 3], [4, 5, 6]])
    cloud = Cloud(points, np.uint8([[1, 2, 3], [255, 0, 7]]), np.float32([0.1, np.nan]), np.uint8([0, 5]))
    m = cloud_to_message(cloud, Header(frame_id="base_link"))
    assert [f.name for f in m.fields] == ["x", "y", "z", "rgb", "stddev", "view"]
    assert (m.height, m.width, m.is_dense, m.point_step, m.row_step) == (1, 2, True, 24, 48)
    fields = [(f.name, f.offset, f.datatype, f.count) for f in m.fields]
    columns = unpack_cloud(fields, m.point_step, m.row_step, m.width, m.height, m.is_bigendian, m.data)
    np.testing.assert_array_equal(np.stack([columns[c] for c in "xyz"], axis=1), points)
    np.testing.assert_array_equal(columns["rgb"].copy().view(np.uint32), [0x010203, 0xFF0007])
    np.testing.assert_array_equal(columns["view"], [0, 5])


def test_colours_come_back_as_they_were():
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    m = rgb_to_image(picture, Header(frame_id="cam"))
    assert (m.encoding, m.height, m.width, m.step, m.header.frame_id) == ("rgb8", 5, 7, 21, "cam")
    np.testing.assert_array_equal(image_to_rgb(m), picture)
    np.testing.assert_array_equal(image_to_rgb(rgb_to_image(picture[:, ::2], Header())), picture[:, ::2])


def test_previews_and_stamps():
    m = picture_to_message(np.full((8, 10, 3), 100, np.uint8), Header())
    assert m.format == "jpeg"
    assert decode(compressed_to_encoded(m)).shape == (8, 10, 3)
    assert stamp_ns(stamp_message(1_532_402_927_612_460_001)) == 1_532_402_927_612_460_001
