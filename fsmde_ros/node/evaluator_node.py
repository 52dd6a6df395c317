"""``evaluate_replay``: compare the published depth with the LiDAR of the same drive.

Listens to every camera's depth and its camera_info, to the LiDAR, the odometry and the node's
sweep reports; at the end it writes a report (JSON) and prints a table.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from nav_msgs.msg import Odometry
from numpy.typing import NDArray
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from rclpy.time import Time
from rclpy.utilities import try_shutdown
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from fsmde_ros.cloud_layout import unpack_cloud
from fsmde_ros.errors import ConfigError, FsmdeError, ImageError
from fsmde_ros.geometry import rigid, transform
from fsmde_ros.node.command_line import StopSignal, spin_until_stopped, split_ros_arguments
from fsmde_ros.node.provenance import describe_inputs, describe_machine
from fsmde_ros.replay_report import (
    DepthImage,
    ReplayScores,
    ScoringConfig,
    SweepReport,
    build_report,
    format_report,
)
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.rig_file import read_lidars, read_rig

QUEUE = QoSProfile(depth=200)
PAIRS_WAITING = 60
LEVELS = {DiagnosticStatus.OK: "complete", DiagnosticStatus.WARN: "partial", DiagnosticStatus.ERROR: "dropped"}


@dataclass(frozen=True)
class EvaluatorOptions:
    """What to listen to and where to write; topics are relative to the namespace.

    Without ``rig`` the node's parameter ``rig_file`` names the rig file, as a launch file sets it;
    without ``lidar_topic`` the LiDARs of the rig file publish under the names of their frames.
    """

    rig: Path | None = None
    out: Path | None = None
    lidar_topic: str | None = None
    odom_topic: str = "odom"
    sweep_topic: str = "surround_depth/sweep"
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    idle_timeout: float | None = None
    inputs: dict[str, Path] = field(default_factory=dict)


class Evaluator:
    """Collects messages into ``ReplayScores`` and sweep reports."""

    def __init__(self, node: Node, rig: Rig, lidars: dict[str, NDArray[np.float64]], options: EvaluatorOptions) -> None:
        self._node, self._rig, self._lidars = node, rig, lidars
        self.scores = ReplayScores(rig, options.scoring)
        self.reports: list[SweepReport] = []
        self.frames_in = dict.fromkeys(rig.names, 0)
        self.messages = 0
        self._depths: OrderedDict[tuple[str, int], Image] = OrderedDict()
        self._infos: OrderedDict[tuple[str, int], CameraInfo] = OrderedDict()
        self._complaints: set[str] = set()
        for name in rig.names:
            self._listen_to_camera(name)
        for topic in [options.lidar_topic] if options.lidar_topic else lidars or ["lidar_top"]:
            node.create_subscription(PointCloud2, topic, self._take_cloud, QUEUE)
        node.create_subscription(Odometry, options.odom_topic, self._take_pose, QUEUE)
        node.create_subscription(DiagnosticArray, options.sweep_topic, self._take_sweep, QUEUE)

    def _listen_to_camera(self, name: str) -> None:
        def take_depth(message: Image) -> None:
            self._pair(name, message, self._depths)

        def take_info(message: CameraInfo) -> None:
            self._pair(name, message, self._infos)

        def count_frame(message: CameraInfo) -> None:
            self.messages += 1
            self.frames_in[name] += 1

        self._node.create_subscription(Image, f"{name}/depth/image_rect", take_depth, QUEUE)
        self._node.create_subscription(CameraInfo, f"{name}/depth/camera_info", take_info, QUEUE)
        self._node.create_subscription(CameraInfo, f"{name}/camera_info", count_frame, QUEUE)

    def _pair(self, name: str, message: Image | CameraInfo, store: OrderedDict[tuple[str, int], object]) -> None:
        """Keep a depth image or its camera_info until the other one of the same stamp is there."""
        self.messages += 1
        key = (name, Time.from_msg(message.header.stamp).nanoseconds)
        store[key] = message
        if key in self._depths and key in self._infos:
            self._take_depth(name, key[1], self._depths.pop(key), self._infos.pop(key))
        if len(store) > PAIRS_WAITING:
            store.popitem(last=False)

    def _take_depth(self, name: str, stamp_ns: int, image: Image, info: CameraInfo) -> None:
        try:
            camera = Camera(
                name=name,
                size=(info.height, info.width),
                intrinsics=np.reshape(info.p, (3, 4))[:, :3],
                camera_to_vehicle=self._rig[name].camera_to_vehicle,
                frame=info.header.frame_id,
            )
            depth = depth_in_metres(image)
            if depth.shape != camera.size:
                raise ImageError(f"depth is {depth.shape}, its camera_info says {camera.size} (height, width)")
        except FsmdeError as error:
            self._complain(f"{name}/depth: {error}")
            return
        self.scores.add_depth(DepthImage(camera, stamp_ns, depth))

    def _take_cloud(self, message: PointCloud2) -> None:
        self.messages += 1
        frame = message.header.frame_id
        lidar_to_vehicle = np.eye(4) if frame == self._rig.vehicle_frame else self._lidars.get(frame)
        if lidar_to_vehicle is None:
            known = ", ".join([self._rig.vehicle_frame, *self._lidars])
            self._complain(
                f"LiDAR frame '{frame}': the rig file does not say where it is mounted (it knows {known}); "
                "make the rig file with rig_from_bag, or add it under 'lidars'"
            )
            return
        try:
            points = cloud_points(message)
        except FsmdeError as error:
            self._complain(f"LiDAR cloud: {error}")
            return
        self.scores.add_scan(Time.from_msg(message.header.stamp).nanoseconds, transform(lidar_to_vehicle, points))

    def _take_pose(self, message: Odometry) -> None:
        self.messages += 1
        q, t = message.pose.pose.orientation, message.pose.pose.position
        pose = rigid([q.w, q.x, q.y, q.z], [t.x, t.y, t.z])
        self.scores.add_pose(Time.from_msg(message.header.stamp).nanoseconds, pose)

    def _take_sweep(self, message: DiagnosticArray) -> None:
        self.messages += 1
        for status in message.status:
            values = {value.key: value.value for value in status.values}
            state = LEVELS.get(status.level, "dropped")
            missing = tuple(name for name in values.get("missing", "").split(",") if name)
            total_ms = float(values["total_ms"]) if state != "dropped" and values.get("total_ms") else None
            stamp_ns = Time.from_msg(message.header.stamp).nanoseconds
            self.reports.append(SweepReport(stamp_ns, state, missing, total_ms, time.monotonic()))

    def _complain(self, text: str) -> None:
        if text not in self._complaints:
            self._complaints.add(text)
            self._node.get_logger().error(text)


def depth_in_metres(message: Image) -> NDArray[np.float32]:
    """Depth [H, W] float32 in metres of a 32FC1 (metres) or 16UC1 (millimetres, 0 = no value) image.

    Raises ImageError for another encoding, or for data that is too short.
    """
    kind = {"32FC1": "f4", "16UC1": "u2"}.get(message.encoding)
    if kind is None:
        raise ImageError(f"encoding must be 32FC1 (metres) or 16UC1 (millimetres), got '{message.encoding}'")
    dtype = np.dtype((">" if message.is_bigendian else "<") + kind)
    height, width, step = message.height, message.width, message.step
    data = np.frombuffer(message.data, np.uint8)
    if step < width * dtype.itemsize or data.size < height * step:
        raise ImageError(f"{width}x{height} {message.encoding}: step {step} and {data.size} bytes are too few")
    rows = data[: height * step].reshape(height, step)[:, : width * dtype.itemsize]
    values = np.ascontiguousarray(rows).view(dtype).astype(np.float32)
    if kind == "u2":
        values = np.where(values == 0, np.float32(np.nan), values / 1000)
    return values


def cloud_points(message: PointCloud2) -> NDArray[np.float64]:
    """Finite points [N, 3] of a cloud, in its frame, metres. Raises SourceError for a malformed one."""
    columns = unpack_cloud(
        [(f.name, f.offset, f.datatype, f.count) for f in message.fields],
        message.point_step,
        message.row_step,
        message.width,
        message.height,
        message.is_bigendian,
        message.data,
    )
    points = np.stack([columns[axis] for axis in "xyz"], axis=-1).astype(np.float64)
    return points[np.isfinite(points).all(axis=-1)]


def evaluate(options: EvaluatorOptions, ros_arguments: Sequence[str] = ()) -> int:
    """Listen until a signal or the idle timeout, then report; returns the exit status."""
    inputs = describe_inputs(options.inputs)
    with StopSignal() as stop:
        rclpy.init(args=[*ros_arguments], signal_handler_options=SignalHandlerOptions.NO)
        try:
            node = Node("evaluate_replay")
            rig_file = options.rig or rig_file_of(node)
            rig = read_rig(rig_file)
            inputs |= describe_inputs({"rig": rig_file})
            evaluator = Evaluator(node, rig, read_lidars(rig_file), options)
            node.get_logger().info(f"ready: listening to {len(rig)} cameras")
            spin_until_stopped(node, stop, lambda: evaluator.messages, options.idle_timeout)
            node.destroy_node()
        finally:
            try_shutdown()
    evaluator.scores.finish()
    report = build_report(evaluator.scores, evaluator.reports, evaluator.frames_in)
    report |= {"inputs": inputs, "machine": describe_machine()}
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")
    print(format_report(report), flush=True)
    if not report["overall"]["n"]:
        print(f"evaluate_replay: nothing to compare: {report['protocol']}; is the node running?", file=sys.stderr)
        return 1
    return 0


def rig_file_of(node: Node) -> Path:
    """The parameter ``rig_file`` of the node. Raises ConfigError where it is not set."""
    descriptor = ParameterDescriptor(description="Rig file, as rig_from_bag writes it.", read_only=True)
    path = str(node.declare_parameter("rig_file", "", descriptor).value)
    if not path:
        raise ConfigError("no rig file: give --rig FILE or the parameter rig_file; rig_from_bag writes one")
    return Path(path)


def parse_arguments(arguments: Sequence[str]) -> EvaluatorOptions:
    """Options from the command line; argparse ends the program on a bad one."""
    parser = argparse.ArgumentParser(prog="evaluate_replay", description="Compare published depth with LiDAR.")
    parser.add_argument("--rig", type=Path, help="rig file, as rig_from_bag writes it")
    parser.add_argument("--out", type=Path, help="report to write (JSON)")
    parser.add_argument("--lidar-topic", help="(the frames of the rig file's lidars)")
    parser.add_argument("--odom-topic", default="odom", help="poses, for the motion between scan and image")
    parser.add_argument("--sweep-topic", default="surround_depth/sweep")
    parser.add_argument("--min-depth", type=float, default=0.1, help="of the ground truth, metres (0.1)")
    parser.add_argument("--max-depth", type=float, default=80.0, help="metres: 80 for nuScenes, 200 for DDAD (80)")
    parser.add_argument("--tolerance", type=float, default=0.05, help="between image and scan, seconds (0.05)")
    parser.add_argument("--idle-timeout", type=float, help="end this many seconds after the last message (never)")
    parser.add_argument("--bag", type=Path, help="bag that is played, for its hash in the report")
    parser.add_argument("--checkpoint", type=Path, help="checkpoint of the node, for its hash in the report")
    values = parser.parse_args(arguments)
    inputs = {"bag": values.bag, "checkpoint": values.checkpoint}
    return EvaluatorOptions(
        rig=values.rig,
        out=values.out,
        lidar_topic=values.lidar_topic,
        odom_topic=values.odom_topic,
        sweep_topic=values.sweep_topic,
        scoring=ScoringConfig(values.min_depth, values.max_depth, values.tolerance),
        idle_timeout=values.idle_timeout,
        inputs={name: path for name, path in inputs.items() if path is not None},
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Exit status: 0 measured, 1 nothing to compare, 2 cannot start."""
    arguments, ros_arguments = split_ros_arguments(sys.argv[1:] if argv is None else argv)
    try:
        return evaluate(parse_arguments(arguments), ros_arguments)
    except FsmdeError as error:
        print(f"evaluate_replay: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
