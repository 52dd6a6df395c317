from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.serialization import serialize_message
from rclpy.time import Time
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage

from fsmde_ros.node.command_line import StopSignal
from fsmde_ros.node.player import Player, ReplayOptions
from fsmde_ros.replay_settings import own_domain
from fsmde_ros.sources.bag_file import open_bag
from fsmde_ros.topics import SWEEP

pytestmark = pytest.mark.ros

NS = 1_000_000_000
START = 1_532_402_927 * NS
PERIOD = NS // 20
SWEEPS = 5
CAMERAS = ("cam_front", "cam_back", "cam_left")
OFFSETS = {"cam_front": 0, "cam_back": PERIOD // 3, "cam_left": PERIOD // 2}
UNRECTIFIED = "/cam_back/image_raw/compressed"
STORE = get_typestore(Stores.ROS2_JAZZY)


def topic_of(camera: str) -> str:
    return f"/{camera}/image_rect/compressed"


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three cameras that fire one after another, and a TF topic that has no wheel."""
    return write_drive(tmp_path_factory.mktemp("player") / "bag")


@pytest.fixture(scope="module")
def bag_of_all(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same drive as ``ros2 bag record --all`` has it.

    With an infrared camera at three times the rate, and the images of one camera also before they were rectified.
    """
    infrared = [START + k * PERIOD // 3 + PERIOD // 10 for k in range(3 * SWEEPS + 6)]
    unrectified = [START + sweep * PERIOD + OFFSETS["cam_back"] for sweep in range(SWEEPS)]
    return write_drive(
        tmp_path_factory.mktemp("player") / "all", {topic_of("infrared"): infrared, UNRECTIFIED: unrectified}
    )


def write_drive(path: Path, others: Mapping[str, Sequence[int]] | None = None) -> Path:
    """Write a bag; ``others``: stamps of further images by topic, nanoseconds."""
    types = STORE.types
    header, moment = types["std_msgs/msg/Header"], types["builtin_interfaces/msg/Time"]
    compressed = types["sensor_msgs/msg/CompressedImage"]
    stamps = {topic_of(c): [START + sweep * PERIOD + OFFSETS[c] for sweep in range(SWEEPS)] for c in CAMERAS}
    stamps |= dict(others or {})
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        links = {t: writer.add_connection(t, "sensor_msgs/msg/CompressedImage", typestore=STORE) for t in stamps}
        tf = writer.add_connection("/tf", "tf2_msgs/msg/TFMessage", typestore=STORE)
        empty = types["tf2_msgs/msg/TFMessage"](transforms=[])
        writer.write(tf, START, STORE.serialize_cdr(empty, "tf2_msgs/msg/TFMessage"))
        for stamp, topic in sorted((stamp, topic) for topic, times in stamps.items() for stamp in times):
            message = compressed(
                header=header(stamp=moment(sec=stamp // NS, nanosec=stamp % NS), frame_id=topic.split("/")[1]),
                format="jpeg",
                data=_noise((stamp - START) // PERIOD),
            )
            writer.write(links[topic], stamp, STORE.serialize_cdr(message, "sensor_msgs/msg/CompressedImage"))
    return path


def _noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, 50_001, dtype=np.uint8)


class Listener:
    """A node of the test in the player's domain."""

    def __init__(self, domain: int, name: str = "listener") -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = Node(name, context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def spin_until(self, done: Callable[[], bool], timeout: float = 60.0) -> None:
        deadline = time.monotonic() + timeout
        while not done():
            assert time.monotonic() < deadline, "the condition was not met in time"
            self.executor.spin_once(timeout_sec=0.02)

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def domain() -> int:
    return own_domain()


@pytest.fixture(autouse=True)
def localhost_only(monkeypatch: pytest.MonkeyPatch, domain: int) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))


@pytest.fixture
def listener(localhost_only: None, domain: int) -> Iterator[Listener]:
    listener = Listener(domain)
    yield listener
    listener.close()


@pytest.fixture
def play(localhost_only: None) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "fsmde_ros.node.player", *map(str, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def finish(process: subprocess.Popen[str], status: int = 0) -> str:
    output = process.communicate(timeout=60)[0]
    assert process.returncode == status, output
    return output


def test_messages_arrive_byte_for_byte_and_in_order(
    bag: Path, listener: Listener, play: Callable[..., subprocess.Popen[str]]
) -> None:
    received: dict[str, list[bytes]] = {topic_of(c): [] for c in CAMERAS}
    for topic, messages in received.items():
        listener.node.create_subscription(CompressedImage, topic, messages.append, 20, raw=True)
    process = play(bag, "--rate", 4)
    listener.spin_until(lambda: all(len(m) == SWEEPS for m in received.values()))
    output = finish(process)
    with Reader(bag) as reader:
        for topic, messages in received.items():
            expected = [bytes(data) for c, _, data in reader.messages(reader.connections) if c.topic == topic]
            assert [bytes(m)[: len(e)] for m, e in zip(messages, expected, strict=True)] == expected
            assert all(not any(m[len(e) :]) for m, e in zip(messages, expected, strict=True))  # DDS pads to 4
    assert f"{SWEEPS * len(CAMERAS)} messages of {len(CAMERAS)} topics" in output
    try:
        import tf2_msgs.msg  # noqa: F401
    except ImportError:
        assert output.count("/tf (tf2_msgs/msg/TFMessage)") == 1


def test_remap_topics_start_and_duration_choose_what_is_played(
    bag: Path, listener: Listener, play: Callable[..., subprocess.Popen[str]]
) -> None:
    received: list[CompressedImage] = []
    listener.node.create_subscription(CompressedImage, "/other", received.append, 20)
    topic = topic_of("cam_front")
    period = PERIOD / NS
    chosen = ("--start", 0.9 * period, "--duration", 2 * period)
    process = play(bag, "--topics", topic, "--remap", f"{topic}:=/other", *chosen)
    listener.spin_until(lambda: len(received) == 2)
    assert "2 messages of 1 topics" in finish(process)
    assert [Time.from_msg(m.header.stamp).nanoseconds for m in received] == [START + PERIOD, START + 2 * PERIOD]


def test_clock_pace_takes_the_time_of_the_bag_and_tells_it(
    bag: Path, listener: Listener, play: Callable[..., subprocess.Popen[str]]
) -> None:
    arrived: list[CompressedImage] = []
    clocks: list[int] = []
    for camera in CAMERAS:
        listener.node.create_subscription(CompressedImage, topic_of(camera), arrived.append, 20)
    listener.node.create_subscription(Clock, "/clock", lambda m: clocks.append(Time.from_msg(m.clock).nanoseconds), 500)
    process = play(bag, "--rate", 0.25, "--clock")
    listener.spin_until(lambda: len(arrived) == SWEEPS * len(CAMERAS))
    listener.spin_until(lambda: bool(clocks) and clocks[-1] == START + (SWEEPS - 1) * PERIOD + OFFSETS["cam_left"])
    took = re.search(r" messages of .* in ([0-9.]+) s", finish(process))
    assert took
    # never sooner than that; how much later is up to the machine
    assert float(took.group(1)) >= ((SWEEPS - 1) * PERIOD + max(OFFSETS.values())) / NS / 0.25 - 0.05
    assert clocks == sorted(clocks)
    assert len(clocks) > 2 * SWEEPS * len(CAMERAS)


def test_node_pace_never_has_two_images_of_a_camera_under_way(
    bag: Path, listener: Listener, play: Callable[..., subprocess.Popen[str]]
) -> None:
    reports = listener.node.create_publisher(DiagnosticArray, "/node/sweep", 10)
    under_way: dict[str, int] = {}
    arrived: list[tuple[str, int]] = []
    doubled: list[str] = []

    def take(message: CompressedImage) -> None:
        camera, stamp = message.header.frame_id, Time.from_msg(message.header.stamp).nanoseconds
        if camera in under_way:
            doubled.append(camera)
        under_way[camera] = stamp
        arrived.append((camera, stamp))

    for camera in CAMERAS:
        listener.node.create_subscription(CompressedImage, topic_of(camera), take, 20)
    process = play(bag, "--pace", "node", "--sweep-topic", "/node/sweep")
    for sweep in range(SWEEPS):
        listener.spin_until(lambda n=sweep: len(arrived) == (n + 1) * len(CAMERAS))  # type: ignore[misc]
        pause = time.monotonic() + 0.15  # a slow node: three periods
        listener.spin_until(lambda until=pause: time.monotonic() > until)  # type: ignore[misc]
        assert len(arrived) == (sweep + 1) * len(CAMERAS)
        under_way.clear()
        report = DiagnosticArray()
        report.header.stamp = Time(nanoseconds=START + sweep * PERIOD).to_msg()
        reports.publish(report)
    assert "0 sweep reports not in time" in finish(process)
    assert not doubled


@pytest.mark.parametrize("viewed", [False, True])
def test_node_pace_goes_by_the_images_that_the_node_takes(
    bag_of_all: Path, listener: Listener, domain: int, play: Callable[..., subprocess.Popen[str]], viewed: bool
) -> None:
    """A camera that only a viewer looks at, or nobody, is in no sweep of the node and must not be waited for."""
    reports = listener.node.create_publisher(DiagnosticArray, "/surround_depth/sweep", 10)
    arrived: list[CompressedImage] = []
    for camera in CAMERAS:
        listener.node.create_subscription(CompressedImage, topic_of(camera), arrived.append, 20)
    viewer = Listener(domain, "viewer")
    try:
        if viewed:
            viewer.node.create_subscription(CompressedImage, topic_of("infrared"), lambda _: None, 20)
        wanted = [topic_of(camera) for camera in (*CAMERAS, *(["infrared"] if viewed else []))]  # whoever is found last
        process = play(bag_of_all, "--pace", "node", "--wait-for-subscribers", 60, "--wait-for", *wanted)
        for sweep in range(SWEEPS):
            listener.spin_until(lambda n=sweep: len(arrived) == (n + 1) * len(CAMERAS), 25.0)  # type: ignore[misc]
            report = DiagnosticArray()
            report.header.stamp = Time(nanoseconds=START + sweep * PERIOD).to_msg()
            reports.publish(report)
        output = finish(process)
    finally:
        viewer.close()
    assert "0 sweep reports not in time" in output
    unheard = UNRECTIFIED if viewed else f"{UNRECTIFIED}, {topic_of('infrared')}"
    assert re.search(f"images that are played with nobody listening: {unheard}$", output, flags=re.MULTILINE)


@pytest.mark.parametrize("wanted", [(), ("--wait-for", UNRECTIFIED, topic_of("cam_back"))])
def test_one_listener_is_enough_to_begin(
    bag_of_all: Path, listener: Listener, play: Callable[..., subprocess.Popen[str]], wanted: tuple[str, ...]
) -> None:
    """Of all images, or of the images of a camera that are waited for."""
    arrived: list[CompressedImage] = []
    listener.node.create_subscription(CompressedImage, topic_of("cam_back"), arrived.append, 20)
    process = play(bag_of_all, "--rate", 4, "--wait-for-subscribers", 600, *wanted)
    listener.spin_until(lambda: len(arrived) == SWEEPS)
    output = finish(process)
    unheard = ", ".join([UNRECTIFIED, *map(topic_of, ("cam_front", "cam_left", "infrared"))])
    assert f"images that are played with nobody listening: {unheard}" in output


def test_a_long_wait_is_told(bag: Path, listener: Listener, play: Callable[..., subprocess.Popen[str]]) -> None:
    process = play(bag, "--pace", "node", "--wait-for-subscribers", 8, "--sweep-timeout", 0.05)
    output = finish(process)
    waited = f"{topic_of('cam_back')}, {topic_of('cam_front')}, {topic_of('cam_left')}"
    assert f"waiting for a listener of {waited} and a publisher of /surround_depth/sweep, at most 8 s" in output
    assert f"nobody listens to {waited}; playing all the same" in output
    assert f"{SWEEPS} sweep reports not in time" in output, "all are waited for where nobody listens"


def test_node_pace_goes_on_without_reports_and_counts_them(
    bag: Path, listener: Listener, play: Callable[..., subprocess.Popen[str]]
) -> None:
    arrived: list[CompressedImage] = []
    for camera in CAMERAS:
        listener.node.create_subscription(CompressedImage, topic_of(camera), arrived.append, 20)
    silent = listener.node.create_publisher(DiagnosticArray, "/surround_depth/sweep", 10)
    process = play(bag, "--pace", "node", "--sweep-timeout", 0.1, "--wait-for-subscribers", 20)
    listener.spin_until(lambda: len(arrived) == SWEEPS * len(CAMERAS))
    assert f"{SWEEPS} sweep reports not in time" in finish(process)
    assert silent.get_subscription_count() == 0, "the player has ended"


def test_loop_is_ended_by_sigint(bag: Path, listener: Listener, play: Callable[..., subprocess.Popen[str]]) -> None:
    arrived: list[CompressedImage] = []
    listener.node.create_subscription(CompressedImage, topic_of("cam_back"), arrived.append, 20)
    process = play(bag, "--loop", "--rate", 10, "--wait-for-subscribers", 1)
    listener.spin_until(lambda: len(arrived) > SWEEPS)
    process.send_signal(signal.SIGINT)
    assert "Traceback" not in finish(process, status=130)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("no_such_bag",), "no_such_bag: cannot be opened"),
        (("BAG", "--topics", "/cam_top/image"), "no topic /cam_top/image; it has /cam_back/image_rect/compressed"),
        (("BAG", "--wait-for", "/odom"), "--wait-for /odom: not among the topics to play"),
        (("BAG", "--rate", "0"), "--rate must be above 0 and finite, got 0.0"),
    ],
)
def test_what_cannot_be_played_is_said(
    bag: Path, play: Callable[..., subprocess.Popen[str]], arguments: tuple[str, ...], message: str
) -> None:
    output = finish(play(*(bag if a == "BAG" else a for a in arguments)), status=2)
    assert message in output
    assert "Traceback" not in output


def test_a_damaged_bag_is_refused(tmp_path: Path, play: Callable[..., subprocess.Popen[str]]) -> None:
    (tmp_path / "metadata.yaml").write_text("rosbag2_bagfile_information: {version: 9}\n")
    assert "cannot be opened" in finish(play(tmp_path), status=2)


def test_node_pace_needs_images(tmp_path: Path, play: Callable[..., subprocess.Popen[str]]) -> None:
    path = tmp_path / "bag"
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        link = writer.add_connection("/odom", "nav_msgs/msg/Odometry", typestore=STORE)
        writer.write(link, START, serialize_message(Odometry()))
    assert "--pace node goes by images" in finish(play(path, "--pace", "node"), status=2)


@pytest.mark.parametrize(("pace", "topic"), [("node", None), ("clock", SWEEP), ("node", "before/sweep")])
def test_recorded_reports_do_not_pass_for_those_of_the_node(tmp_path: Path, pace: str, topic: str | None) -> None:
    path, kind = tmp_path / "bag", "diagnostic_msgs/msg/DiagnosticArray"
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        links = [
            writer.add_connection(name, msgtype, typestore=STORE)
            for name, msgtype in (
                ("/surround_depth/sweep", kind),
                (topic_of("front"), "sensor_msgs/msg/CompressedImage"),
            )
        ]
        for link in links:
            writer.write(link, START, bytes([0, 1, 0, 0]) + bytes(40))
    remap = {f"/{SWEEP}": f"/{topic}"} if topic not in (None, SWEEP) else {}
    listener = Listener(own_domain())
    with open_bag(path) as opened:
        Player(listener.node, opened, ReplayOptions(path, pace=pace, remap=remap), StopSignal())
        published = {name for name, _ in listener.node.get_publisher_names_and_types_by_node("listener", "/")}
    listener.close()
    assert topic_of("front") in published
    assert {name for name in published if name.endswith("/sweep")} == ({f"/{topic}"} if topic else set())
