from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2

from fsmde_ros.cloud_layout import cloud_columns
from fsmde_ros.node.error_cloud import ErrorCloud
from fsmde_ros.node.messages import stamp_ns
from fsmde_ros.replay_report import ScoredPoints
from fsmde_ros.replay_settings import own_domain


@pytest.fixture
def node() -> Iterator[Node]:
    context = Context()
    rclpy.init(context=context, domain_id=own_domain())
    node = Node("evaluate_replay", context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def scored(stamp: int, predicted: list[float]) -> ScoredPoints:
    count = len(predicted)
    points = np.stack([np.arange(count) + stamp / 1e9, np.zeros(count), np.ones(count)], axis=-1)
    return ScoredPoints(stamp, points, np.full(count, 10.0), np.array(predicted))


@pytest.mark.ros
def test_errors_of_a_sweep_go_out_as_one_cloud(node: Node) -> None:
    cloud = ErrorCloud(node, "base_link")
    cloud.take(scored(1_000_000_000, [8.0]))  # nobody listens yet
    received: list[PointCloud2] = []
    node.create_subscription(PointCloud2, "evaluate_replay/errors", received.append, 5)
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    deadline = time.monotonic() + 60
    while not node.count_subscribers("/evaluate_replay/errors") and time.monotonic() < deadline:
        executor.spin_once(timeout_sec=0.05)
    [publisher] = [p for p in node.publishers if p.topic_name == "/evaluate_replay/errors"]
    while not publisher.get_subscription_count() and time.monotonic() < deadline:
        executor.spin_once(timeout_sec=0.05)
    cloud.take(scored(2_000_000_000, [8.0, np.nan, np.inf]))
    cloud.take(scored(3_000_000_000, [15.0]))
    cloud.publish()
    cloud.publish()  # nothing new: no second message
    while not received and time.monotonic() < deadline:
        executor.spin_once(timeout_sec=0.05)
    executor.shutdown()
    [message] = received
    assert (message.header.frame_id, stamp_ns(message.header.stamp)) == ("base_link", 3_000_000_000)
    columns = cloud_columns(message)
    np.testing.assert_allclose(columns["x"], [2.0, 3.0])
    np.testing.assert_allclose(columns["error"], [-2.0, 5.0])
    np.testing.assert_allclose(columns["relative"], [0.2, 0.5])
