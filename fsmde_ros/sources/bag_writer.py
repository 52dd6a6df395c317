"""Sweeps to a rosbag2 MCAP bag with ROS 2 types, without ROS.

Topics: ``/<camera>/image_rect/compressed`` (``image_raw`` for a camera with distortion), with the
bytes of the source as they are, ``/<camera>/camera_info``, ``/<lidar>`` (PointCloud2 in the frame
of the LiDAR), ``/tf_static`` once (vehicle frame to each sensor, offered as transient local),
``/tf`` and ``/odom`` (map to vehicle frame, at the stamp of every image and scan). The log time of
a message is the stamp of its header; messages lie in the order of time.
"""

from __future__ import annotations

import heapq
import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer

from fsmde_ros.errors import SourceError
from fsmde_ros.rig import Rig
from fsmde_ros.sources import bag_messages
from fsmde_ros.sources.bag_messages import TYPESTORE
from fsmde_ros.sweep import LidarScan, Sweep
from fsmde_ros.topics import InputForm, full_name

# Stamps of neighbouring sweeps interleave by milliseconds; messages wait this long for theirs.
HOLD_NS = 1_000_000_000
LAST_STAMP_NS = 2**31 * 10**9 - 1

_FOREVER = QosTime(2147483647, 4294967295)
_LATCHED = Qos(
    history=QosHistory.KEEP_LAST,
    depth=1,
    reliability=QosReliability.RELIABLE,
    durability=QosDurability.TRANSIENT_LOCAL,
    deadline=_FOREVER,
    lifespan=_FOREVER,
    liveliness=QosLiveliness.AUTOMATIC,
    liveliness_lease_duration=_FOREVER,
    avoid_ros_namespace_conventions=False,
)


@dataclass(frozen=True)
class Written:
    """What a bag has got: numbers of sweeps, images, scans, poses."""

    sweeps: int = 0
    images: int = 0
    scans: int = 0
    poses: int = 0


