from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer

from fsmde_ros.errors import SourceError
from fsmde_ros.images import encode_jpeg
from fsmde_ros.replay_settings import (
    PROFILES,
    environment,
    free_domain,
    heard_topics,
    loopback,
    lossless,
    own_domain,
    patience,
)
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.sources.bag_messages import COMPRESSED, RAW, TYPESTORE
from fsmde_ros.sources.bag_writer import write_bag
from fsmde_ros.sweep import Sweep, View

ROOT = Path(__file__).parents[1]
# What a node of a process of its own sends through: mapped shared memory of Fast DDS, addresses of its UDP sockets.
TRANSPORT = """
import json, os, socket, struct
import rclpy
rclpy.init()
node = rclpy.create_node("looked_at")
inodes = {os.readlink(f"/proc/self/fd/{fd}").split("[")[-1].rstrip("]") for fd in os.listdir("/proc/self/fd")
          if os.path.lexists(f"/proc/self/fd/{fd}")}
rows = [line.split() for line in open("/proc/net/udp")][1:]
addresses = {socket.inet_ntoa(struct.pack("<I", int(row[1].split(":")[0], 16))) for row in rows if row[9] in inodes}
memory = {line.split("/dev/shm/")[1].strip() for line in open("/proc/self/maps") if "/dev/shm/fastrtps" in line}
print(json.dumps({"addresses": sorted(addresses), "shared_memory": sorted(memory)}))
rclpy.shutdown()
"""


def assert_over_loopback(variables: dict[str, str], command: Sequence[str] = (sys.executable, "-c", TRANSPORT)) -> None:
    done = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["shared_memory"] == []
    assert "127.0.0.1" in found["addresses"]
    assert set(found["addresses"]) <= {"127.0.0.1", "0.0.0.0", "239.255.0.1"}  # the others are listened to only


IMAGES = ("image_rect", "image_rect/compressed", "image_raw", "image_raw/compressed")


def test_overrides_name_every_topic_in_full() -> None:
    images = {f"qos_overrides./lorry/left/{image}.subscription.reliability": "reliable" for image in IMAGES}
    depths = {f"qos_overrides./lorry/left/{image}.subscription.depth": 100 for image in IMAGES}
    assert lossless(["left"], "/lorry/") == {
        **images,
        **depths,
        "qos_overrides./lorry/left/depth/image_rect.publisher.depth": 100,
        "qos_overrides./lorry/left/depth/camera_info.publisher.depth": 100,
        "qos_overrides./lorry/surround_depth/points.publisher.depth": 100,
    }
    assert "qos_overrides./left/depth/image_rect.publisher.depth" in lossless(["left"])


def test_overrides_are_those_of_the_names_that_topics_are_remapped_to() -> None:
    renamed = {"/car/left/image_raw": "/cam0/image", "/car/surround_depth/points": "/cloud", "/left/image_raw": "/no"}
    overrides = lossless(["left"], "car", renamed)
    assert overrides["qos_overrides./cam0/image.subscription.reliability"] == "reliable"
    assert "qos_overrides./cloud.publisher.depth" in overrides
    assert "qos_overrides./car/left/image_rect.subscription.depth" in overrides
    assert not [name for name in overrides if "image_raw." in name or "/points" in name or "/no" in name]


@pytest.mark.ros
@pytest.mark.parametrize("image", IMAGES)
def test_overrides_reach_the_image_that_is_taken_and_disturb_no_other(image: str) -> None:
    """Of the topics that the settings name a node subscribes to one only."""
    from rclpy.context import Context
    from rclpy.node import Node
    from rclpy.parameter import Parameter
    from rclpy.qos import ReliabilityPolicy, qos_profile_sensor_data
    from rclpy.qos_overriding_options import QoSOverridingOptions
    from sensor_msgs.msg import Image

    context = Context()
    context.init(domain_id=own_domain())
    try:
        given = [Parameter(name, value=value) for name, value in lossless(["left"]).items()]
        node = Node("takes_one", context=context, parameter_overrides=given)
        options = QoSOverridingOptions.with_default_policies()
        node.create_subscription(
            Image, f"left/{image}", lambda _: None, qos_profile_sensor_data, qos_overriding_options=options
        )
        [end] = node.get_subscriptions_info_by_topic(f"/left/{image}")
        assert end.qos_profile.reliability == ReliabilityPolicy.RELIABLE
        assert node.get_parameter(f"qos_overrides./left/{image}.subscription.depth").value == 100
        node.destroy_node()
        renamed = {f"/left/{image}": "/cam0/image"}
        given = [Parameter(name, value=value) for name, value in lossless(["left"], renamed=renamed).items()]
        remap = ["--ros-args", "-r", f"/left/{image}:=/cam0/image"]
        node = Node("takes_another", context=context, parameter_overrides=given, cli_args=remap)
        node.create_subscription(
            Image, f"left/{image}", lambda _: None, qos_profile_sensor_data, qos_overriding_options=options
        )
        assert node.get_parameter("qos_overrides./cam0/image.subscription.reliability").value == "reliable"
        assert node.get_parameter("qos_overrides./cam0/image.subscription.depth").value == 100
        node.destroy_node()
    finally:
        context.shutdown()


