"""The rig of a bag: its cameras from CameraInfo, their places from the transforms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.errors import RigError, SourceError
from fsmde_ros.geometry import rigid
from fsmde_ros.pixel_layout import ENCODINGS
from fsmde_ros.rig import Camera, Rig, distortion_of_info, follows_pinhole
from fsmde_ros.sources.bag_file import BagFile
from fsmde_ros.sources.bag_messages import CLOUD, COMPRESSED, INFO, RAW
from fsmde_ros.sources.transform_tree import TransformTree

TF, ODOMETRY = "tf2_msgs/msg/TFMessage", "nav_msgs/msg/Odometry"
# Topics of the node beside the name of a camera, in the order of ``find_cameras``, and its parameters for them.
NODE_INPUTS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("image_rect/compressed", COMPRESSED): (),
    ("image_rect", RAW): ("input.transport:=raw",),
    ("image_raw/compressed", COMPRESSED): ("input.rectified:=false",),
    ("image_raw", RAW): ("input.rectified:=false", "input.transport:=raw"),
}


@dataclass(frozen=True)
class CameraTopics:
    """Topics of one camera; ``image`` is empty where the bag has only its CameraInfo."""

    name: str
    info: str
    image: str = ""


def find_cameras(bag: BagFile) -> dict[str, CameraTopics]:
    """Cameras of a bag by name: ``/ns/cam/camera_info`` is that of camera ``ns/cam``.

    Of several image topics beside a CameraInfo the rectified ones come first, then compressed
    ones. Depth images and other pictures that are no photographs do not count.
    """
    infos = {name.rpartition("/")[0].strip("/"): name for name in bag.topics(INFO) if name.endswith("/camera_info")}
    images: dict[str, str] = {}
    for topic in sorted(bag.topics(COMPRESSED, RAW), key=lambda topic: _preference(bag, topic)):
        name = camera_of(topic, bag.types[topic])
        if name not in images and _is_photograph(bag, topic):
            images[name] = topic
    return {name: CameraTopics(name, infos.get(name, ""), images.get(name, "")) for name in {**infos, **images}}


def camera_of(topic: str, msgtype: str) -> str:
    """Name of the camera of an image topic: ``/cam/image_rect/compressed`` is of ``cam``."""
    base = topic.removesuffix("/compressed") if msgtype == COMPRESSED else topic
    return base.rpartition("/")[0].strip("/")


def is_rectified_topic(topic: str) -> bool:
    """Whether the images of a topic follow the pinhole model, by the naming of ROS."""
    return "rect" in topic.removesuffix("/compressed").rpartition("/")[2]


def _preference(bag: BagFile, topic: str) -> tuple[bool, bool, str]:
    return not is_rectified_topic(topic), bag.types[topic] != COMPRESSED, topic


def _is_photograph(bag: BagFile, topic: str) -> bool:
    message = bag.first(topic)
    if message is None:
        return False
    if bag.types[topic] == COMPRESSED:
        return "compressedDepth" not in message.format
    return message.encoding in ENCODINGS


def read_transforms(bag: BagFile) -> TransformTree:
    """All transforms of a bag, those of a topic ending in ``tf_static`` as fixed ones."""
    tree = TransformTree()
    topics = bag.topics(TF)
    for topic, data in bag.messages(topics):
        for stamped in bag.decode(topic, data).transforms:
            rotation, translation = stamped.transform.rotation, stamped.transform.translation
            where = f"bag {bag.path}: {topic}: {stamped.header.frame_id} -> {stamped.child_frame_id}"
            pose = pose_of(rotation, translation, where)
            if topic.endswith("tf_static"):
                tree.add_fixed(stamped.header.frame_id, stamped.child_frame_id, pose)
            else:
                stamp = stamped.header.stamp
                tree.add_moving(
                    stamped.header.frame_id, stamped.child_frame_id, pose, stamp.sec * 10**9 + stamp.nanosec
                )
    return tree


def pose_of(rotation: Any, translation: Any, where: str) -> NDArray[np.float64]:
    """``[4, 4]`` of a Quaternion and a Vector3 or Point. Raises SourceError for what is no pose."""
    try:
        pose = rigid([rotation.w, rotation.x, rotation.y, rotation.z], [translation.x, translation.y, translation.z])
    except ValueError as error:
        raise SourceError(f"{where}: {error}") from error
    if not np.isfinite(pose).all():
        raise SourceError(f"{where}: the translation is not finite")
    return pose


def node_inputs(bag: BagFile, cameras: Sequence[str]) -> tuple[str, ...] | None:
    """Parameters with which the node takes the images that the bag has of all ``cameras``, as ``name:=value``.

    Empty where its defaults do; None where no setting fits them all.
    """
    for (image, msgtype), parameters in NODE_INPUTS.items():
        topics = [f"/{name}/{image}" for name in cameras]
        if all(bag.types.get(topic) == msgtype and _is_photograph(bag, topic) for topic in topics):
            return parameters
    return None


def rig_of_bag(
    bag: BagFile,
    tree: TransformTree,
    vehicle_frame: str = "base_link",
    ground_z: float = 0.0,
    cameras: Iterable[str] = (),
) -> Rig:
    """The rig of the cameras that have a CameraInfo, in the order of the fixed transforms.

    ``cameras``: names of those to take, as in ``find_cameras``; empty means all.

    Raises:
        SourceError: the bag has no CameraInfo, or nothing usable of a camera that is named.
        RigError: a CameraInfo is not calibrated, or its frame is not fixed to the vehicle frame.
    """
    names = {name.strip("/") for name in cameras}
    known = {name: topics for name, topics in find_cameras(bag).items() if topics.info}
    if not known:
        raise SourceError(
            f"bag {bag.path}: no topic <camera>/camera_info (sensor_msgs/msg/CameraInfo); it has {bag.listing()}"
        )
    if names - known.keys():
        raise SourceError(
            f"bag {bag.path}: no camera {', '.join(sorted(names - known.keys()))} with a camera_info; it has "
            f"{', '.join(sorted(known))}"
        )
    found: list[Camera] = []
    problems: list[RigError] = []
    for name, topics in known.items():
        if names and name not in names:
            continue
        try:
            camera = _camera(bag, tree, topics, vehicle_frame)
        except RigError as error:
            problems.append(error)
            continue
        if camera is not None:
            found.append(camera)
        elif names:
            raise SourceError(
                f"bag {bag.path}: {topics.info}: has no messages, or is of depth images; take {name} out of --cameras"
            )
    if problems:
        usable = " ".join(sorted(camera.name for camera in found))
        instead = f"; or take only cameras that can be used: rig_from_bag with --cameras {usable}" if usable else ""
        raise RigError(f"{problems[0]}{instead}") from problems[0]
    if not found:
        raise SourceError(f"bag {bag.path}: its CameraInfo topics have no messages or are of depth images only")
    order = tree.fixed_frames
    found.sort(key=lambda camera: (order.index(camera.frame) if camera.frame in order else len(order), camera.name))
    return Rig(tuple(found), vehicle_frame, ground_z)


def _camera(bag: BagFile, tree: TransformTree, topics: CameraTopics, vehicle_frame: str) -> Camera | None:
    info = bag.first(topics.info)
    if info is None or _is_of_other_images(bag, topics):
        return None
    frame = info.header.frame_id.lstrip("/")
    camera_to_vehicle = tree.lookup(frame, vehicle_frame)
    if camera_to_vehicle is None:
        raise RigError(
            f"bag {bag.path}: {topics.info}: its frame '{frame}' is not fixed to the vehicle frame '{vehicle_frame}' "
            f"by /tf_static, which has {', '.join(tree.frames) or 'nothing'}; give --vehicle-frame, or a rig file"
        )
    try:
        return _camera_of_info(info, topics, camera_to_vehicle)
    except RigError as error:
        raise RigError(f"bag {bag.path}: {topics.info}: {error}") from error


def _is_of_other_images(bag: BagFile, topics: CameraTopics) -> bool:
    """Whether the images beside a CameraInfo are there but none is a photograph: depth images."""
    beside = [t for t in bag.topics(COMPRESSED, RAW) if camera_of(t, bag.types[t]) == topics.name]
    return bool(beside) and not topics.image


def _camera_of_info(info: Any, topics: CameraTopics, camera_to_vehicle: NDArray[np.float64]) -> Camera:
    size, frame = (info.height, info.width), info.header.frame_id.lstrip("/")
    model, distortion = distortion_of_info(info.distortion_model, info.d)
    is_pinhole = follows_pinhole(model, distortion)
    rectified = is_rectified_topic(topics.image) if topics.image else is_pinhole
    has_p = rectified and info.p[0] > 0
    intrinsics = np.reshape(info.p, (3, 4))[:, :3] if has_p else np.reshape(info.k, (3, 3))
    if rectified or is_pinhole:
        return Camera(topics.name, size, intrinsics, camera_to_vehicle, frame=frame)
    return Camera(topics.name, size, intrinsics, camera_to_vehicle, distortion, model, frame)


def lidars_of_bag(bag: BagFile, tree: TransformTree, vehicle_frame: str) -> Mapping[str, NDArray[np.float64]]:
    """``lidar_to_vehicle`` [4, 4] by frame, of all point clouds that have an own frame on the vehicle."""
    lidars = {}
    for topic in bag.topics(CLOUD):
        message = bag.first(topic)
        frame = "" if message is None else message.header.frame_id.lstrip("/")
        mount = tree.lookup(frame, vehicle_frame)
        if mount is not None and frame != vehicle_frame:
            lidars[frame] = mount
    return lidars
