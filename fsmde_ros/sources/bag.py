"""ROS 2 bags as sweeps, read without ROS: any storage, any rig, whoever wrote them.

The bag is read twice: once for the stamps, from which the assembler of the node groups the images
into sweeps, and once for the messages, which leave as soon as their sweep is whole. The pose of
the vehicle at each stamp is interpolated.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.bit_depth import BitDepth
from fsmde_ros.cloud_layout import cloud_columns, points_of
from fsmde_ros.errors import FsmdeError, SourceError
from fsmde_ros.geometry import transform
from fsmde_ros.rig import VEHICLE_FRAME, Camera, Rig
from fsmde_ros.sources.bag_file import BagFile, open_bag
from fsmde_ros.sources.bag_messages import CLOUD, image_of
from fsmde_ros.sources.bag_poses import poses
from fsmde_ros.sources.bag_rig import (
    cameras_of,
    is_rectified_topic,
    lidars_of_bag,
    not_fixed,
    projection_of_info,
    read_transforms,
    rig_of_bag,
)
from fsmde_ros.sources.grouping import group_frames, nearest
from fsmde_ros.sources.transform_tree import TransformTree
from fsmde_ros.stamps import NS, stamp_problem
from fsmde_ros.sweep import LidarScan, Sweep, View
from fsmde_ros.topics import InputForm, full_name

_LOG = logging.getLogger(__name__)

Array = NDArray[np.float64]
LIDAR_LIMIT_NS = 100_000_000  # a scan further off than two turns of a usual LiDAR shows another moment
NO_LIDAR = "none"
FUSED_FIELDS = {"stddev", "view"}  # what ~/points has and no LiDAR


@dataclass(frozen=True)
class _Plan:
    """What the second reading needs: topics, mounts, poses, and which messages are of which sweep.

    ``sweeps`` holds (stamp_ns, index of the message by topic); ``images`` the camera by topic;
    ``logged_ns`` the log times of the messages of each topic, in the order in which they are read: they ascend within a
    file of the bag, not from one to the next; ``depths`` what the images of a topic that were read so far tell of the
    bits of their camera.
    """

    rig: Rig
    images: Mapping[str, str]
    lidar: str
    lidar_to_vehicle: Array | None
    pose_at: Callable[[int], Array | None]
    sweeps: tuple[tuple[int, Mapping[str, int]], ...]
    logged_ns: Mapping[str, Sequence[int]]
    depths: Mapping[str, BitDepth]


def read_rig_of_bag(
    path: Path | str, vehicle_frame: str = VEHICLE_FRAME, ground_z: float = 0.0, cameras: Iterable[str] = ()
) -> tuple[Rig, dict[str, Array]]:
    """The rig of a bag from its CameraInfo and fixed transforms, and its LiDARs.

    ``ground_z``: metres; ``cameras``: names of those to take, empty means all.

    Returns:
        the rig, and ``lidar_to_vehicle`` [4, 4] by frame of the LiDAR.

    Raises:
        SourceError: there is no bag, it is damaged, or it has no CameraInfo, or none of a camera that is named.
        RigError: a camera is not calibrated or not fixed to ``vehicle_frame``.
    """
    with open_bag(path) as bag:
        tree = read_transforms(bag)
        rig = rig_of_bag(bag, tree, vehicle_frame, ground_z, cameras)
        return rig, dict(lidars_of_bag(bag, tree, rig.vehicle_frame))


def sweeps(
    path: Path | str,
    rig: Rig | None = None,
    lidars: Mapping[str, Array] | None = None,
    vehicle_frame: str = VEHICLE_FRAME,
    lidar_topic: str = "",
    anchor: str = "",
) -> Iterator[Sweep]:
    """Sweeps of a rosbag2 bag, in the order of time.

    Args:
        path: folder of the bag, or its ``.mcap`` or ``.db3`` file.
        rig: the rig; from CameraInfo and the fixed transforms by default.
        lidars: ``lidar_to_vehicle`` [4, 4] by frame, where the bag has no transforms.
        vehicle_frame: frame of the vehicle, where no rig is given.
        lidar_topic: topic of the LiDAR; by default the only cloud, or the only one with "lidar"
            in its name, clouds of the node itself and topics without messages aside; "none" leaves it out.
        anchor: camera whose stamp is that of the sweep; the first of the rig by default.

    Raises:
        SourceError: there is no bag, it is damaged, it lacks a needed topic (the message lists what it
            has), or images of the rig have an unknown encoding or none of a topic has a stamp. Also, while iterating,
            a message that cannot be decoded.
        RigError: a camera is not calibrated or not fixed to the vehicle frame.
    """
    with open_bag(path) as bag:
        tree = read_transforms(bag)
        rig = rig_of_bag(bag, tree, vehicle_frame) if rig is None else rig
        yield from _read(bag, _plan(bag, tree, rig, lidars or {}, lidar_topic, anchor))


class BagDrive:
    """The sweeps of a bag, each read when it is asked for, in any order, by any thread of this process.

    Opening reads the bag once, for the stamps; it stays open as long as the object lives. Arguments and
    errors are those of ``sweeps``.
    """

    def __init__(
        self,
        path: Path | str,
        rig: Rig | None = None,
        lidars: Mapping[str, Array] | None = None,
        vehicle_frame: str = VEHICLE_FRAME,
        lidar_topic: str = "",
        anchor: str = "",
    ) -> None:
        opened = ExitStack()
        self._bag = opened.enter_context(open_bag(path))  # takes a good part of a second, so not for every sweep
        weakref.finalize(self, opened.close)
        self._reading = Lock()
        tree = read_transforms(self._bag)
        rig = rig_of_bag(self._bag, tree, vehicle_frame) if rig is None else rig
        self._plan = _plan(self._bag, tree, rig, lidars or {}, lidar_topic, anchor)

    @property
    def rig(self) -> Rig:
        """The rig of the sweeps."""
        return self._plan.rig

    def __len__(self) -> int:
        """Number of sweeps."""
        return len(self._plan.sweeps)

    def __getitem__(self, index: int) -> Sweep:
        """Sweep ``index`` in the order of time; SourceError where a message of it cannot be decoded."""
        stamp_ns, needed = self._plan.sweeps[index]
        logged = self._plan.logged_ns
        times = [logged[topic][place] for topic, place in needed.items()]
        first, last = min(times), max(times)
        with self._reading:
            messages = list(self._bag.logged_messages(list(needed), first, last + 1))
        places = {t: iter([place for place, ns in enumerate(logged[t]) if first <= ns <= last]) for t in needed}
        found: dict[tuple[str, int], View | LidarScan] = {}
        for topic, _, data in messages:
            if next(places[topic], None) == needed[topic]:
                found[topic, needed[topic]] = _convert(self._bag, self._plan, topic, data)
        if len(found) != len(needed):
            raise SourceError(f"bag {self._bag.path}: has changed since it was opened; open it again")
        return _sweep(self._plan, stamp_ns, needed, found)


def _plan(
    bag: BagFile, tree: TransformTree, rig: Rig, lidars: Mapping[str, Array], lidar_topic: str, anchor: str
) -> _Plan:
    cameras = cameras_of(bag, rig.names)
    images = {cameras[name].image: name for name in rig.names if name in cameras and cameras[name].image}
    problems = [cameras[name].problem for name in rig.names if name in cameras and cameras[name].problem]
    if problems:
        raise SourceError(f"bag {bag.path}: {problems[0]}; or leave the camera out of the rig")
    if not images:
        raise SourceError(
            f"bag {bag.path}: no images of any camera of the rig ({', '.join(rig.names)}), expected topics such as "
            f"{full_name(f'{rig.names[0]}/{InputForm().topic}')}; it has {bag.listing()}"
        )
    if anchor and anchor not in rig:
        raise SourceError(f"bag {bag.path}: the anchor '{anchor}' is no camera of the rig: {', '.join(rig.names)}")
    undone = [name for topic, name in images.items() if is_rectified_topic(topic) and not rig[name].is_rectified]
    if undone:
        rig = _without_lenses(bag, rig, {name: cameras[name].info for name in undone})
    lidar = _lidar_topic(bag, lidar_topic)
    stamps, logged = _stamps(bag, [*images, lidar])
    frames = {name: stamps.get(topic, {}) for topic, name in images.items()}
    groups = group_frames({name: list(known.values()) for name, known in frames.items()}, anchor or rig.names[0])
    topics, places = {name: topic for topic, name in images.items()}, {name: list(frames[name]) for name in frames}
    scans = stamps.get(lidar, {})
    scan_order = sorted(scans, key=scans.__getitem__)
    scan_stamps = [scans[place] for place in scan_order]
    planned = []
    for group in groups:
        needed = {topics[name]: places[name][index] for name, index in group.frames.items()}
        scan = nearest(scan_stamps, group.stamp_ns, LIDAR_LIMIT_NS)
        if scan is not None:
            needed[lidar] = scan_order[scan]
        planned.append((group.stamp_ns, needed))
    mount = _mount(bag, tree, rig, lidars, lidar) if scan_stamps else None
    pose_at = poses(bag, tree, rig.vehicle_frame, [group.stamp_ns for group in groups])
    return _Plan(rig, images, lidar, mount, pose_at, tuple(planned), logged, {t: BitDepth() for t in images})


def _stamps(bag: BagFile, topics: Sequence[str]) -> tuple[dict[str, dict[int, int]], dict[str, list[int]]]:
    """Stamps by topic and place among its messages, and the log times of all messages by topic, nanoseconds.

    Messages with a ``stamp_problem`` have no stamp, as the node leaves them out. Raises SourceError where a topic has
    no other.
    """
    stamps: dict[str, dict[int, int]] = {}
    logged: dict[str, list[int]] = {}
    problems: dict[str, str] = {}  # the first one of a topic
    for topic, logged_ns, data in bag.logged_messages(topics):
        place = len(logged.setdefault(topic, []))
        logged[topic].append(logged_ns)
        stamp_ns = bag.stamp_ns(topic, data)
        if problem := stamp_problem(*divmod(stamp_ns, NS)):
            problems.setdefault(topic, problem)
        else:
            stamps.setdefault(topic, {})[place] = stamp_ns
    for topic, problem in problems.items():
        if topic not in stamps:
            raise SourceError(f"bag {bag.path}: {topic}: {problem}")
        count = len(logged[topic])
        _LOG.warning(f"bag {bag.path}: {topic}: {count - len(stamps[topic])} of {count} messages left out: {problem}")
    return stamps, logged


def _without_lenses(bag: BagFile, rig: Rig, infos: Mapping[str, str]) -> Rig:
    """The rig, whose file may give lenses that the driver has undone already.

    ``infos``: topics of the CameraInfo of those cameras, by name.
    """
    cameras = (_without_lens(bag, c, infos[c.name]) if c.name in infos else c for c in rig.cameras)
    return replace(rig, cameras=tuple(cameras))


def _without_lens(bag: BagFile, camera: Camera, info_topic: str) -> Camera:
    """The camera of images that its driver has rectified: with the P they have, as the node takes it, or else its K."""
    info = bag.first(info_topic)
    projection = None if info is None else projection_of_info(info)
    return replace(
        camera.rectified(),
        intrinsics=camera.intrinsics if projection is None else projection,
        self_occlusion=camera.self_occlusion,  # of the images as they come
    )


def _lidar_topic(bag: BagFile, wanted: str) -> str:
    """The topic of the LiDAR; empty where there is none, or none is wanted."""
    if wanted == NO_LIDAR:
        return ""
    clouds = bag.topics(CLOUD)
    if wanted and wanted not in clouds:
        raise SourceError(f"bag {bag.path}: no PointCloud2 on {wanted}; it has {', '.join(clouds) or 'none'}")
    topic = wanted or _only_lidar(bag, [cloud for cloud in clouds if _may_be_lidar(bag, cloud)])
    if problem := bag.unread(topic):
        raise SourceError(f"bag {bag.path}: {problem}")
    return topic


def _only_lidar(bag: BagFile, clouds: Sequence[str]) -> str:
    named = [topic for topic in clouds if "lidar" in topic.lower()]
    candidates = named if len(clouds) > 1 else clouds
    if len(candidates) > 1 or (clouds and not candidates):
        raise SourceError(f"bag {bag.path}: which of {', '.join(clouds)} is the LiDAR? Name it, or '{NO_LIDAR}'")
    return candidates[0] if candidates else ""


def _may_be_lidar(bag: BagFile, topic: str) -> bool:
    """Whether a cloud came at all, and is not the depth of the node, recorded beside the images."""
    message = bag.first(topic)
    if message is None:
        return bool(bag.unread(topic))
    return not {field.name for field in message.fields} >= FUSED_FIELDS


def _mount(bag: BagFile, tree: TransformTree, rig: Rig, lidars: Mapping[str, Array], topic: str) -> Array:
    frame = bag.first(topic).header.frame_id.lstrip("/")
    mount = lidars.get(frame, tree.lookup(frame, rig.vehicle_frame))
    if mount is None:
        raise SourceError(
            f"bag {bag.path}: {topic}: {not_fixed(bag, tree, frame, rig.vehicle_frame)}; give its place in the rig "
            "file (lidars)"
        )
    return mount


def _read(bag: BagFile, plan: _Plan) -> Iterator[Sweep]:
    """Second reading: keep what a sweep still needs, give every sweep as soon as it can leave."""
    users: dict[tuple[str, int], int] = {}
    for _, needed in plan.sweeps:
        for key in needed.items():
            users[key] = users.get(key, 0) + 1
    counts: dict[str, int] = {}
    kept: dict[tuple[str, int], View | LidarScan] = {}
    waiting = iter(plan.sweeps)
    current = next(waiting, None)
    for topic, data in bag.messages([*plan.images, plan.lidar]):
        key = (topic, counts.get(topic, 0))
        counts[topic] = key[1] + 1
        if key in users:
            kept[key] = _convert(bag, plan, topic, data)
        while current is not None and all(key in kept for key in current[1].items()):
            yield _sweep(plan, *current, kept)
            for key in current[1].items():
                users[key] -= 1
                if not users[key]:
                    del kept[key]
            current = next(waiting, None)


def _sweep(
    plan: _Plan, stamp_ns: int, needed: Mapping[str, int], kept: Mapping[tuple[str, int], View | LidarScan]
) -> Sweep:
    parts = {topic: kept[topic, index] for topic, index in needed.items()}
    scan = parts.pop(plan.lidar, None)
    views = {plan.images[topic]: view for topic, view in parts.items() if isinstance(view, View)}
    return Sweep(plan.rig, stamp_ns, views, scan if isinstance(scan, LidarScan) else None)


def _convert(bag: BagFile, plan: _Plan, topic: str, data: bytes) -> View | LidarScan:
    message, stamp_ns = bag.decode(topic, data), bag.stamp_ns(topic, data)
    try:
        if topic == plan.lidar:
            return _scan(message, stamp_ns, plan)
        return View(image_of(message, plan.depths[topic]), stamp_ns, plan.pose_at(stamp_ns))
    except FsmdeError as error:
        raise SourceError(f"bag {bag.path}: {topic} at {stamp_ns} ns: {error}") from error


def _scan(message: Any, stamp_ns: int, plan: _Plan) -> LidarScan:
    columns = cloud_columns(message)
    points = points_of(columns)
    # Some drivers write NaN where a beam came back from nothing, others zeros.
    returns = np.isfinite(points).all(axis=1) & points.any(axis=1)
    intensity, ring = columns.get("intensity"), columns.get("ring")
    mount = plan.lidar_to_vehicle
    return LidarScan(
        points_vehicle=points[returns] if mount is None else transform(mount, points[returns]),
        stamp_ns=stamp_ns,
        intensity=None if intensity is None else intensity[returns].astype(np.float32),
        ring=None if ring is None else ring[returns].astype(np.int32),
        vehicle_to_map=plan.pose_at(stamp_ns),
        sensor_to_vehicle=mount,
        name=plan.lidar.strip("/"),
    )
