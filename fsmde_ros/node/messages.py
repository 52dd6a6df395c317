"""Between ROS messages and this package's nouns, and the QoS of every topic of the node.

Payloads go into messages as ``array.array('B')``: rclpy checks every byte of a memoryview or an
ndarray, which takes a hundred times as long.
"""

from __future__ import annotations

import array
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from nav_msgs.msg import Odometry
from numpy.typing import NDArray
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField
from std_msgs.msg import Header

from fsmde_ros.bit_depth import BitDepth
from fsmde_ros.cloud_layout import pack_cloud
from fsmde_ros.depth_image import decode_depth
from fsmde_ros.errors import ConfigError, ImageError, SourceError
from fsmde_ros.fusion import Cloud
from fsmde_ros.geometry import rigid
from fsmde_ros.images import MAX_PIXELS, encode_jpeg
from fsmde_ros.pixel_layout import ENCODINGS, check_layout, check_size, decode_pixels
from fsmde_ros.rig import Camera, check_info, distortion_of_info
from fsmde_ros.stamps import NS
from fsmde_ros.sweep import EncodedImage

# Images may be lost, but never wait in a queue; a depth of 2 bridges the turn of the executor.
INPUT_QOS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=2,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.VOLATILE,
)
# Depth and reliability of every input can be overridden. The durability only of camera_info, which some drivers
# publish once, for whoever comes later; images of the past are of no use.
INPUT_POLICIES = (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY)
CAMERA_INFO_POLICIES = (*INPUT_POLICIES, QoSPolicyKind.DURABILITY)
# RViz's displays ask for reliable: a best-effort publisher would not reach them (rviz#1616).
OUTPUT_QOS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
)
# Reports are counted by who reads them: keep a few for a reader that is busy.
REPORT_QOS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=50,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
)


def odometry_to_pose(message: Odometry) -> NDArray[np.float64]:
    """Pose [4, 4] of the moving frame of an odometry, in its ``frame_id``, metres.

    Raises SourceError where it is none: its quaternion has no length, or a number is not finite.
    """
    q, position = message.pose.pose.orientation, message.pose.pose.position
    try:
        pose = rigid([q.w, q.x, q.y, q.z], [position.x, position.y, position.z])
    except ValueError as error:
        raise SourceError(str(error)) from error
    if not np.isfinite(pose).all():
        raise SourceError("its position is not finite")
    return pose


def stamp_ns(stamp: Time) -> int:
    """A ROS stamp in nanoseconds."""
    return int(stamp.sec) * NS + int(stamp.nanosec)


