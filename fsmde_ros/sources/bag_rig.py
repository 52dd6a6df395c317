"""The rig of a bag: its cameras from CameraInfo, their places from the transforms."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.errors import RigError, SourceError
from fsmde_ros.geometry import rigid
from fsmde_ros.pixel_layout import ENCODINGS
from fsmde_ros.rectifying_turn import rectifying_turn
from fsmde_ros.rig import VEHICLE_FRAME, Camera, Rig, check_info, distortion_of_info, follows_pinhole
from fsmde_ros.sources.bag_file import BagFile
from fsmde_ros.sources.bag_messages import CLOUD, COMPRESSED, INFO, RAW
from fsmde_ros.sources.transform_tree import TransformTree
from fsmde_ros.topics import COLOR, INPUT_FORMS, RECTIFIED, UNRECTIFIED, InputForm, full_name

TF, ODOMETRY = "tf2_msgs/msg/TFMessage", "nav_msgs/msg/Odometry"
STATIC = "tf_static"
# Encodings of depth and other measurements, in millimetres or floats, and formats that begin with them.
NO_PHOTOGRAPH = re.compile(r"(16UC1|32FC\d*)\s*(;|$)|.*compressedDepth")


@dataclass(frozen=True)
class CameraTopics:
    """Topics of one camera; ``image`` is empty where the bag has only its CameraInfo, or depth images.

    ``problem``: why the images beside it cannot be read, with their topic; empty where they can, or there are none.
    """

    name: str
    info: str
    image: str = ""
    problem: str = ""


def find_cameras(bag: BagFile) -> dict[str, CameraTopics]:
    """Cameras of a bag by name: ``/ns/cam/camera_info`` is that of camera ``ns/cam``.

    Of several image topics beside a CameraInfo the rectified ones come first, then those that are called
    ``image...`` (a mask or a picture with detections is not), then compressed ones. Depth images and other
    pictures that are no photographs do not count, nor do the colours that the node has published beside its depth.
    """
    infos = {name.rpartition("/")[0].strip("/"): name for name in bag.topics(INFO) if name.endswith("/camera_info")}
    images: dict[str, str] = {}
    problems: dict[str, str] = {}
    photographs = [topic for topic in bag.topics(COMPRESSED, RAW) if not topic.endswith(f"/{COLOR}")]
    for topic in sorted(photographs, key=lambda topic: _preference(bag, topic)):
        name = camera_of(topic, bag.types[topic])
        if name in images or (name in problems and not _last_name(topic).startswith("image")):
            continue  # neither may a mask stand in for images that cannot be read
        if _is_photograph(bag, topic):
            images[name] = topic
            problems.pop(name, None)
        elif problem := _problem(bag, topic):
            problems.setdefault(name, problem)
    return {
        name: CameraTopics(name, *(found.get(name, "") for found in (infos, images, problems)))
        for name in {**infos, **images, **problems}
    }


def cameras_of(bag: BagFile, names: Iterable[str], namespace: str = "") -> dict[str, CameraTopics]:
    """Those of ``find_cameras`` that ``names`` mean to a node in ``namespace``, by these names."""
    found = find_cameras(bag)
    keys = {name: full_name(name, namespace).strip("/") for name in names}
    return {name: found[key] for name, key in keys.items() if key in found}


def camera_of(topic: str, msgtype: str) -> str:
    """Name of the camera of an image topic: ``/cam/image_rect/compressed`` is of ``cam``."""
    base = topic.removesuffix("/compressed") if msgtype == COMPRESSED else topic
    return base.rpartition("/")[0].strip("/")


def is_rectified_topic(topic: str) -> bool:
    """Whether the images of a topic follow the pinhole model, by the naming of ROS: a word of it is "rect"."""
    return not {"rect", "rectified"}.isdisjoint(_last_name(topic).split("_"))


def _last_name(topic: str) -> str:
    return topic.removesuffix("/compressed").rpartition("/")[2]


def _preference(bag: BagFile, topic: str) -> tuple[bool, bool, bool, int, str]:
    name = _last_name(topic)
    rank = [RECTIFIED, UNRECTIFIED, name].index(name)
    return not is_rectified_topic(topic), not name.startswith("image"), bag.types[topic] != COMPRESSED, rank, topic


def _is_photograph(bag: BagFile, topic: str) -> bool:
    message = bag.first(topic)
    if message is None:
        return False
    if bag.types[topic] == COMPRESSED:  # "rgb8; jpeg compressed bgr8": what it was, and how it is packed
        return not NO_PHOTOGRAPH.match(message.format)
    return message.encoding in ENCODINGS


def _problem(bag: BagFile, topic: str) -> str:
    """Why images that are no photographs of ours may yet be some; empty for depth images, and where there are none."""
    message = bag.first(topic)
    if message is None:
        return bag.unread(topic)
    if bag.types[topic] == COMPRESSED or NO_PHOTOGRAPH.match(message.encoding):
        return ""
    return f"{topic}: its images have the encoding '{message.encoding}', expected one of {', '.join(ENCODINGS)}"


def read_transforms(bag: BagFile) -> TransformTree:
    """All transforms of a bag, those of a topic ending in ``tf_static`` as fixed ones.

    One that is no pose, as of a joint whose encoder fails, is left out; ``not_fixed`` says so where it is missed.
    """
    tree = TransformTree()
    for topic, data in bag.messages(bag.topics(TF)):
        for stamped in bag.decode(topic, data).transforms:
            parent, child, stamp = stamped.header.frame_id, stamped.child_frame_id, stamped.header.stamp
            rotation, translation = stamped.transform.rotation, stamped.transform.translation
            try:
                pose = pose_of(rotation, translation, f"{topic}: {parent} -> {child}")
            except SourceError as error:
                tree.refuse(child, str(error))
                continue
            if topic.endswith(STATIC):
                tree.add_fixed(parent, child, pose)
            else:
                tree.add_moving(parent, child, pose, stamp.sec * 10**9 + stamp.nanosec)
    return tree


def not_fixed(bag: BagFile, tree: TransformTree, frame: str, vehicle_frame: str) -> str:
    """Why the frame of a sensor has no place on the vehicle, for an error that begins with its topic."""
    beginning = f"its frame '{frame}' is not fixed to the vehicle frame '{vehicle_frame}'"
    unread = [text for topic in bag.topics(TF) if topic.endswith(STATIC) and (text := bag.unread(topic))]
    reason = tree.refusal(frame, vehicle_frame) or next(iter(unread), "")
    if reason:
        return f"{beginning}: {reason}"
    moving = ", ".join(tree.joined_frames(moving=True))
    others = f" (/tf, which is of what moves, has {moving})" if moving else ""
    return f"{beginning} by /tf_static, which has {', '.join(tree.joined_frames(moving=False)) or 'nothing'}{others}"


def pose_of(rotation: Any, translation: Any, where: str) -> NDArray[np.float64]:
    """``[4, 4]`` of a Quaternion and a Vector3 or Point. Raises SourceError for what is no pose."""
    try:
        pose = rigid([rotation.w, rotation.x, rotation.y, rotation.z], [translation.x, translation.y, translation.z])
    except ValueError as error:
        raise SourceError(f"{where}: {error}") from error
    if not np.isfinite(pose).all():
        raise SourceError(f"{where}: the translation is not finite")
    return pose


@dataclass(frozen=True)
class NodeTopics:
    """How the node takes the images of most cameras of a bag: in one form for all.

    ``renamed``: topics of the bag that only have another name, by those the node expects; ``left``: cameras whose
    images it cannot take in this form.
    """

    form: InputForm
    renamed: Mapping[str, str]
    left: tuple[str, ...]


def node_topics(bag: BagFile, cameras: Sequence[str]) -> NodeTopics:
    """The form that takes in most ``cameras``, by its own names of topics or other ones.

    Unrectified images are never another name of rectified ones: the node would take them for these.
    """
    found = cameras_of(bag, cameras)

    def in_form(form: InputForm) -> NodeTopics:
        renamed, left = {}, []
        for name in cameras:
            expected = full_name(f"{name}/{form.topic}")
            image = found[name].image if name in found else ""
            kind = COMPRESSED if form.is_compressed else RAW
            if bag.types.get(expected) == kind and _is_photograph(bag, expected):
                continue
            if image and bag.types[image] == kind and is_rectified_topic(image) == form.is_rectified:
                renamed[expected] = image
            else:
                left.append(name)
        return NodeTopics(form, renamed, tuple(left))

    return min(map(in_form, INPUT_FORMS), key=lambda topics: (len(topics.left), len(topics.renamed)))


def rig_of_bag(
    bag: BagFile,
    tree: TransformTree,
    vehicle_frame: str = VEHICLE_FRAME,
    ground_z: float = 0.0,
    cameras: Iterable[str] = (),
) -> Rig:
    """The rig of the cameras that have a CameraInfo, in the order of the fixed transforms.

    ``cameras``: names of those to take, as in ``find_cameras``; empty means all.

    Raises:
        SourceError: the bag has no CameraInfo, or nothing usable of a camera that is named.
        RigError: a CameraInfo is not calibrated or contradicts itself, its frame is not fixed to the vehicle frame,
            or the images beside it cannot be read.
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
    problem = topics.problem or (bag.unread(topics.info) if info is None else "")
    if problem:
        raise RigError(f"bag {bag.path}: {problem}")
    if info is None or _is_of_other_images(bag, topics):
        return None
    if not topics.name:
        raise RigError(
            f"bag {bag.path}: {topics.info}: nothing stands before camera_info, which would be the name of the camera; "
            "start its driver in a namespace (--ros-args -r __ns:=/front) and record again"
        )
    frame = info.header.frame_id.lstrip("/")
    camera_to_vehicle = tree.lookup(frame, vehicle_frame)
    if camera_to_vehicle is None:
        raise RigError(
            f"bag {bag.path}: {topics.info}: {not_fixed(bag, tree, frame, vehicle_frame)}; give --vehicle-frame, or a "
            "rig file"
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
    check_info(info, topics.name, rectified)
    projection = projection_of_info(info) if rectified else None
    intrinsics = np.reshape(info.k, (3, 3)) if projection is None else projection
    if rectified or is_pinhole:
        return Camera(topics.name, size, intrinsics, camera_to_vehicle, frame=frame)
    return Camera(topics.name, size, intrinsics, camera_to_vehicle, distortion, model, frame)


def projection_of_info(info: Any) -> NDArray[np.float64] | None:
    """Intrinsics [3, 3] of rectified images, pixels, from the P of their CameraInfo; None where it has none."""
    return np.reshape(info.p, (3, 4))[:, :3] if info.p[0] > 0 else None


def turns_of_bag(bag: BagFile, cameras: Iterable[str]) -> dict[str, float]:
    """By how much the rectified images of ``cameras`` are turned against their lens, degrees, where it matters.

    See ``rectifying_turn``. Cameras without a CameraInfo or images are not in it.
    """
    turns = {}
    for name, topics in cameras_of(bag, cameras).items():
        info = bag.first(topics.info) if topics.info else None
        turn = 0.0 if info is None else rectifying_turn(info, is_rectified_topic(topics.image))
        if turn:
            turns[name] = turn
    return turns


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
