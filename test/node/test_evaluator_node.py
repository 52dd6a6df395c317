from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from nav_msgs.msg import Odometry
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField

from fsmde_ros.cloud_layout import pack_cloud
from fsmde_ros.geometry import invert, rigid, transform
from fsmde_ros.node.evaluator_node import _milliseconds, cloud_points
from fsmde_ros.replay_settings import own_domain
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.rig_file import write_rig

NS = 1_000_000_000
START = 1_532_402_927 * NS
SIZE = (32, 56)
LIDAR_TO_VEHICLE = rigid([0.70710678, 0, 0, -0.70710678], [0.9, 0.1, 1.8])
CAMERA_TO_VEHICLE = rigid([0.5, -0.5, 0.5, -0.5], [1.0, 0.0, 1.5])


def depth_image(values: np.ndarray) -> Image:
    height, width = values.shape
    data = values.astype("<f4").tobytes()
    return Image(height=height, width=width, encoding="32FC1", step=4 * width, data=data)


def cloud(points: np.ndarray, frame: str) -> PointCloud2:
    fields, step, data = pack_cloud({axis: points[:, i].astype(np.float32) for i, axis in enumerate("xyz")})
    message = PointCloud2(height=1, width=len(points), point_step=step, row_step=step * len(points), is_dense=False)
    message.fields = [PointField(name=n, offset=o, datatype=t, count=c) for n, o, t, c in fields]
    message.data, message.header.frame_id = data, frame
    return message


def test_points_without_a_return_are_left_out() -> None:
    points = np.array([[1.0, 2, 3], [np.nan, 0, 0], [4, 5, 6], [0, 0, 0], [0, 0, -1]])
    np.testing.assert_array_equal(cloud_points(cloud(points, "lidar_top")), points[[0, 2, 4]])


