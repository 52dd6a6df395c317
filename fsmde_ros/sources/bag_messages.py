"""ROS 2 messages of a bag, made from the nouns of this package with rosbags' own types."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.typesys import Stores, get_typestore

from fsmde_ros.bit_depth import BitDepth
from fsmde_ros.cloud_layout import pack_cloud
from fsmde_ros.geometry import invert, quaternion_from_rotation, transform
from fsmde_ros.images import encode_jpeg
from fsmde_ros.pixel_layout import decode_pixels
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.sweep import EncodedImage, LidarScan

TYPESTORE = get_typestore(Stores.ROS2_JAZZY)
"""The types that are read here have had the same fields in every distribution since Foxy."""

COMPRESSED, RAW = "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image"
INFO, CLOUD = "sensor_msgs/msg/CameraInfo", "sensor_msgs/msg/PointCloud2"
IMAGE_TYPES = (COMPRESSED, RAW)

MAP_FRAME = "map"
JPEG_QUALITY = 95  # of images that come as pixels


def camera_info(camera: Camera, stamp_ns: int) -> Any:
    """CameraInfo: K and D of the camera; R is the identity and P its intrinsics, [3, 4].

    A camera without distortion gets five zeros under "plumb_bob", as image_proc expects.
    """
    types = TYPESTORE.types
    rectified = camera.distortion_model == "none"
    projection = np.zeros((3, 4))
    projection[:, :3] = camera.intrinsics
    return types["sensor_msgs/msg/CameraInfo"](
        header=_header(camera.frame, stamp_ns),
        height=camera.size[0],
        width=camera.size[1],
        distortion_model="plumb_bob" if rectified else camera.distortion_model,
        d=np.zeros(5) if rectified else np.array(camera.distortion),
        k=camera.intrinsics.ravel(),
        r=np.eye(3).ravel(),
        p=projection.ravel(),
        binning_x=0,
        binning_y=0,
        roi=types["sensor_msgs/msg/RegionOfInterest"](x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
    )


def compressed_image(image: EncodedImage | NDArray[np.uint8], frame: str, stamp_ns: int) -> Any:
    """CompressedImage with the bytes as they are; pixels [H, W, 3] RGB become a JPEG."""
    encoded = image if isinstance(image, EncodedImage) else encode_jpeg(image, JPEG_QUALITY)
    data = np.frombuffer(encoded.data, dtype=np.uint8)
    header = _header(frame, stamp_ns)
    return TYPESTORE.types["sensor_msgs/msg/CompressedImage"](header=header, format=encoded.format, data=data)


def image_of(message: Any, depth: BitDepth) -> EncodedImage | NDArray[np.uint8]:
    """What a CompressedImage or an Image holds: the bytes, undecoded, or RGB [H, W, 3].

    ``depth`` is what is known of the bits of its camera. Raises ImageError as ``decode_pixels``.
    """
    if message.__msgtype__ == COMPRESSED:
        return EncodedImage(message.data.tobytes(), message.format, depth)  # the format may name a Bayer pattern
    size = message.height, message.width, message.step
    return decode_pixels(message.encoding, *size, bool(message.is_bigendian), message.data, depth=depth)


def point_cloud(scan: LidarScan, frame: str) -> Any:
    """PointCloud2 in the frame of the LiDAR: x y z float32, and intensity float32, ring uint16.

    A scan that does not know where its LiDAR is mounted stays in the vehicle frame.
    """
    types = TYPESTORE.types
    points = scan.points_vehicle
    if scan.sensor_to_vehicle is not None:
        points = transform(invert(scan.sensor_to_vehicle), points)
    columns: dict[str, NDArray[Any]] = {axis: points[:, i].astype(np.float32) for i, axis in enumerate("xyz")}
    if scan.intensity is not None:
        columns["intensity"] = scan.intensity.astype(np.float32)
    if scan.ring is not None:
        columns["ring"] = scan.ring.astype(np.uint16)
    fields, point_step, data = pack_cloud(columns)
    field_type = types["sensor_msgs/msg/PointField"]
    return types["sensor_msgs/msg/PointCloud2"](
        header=_header(frame, scan.stamp_ns),
        height=1,
        width=len(points),
        fields=[
            field_type(name=name, offset=offset, datatype=datatype, count=count)
            for name, offset, datatype, count in fields
        ],
        is_bigendian=False,
        point_step=point_step,
        row_step=point_step * len(points),
        data=np.frombuffer(data, dtype=np.uint8),
        is_dense=True,
    )


def static_transforms(rig: Rig, scan: LidarScan | None, stamp_ns: int) -> Any:
    """TFMessage from the vehicle frame to each camera, in the order of the rig, and the LiDAR."""
    mounts = [(camera.frame, camera.camera_to_vehicle) for camera in rig.cameras]
    if scan is not None and scan.sensor_to_vehicle is not None:
        mounts.append((scan.name, scan.sensor_to_vehicle))
    transforms = [_transform(rig.vehicle_frame, frame, pose, stamp_ns) for frame, pose in mounts]
    return TYPESTORE.types["tf2_msgs/msg/TFMessage"](transforms=transforms)


def pose_transform(vehicle_frame: str, vehicle_to_map: NDArray[np.float64], stamp_ns: int) -> Any:
    """TFMessage from the map to the vehicle frame."""
    transforms = [_transform(MAP_FRAME, vehicle_frame, vehicle_to_map, stamp_ns)]
    return TYPESTORE.types["tf2_msgs/msg/TFMessage"](transforms=transforms)


def odometry(vehicle_frame: str, vehicle_to_map: NDArray[np.float64], stamp_ns: int) -> Any:
    """Odometry with the pose of the vehicle in the map; the twist is not known and left at 0."""
    types = TYPESTORE.types
    vector = types["geometry_msgs/msg/Vector3"]
    x, y, z = vehicle_to_map[:3, 3].tolist()
    pose = types["geometry_msgs/msg/Pose"](
        position=types["geometry_msgs/msg/Point"](x=x, y=y, z=z), orientation=_quaternion(vehicle_to_map)
    )
    twist = types["geometry_msgs/msg/Twist"](linear=vector(x=0.0, y=0.0, z=0.0), angular=vector(x=0.0, y=0.0, z=0.0))
    return types["nav_msgs/msg/Odometry"](
        header=_header(MAP_FRAME, stamp_ns),
        child_frame_id=vehicle_frame,
        pose=types["geometry_msgs/msg/PoseWithCovariance"](pose=pose, covariance=np.zeros(36)),
        twist=types["geometry_msgs/msg/TwistWithCovariance"](twist=twist, covariance=np.zeros(36)),
    )


def _transform(parent: str, child: str, child_to_parent: NDArray[np.float64], stamp_ns: int) -> Any:
    types = TYPESTORE.types
    x, y, z = child_to_parent[:3, 3].tolist()
    return types["geometry_msgs/msg/TransformStamped"](
        header=_header(parent, stamp_ns),
        child_frame_id=child,
        transform=types["geometry_msgs/msg/Transform"](
            translation=types["geometry_msgs/msg/Vector3"](x=x, y=y, z=z), rotation=_quaternion(child_to_parent)
        ),
    )


def _quaternion(pose: NDArray[np.float64]) -> Any:
    w, x, y, z = quaternion_from_rotation(pose[:3, :3]).tolist()
    return TYPESTORE.types["geometry_msgs/msg/Quaternion"](x=x, y=y, z=z, w=w)


def _header(frame: str, stamp_ns: int) -> Any:
    types = TYPESTORE.types
    sec, nanosec = divmod(stamp_ns, 10**9)
    stamp = types["builtin_interfaces/msg/Time"](sec=sec, nanosec=nanosec)
    return types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame)
