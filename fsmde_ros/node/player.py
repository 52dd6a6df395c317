"""``replay``: play a rosbag2 bag into ROS 2, at its own pace or at the pace of the node.

The serialized bytes of the bag go out as they are (``rclpy`` publishes bytes), so nothing is
decoded or encoded. Where ROS is installed ``ros2 bag play`` does the same at the clock's pace;
``--pace node`` is this player's own: it goes as fast as the node keeps up and loses no sweep.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.duration import Duration
from rclpy.exceptions import InvalidTopicNameException
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.time import Time
from rclpy.utilities import try_shutdown
from rosbags.interfaces import Connection
from rosgraph_msgs.msg import Clock

from fsmde_ros.errors import ConfigError, FsmdeError, SourceError
from fsmde_ros.node.bag_topics import message_class, offered_qos
from fsmde_ros.node.command_line import StopSignal, init_ros, split_ros_arguments
from fsmde_ros.node.messages import stamp_ns
from fsmde_ros.node.pacing import PlaybackClock, SweepGate
from fsmde_ros.node.playlist import Playlist
from fsmde_ros.sources.bag_file import BagFile, open_bag
from fsmde_ros.stamps import NS
from fsmde_ros.topics import SWEEP

CLOCK = "/clock"
CLOCK_STEP_S = 0.01
LOOK_S = 0.05  # between two looks at who listens
SETTLED_LOOKS = 20  # without anybody new; counted in looks, as a machine that stalls finds nobody in that time
SILENT_LOOKS = 100  # after that many the log says what is waited for
ACKNOWLEDGE_S = 5.0
LEARNT_STAMPS = 16  # of each camera, to learn how they fire one after another


@dataclass(frozen=True)
class ReplayOptions:
    """What to play and how; times in seconds.

    Attributes:
        rate: seconds of the bag in a second of the wall, for ``pace`` "clock".
        start: skip this much of the bag; messages of latched topics are kept.
        duration: play this much of it, None all.
        topics: only these topics of the bag; empty means all.
        remap: name in the bag, which must be there, to name to publish under.
        pace: "clock", or "node": never more than one sweep under way.
        sweep_timeout: longest wait for a sweep report under ``pace`` "node".
        wait_for: topics of the bag that somebody must listen to before anything is played, of the
            images of one camera one of them; empty means any image.
        wait_for_subscribers: longest wait for that.
    """

    bag: Path
    rate: float = 1.0
    start: float = 0.0
    duration: float | None = None
    loop: bool = False
    clock: bool = False
    topics: tuple[str, ...] = ()
    remap: Mapping[str, str] = field(default_factory=dict)
    pace: str = "clock"
    sweep_topic: str = f"/{SWEEP}"
    sweep_timeout: float = 30.0
    wait_for: tuple[str, ...] = ()
    wait_for_subscribers: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.rate < math.inf:
            raise ConfigError(f"--rate must be above 0 and finite, got {self.rate}")
        if not self.start >= 0 or (self.duration is not None and not self.duration > 0):  # so that NaN is refused
            raise ConfigError(f"--start must be >= 0 and --duration above 0, got {self.start}, {self.duration}")
        if self.pace not in ("clock", "node"):
            raise ConfigError(f"--pace must be 'clock' or 'node', got '{self.pace}'")


class Player:
    """Publishes the messages of an open bag."""

    def __init__(self, node: Node, bag: BagFile, options: ReplayOptions, stop: StopSignal) -> None:
        self._node, self._options, self._stop = node, options, stop
        self.sent: dict[str, int] = {}
        unknown = [name for name in options.remap if name not in bag.types]
        if unknown:
            raise SourceError(
                f"bag {options.bag}: --remap {', '.join(unknown)}: no such topic; it has {', '.join(sorted(bag.types))}"
            )
        # Two clocks at once would jump to and fro: with ``clock`` that of the bag, of a simulator, stays silent. So do
        # recorded reports where those of the node are waited for: they would pass for them.
        own = {CLOCK: options.clock, options.sweep_topic: options.pace == "node"}
        without = [topic for topic in bag.types if own.get(options.remap.get(topic, topic))]
        self._playlist = Playlist(bag, options.topics, options.start, options.duration, without=without)
        if self._playlist.left_out:
            node.get_logger().info(f"left out, no Python package for the type: {', '.join(self._playlist.left_out)}")
        self._publishers: dict[str, Publisher] = {}
        for connection in self._playlist.connections:
            if connection.topic not in self._publishers:
                self._publishers[connection.topic] = self._advertise(connection)
        silent = [topic for topic in options.wait_for if topic not in self._publishers]
        if silent:
            raise SourceError(f"bag {options.bag}: --wait-for {', '.join(silent)}: not among the topics to play")
        self._images = self._playlist.images
        self._clock = node.create_publisher(Clock, CLOCK, 10) if options.clock else None
        self._first_stamps: dict[str, list[int]] = {}
        self._gate: SweepGate | None = None
        if options.pace == "node":
            self._gate = self._open_gate()

    def _advertise(self, connection: Connection) -> Publisher:
        name = self._options.remap.get(connection.topic, connection.topic)
        kind = message_class(connection.msgtype)
        assert kind is not None  # the playlist left the others out
        try:
            return self._node.create_publisher(kind, name, offered_qos(connection))
        except InvalidTopicNameException as error:
            raise SourceError(
                f"bag {self._options.bag}: '{name}' is no topic name that ROS takes; give it another with --remap, "
                "or play others with --topics"
            ) from error

    def _open_gate(self) -> SweepGate:
        if not self._images:
            raise SourceError(
                f"bag {self._options.bag}: --pace node goes by images, and the bag has none to play; use --pace clock"
            )
        for topic in sorted(self._images):  # here, as the bag is read one way at a time
            self._first_stamps[topic] = self._playlist.first_stamps(topic, LEARNT_STAMPS)
        gate = SweepGate(self._first_stamps)

        def take_report(report: DiagnosticArray) -> None:
            gate.reported(stamp_ns(report.header.stamp))

        self._node.create_subscription(DiagnosticArray, self._options.sweep_topic, take_report, QoSProfile(depth=100))
        return gate

    def wait_for_subscribers(self) -> None:
        """Return when the topics to wait for have a subscriber and no more turn up, or in time.

        Without topics to wait for a subscriber of any image will do, as a bag may have more than a node wants; it
        gets twice the time to subscribe to the others.
        """
        wanted = self._options.wait_for
        groups = self._playlist.alternatives(sorted(wanted or self._images or self._publishers))
        any_will_do = bool(self._images) and not wanted
        deadline = time.monotonic() + self._options.wait_for_subscribers
        known: list[int] = []
        looks = same = 0
        alone, enough = groups, False
        while time.monotonic() < deadline and not self._stop:
            counts = [p.get_subscription_count() for p in self._publishers.values()]
            known, same = counts, same + 1 if counts == known else 0
            alone = [group for group in groups if not any(map(self._is_heard, group))]
            enough = not alone or (any_will_do and len(alone) < len(groups))
            if enough and self._node_reports() and same >= SETTLED_LOOKS * (2 if alone else 1):
                break
            looks += 1
            if looks == SILENT_LOOKS:
                self._tell_waiting([] if enough else alone)
            rclpy.spin_once(self._node, timeout_sec=LOOK_S)
        if not self._stop and self._options.wait_for_subscribers > 0:
            self._tell_listeners([] if enough else alone)

    def _tell_listeners(self, alone: Sequence[Sequence[str]]) -> None:
        log = self._node.get_logger()
        if alone:
            log.warning(f"nobody listens to {_listed(alone)}; playing all the same")
            return
        if not self._node_reports():
            log.warning(f"nobody publishes {self._options.sweep_topic}; playing all the same")
        unheard = sorted(topic for topic in self._images if not self._is_heard(topic))
        if unheard:
            log.info(f"images that are played with nobody listening: {', '.join(unheard)}")

    def _tell_waiting(self, alone: Sequence[Sequence[str]]) -> None:
        missing = [f"a listener of {_listed(alone)}"] if alone else []
        if not self._node_reports():
            missing.append(f"a publisher of {self._options.sweep_topic}")
        what = " and ".join(missing) or "no more listeners to turn up"
        self._node.get_logger().info(f"waiting for {what}, at most {self._options.wait_for_subscribers:g} s")

    def _is_heard(self, topic: str) -> bool:
        return bool(self._publishers[topic].get_subscription_count())

    def _heed_listeners(self, gate: SweepGate) -> None:
        """Have the gate go by the images that the reporting node listens to: it reports no sweep of others.

        Where none is known, by those that anybody listens to; where nobody does, by all, so that a node that starts
        late finds most of the bag still to come.
        """
        reporting = {
            (end.node_namespace, end.node_name)
            for end in self._node.get_publishers_info_by_topic(self._options.sweep_topic)
        }
        heard = [topic for topic in self._first_stamps if self._is_heard(topic)]
        by_node = [topic for topic in heard if reporting & self._listeners(topic)]
        gate.go_by({topic: self._first_stamps[topic] for topic in by_node or heard or self._first_stamps})

    def _listeners(self, topic: str) -> set[tuple[str, str]]:
        ends = self._node.get_subscriptions_info_by_topic(self._publishers[topic].topic_name)
        return {(end.node_namespace, end.node_name) for end in ends}

    def _node_reports(self) -> bool:
        return self._gate is None or self._node.count_publishers(self._options.sweep_topic) > 0

    def play(self) -> None:
        """Play the bag once, or until stopped with ``loop``."""
        while not self._stop:
            if self._gate is not None:
                self._gate.restart()
                self._heed_listeners(self._gate)
            self._play_once()
            if not self._options.loop:
                break
        self._finish()
        in_full = self._options.start == 0 and self._options.duration is None and not self._stop
        if in_full and sum(self.sent.values()) < self._playlist.claimed:
            self._node.get_logger().warning(
                f"bag {self._options.bag} is damaged: it says that it has {self._playlist.claimed} messages of these "
                f"topics, {sum(self.sent.values())} could be read"
            )

    def _play_once(self) -> None:
        clock: PlaybackClock | None = None
        for entry in self._playlist.entries():
            if clock is None:
                clock = PlaybackClock(entry.logged_ns, time.monotonic_ns(), self._options.rate)
            if self._gate is None:
                self._wait_for_time(clock, entry.logged_ns)
            elif entry.stamp_ns is not None:
                self._wait_for_node(self._gate, entry.topic, entry.stamp_ns, entry.logged_ns)
            if self._stop:
                return
            self._tick(entry.logged_ns)
            self._publishers[entry.topic].publish(entry.data)
            self.sent[entry.topic] = self.sent.get(entry.topic, 0) + 1
            if self._gate is not None and entry.stamp_ns is not None:
                self._gate.published(entry.topic, entry.stamp_ns)

    def _wait_for_time(self, clock: PlaybackClock, stamp_ns: int) -> None:
        while not self._stop:
            now = time.monotonic_ns()
            remaining = (clock.wall_ns(stamp_ns) - now) / NS
            if remaining <= 0:
                return
            if remaining > CLOCK_STEP_S:
                self._tick(clock.bag_ns(now))
            time.sleep(min(remaining, CLOCK_STEP_S))

    def _wait_for_node(self, gate: SweepGate, topic: str, stamp_ns: int, log_ns: int) -> None:
        """Wait for the report of the sweep before the image of this stamp, at most ``sweep_timeout``."""
        rclpy.spin_once(self._node, timeout_sec=0)
        if not gate.may_publish(topic, stamp_ns):
            self._tick(log_ns)  # a node on simulated time needs it to reach the deadline of its sweep
        deadline = time.monotonic() + self._options.sweep_timeout
        while not gate.may_publish(topic, stamp_ns) and not self._stop:
            if time.monotonic() > deadline:
                gate.give_up()
                self._node.get_logger().warning(
                    f"no report on {self._options.sweep_topic} of the sweep before {stamp_ns / NS:.3f} s "
                    f"within {self._options.sweep_timeout:g} s: is the node running, or were images lost on the way "
                    "(config/fastdds.xml)? Going on"
                )
                self._heed_listeners(gate)  # a node may have come or gone
                return
            rclpy.spin_once(self._node, timeout_sec=0.05)

    def _tick(self, bag_ns: int) -> None:
        if self._clock is not None:
            self._clock.publish(Clock(clock=Time(nanoseconds=bag_ns).to_msg()))

    def _finish(self) -> None:
        deadline = time.monotonic() + self._options.sweep_timeout
        while self._gate is not None and self._gate.under_way is not None and not self._stop:
            if time.monotonic() > deadline:
                self._gate.give_up()
            rclpy.spin_once(self._node, timeout_sec=0.05)
        deadline = time.monotonic() + ACKNOWLEDGE_S
        for publisher in self._publishers.values():
            remaining = max(0.0, deadline - time.monotonic())
            publisher.wait_for_all_acked(Duration(seconds=remaining))

    def summary(self) -> str:
        """One line for the log."""
        line = f"{sum(self.sent.values())} messages of {len(self.sent)} topics"
        if self._gate is not None:
            line += f", {self._gate.timeouts} sweep reports not in time"
        return line


def _listed(groups: Sequence[Sequence[str]]) -> str:
    return ", ".join(" or ".join(group) for group in groups)


def parse_arguments(arguments: Sequence[str]) -> ReplayOptions:
    """Options from the command line; argparse ends the program on a bad one."""
    parser = argparse.ArgumentParser(prog="replay", description="Play a rosbag2 bag into ROS 2.")
    parser.add_argument("bag", type=Path, help="folder of the bag, or its .mcap or .db3 file")
    parser.add_argument("--rate", type=float, default=1.0, help="speed, for --pace clock (1.0)")
    parser.add_argument("--start", type=float, default=0.0, help="seconds of the bag to skip (0)")
    parser.add_argument("--duration", type=float, help="seconds of the bag to play (all)")
    parser.add_argument("--loop", action="store_true", help="begin again at the end, until stopped")
    parser.add_argument("--clock", action="store_true", help="publish /clock, for use_sim_time")
    parser.add_argument("--topics", nargs="+", default=[], help="play only these topics (all)")
    parser.add_argument("--remap", action="append", default=[], metavar="OLD:=NEW", help="publish under a new name")
    parser.add_argument("--pace", choices=("clock", "node"), default="clock", help="real time, or as the node keeps up")
    parser.add_argument("--sweep-topic", default=f"/{SWEEP}", help="reports that --pace node waits for")
    parser.add_argument("--sweep-timeout", type=float, default=30.0, help="longest wait for a report, seconds (30)")
    parser.add_argument("--wait-for", nargs="+", default=[], help="topics that need a listener first (any image)")
    parser.add_argument("--wait-for-subscribers", type=float, default=10.0, help="longest wait for that, seconds (10)")
    values = vars(parser.parse_args(arguments))
    pairs = [pair.split(":=") for pair in values.pop("remap")]
    if any(len(pair) != 2 or not all(pair) for pair in pairs):
        parser.error("--remap must be OLD:=NEW, such as /cam_front/image_rect:=/front/image_rect")
    values |= {name: tuple(values[name]) for name in ("topics", "wait_for")}
    return ReplayOptions(remap=dict(pairs), **values)


def replay(options: ReplayOptions, ros_arguments: Sequence[str] = ()) -> int:
    """Play; returns the exit status: 0 done, 130 interrupted."""
    with open_bag(options.bag) as bag, StopSignal() as stop:
        init_ros(ros_arguments)
        try:
            node = Node("replay", start_parameter_services=False)
            player = Player(node, bag, options, stop)
            player.wait_for_subscribers()
            begun = time.monotonic()
            player.play()
            node.get_logger().info(f"{player.summary()} in {time.monotonic() - begun:.1f} s")
            node.destroy_node()
        finally:
            try_shutdown()
        return 130 if stop else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Exit status: 0 played, 2 cannot play, 130 interrupted."""
    arguments, ros_arguments = split_ros_arguments(sys.argv[1:] if argv is None else argv)
    try:
        return replay(parse_arguments(arguments), ros_arguments)
    except FsmdeError as error:
        print(f"replay: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