@pytest.mark.parametrize(
    ("text", "expected"), [("41.5", 41.5), ("soon", None), ("nan", None), ("inf", None), ("-inf", None), ("", None)]
)
def test_only_a_finite_time_is_one(text: str, expected: float | None) -> None:
    assert _milliseconds(text) == expected


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    domain = own_domain()
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    node = Node("surround_depth", context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


@pytest.fixture
def rig_file(tmp_path: Path) -> Path:
    intrinsics = [[100.0, 0, 55.5], [0, 100.0, 31.5], [0, 0, 1]]
    rig = Rig((Camera("cam_front", (64, 112), intrinsics, CAMERA_TO_VEHICLE),))
    write_rig(rig, tmp_path / "rig.yaml", {"lidar_top": LIDAR_TO_VEHICLE})
    return tmp_path / "rig.yaml"


def evaluate(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fsmde_ros.node.evaluator_node", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


class Drive:
    """Publishes what the node and the player would, once the evaluator listens to all of it."""

    def __init__(self, node: Node, sensors: QoSProfile | int = 10, namespace: str = "") -> None:
        self.depth = node.create_publisher(Image, f"{namespace}/cam_front/depth/image_rect", 10)
        self.depth_info = node.create_publisher(CameraInfo, f"{namespace}/cam_front/depth/camera_info", 10)
        self.info = node.create_publisher(CameraInfo, f"{namespace}/cam_front/camera_info", sensors)
        self.lidar = node.create_publisher(PointCloud2, "/lidar_top", sensors)
        self.odom = node.create_publisher(Odometry, "/odom", sensors)
        self.sweep = node.create_publisher(DiagnosticArray, f"{namespace}/surround_depth/sweep", 10)

    def wait_for_listener(self, process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + 60
        publishers = (self.depth, self.depth_info, self.info, self.lidar, self.odom, self.sweep)
        while not all(p.get_subscription_count() for p in publishers):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)

    def wait_for_delivery(self) -> None:
        for publisher in (self.depth, self.depth_info, self.info, self.lidar, self.odom, self.sweep):
            assert publisher.wait_for_all_acked(Duration(seconds=60))

    def step(self, index: int, depth: float, wall: float, frame: str = "lidar_top") -> None:
        stamp = Time(nanoseconds=START + index * NS // 10).to_msg()
        odometry = Odometry(child_frame_id="base_link")
        odometry.pose.pose.position.x = 1.0 * index  # 10 m/s
        odometry.pose.pose.orientation.w = 1.0
        across = np.linspace(-2, 2, 40)
        points_vehicle = np.stack([np.full(40, 1.0 + wall), across, np.full(40, 1.5)], axis=-1)
        scan = cloud(transform(invert(LIDAR_TO_VEHICLE), points_vehicle), frame)
        k = [50.0, 0, 27.5, 0, 50.0, 15.5, 0, 0, 1]
        info = CameraInfo(height=SIZE[0], width=SIZE[1], k=k, p=[50.0, 0, 27.5, 0, 0, 50.0, 15.5, 0, 0, 0, 1, 0])
        report = DiagnosticArray(status=[DiagnosticStatus(name="sweep", level=DiagnosticStatus.OK)])
        report.status[0].values = [KeyValue(key="missing", value=""), KeyValue(key="total_ms", value=str(40 + index))]
        image = depth_image(np.full(SIZE, depth, np.float32))
        for message, publisher in (
            (odometry, self.odom),
            (scan, self.lidar),
            (CameraInfo(), self.info),
            (image, self.depth),
            (info, self.depth_info),
            (report, self.sweep),
        ):
            message.header.stamp = stamp
            publisher.publish(message)


@pytest.mark.ros
def test_sensors_that_offer_best_effort_are_heard_and_poses_that_are_none_left_out(
    node: Node, rig_file: Path, tmp_path: Path
) -> None:
    process = evaluate("--rig", rig_file, "--out", tmp_path / "report.json")
    try:
        drive = Drive(node, sensors=QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT))
        drive.wait_for_listener(process)
        broken = Odometry(child_frame_id="base_link")
        broken.pose.pose.orientation.w = 0.0  # no length
        drive.odom.publish(broken)
        broken.pose.pose.orientation.w, broken.pose.pose.position.x = 1.0, float("nan")
        drive.odom.publish(broken)
        drive.odom.publish(Odometry(child_frame_id="trailer"))
        for index, depth in enumerate((11.0, 12.0, 13.0)):
            drive.step(index, depth, wall=10.0)
        drive.wait_for_delivery()
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=60)[0]
    finally:
        process.kill()
    assert process.returncode == 0, output
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["overall"]["n"] == 120
    assert report["views"]["cam_front"]["abs_rel"] == pytest.approx(0.2, abs=1e-5)
    assert "lidar_top is published with best effort" in output
    assert "odom: its position is not finite; poses like it are left out" in output
    assert "/odom is of the frame 'trailer', expected 'base_link'; poses like it are left out" in output
    assert output.count("left out") == 3
    assert "Traceback" not in output


@pytest.mark.ros
def test_beside_a_node_in_a_namespace_the_sensors_of_the_vehicle_are_heard(
    node: Node, rig_file: Path, tmp_path: Path
) -> None:
    process = evaluate("--rig", rig_file, "--out", tmp_path / "report.json", "--ros-args", "-r", "__ns:=/lorry")
    try:
        drive = Drive(node, namespace="/lorry")
        drive.wait_for_listener(process)
        strange = DiagnosticArray(status=[DiagnosticStatus(level=DiagnosticStatus.OK)])
        strange.status[0].values = [KeyValue(key="total_ms", value="soon")]
        drive.sweep.publish(strange)
        skipped = DiagnosticArray(status=[DiagnosticStatus(level=DiagnosticStatus.OK)])
        skipped.status[0].values = [KeyValue(key="state", value="skipped"), KeyValue(key="missing", value="cam_front")]
        drive.sweep.publish(skipped)
        drive.step(0, 12.0, wall=10.0, frame="/lidar_top")  # as a bridge to ROS 1 has it
        drive.wait_for_delivery()
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=60)[0]
    finally:
        process.kill()
    assert process.returncode == 0, output
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["overall"]["n"] == 40
    assert (report["sweeps"]["skipped"], report["sweeps"]["missing_views"]) == (1, {})
    assert report["latency_ms"]["p50"] == pytest.approx(40)
    assert "Traceback" not in output


@pytest.mark.ros
@pytest.mark.parametrize("ending", ["sigint", "sigterm", "idle"])
def test_a_drive_with_known_errors(node: Node, rig_file: Path, tmp_path: Path, ending: str) -> None:
    bag = tmp_path / "drive.mcap"
    bag.write_bytes(b"the bag")
    idle = ("--idle-timeout", 4.0) if ending == "idle" else ()
    process = evaluate("--rig", rig_file, "--out", tmp_path / "out" / "report.json", "--bag", bag, *idle)
    try:
        drive = Drive(node)
        drive.wait_for_listener(process)
        for index, depth in enumerate((11.0, 12.0, 13.0)):
            drive.step(index, depth, wall=10.0)
        drive.wait_for_delivery()
        if ending != "idle":
            process.send_signal(signal.SIGINT if ending == "sigint" else signal.SIGTERM)
        output = process.communicate(timeout=60)[0]
    finally:
        process.kill()
    assert process.returncode == 0, output
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["views"]["cam_front"]["abs_rel"] == pytest.approx(0.2, abs=1e-5)
    assert report["overall"]["d1"] == pytest.approx(2 / 3)
    assert report["overall"]["n"] == 120
    assert report["baseline"]["ground_plane"]["abs_rel"] == pytest.approx(1.0, abs=1e-5)
    assert report["sweeps"] == {
        "in": 3,
        "complete": 3,
        "partial": 0,
        "skipped": 0,
        "lost": 0,
        "missing_views": {},
    }
    assert report["latency_ms"]["p50"] == pytest.approx(41)
    assert report["inputs"]["bag"] == {"name": "drive.mcap", "sha256": hashlib.sha256(b"the bag").hexdigest()}
    assert report["machine"]["cores"] >= 1
    assert "connected to the node: depth of cam_front" in output
    assert "cam_front" in output
    assert "Traceback" not in output


