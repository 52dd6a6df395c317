"""Between rosbag2 connections and rclpy publishers: message classes and QoS."""

from __future__ import annotations

import importlib
import importlib.util
import re
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

MIN_DEPTH, MAX_DEPTH = 30, 1000
"""Messages a publisher keeps: a bag that was recorded with depth 1 plays in bursts, and one may claim any depth."""

_TYPE = re.compile(r"(?P<package>[a-z][a-z0-9_]*)/msg/(?P<name>[A-Z][A-Za-z0-9]*)")  # REP 145 has no other


@cache
def message_class(msgtype: str) -> type | None:
    """Python class of a type such as "sensor_msgs/msg/Image"; None where its package is absent.

    A bag may name any package. None is imported but those that the interface generator of ROS made,
    which its type support tells, as importing runs what is in it.
    """
    match = _TYPE.fullmatch(msgtype)
    spec = importlib.util.find_spec(match["package"]) if match else None
    if match is None or spec is None or not any(map(_has_type_support, spec.submodule_search_locations or ())):
        return None
    try:
        module = importlib.import_module(f"{match['package']}.msg")
    except ImportError:
        return None
    return getattr(module, match["name"], None)


def _has_type_support(folder: str) -> bool:
    return any(Path(folder).glob("*__rosidl_typesupport_c*.so"))


def offered_qos(connection: Connection) -> QoSProfile:
    """QoS to publish a connection with: the durability and depth that the bag says were offered, always reliable.

    Reliable serves every subscriber. A recording of sensors often says best effort, which one that asks for reliable,
    so that nothing of a measurement is lost, would never match. ``/tf_static`` is latched whatever the bag says, as
    everybody who asks for it expects.
    """
    extension = connection.ext
    profiles = extension.offered_qos_profiles if isinstance(extension, ConnectionExtRosbag2) else []
    offered = profiles[0] if profiles else None
    latched = connection.topic == "/tf_static"
    depth = MIN_DEPTH
    if offered is not None:
        latched = latched or offered.durability == QosDurability.TRANSIENT_LOCAL
        depth = min(max(depth, offered.depth), MAX_DEPTH)
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE,
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
