from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import rclpy
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rosbags.interfaces import ConnectionExtRosbag2, QosDurability, QosReliability
from rosbags.rosbag2 import Reader
from sensor_msgs.msg import Image
from std_msgs.msg import String

from fsmde_ros.errors import ConfigError
from fsmde_ros.node.recorder import resolved
from fsmde_ros.replay_settings import own_domain

pytestmark = pytest.mark.ros


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    domain = own_domain()
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    node = Node("talker", context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def record(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fsmde_ros.node.recorder", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_recorder(publisher: Publisher) -> None:
    deadline = time.monotonic() + 60
    while not publisher.get_subscription_count():
        assert time.monotonic() < deadline, f"nobody records {publisher.topic_name}"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_records_bytes_and_qos_and_closes_on_a_signal(node: Node, tmp_path: Path, number: int) -> None:
    out = tmp_path / "bag"
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    unreliable = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    images = node.create_publisher(Image, "/depth", 30)
    latch = node.create_publisher(String, "/latched", latched)
    latch.publish(String(data="said before anybody listened"))
    loose = node.create_publisher(String, "/loose", unreliable)
    other = node.create_publisher(String, "/other", 10)
    process = record(out, "--topics", "/depth", "/latched", "/loose", "/never")
    try:
        for publisher in (images, latch, loose):
            wait_for_recorder(publisher)
        sent = [Image(height=3, width=5, encoding="32FC1", step=20, data=bytes([i]) * 60) for i in range(30)]
        for image in sent:
            images.publish(image)
        other.publish(String(data="not wanted"))
        assert images.wait_for_all_acked(Duration(seconds=60))
        assert latch.wait_for_all_acked(Duration(seconds=60))
        process.send_signal(number)
        output = process.communicate(timeout=60)[0]
    finally:
        process.kill()
    assert process.returncode == 0, output
    assert "Traceback" not in output
    with Reader(out) as reader:
        assert sorted(c.topic for c in reader.connections) == ["/depth", "/latched", "/loose"]
        taken = [bytes(d) for c, _, d in reader.messages(reader.connections) if c.topic == "/depth"]
        assert [deserialize_message(data, Image) for data in taken] == sent
        qos = {
            c.topic: c.ext.offered_qos_profiles[0]
            for c in reader.connections
            if isinstance(c.ext, ConnectionExtRosbag2)
        }
        assert qos["/latched"].durability == QosDurability.TRANSIENT_LOCAL
        assert qos["/loose"].reliability == QosReliability.BEST_EFFORT
        assert qos["/depth"].reliability == QosReliability.RELIABLE
        assert next(c.msgcount for c in reader.connections if c.topic == "/latched") == 1


def test_with_a_simulated_clock_that_stands_still_it_listens_all_the_same(node: Node, tmp_path: Path) -> None:
    """Who plays a bag begins, and with it the clock, when somebody listens."""
    publisher = node.create_publisher(String, "/said", 10)
    process = record(tmp_path / "bag", "--topics", "said", "--ros-args", "-p", "use_sim_time:=true")
    try:
        wait_for_recorder(publisher)
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=60)[0]
    finally:
        process.kill()
    assert process.returncode == 0, output


def test_topics_are_of_the_namespace_where_they_do_not_begin_with_a_slash() -> None:
    context = Context()
    rclpy.init(context=context, domain_id=own_domain())
    node = Node("record", context=context, namespace="/car")
    assert [resolved(node, topic) for topic in ("front/depth", "/odom")] == ["/car/front/depth", "/odom"]
    with pytest.raises(ConfigError, match=r"--topics: topic name 'front depth' is invalid: .* alphanumerics.*}'$"):
        resolved(node, "front depth")
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_an_existing_bag_is_not_overwritten(tmp_path: Path) -> None:
    process = record(tmp_path)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 2
    assert "exists already; remove it or choose another name" in output


def test_a_bag_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    process = record(tmp_path / "file" / "bag")
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 2
    assert f"recorder: bag {tmp_path}/file/bag: cannot be written: Not a directory; choose another folder" in output
    assert "Traceback" not in output
