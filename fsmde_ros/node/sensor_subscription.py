"""Subscriptions to the publishers of other people, some of which offer best effort and some reliable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.event_handler import QoSRequestedIncompatibleQoSInfo, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy


class SensorSubscription:
    """Reliable, until a publisher comes that offers best effort only: a reliable subscription hears nothing of it."""

    def __init__(self, node: Node, kind: type, topic: str, callback: Callable[[Any], None], depth: int) -> None:
        """``depth``: messages that are kept until they are taken."""
        self._node, self._kind, self._topic, self._callback, self._depth = node, kind, topic, callback, depth
        events = SubscriptionEventCallbacks(incompatible_qos=self._ask_for_less)
        self._subscription = self._subscribe(ReliabilityPolicy.RELIABLE, events)

    def _subscribe(self, reliability: ReliabilityPolicy, events: SubscriptionEventCallbacks | None = None) -> Any:
        qos = QoSProfile(depth=self._depth, reliability=reliability)
        return self._node.create_subscription(self._kind, self._topic, self._callback, qos, event_callbacks=events)

    def _ask_for_less(self, info: QoSRequestedIncompatibleQoSInfo) -> None:
        self._node.get_logger().info(f"{self._topic} is published with best effort: some of it may be lost on the way")
        self._node.destroy_subscription(self._subscription)
        self._subscription = self._subscribe(ReliabilityPolicy.BEST_EFFORT)
