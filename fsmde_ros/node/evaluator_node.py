"""``evaluate_replay``: compare the published depth with the LiDAR of the same drive.

Listens to every camera's depth and its camera_info, to the LiDAR, the odometry and the node's
sweep reports; at the end it writes a report (JSON) and prints a table. While somebody listens, the
errors go out as a cloud on ``~/errors``.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from nav_msgs.msg import Odometry
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.utilities import try_shutdown
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from fsmde_ros.cloud_layout import cloud_columns, points_of
from fsmde_ros.errors import ConfigError, FsmdeError, ImageError, SourceError
from fsmde_ros.geometry import transform
from fsmde_ros.node.command_line import StopSignal, init_ros, spin_until_stopped, split_ros_arguments
from fsmde_ros.node.connections import Connections
from fsmde_ros.node.error_cloud import ErrorCloud
from fsmde_ros.node.messages import camera_from_info, image_to_depth, odometry_to_pose, stamp_ns
from fsmde_ros.node.placement import Placement, add_arguments, find_placement, rig_file_of
from fsmde_ros.node.sensor_subscription import SensorSubscription
from fsmde_ros.option_types import finite
from fsmde_ros.provenance import describe_inputs, describe_run
from fsmde_ros.replay_report import (
    UNPUBLISHED,
    DepthImage,
    ReplayScores,
    ScoringConfig,
    SweepReport,
    build_report,
    format_report,
)
from fsmde_ros.topics import DEPTH, DEPTH_INFO, ODOM, SWEEP

KEPT = 200  # messages, until they are taken
QUEUE = QoSProfile(depth=KEPT)
PAIRS_WAITING = 60
LEVELS = {DiagnosticStatus.OK: "complete", DiagnosticStatus.WARN: "partial", DiagnosticStatus.ERROR: "dropped"}


@dataclass(frozen=True)
class EvaluatorOptions:
    """What to listen to and where to write.

    Topics without a slash in front are of the namespace, as those of the cameras and of the node always are. Sensors
    of the vehicle, the LiDAR and the odometry, are by default outside of it, as for the node.

    Attributes:
        rig: rig file; without it the node's parameter ``rig_file``, as a launch file sets it.
        cameras: names; without them those of the rig file. Without a rig file TF says where they are.
        vehicle_frame: empty for that of the rig file, with TF ``base_link``.
        ground_z: height of the road in the vehicle frame, metres, without a rig file; for the ground plane alone.
        lidar_topic: without it, the frames of the LiDARs in the rig file name their topics.
    """

    rig: Path | None = None
    cameras: tuple[str, ...] = ()
    vehicle_frame: str = ""
    ground_z: float = 0.0
    out: Path | None = None
    lidar_topic: str | None = None
    odom_topic: str = ODOM
    sweep_topic: str = SWEEP
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    idle_timeout: float | None = None
    inputs: dict[str, Path] = field(default_factory=dict)


class Evaluator:
    """Collects messages into ``ReplayScores`` and sweep reports; ``connections`` are those to the node."""

    def __init__(self, node: Node, placement: Placement, options: EvaluatorOptions) -> None:
        self._node, self._placement = node, placement
        self._errors = ErrorCloud(node, placement.extrinsics.vehicle_frame)
        self.scores = ReplayScores(placement.extrinsics.ground_z, options.scoring, self._errors.take)
        self.reports: list[SweepReport] = []
        self.frames_in = dict.fromkeys(placement.cameras, 0)
        self.messages = 0
        self._depths: OrderedDict[tuple[str, int], Image] = OrderedDict()
        self._infos: OrderedDict[tuple[str, int], CameraInfo] = OrderedDict()
        self._complaints: set[str] = set()
        self._odom_topic = options.odom_topic
        frames = [*placement.lidars] or ["lidar_top"]
        self._lidar_topics = [options.lidar_topic] if options.lidar_topic else [f"/{frame}" for frame in frames]
        self.connections = Connections(
            [*(f"{name}/{DEPTH}" for name in placement.cameras), options.sweep_topic],
            lambda: node.get_logger().info(f"connected to the node: depth of {', '.join(placement.cameras)}"),
        )
        for name in placement.cameras:
            self._listen_to_camera(name)
        self._sensors = [
            *(self._listen_to_lidar(topic) for topic in self._lidar_topics),
            SensorSubscription(node, Odometry, options.odom_topic, self._take_pose, KEPT),
        ]
        self._listen_to_node(DiagnosticArray, options.sweep_topic, self._take_sweep)

    def _listen_to_camera(self, name: str) -> None:
        def take_depth(message: Image) -> None:
            self._pair(name, message, self._depths)

        def take_info(message: CameraInfo) -> None:
            self._pair(name, message, self._infos)

        def count_frame(message: CameraInfo) -> None:
            self.messages += 1
            self.frames_in[name] += 1

        self._listen_to_node(Image, f"{name}/{DEPTH}", take_depth)
        self._node.create_subscription(CameraInfo, f"{name}/{DEPTH_INFO}", take_info, QUEUE)
        SensorSubscription(self._node, CameraInfo, f"{name}/camera_info", count_frame, KEPT)

    def _listen_to_lidar(self, topic: str) -> SensorSubscription:
        """Scans are told apart by topic and frame: a driver may give several LiDARs one topic, or one frame."""

        def take_cloud(message: PointCloud2) -> None:
            self._take_cloud(topic, message)

        return SensorSubscription(self._node, PointCloud2, topic, take_cloud, KEPT)

    def _listen_to_node(self, kind: type, topic: str, take: Callable[[Any], None]) -> None:
        self._node.create_subscription(kind, topic, take, QUEUE, event_callbacks=self.connections.events(topic))

    def _pair(self, name: str, message: Image | CameraInfo, store: OrderedDict[tuple[str, int], object]) -> None:
        """Keep a depth image or its camera_info until the other one of the same stamp is there."""
        self.messages += 1
        key = (name, stamp_ns(message.header.stamp))
        store[key] = message
        if key in self._depths and key in self._infos:
            self._take_depth(name, key[1], self._depths.pop(key), self._infos.pop(key))
        if len(store) > PAIRS_WAITING:
            store.popitem(last=False)

    def _take_depth(self, name: str, stamp: int, image: Image, info: CameraInfo) -> None:
        try:
            frame = info.header.frame_id
            camera = camera_from_info(info, name, self._placement.extrinsics.camera_to_vehicle(name, frame))
            depth = image_to_depth(image)
            if depth.shape != camera.size:
                raise ImageError(f"depth is {depth.shape}, its camera_info says {camera.size} (height, width)")
        except FsmdeError as error:
            self._complain(f"{name}/depth: {error}")
            return
        self.scores.add_depth(DepthImage(camera, stamp, depth))
        self._errors.publish()

    def _take_cloud(self, topic: str, message: PointCloud2) -> None:
        self.messages += 1
        try:
            lidar_to_vehicle = self._placement.lidar_to_vehicle(message.header.frame_id)
            points = cloud_points(message)
        except FsmdeError as error:
            self._complain(f"LiDAR: {error}")
            return
        lidar = f"{topic} {message.header.frame_id}"
        self.scores.add_scan(stamp_ns(message.header.stamp), transform(lidar_to_vehicle, points), lidar)
        self._errors.publish()

    def _take_pose(self, message: Odometry) -> None:
        self.messages += 1
        expected = self._placement.extrinsics.vehicle_frame
        if message.child_frame_id.lstrip("/") != expected:
            self._complain(
                f"{self._odom_topic} is of the frame '{message.child_frame_id}', expected '{expected}'; poses like it "
                "are left out"
            )
            return
        try:
            pose = odometry_to_pose(message)
        except SourceError as error:
            self._complain(f"{self._odom_topic}: {error}; poses like it are left out")
            return
        self.scores.add_pose(stamp_ns(message.header.stamp), pose)
        self._errors.publish()

    def _take_sweep(self, message: DiagnosticArray) -> None:
        self.messages += 1
        for status in message.status:
            values = {value.key: value.value for value in status.values}
            state = "skipped" if values.get("state") == "skipped" else LEVELS.get(status.level, "dropped")
            missing = tuple(name for name in values.get("missing", "").split(",") if name)
            total_ms = None if state in UNPUBLISHED else _milliseconds(values.get("total_ms", ""))
            self.reports.append(SweepReport(stamp_ns(message.header.stamp), state, missing, total_ms, time.monotonic()))

    def unheard(self) -> list[str]:
        """What is needed for a comparison and never came, for the user."""
        texts = []
        if self.connections.awaited:
            texts.append(f"nobody published {', '.join(sorted(self.connections.awaited))}: is the node running?")
        if not self.scores.counts["scans"]:
            texts.append(f"no usable scan came on {', '.join(self._lidar_topics)} (--lidar-topic)")
        if not self.scores.counts["poses"]:
            texts.append(f"no pose came on {self._odom_topic} (--odom-topic)")
        return texts

    def _complain(self, text: str) -> None:
        if text not in self._complaints:
            self._complaints.add(text)
            self._node.get_logger().error(text)


def _milliseconds(text: str) -> float | None:
    """A time of a report; None where it is none or not finite, as anybody may publish on the topic."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def cloud_points(message: PointCloud2) -> NDArray[np.float64]:
    """Returns [N, 3] of a cloud, in its frame, metres. Raises SourceError for a malformed one.

    Some drivers write NaN where a beam came back from nothing, others zeros.
    """
    points = points_of(cloud_columns(message))
    return points[np.isfinite(points).all(axis=-1) & points.any(axis=-1)]