def test_a_node_that_is_waited_for_may_wait_for_its_cameras() -> None:
    assert patience("node") == {"sync.deadline_s": 2.0}
    assert patience("clock") == {}


def test_a_process_keeps_to_one_domain() -> None:
    assert 1 <= own_domain() <= 100
    assert environment()["ROS_DOMAIN_ID"] == environment()["ROS_DOMAIN_ID"] == str(own_domain())
    assert environment(7)["ROS_DOMAIN_ID"] == "7"
    assert free_domain() != own_domain()


@contextmanager
def at_work(script: str, **variables: str) -> Iterator[str]:
    """The first line that a Python process prints, while it lives."""
    command = [sys.executable, "-c", f"{script}\nsys.stdin.read()"]
    with subprocess.Popen(
        command, env=os.environ | variables, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.communicate(timeout=60)


CHOOSE = """
import os, sys
os.getpid = lambda: 1234
from fsmde_ros.replay_settings import own_domain
print(own_domain(), flush=True)
"""
TALK = """
import sys, rclpy
rclpy.init()
node = rclpy.create_node("talks")
print("talks", flush=True)
"""


def test_processes_that_begin_with_the_same_number_part() -> None:
    with at_work(CHOOSE) as first, at_work(CHOOSE) as second, at_work(CHOOSE) as third:
        assert len({first, second, third}) == 3
    with at_work(CHOOSE) as again:
        assert again == first


@pytest.mark.ros
def test_a_domain_with_a_node_of_another_program_is_left_alone() -> None:
    with at_work(CHOOSE) as wanted:
        pass
    with at_work(TALK, ROS_DOMAIN_ID=wanted) as talks:
        assert talks == "talks"
        with at_work(CHOOSE) as other:
            assert 1 <= int(other) <= 100
            assert other != wanted
    with at_work(CHOOSE) as again:
        assert again == wanted


@pytest.mark.parametrize("around", [{}, {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}, {"ROS_LOCALHOST_ONLY": "1"}])
def test_a_node_uses_the_loopback_interface_alone(around: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the shell around it has set: else shared memory takes the place of the profile without a word."""
    for name, value in around.items():
        monkeypatch.setenv(name, value)
    assert_over_loopback({**os.environ, **environment()})


@pytest.mark.parametrize("page", ["README.md", "docs/own_rig.md"])
def test_what_the_pages_export_is_enough(page: str) -> None:
    [line] = re.findall(r"^ +(export FASTRTPS.*)$", (ROOT / page).read_text(), flags=re.MULTILINE)
    inherited = {name: value for name, value in os.environ.items() if name not in environment()}
    script = f'{line}; {shlex.quote(sys.executable)} -c "$TRANSPORT"'
    assert_over_loopback(inherited | {"TRANSPORT": TRANSPORT, "ROS_DOMAIN_ID": "77"}, ["bash", "-c", script])


def test_another_middleware_keeps_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp")
    assert loopback(PROFILES) == {}
    assert environment()["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"


def test_every_image_that_the_node_could_take_is_waited_for(tmp_path: Path) -> None:
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic, kind in (("/left/image_raw", RAW), ("/left/image_raw/compressed", COMPRESSED), ("/left/depth", RAW)):
            writer.add_connection(topic, kind, typestore=TYPESTORE)
    heard = heard_topics(tmp_path / "bag", ["left"], [])
    assert heard == ["/left/image_raw", "/left/image_raw/compressed"]


def test_only_what_the_bag_has_is_waited_for(tmp_path: Path) -> None:
    camera = Camera("left", (8, 8), np.array([[8, 0, 3.5], [0, 8, 3.5], [0, 0, 1]]), np.eye(4))
    view = View(encode_jpeg(np.zeros((8, 8, 3), np.uint8)), 1_000_000_000)
    write_bag(tmp_path / "bag", [Sweep(Rig((camera,)), 1_000_000_000, {"left": view})])
    heard = heard_topics(tmp_path / "bag", ["left", "right"], ["lidar_top"])
    assert heard == ["/left/image_rect/compressed", "/left/camera_info"]
    with pytest.raises(SourceError, match="cannot be opened"):
        heard_topics(tmp_path / "none", ["left"], [])


def test_what_is_remapped_is_waited_for_by_its_other_name(tmp_path: Path) -> None:
    """Only that: nobody would listen to the images that stand under the node's own names beside it."""
    names = (
        "/cam0/img",
        "/cam0/info",
        "/left/image_raw",
        "/right/image_raw",
        "/odometry/filtered",
        "/odom",
        "/velodyne",
    )
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic in names:
            writer.add_connection(topic, RAW, typestore=TYPESTORE)
    renamed = {"/left/image_rect": "/cam0/img", "/left/camera_info": "/cam0/info", "/lidar_top": "/velodyne"}
    heard = heard_topics(tmp_path / "bag", ["left", "right"], ["lidar_top"], "/odometry/filtered", renamed)
    assert heard == ["/cam0/img", "/cam0/info", "/right/image_raw", "/velodyne", "/odometry/filtered"]
