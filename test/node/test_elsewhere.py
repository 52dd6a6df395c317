from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import rclpy
from rclpy.context import Context
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import CompressedImage, Image

from fsmde_ros.node.elsewhere import Elsewhere
from fsmde_ros.node.parameters import Settings
from fsmde_ros.replay_settings import own_domain

pytestmark = pytest.mark.ros

RAW = "-p input.rectified:=false -p input.transport:=raw"


@pytest.fixture
def node() -> Iterator[Node]:
    """One whose front camera has other names for its topics."""
    context = Context()
    rclpy.init(context=context, domain_id=own_domain())
    other_names = ("/front/image_rect/compressed:=/cam0/rect", "/front/image_raw:=/cam0/image")
    arguments = [text for name in other_names for text in ("-r", name)]
    node = Node("surround_depth", context=context, cli_args=["--ros-args", *arguments], use_global_arguments=False)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def advertise(node: Node, kind: type, topic: str) -> Publisher:
    publisher = node.create_publisher(kind, topic, 1)
    wait_for_count(node, topic, 1)
    return publisher


def wait_for_count(node: Node, topic: str, count: int) -> None:
    deadline = time.monotonic() + 60
    while node.count_publishers(topic) != count:
        assert time.monotonic() < deadline, f"{topic} does not have {count} publishers"
        time.sleep(0.02)


def test_a_topic_of_another_name_that_has_a_publisher_is_waited_for(node: Node) -> None:
    taken = advertise(node, CompressedImage, "/cam0/rect")
    other = advertise(node, Image, "/front/image_rect")
    assert Elsewhere(node, Settings()).find(["front"]) == {}
    node.destroy_publisher(taken)
    wait_for_count(node, "/cam0/rect", 0)
    hint = {"front": "/front/image_rect is published: start the node with -p input.transport:=raw"}
    assert Elsewhere(node, Settings()).find(["front"]) == hint
    node.destroy_publisher(other)


def test_images_in_another_form_are_found_under_their_other_name(node: Node) -> None:
    other = advertise(node, Image, "/cam0/image")
    hint = {"front": f"/cam0/image is published: start the node with {RAW}"}
    assert Elsewhere(node, Settings()).find(["front"]) == hint
    node.destroy_publisher(other)
