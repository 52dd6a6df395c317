"""The errors of the depth as a cloud, where the LiDAR saw them: for RViz."""

from __future__ import annotations

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header

from fsmde_ros.node.messages import OUTPUT_QOS, columns_to_message, stamp_message
from fsmde_ros.replay_report import ScoredPoints


class ErrorCloud:
    """Publishes ``~/errors`` while somebody listens: ``x y z`` (of the LiDAR), ``error`` and ``relative``.

    ``error`` is prediction minus truth, metres; ``relative`` is its magnitude as a share of the truth.
    Points without a prediction, or that were taken to be out of range, are left out.
    """

    def __init__(self, node: Node, vehicle_frame: str) -> None:
        self._vehicle_frame = vehicle_frame
        self._publisher = node.create_publisher(PointCloud2, "~/errors", OUTPUT_QOS)
        self._waiting: list[ScoredPoints] = []

    def take(self, scored: ScoredPoints) -> None:
        """Keep the points of one image for the next cloud; images of a sweep are scored together."""
        if self._publisher.get_subscription_count():
            self._waiting.append(scored)

    def publish(self) -> None:
        """One cloud of all that was taken since the last one, if anything was."""
        if not self._waiting:
            return
        points = np.concatenate([scored.points_vehicle for scored in self._waiting])
        truth = np.concatenate([scored.truth for scored in self._waiting])
        error = np.concatenate([scored.predicted for scored in self._waiting]) - truth
        known = np.isfinite(error)
        columns = {axis: points[known, i].astype(np.float32) for i, axis in enumerate("xyz")}
        columns["error"] = error[known].astype(np.float32)
        columns["relative"] = (np.abs(error[known]) / truth[known]).astype(np.float32)
        stamp = max(scored.stamp_ns for scored in self._waiting)
        self._waiting.clear()
        header = Header(stamp=stamp_message(stamp), frame_id=self._vehicle_frame)
        self._publisher.publish(columns_to_message(columns, header))
