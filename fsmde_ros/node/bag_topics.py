"""Between rosbag2 connections and rclpy publishers: message classes and QoS."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import Reader, ReaderError

from fsmde_ros.errors import SourceError

MIN_DEPTH = 30
"""Messages a publisher keeps, at least: a bag that was recorded with depth 1 plays in bursts."""


@contextmanager
def bag_reader(path: Path) -> Iterator[Reader]:
    """An open reader of a rosbag2 bag. Raises SourceError where there is none or it is damaged."""
    try:
        reader = Reader(path)
        reader.open()
    except (FileNotFoundError, ReaderError) as error:
        raise SourceError(
            f"bag {path}: cannot be opened: {error} Expected the folder of a rosbag2 bag (metadata.yaml and "
            "its .mcap or .db3); nuscenes_to_bag and ddad_to_bag make one"
        ) from error
    try:
        yield reader
    finally:
        reader.close()


@cache
def message_class(msgtype: str) -> type | None:
    """Python class of a type such as "sensor_msgs/msg/Image"; None where its package is absent."""
    package, _, name = msgtype.partition("/msg/")
    try:
        module = importlib.import_module(f"{package}.msg")
    except ImportError:
        return None
    return getattr(module, name, None)


def playable(reader: Reader, topics: Sequence[str]) -> tuple[list[Connection], list[str]]:
    """The bag's connections that can be published, and "topic (type)" of those that cannot.

    ``topics``: only these; empty means all. Raises SourceError for one the bag does not have.
    """
    missing = [topic for topic in topics if topic not in reader.topics]
    if missing:
        raise SourceError(
            f"bag {reader.path}: no topic {', '.join(missing)}; it has {', '.join(sorted(reader.topics))}"
        )
    wanted = [c for c in reader.connections if not topics or c.topic in topics]
    left_out = sorted({f"{c.topic} ({c.msgtype})" for c in wanted if message_class(c.msgtype) is None})
    return [c for c in wanted if message_class(c.msgtype) is not None], left_out


def offered_qos(connection: Connection) -> QoSProfile:
    """QoS to publish a connection with: what the bag says was offered, else reliable, volatile.

    ``/tf_static`` is latched whatever the bag says, as everybody who asks for it expects.
    """
    extension = connection.ext
    profiles = extension.offered_qos_profiles if isinstance(extension, ConnectionExtRosbag2) else []
    offered = profiles[0] if profiles else None
    latched = connection.topic == "/tf_static"
    best_effort, depth = False, MIN_DEPTH
    if offered is not None:
        latched = latched or offered.durability == QosDurability.TRANSIENT_LOCAL
        best_effort = offered.reliability == QosReliability.BEST_EFFORT
        depth = max(depth, offered.depth)
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def is_latched(connection: Connection) -> bool:
    """Whether late subscribers are owed the last messages of the connection."""
    return offered_qos(connection).durability == DurabilityPolicy.TRANSIENT_LOCAL


def bag_qos(profile: QoSProfile) -> Qos:
    """The offered profile of a recorded topic, as rosbag2 stores it."""
    latched = profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
    reliable = profile.reliability == ReliabilityPolicy.RELIABLE
    unlimited = QosTime(2147483647, 4294967295)
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=max(1, profile.depth),
        reliability=QosReliability.RELIABLE if reliable else QosReliability.BEST_EFFORT,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=unlimited,
        lifespan=unlimited,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=unlimited,
        avoid_ros_namespace_conventions=False,
    )