def evaluate(options: EvaluatorOptions, ros_arguments: Sequence[str] = ()) -> int:
    """Listen until a signal or the idle timeout, then report; returns the exit status."""
    about = describe_run(options.inputs)
    with StopSignal() as stop:
        init_ros(ros_arguments)
        try:
            node = Node("evaluate_replay")
            rig_file = options.rig or rig_file_of(node)
            placement = find_placement(node, rig_file, options.cameras, options.vehicle_frame, options.ground_z)
            if rig_file is not None:
                about["inputs"] |= describe_inputs({"rig": rig_file})
            evaluator = Evaluator(node, placement, options)
            node.get_logger().info(f"ready: waiting for {len(placement.cameras)} cameras")
            spin_until_stopped(node, stop, lambda: evaluator.messages, options.idle_timeout)
            evaluator.scores.finish()  # while the errors can still be published
            node.destroy_node()
        finally:
            try_shutdown()
    report = build_report(evaluator.scores, evaluator.reports, evaluator.frames_in)
    report |= about
    print(format_report(report), flush=True)  # first: what was measured is not lost with a file that cannot be written
    if options.out is not None:
        try:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")
        except OSError as error:
            raise ConfigError(
                f"--out {options.out}: cannot be written ({error.strerror}); give another file"
            ) from error
    if not report["overall"]["n"]:
        reason = "".join(f"; {text}" for text in evaluator.unheard())
        print(f"evaluate_replay: nothing to compare: {report['protocol']}{reason}", file=sys.stderr)
        return 1
    return 0