def stamp_message(nanoseconds: int) -> Time:
    """Nanoseconds as a ROS stamp."""
    return Time(sec=nanoseconds // NS, nanosec=nanoseconds % NS)


def compressed_to_encoded(message: CompressedImage, depth: BitDepth | None = None) -> EncodedImage:
    """The bytes of a CompressedImage, undecoded and unchecked, with its format, which may name a Bayer pattern.

    ``depth``: what is known of the bits of its camera, for images of 16; by default only this one tells.
    """
    return EncodedImage(bytes(message.data), message.format, depth or BitDepth())


def check_image(message: Image, max_pixels: int = MAX_PIXELS) -> None:
    """Raise ImageError where size, step and data of an Image do not fit each other or its encoding."""
    height, width = int(message.height), int(message.width)
    check_size(height, width, max_pixels)
    if message.encoding not in ENCODINGS:
        _cv_bridge(message.encoding)
        return
    check_layout(message.encoding, height, width, int(message.step), len(message.data), max_pixels)


def image_to_rgb(message: Image, depth: BitDepth | None = None) -> NDArray[np.uint8]:
    """RGB [H, W, 3] uint8 of an Image, honouring its step.

    ``depth``: what is known of the bits of its camera, for images of 16; by default only this one tells. Encodings
    outside ``pixel_layout.ENCODINGS`` go through cv_bridge where it is installed. Raises ImageError as
    ``check_image``.
    """
    check_image(message)
    if message.encoding not in ENCODINGS:
        converted: NDArray[np.uint8] = _cv_bridge(message.encoding)(message)
        return converted
    size = (int(message.height), int(message.width), int(message.step))
    return decode_pixels(message.encoding, *size, bool(message.is_bigendian), message.data, depth=depth)


def camera_from_info(
    message: CameraInfo, name: str, camera_to_vehicle: NDArray[np.float64], rectified: bool = True
) -> Camera:
    """The camera that a CameraInfo describes: ``P`` for rectified images, ``K`` and ``D`` for raw ones.

    Raises RigError where it is uncalibrated, binned, cropped, or contradicts itself: see ``check_info``.
    """
    check_info(message, name, rectified)
    k, p = np.reshape(message.k, (3, 3)), np.reshape(message.p, (3, 4))
    model, distortion = "none", np.zeros(0)
    if not rectified:
        model, distortion = distortion_of_info(message.distortion_model, message.d)
    return Camera(
        name=name,
        size=(message.height, message.width),
        intrinsics=p[:, :3] if rectified and p[0, 0] != 0 else k,
        camera_to_vehicle=camera_to_vehicle,
        distortion=distortion,
        distortion_model=model,
        frame=message.header.frame_id or name,
    )


def camera_to_info(camera: Camera, header: Header) -> CameraInfo:
    """CameraInfo of a rectified camera."""
    k = camera.intrinsics
    return CameraInfo(
        header=header,
        height=camera.size[0],
        width=camera.size[1],
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=k.ravel().tolist(),
        r=np.eye(3).ravel().tolist(),
        p=np.hstack([k, np.zeros((3, 1))]).ravel().tolist(),
    )


def float_to_image(values: NDArray[np.float32], header: Header) -> Image:
    """[H, W] float32 as an Image 32FC1; NaN and infinity stay what they are (REP 117)."""
    return _image(values.astype(np.float32, copy=False), "32FC1", header)


def depth_to_image(depth: NDArray[np.float32], header: Header, encoding: str = "32FC1") -> Image:
    """Depth [H, W] in metres as an Image, 32FC1 (metres) or 16UC1 (millimetres, REP 118).

    In 16UC1 there is one invalid value, 0: for NaN, infinity, and what does not fit in 65.535 m.
    """
    if encoding == "32FC1":
        return float_to_image(depth, header)
    if encoding != "16UC1":
        raise ConfigError(f"the encoding of depth must be 32FC1 or 16UC1, got '{encoding}'")
    with np.errstate(invalid="ignore"):
        fits = (depth > 0) & (depth < 65.5355)
        millimetres = np.where(fits, np.round(np.where(fits, depth, 0) * 1000), 0).astype(np.uint16)
    return _image(millimetres, encoding, header)


def image_to_depth(message: Image) -> NDArray[np.float32]:
    """Depth [H, W] in metres of an Image 32FC1 or 16UC1 (0 becomes NaN), of either byte order.

    Raises ImageError for another encoding or data that does not fill the image.
    """
    layout = (int(message.height), int(message.width), int(message.step), bool(message.is_bigendian))
    return decode_depth(message.encoding, *layout, message.data)


def cloud_to_message(cloud: Cloud, header: Header) -> PointCloud2:
    """A fused cloud as an unorganised dense PointCloud2: ``x y z rgb stddev view``, see ``Cloud``."""
    return columns_to_message(cloud.columns(), header)


def columns_to_message(columns: Mapping[str, NDArray[Any]], header: Header) -> PointCloud2:
    """Columns [N], by the name of their field, as an unorganised dense PointCloud2."""
    fields, step, data = pack_cloud(columns)
    count = len(data) // step
    return PointCloud2(
        header=header,
        height=1,
        width=count,
        fields=[PointField(name=n, offset=o, datatype=t, count=c) for n, o, t, c in fields],
        is_bigendian=False,
        point_step=step,
        row_step=step * count,
        data=array.array("B", data),
        is_dense=True,
    )


def rgb_to_image(picture: NDArray[np.uint8], header: Header) -> Image:
    """RGB [H, W, 3] as an Image rgb8."""
    return _image(picture, "rgb8", header)


def picture_to_message(picture: NDArray[np.uint8], header: Header) -> CompressedImage:
    """RGB [H, W, 3] as a JPEG."""
    encoded = encode_jpeg(picture)
    return CompressedImage(header=header, format="jpeg", data=array.array("B", encoded.data))


def _image(values: NDArray[Any], encoding: str, header: Header) -> Image:
    height, width = values.shape[:2]
    return Image(
        header=header,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=sys.byteorder == "big",
        step=values.nbytes // height,
        data=array.array("B", np.ascontiguousarray(values).tobytes()),
    )


def _cv_bridge(encoding: str) -> Callable[[Image], Any]:
    """cv_bridge's conversion to rgb8; raises ImageError where it is absent."""
    try:
        from cv_bridge import CvBridge, CvBridgeError
    except ImportError as error:
        raise ImageError(
            f"the image has encoding '{encoding}', expected one of {', '.join(ENCODINGS)}; publish one of "
            "these, or install cv_bridge for others"
        ) from error

    def convert(message: Image) -> Any:
        try:
            return CvBridge().imgmsg_to_cv2(message, desired_encoding="rgb8")
        except CvBridgeError as error:
            raise ImageError(f"cv_bridge cannot convert the encoding '{encoding}' to rgb8: {error}") from error

    return convert