def write_bag(
    path: Path | str,
    sweeps: Iterable[Sweep],
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Written:
    """Write sweeps of one rig, in the order of time, as a bag.

    The bag is made beside ``path`` and moved there when it is complete, so that nothing half
    written is left.

    Args:
        path: folder to make.
        sweeps: sweeps whose images are encoded (``EncodedImage``) or pixels, which become JPEG.
        overwrite: replace a bag that is there.
        progress: called with the number of sweeps written so far.

    Raises:
        SourceError: ``path`` exists, or is no bag to overwrite, or cannot be written; there are no
            sweeps, they go back in time, or their rigs differ.
    """
    path = Path(path).absolute()
    check_target(path, overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as temporary:
            bag = Path(temporary) / path.name  # the storage file inside is named after the folder
            with Writer(bag, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
                written = _SweepWriter(writer).write(sweeps, progress)
            if path.exists():
                path.rename(Path(temporary) / "replaced")
            bag.rename(path)
    except OSError as error:
        raise SourceError(f"bag {path}: cannot be written: {error.strerror or error}") from error
    return written


def check_target(path: Path, overwrite: bool) -> None:
    """Raise SourceError where a bag may not be written: something is there, or no bag to replace."""
    if not path.exists():
        return
    if not overwrite:
        raise SourceError(f"bag {path}: exists already; remove it, choose another name, or overwrite it")
    if not (path / "metadata.yaml").is_file():
        raise SourceError(f"{path}: is no bag (no metadata.yaml), not overwritten; choose another name")


class _SweepWriter:
    """Serialises sweeps and puts their messages into the order of time."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._connections: dict[str, Connection] = {}
        self._waiting: list[tuple[int, int, Connection, bytes | memoryview]] = []
        self._order = itertools.count()
        self._seen: set[tuple[str, int]] = set()
        self._announced = 0
        self._counts = {"sweeps": 0, "images": 0, "scans": 0, "poses": 0}

    def write(self, sweeps: Iterable[Sweep], progress: Callable[[int], None] | None) -> Written:
        rig: Rig | None = None
        last_ns = 0
        for sweep in sweeps:
            if rig is None:
                rig = sweep.rig
            elif not _same_rig(rig, sweep.rig):
                raise SourceError(
                    f"the rig changes at the sweep of {sweep.stamp_ns} ns, but a bag has one rig; "
                    "convert one scene at a time"
                )
            if sweep.stamp_ns <= last_ns:
                raise SourceError(
                    f"the sweep of {sweep.stamp_ns} ns follows one of {last_ns} ns, expected the order of time; "
                    "convert one scene at a time"
                )
            last_ns = sweep.stamp_ns
            self._add_sweep(sweep)
            self._flush(sweep.stamp_ns - HOLD_NS)
            self._counts["sweeps"] += 1
            if progress is not None:
                progress(self._counts["sweeps"])
        if rig is None:
            raise SourceError("there are no sweeps to write, expected at least one")
        self._flush(LAST_STAMP_NS)
        return Written(**self._counts)

    def _add_sweep(self, sweep: Sweep) -> None:
        rig, scan = sweep.rig, sweep.lidar
        # Again with the LiDAR where the first sweep had none: the last message counts for late subscribers.
        sensors = 1 if scan is None else 2
        if sensors > self._announced:
            first_ns = min(stamp_ns for stamp_ns, _ in _poses(sweep))
            self._add("/tf_static", first_ns, bag_messages.static_transforms(rig, scan, first_ns))
            self._announced = sensors
        for name in sweep.present:
            view, camera = sweep.views[name], rig[name]
            # CameraInfo first: who takes both in order then knows the camera when its image comes
            self._add(full_name(f"{name}/camera_info"), view.stamp_ns, bag_messages.camera_info(camera, view.stamp_ns))
            image = bag_messages.compressed_image(view.image, camera.frame, view.stamp_ns)
            topic = full_name(f"{name}/{InputForm(camera.is_rectified).topic}")
            self._counts["images"] += self._add(topic, view.stamp_ns, image)
        for stamp_ns, vehicle_to_map in _poses(sweep):
            if vehicle_to_map is not None:
                self._add("/tf", stamp_ns, bag_messages.pose_transform(rig.vehicle_frame, vehicle_to_map, stamp_ns))
                odometry = bag_messages.odometry(rig.vehicle_frame, vehicle_to_map, stamp_ns)
                self._counts["poses"] += self._add("/odom", stamp_ns, odometry)
        if scan is not None:
            self._counts["scans"] += self._add(full_name(scan.name), scan.stamp_ns, self._cloud(scan, rig))

    def _cloud(self, scan: LidarScan, rig: Rig) -> Any:
        return bag_messages.point_cloud(scan, rig.vehicle_frame if scan.sensor_to_vehicle is None else scan.name)

    def _add(self, topic: str, stamp_ns: int, message: Any) -> bool:
        """Queue a message; False where one of the topic has the stamp already."""
        if not 0 <= stamp_ns <= LAST_STAMP_NS:
            raise SourceError(f"{topic}: the stamp {stamp_ns} ns does not fit a ROS time, expected 1970 to 2038")
        if (topic, stamp_ns) in self._seen:
            return False
        self._seen.add((topic, stamp_ns))
        msgtype = message.__msgtype__
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, msgtype, typestore=TYPESTORE, offered_qos_profiles=[_LATCHED] if topic == "/tf_static" else []
            )
        data = TYPESTORE.serialize_cdr(message, msgtype)
        heapq.heappush(self._waiting, (stamp_ns, next(self._order), self._connections[topic], data))
        return True

    def _flush(self, until_ns: int) -> None:
        while self._waiting and self._waiting[0][0] <= until_ns:
            stamp_ns, _, connection, data = heapq.heappop(self._waiting)
            self._writer.write(connection, stamp_ns, data)


def _poses(sweep: Sweep) -> Iterator[tuple[int, Any]]:
    """Stamp and pose of everything in the sweep."""
    for name in sweep.present:
        yield sweep.views[name].stamp_ns, sweep.views[name].vehicle_to_map
    if sweep.lidar is not None:
        yield sweep.lidar.stamp_ns, sweep.lidar.vehicle_to_map


def _same_rig(a: Rig, b: Rig) -> bool:
    return a is b or (
        a.names == b.names
        and a.vehicle_frame == b.vehicle_frame
        and [camera.size for camera in a.cameras] == [camera.size for camera in b.cameras]
        and np.array_equal(a.intrinsics(), b.intrinsics())
        and np.array_equal(a.camera_to_vehicle(), b.camera_to_vehicle())
    )