def parse_arguments(arguments: Sequence[str]) -> EvaluatorOptions:
    """Options from the command line; argparse ends the program on a bad one."""
    parser = argparse.ArgumentParser(prog="evaluate_replay", description="Compare published depth with LiDAR.")
    add_arguments(parser)
    parser.add_argument(
        "--ground-z",
        type=finite,
        default=0.0,
        help="as the node's ground_z, m: for the ground plane, without --rig (0)",
    )
    parser.add_argument("--out", type=Path, help="report to write (JSON)")
    parser.add_argument("--lidar-topic", help="scans (/ and the frame, of each LiDAR in the rig file)")
    parser.add_argument("--odom-topic", default=ODOM, help=f"poses, for the motion between scan and image ({ODOM})")
    parser.add_argument("--sweep-topic", default=SWEEP)
    parser.add_argument("--min-depth", type=finite, default=0.1, help="of the ground truth, metres (0.1)")
    parser.add_argument("--max-depth", type=finite, default=80.0, help="metres: 80 for nuScenes, 200 for DDAD (80)")
    parser.add_argument("--tolerance", type=finite, default=0.06, help="between image and scan, seconds (0.06)")
    parser.add_argument("--idle-timeout", type=float, help="end this many seconds after the last message (never)")
    parser.add_argument("--bag", type=Path, help="bag that is played, for its hash in the report")
    parser.add_argument("--checkpoint", type=Path, help="checkpoint of the node, for its hash in the report")
    values = parser.parse_args(arguments)
    inputs = {"bag": values.bag, "checkpoint": values.checkpoint}
    return EvaluatorOptions(
        rig=values.rig,
        cameras=tuple(values.cameras),
        vehicle_frame=values.vehicle_frame,
        ground_z=values.ground_z,
        out=values.out,
        lidar_topic=values.lidar_topic,
        odom_topic=values.odom_topic,
        sweep_topic=values.sweep_topic,
        scoring=ScoringConfig(values.min_depth, values.max_depth, values.tolerance),
        idle_timeout=values.idle_timeout,
        inputs={name: path for name, path in inputs.items() if path is not None},
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Exit status: 0 measured, 1 nothing to compare, 2 cannot start, or cannot write the report."""
    arguments, ros_arguments = split_ros_arguments(sys.argv[1:] if argv is None else argv)
    try:
        return evaluate(parse_arguments(arguments), ros_arguments)
    except FsmdeError as error:
        print(f"evaluate_replay: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