@pytest.mark.ros
def test_two_lidars_are_both_compared_and_the_table_is_not_lost_with_its_file(node: Node, tmp_path: Path) -> None:
    intrinsics = [[100.0, 0, 55.5], [0, 100.0, 31.5], [0, 0, 1]]
    rig = Rig((Camera("cam_front", (64, 112), intrinsics, CAMERA_TO_VEHICLE),))
    write_rig(rig, tmp_path / "rig.yaml", {"lidar_rear": np.eye(4), "lidar_top": LIDAR_TO_VEHICLE})
    (tmp_path / "file").touch()
    process = evaluate("--rig", tmp_path / "rig.yaml", "--out", tmp_path / "file" / "report.json")
    try:
        drive = Drive(node)
        rear = node.create_publisher(PointCloud2, "/lidar_rear", 10)
        drive.wait_for_listener(process)
        while not rear.get_subscription_count():
            time.sleep(0.02)
        for index in range(3):
            behind = cloud(np.array([[-9.0, 0.0, 1.5], [-9.0, 1.0, 1.5]]), "lidar_rear")
            behind.header.stamp = Time(nanoseconds=START + index * NS // 10).to_msg()
            drive.step(index, depth=12.0, wall=10.0)
            rear.publish(behind)
        drive.wait_for_delivery()
        assert rear.wait_for_all_acked(Duration(seconds=60))
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=60)[0]
    finally:
        process.kill()
    assert process.returncode == 2
    [front] = [line for line in output.splitlines() if line.startswith("cam_front ")]
    assert front.split()[-1] == "120"
    assert "report.json: cannot be written (" in output
    assert "Traceback" not in output


@pytest.mark.ros
def test_a_lidar_nobody_placed_is_named(node: Node, rig_file: Path, tmp_path: Path) -> None:
    process = evaluate("--rig", rig_file, "--idle-timeout", 4.0)
    try:
        drive = Drive(node)
        drive.wait_for_listener(process)
        drive.step(0, 10.0, 10.0, frame="lidar_side")
        output = process.communicate(timeout=60)[0]
    finally:
        process.kill()
    assert process.returncode == 1
    assert "LiDAR: the rig file does not say where frame 'lidar_side' is mounted" in output
    assert "it knows base_link, lidar_top" in output
    assert "nothing to compare" in output
    assert "is the node running" not in output


@pytest.mark.ros
def test_a_node_that_was_never_met_is_named(node: Node, rig_file: Path) -> None:
    process = evaluate("--rig", rig_file)
    try:
        odometry = node.create_publisher(Odometry, "/odom", 10)
        deadline = time.monotonic() + 60
        while not odometry.get_subscription_count():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=60)[0]
    finally:
        process.kill()
    assert process.returncode == 1
    assert "nobody published cam_front/depth/image_rect, surround_depth/sweep: is the node running?" in output
    assert "no usable scan came on /lidar_top (--lidar-topic)" in output
    assert "no pose came on /odom (--odom-topic)" in output


def test_without_a_rig_file_tf_is_asked_for() -> None:
    try:
        import tf2_ros  # noqa: F401
    except ImportError:
        process = evaluate("--cameras", "cam_front")
        output = process.communicate(timeout=60)[0]
        assert process.returncode == 2
        assert "tf2_ros is not installed" in output
    else:
        pytest.skip("tf2_ros is installed")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: [*a, "--min-depth", "90"], "depth range must be 0 < min < max"),
        (lambda a: [*a, "--max-depth", "inf"], "argument --max-depth: must be a finite number, got 'inf'"),
        (lambda a: [*a, "--tolerance", "inf"], "argument --tolerance: must be a finite number, got 'inf'"),
        (lambda a: [*a, "--bag", "no_such_bag"], "no_such_bag: cannot be read"),
        (lambda a: ["--rig", "no_such_rig.yaml"], "no_such_rig.yaml: the rig file cannot be read"),
        (lambda a: ["--ros-args", "-p", "rig_file:=other.yaml"], "other.yaml: the rig file cannot be read"),
        (lambda a: [], "no rig file: give --rig FILE (rig_from_bag writes one) or the parameter rig_file"),
    ],
)
def test_what_cannot_be_evaluated_is_said(
    rig_file: Path, change: Callable[[list[str]], list[str]], message: str
) -> None:
    process = evaluate(*change(["--rig", str(rig_file)]))
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 2
    assert message in output
    assert "Traceback" not in output
