"""``python -m fsmde_ros.node.recorder``: record topics into a rosbag2 MCAP bag.

For machines without ``ros2 bag record``. The serialized bytes are written as they arrive; the
log time is the time of arrival by the node's clock, as ``ros2 bag record`` has it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.expand_topic_name import expand_topic_name
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.utilities import try_shutdown
from rosbags.interfaces import Connection
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from fsmde_ros.errors import ConfigError, FsmdeError, SourceError
from fsmde_ros.node.bag_topics import bag_qos, message_class
from fsmde_ros.node.command_line import StopSignal, init_ros, spin_until_stopped, split_ros_arguments
from fsmde_ros.node.connections import Connections

QUEUE = 200  # messages of a topic that may wait while a chunk is being compressed
LOOK_S = 0.2  # how often the graph is asked for topics that have not appeared yet


@dataclass(frozen=True)
class RecordOptions:
    """What to record: ``topics``, which may be relative, into a new bag ``out``; an empty ``topics`` means all."""

    out: Path
    topics: tuple[str, ...] = ()
    compress: bool = True


class Recorder:
    """Subscribes to the wanted topics as they appear and writes what they carry."""

    def __init__(self, node: Node, writer: Writer, topics: Sequence[str]) -> None:
        self._node, self._writer = node, writer
        self._topics = tuple(resolved(node, topic) for topic in topics)
        self._typestore = get_typestore(Stores.ROS2_JAZZY)
        self._seen: set[str] = set()
        self._connections = Connections(
            self._topics, lambda: node.get_logger().info(f"complete: connected to all {len(topics)} topics")
        )
        self.counts: dict[str, int] = {}
        # A steady clock: a simulated one may stand still until somebody listens, as that of a player does.
        node.create_timer(LOOK_S, self.look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def look(self) -> None:
        """Subscribe to wanted topics that somebody publishes and that are not recorded yet."""
        for topic, types in self._node.get_topic_names_and_types():
            if topic in self._seen or (self._topics and topic not in self._topics):
                continue
            publishers = self._node.get_publishers_info_by_topic(topic)
            if not publishers:
                continue
            self._seen.add(topic)
            kind = message_class(types[0])
            if kind is None or types[0] not in self._typestore.fielddefs:
                self._node.get_logger().warning(f"{topic}: type {types[0]} is not installed, not recorded")
                continue
            self._subscribe(topic, types[0], kind, matching_qos([p.qos_profile for p in publishers]))

    def _subscribe(self, topic: str, msgtype: str, kind: type, qos: QoSProfile) -> None:
        connection = self._writer.add_connection(
            topic, msgtype, typestore=self._typestore, offered_qos_profiles=[bag_qos(qos)]
        )

        def write(data: bytes) -> None:
            self._write(connection, data)

        events = self._connections.events(topic)
        self._node.create_subscription(kind, topic, write, qos, raw=True, event_callbacks=events)
        self.counts[topic] = 0

    def _write(self, connection: Connection, data: bytes) -> None:
        self._writer.write(connection, self._node.get_clock().now().nanoseconds, data)
        self.counts[connection.topic] += 1


def resolved(node: Node, topic: str) -> str:
    """A topic as the graph has it, with its namespace. Raises ConfigError where ROS takes no such name."""
    try:
        name: str = expand_topic_name(topic, node.get_name(), node.get_namespace())
    except ValueError as error:  # of rcl, with the place in its source behind the reason
        raise ConfigError(f"--topics: {str(error).partition(', at /')[0]}") from error
    return name


def matching_qos(offered: Sequence[QoSProfile]) -> QoSProfile:
    """A profile that every one of the publishers can serve: their weakest promises."""
    reliable = all(profile.reliability == ReliabilityPolicy.RELIABLE for profile in offered)
    latched = all(profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for profile in offered)
    return QoSProfile(
        depth=QUEUE,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def record(options: RecordOptions, ros_arguments: Sequence[str] = ()) -> dict[str, int]:
    """Record until SIGINT or SIGTERM; returns the number of messages of each topic.

    Raises SourceError where ``options.out`` exists already or cannot be written.
    """
    try:
        if options.out.exists():
            raise SourceError(f"bag {options.out}: exists already; remove it or choose another name")
        writer = Writer(options.out, version=9, storage_plugin=StoragePlugin.MCAP)
        if options.compress:
            writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        return _record_into(writer, options, ros_arguments)
    except OSError as error:  # at the start, or where the disk is full
        raise SourceError(
            f"bag {options.out}: cannot be written: {error.strerror or error}; choose another folder"
        ) from error


def _record_into(writer: Writer, options: RecordOptions, ros_arguments: Sequence[str]) -> dict[str, int]:
    with StopSignal() as stop, writer:
        init_ros(ros_arguments)
        try:
            node = Node("record", start_parameter_services=False)
            recorder = Recorder(node, writer, options.topics)
            node.get_logger().info(f"ready: recording to {options.out.name}")
            spin_until_stopped(node, stop, lambda: sum(recorder.counts.values()))
            node.get_logger().info(f"{sum(recorder.counts.values())} messages of {len(recorder.counts)} topics")
            node.destroy_node()
        finally:
            try_shutdown()
    return recorder.counts


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Exit status: 0 recorded until a signal, 2 cannot record."""
    parser = argparse.ArgumentParser(prog="recorder", description="Record topics into a rosbag2 MCAP bag.")
    parser.add_argument("out", type=Path, help="folder of the new bag")
    parser.add_argument("--topics", nargs="+", default=[], help="record only these topics (all)")
    parser.add_argument("--no-compression", action="store_true", help="do not compress the chunks of the bag")
    arguments, ros_arguments = split_ros_arguments(sys.argv[1:] if argv is None else argv)
    values = parser.parse_args(arguments)
    try:
        record(RecordOptions(values.out, tuple(values.topics), compress=not values.no_compression), ros_arguments)
    except FsmdeError as error:
        print(f"recorder: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
