"""Messages from outside: images, CameraInfo, clouds; by bytes, and by fields with values no driver should send."""

from __future__ import annotations

import array
import struct

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField
from std_msgs.msg import Header

from fsmde_ros.bit_depth import BitDepth
from fsmde_ros.cloud_layout import pack_cloud, unpack_cloud
from fsmde_ros.errors import ImageError
from fsmde_ros.images import decode, encode_jpeg, encoded_size
from fsmde_ros.node.live_rig import LiveRig
from fsmde_ros.node.messages import camera_from_info, image_to_depth, image_to_rgb
from fsmde_ros.node.pipeline import receive
from fsmde_ros.node.transforms import RigFileExtrinsics
from fsmde_ros.pixel_layout import ENCODINGS
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.sweep import EncodedImage

UINT32 = (0, 1, 2, 3, 7, 8, 100, 100_000, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
REALS = (0.0, -0.0, 1.0, -1.0, 1e-310, 1e-30, 300.0, 1e9, 1e300, -1e300, float("inf"), float("-inf"), float("nan"))
RGB = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
JPEG = encode_jpeg(RGB).data
PNG = cv2.imencode(".png", RGB)[1].tobytes()
MOUNTING = np.array([[0, 0, 1, 1.5], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1.0]])
K = [300.0, 0, 20, 0, 300.0, 12, 0, 0, 1]


def pick(random, values):
    return values[int(random.integers(len(values)))]


def test_compressed_images(fuzzer, mutate):
    def case(random):
        return EncodedImage(mutate(pick(random, (JPEG, PNG)), random), pick(random, ("jpeg", "png", "", "\0" * 99)))

    fuzzer.run("CompressedImage, decoded", decode, case)

    def received(image):
        return receive(CompressedImage(format="x", data=array.array("B", image.data)), BitDepth())

    fuzzer.run("CompressedImage, received", received, case)


@pytest.mark.parametrize(("height", "width"), [(100_000, 100_000), (2**31, 2**31), (1, 2**32 - 1), (0, 5)])
def test_a_png_that_says_it_is_huge(height, width):
    data = bytearray(PNG)
    data[16:24] = struct.pack(">II", width, height)
    with pytest.raises(ImageError, match="pixels by its header"):
        decode(EncodedImage(bytes(data)))
    received = receive(CompressedImage(data=array.array("B", data)), BitDepth())
    assert received.image is None
    assert "by its header" in received.problem


def test_a_jpeg_of_65535_pixels_each_way_is_refused_before_it_is_decoded():
    at = JPEG.index(b"\xff\xc0") + 5
    data = JPEG[:at] + struct.pack(">HH", 65535, 65535) + JPEG[at + 4 :]
    assert encoded_size(EncodedImage(data)) == (65535, 65535)
    with pytest.raises(ImageError, match="65535x65535 pixels by its header"):
        decode(EncodedImage(data))


def image(random, encodings):
    height, width = pick(random, (24, 24, 24, *UINT32)), pick(random, (40, 40, 40, *UINT32))
    size = int(pick(random, (0, 1, 39, 24 * 40, 24 * 40 * 3, 24 * 40 * 4, 24 * 40 * 8)))
    return Image(
        header=Header(frame_id=pick(random, ("", "cam", "x" * 1000))),
        height=height,
        width=width,
        encoding=pick(random, encodings),
        is_bigendian=int(pick(random, (0, 1, 255))),
        step=pick(random, (40, 120, 160, 320, *UINT32)),
        data=array.array("B", bytes(random.integers(0, 256, size, dtype=np.uint8))),
    )


def test_raw_images(fuzzer):
    encodings = (*ENCODINGS, "", "32FC1", "16UC1", "64FC9", "rgb8; drop table", "\n")
    fuzzer.run("Image to RGB", image_to_rgb, lambda random: image(random, encodings))
    fuzzer.run("Image, received", lambda i: receive(i, BitDepth()), lambda random: image(random, encodings))
    fuzzer.run("Image to depth", image_to_depth, lambda random: image(random, ("32FC1", "16UC1", "rgb8")))


def camera_info(random):
    message = CameraInfo(height=pick(random, (24, *UINT32)), width=pick(random, (40, *UINT32)), k=K)
    message.p = [300.0, 0, 20, 0, 0, 300.0, 12, 0, 0, 0, 1, 0]
    message.distortion_model = pick(
        random, ("", "plumb_bob", "rational_polynomial", "equidistant", "fisheye", "?" * 5000)
    )
    message.d = [pick(random, REALS) for _ in range(int(pick(random, (0, 4, 5, 8, 1000))))]
    for field in (message.k, message.p):
        for _ in range(int(random.integers(0, 4))):
            field[int(random.integers(len(field)))] = pick(random, REALS)
    message.binning_x, message.roi.width = pick(random, (0, 1, 2, 2**32 - 1)), pick(random, (0, 40, 2**32 - 1))
    return message


def test_camera_infos(fuzzer):
    rig = Rig((Camera("a", (24, 40), np.reshape(K, (3, 3)), MOUNTING),))

    def use(message):
        for rectified in (True, False):
            live = LiveRig(("a",), RigFileExtrinsics(rig, "rig.yaml"), rig, rectified)
            live.take("a", message)
            live.refresh()
            found = live.rig()
            assert (found is None) == bool(live.problem("a"))
            if found is not None:  # the network must be able to use what was accepted
                small = found.rectified().resized((64, 96)) if found["a"].size[0] < 10**5 else found
                assert np.isfinite(small.intrinsics()).all()
        camera_from_info(message, "a", MOUNTING)

    fuzzer.run("CameraInfo", use, camera_info, share=0.5)


def test_clouds(fuzzer, mutate):
    fields, step, data = pack_cloud({"x": np.arange(50, dtype=np.float32), "ring": np.arange(50, dtype=np.uint16)})

    def case(random):
        chosen = [
            (
                pick(random, (name, name, "", "x", "\0")),
                pick(random, (offset, offset, *UINT32)),
                pick(random, (datatype, datatype, 0, 9, 255)),
                pick(random, (count, count, *UINT32)),
            )
            for name, offset, datatype, count in fields
        ]
        return PointCloud2(
            height=pick(random, (1, 1, *UINT32)),
            width=pick(random, (50, 50, *UINT32)),
            fields=[PointField(name=n, offset=o, datatype=t, count=c) for n, o, t, c in chosen],
            is_bigendian=bool(random.integers(2)),
            point_step=pick(random, (step, step, *UINT32)),
            row_step=pick(random, (50 * step, 50 * step, *UINT32)),
            data=array.array("B", data[: int(random.integers(len(data) + 1))]),
        )

    def unpack(m):
        layout = [(f.name, f.offset, f.datatype, f.count) for f in m.fields]
        return unpack_cloud(layout, m.point_step, m.row_step, m.width, m.height, m.is_bigendian, m.data)

    fuzzer.run("PointCloud2", unpack, case)
