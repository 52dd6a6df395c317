"""The companion that shows the node's topics in Rerun: what it takes over DDS, and what a recording then holds."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header

from fsmde_ros.cloud_layout import colored_points
from fsmde_ros.errors import ConfigError
from fsmde_ros.images import encode_jpeg
from fsmde_ros.node.messages import camera_to_info, columns_to_message, float_to_image, image_to_depth, stamp_message
from fsmde_ros.node.placement import Placement
from fsmde_ros.node.rerun_view import RerunView, ViewOptions, parse_arguments
from fsmde_ros.node.transforms import RigFileExtrinsics
from fsmde_ros.replay_settings import own_domain
from fsmde_ros.rerun_recording import socket_address
from fsmde_ros.rig import Rig
from fsmde_ros.rig_file import write_rig

pytestmark = pytest.mark.ros

START, STEP = 1_532_402_927_000_000_000, 500_000_000
NAMES, SIZE = ("left", "right"), (96, 160)
WAIT_S = 120
QOS = QoSProfile(depth=10)
HAS_RERUN = importlib.util.find_spec("rerun") is not None


class Collected:
    """Takes the place of a recording: everything it was handed, by entity, at its stamp."""

    def __init__(self) -> None:
        self.stamp = 0
        self.shown: list[tuple[int, str, object]] = []

    def at(self, stamp_ns: int) -> None:
        self.stamp = stamp_ns

    def camera(self, camera, what: str) -> None:
        self.shown.append((self.stamp, f"{camera.name}/{what} pinhole", camera))

    def encoded_image(self, name: str, data: bytes) -> None:
        self.shown.append((self.stamp, f"{name}/image", data))

    def image(self, name: str, image: np.ndarray) -> None:
        self.shown.append((self.stamp, f"{name}/raw image", image))

    def depth(self, name: str, depth: np.ndarray) -> None:
        self.shown.append((self.stamp, f"{name}/depth", depth))

    def cloud(self, points: np.ndarray, colors: np.ndarray) -> None:
        self.shown.append((self.stamp, "points", (points, colors)))

    def of(self, entity: str) -> list[tuple[int, object]]:
        return [(stamp, what) for stamp, name, what in self.shown if name == entity]


class Talker:
    """Publishes what cameras and the node publish, and listens to the node."""

    def __init__(self, rig: Rig, domain: int) -> None:
        self.rig = rig
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = Node("talker", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.depths: dict[str, list[Image]] = {name: [] for name in rig.names}
        self.clouds: list[PointCloud2] = []

    def publisher(self, kind: type, topic: str):
        return self.node.create_publisher(kind, topic, QOS)

    def spin_until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline, f"timed out waiting for {what}"
            self.executor.spin_once(timeout_sec=0.02)

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def rig(ring: Callable[[tuple[str, ...], tuple[int, int]], Rig]) -> Rig:
    return ring(NAMES, SIZE)


@pytest.fixture
def talker(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Talker]:
    domain = own_domain()
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    talker = Talker(rig, domain)
    yield talker
    talker.close()


def header(stamp: int, frame: str) -> Header:
    return Header(stamp=stamp_message(stamp), frame_id=frame)


def picture(seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    return encode_jpeg(cv2.resize(noise, SIZE[::-1]).astype(np.uint8)).data


def test_every_message_is_shown_at_its_stamp(talker: Talker, rig: Rig) -> None:
    recording = Collected()
    viewer = Node("rerun_view", context=talker.context)
    talker.executor.add_node(viewer)
    placement = Placement(NAMES, RigFileExtrinsics(rig, "rig.yaml"), {})
    RerunView(viewer, placement, recording, ViewOptions())
    kinds = {
        "left/camera_info": CameraInfo,
        "left/image_rect/compressed": CompressedImage,
        "right/depth/camera_info": CameraInfo,
        "right/depth/image_rect": Image,
        "surround_depth/points": PointCloud2,
    }
    out = {topic: talker.publisher(kind, topic) for topic, kind in kinds.items()}
    talker.spin_until(lambda: all(p.get_subscription_count() for p in out.values()), "the viewer")
    small = rig["right"].resized((48, 80))
    depth = np.array([[1.5, np.nan, np.inf]], np.float32)
    for at in (START, START + STEP):
        out["left/camera_info"].publish(camera_to_info(rig["left"], header(at, "left")))
        out["right/depth/camera_info"].publish(camera_to_info(small, header(at, "right")))
    out["left/image_rect/compressed"].publish(CompressedImage(header=header(START, "left"), data=b"any bytes"))
    out["right/depth/image_rect"].publish(float_to_image(depth, header(START + 7, "right")))
    out["right/depth/image_rect"].publish(Image(header=header(START + 8, "right"), encoding="mono8"))
    orange = np.array([0x00FF8000], np.uint32).view(np.float32)
    columns = {"x": np.float32([5]), "y": np.float32([1]), "z": np.float32([0.5]), "rgb": orange}
    out["surround_depth/points"].publish(columns_to_message(columns, header(START + 9, "base_link")))
    talker.spin_until(lambda: len(recording.shown) >= 5, "all five")
    viewer.destroy_node()
    [(stamp, camera)] = recording.of("left/image pinhole")  # the second one said nothing new
    assert (stamp, camera.size) == (START, SIZE)
    np.testing.assert_allclose(camera.camera_to_vehicle, rig["left"].camera_to_vehicle)
    [(_, camera)] = recording.of("right/depth pinhole")
    np.testing.assert_allclose(camera.intrinsics, small.intrinsics)
    assert recording.of("left/image") == [(START, b"any bytes")]
    [(stamp, shown)] = recording.of("right/depth")  # mono8 was refused
    assert stamp == START + 7
    np.testing.assert_array_equal(shown, depth)
    [(stamp, (points, colors))] = recording.of("points")
    np.testing.assert_array_equal(points, [[5, 1, 0.5]])
    np.testing.assert_array_equal(colors, [[255, 128, 0]])


def test_a_compressed_mosaic_is_shown_in_colour_and_a_12_bit_png_is_not_dark(talker: Talker, rig: Rig) -> None:
    recording = Collected()
    viewer = Node("rerun_view", context=talker.context)
    talker.executor.add_node(viewer)
    RerunView(viewer, Placement(NAMES, RigFileExtrinsics(rig, "rig.yaml"), {}), recording, ViewOptions())
    out = {name: talker.publisher(CompressedImage, f"{name}/image_rect/compressed") for name in NAMES}
    talker.spin_until(lambda: all(p.get_subscription_count() for p in out.values()), "the viewer")
    mosaic = np.tile(np.array([[200, 100], [100, 30]], np.uint8), (8, 12))  # red 200, green 100, blue 30
    grey = np.full((16, 24), 0xFFF, np.uint16)
    for name, form, pixels in (("left", "bayer_rggb8", mosaic), ("right", "mono16", grey)):
        data = cv2.imencode(".png", pixels)[1].tobytes()
        message = CompressedImage(header=header(START, name), format=f"{form}; png compressed ", data=data)
        out[name].publish(message)
    talker.spin_until(lambda: len(recording.shown) >= 2, "both")
    viewer.destroy_node()
    [(_, shown)] = recording.of("left/raw image")
    np.testing.assert_array_equal(shown, np.broadcast_to([200, 100, 30], (16, 24, 3)))
    [(_, shown)] = recording.of("right/raw image")
    np.testing.assert_array_equal(shown, np.full((16, 24, 3), 255))


def rerun_view(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fsmde_ros.node.rerun_view", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def start_node(rig_file: Path, checkpoint: Path) -> subprocess.Popen[str]:
    parameters = {"rig_file": rig_file, "checkpoint": checkpoint, "device": "cpu", "backend": "torch"}
    words = [word for name, given in parameters.items() for word in ("-p", f"{name}:={given}")]
    command = [sys.executable, "-m", "fsmde_ros.node.surround_depth_node", "--ros-args", *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_recording_of_the_live_node(talker: Talker, rig: Rig, tmp_path: Path, tiny_checkpoint: Path) -> None:
    """Real node, real Rerun; the file is read back with Rerun's own reader."""
    if not HAS_RERUN:
        pytest.skip("rerun-sdk is not installed (requirements/viewer.txt)")
    from rerun.dataframe import load_recording

    write_rig(rig, tmp_path / "rig.yaml")
    out = tmp_path / "live" / "drive.rrd"
    node = start_node(tmp_path / "rig.yaml", tiny_checkpoint)
    view = rerun_view("--rig", tmp_path / "rig.yaml", "--save", out)
    images = {n: talker.publisher(CompressedImage, f"{n}/image_rect/compressed") for n in NAMES}
    infos = {n: talker.publisher(CameraInfo, f"{n}/camera_info") for n in NAMES}
    for name in NAMES:
        talker.node.create_subscription(Image, f"{name}/depth/image_rect", talker.depths[name].append, QOS)
    talker.node.create_subscription(PointCloud2, "surround_depth/points", talker.clouds.append, QOS)
    data = {name: picture(index) for index, name in enumerate(NAMES)}
    try:
        every = [*images.values(), *infos.values()]
        talker.spin_until(lambda: all(p.get_subscription_count() == 2 for p in every), "node and viewer")
        talker.spin_until(lambda: talker.node.count_subscribers("/left/depth/image_rect") == 2, "the viewer")
        for index in range(3):
            at = START + index * STEP
            for name in NAMES:
                infos[name].publish(camera_to_info(rig[name], header(at, name)))
                images[name].publish(CompressedImage(header=header(at, name), format="jpeg", data=bytes(data[name])))
            done = index + 1
            talker.spin_until(
                lambda done=done: len(talker.clouds) == done and all(len(d) == done for d in talker.depths.values()),
                f"sweep {index}",
            )
        view.send_signal(signal.SIGTERM)
        said = view.communicate(timeout=WAIT_S)[0]
    finally:
        for process in (view, node):
            process.kill()
            process.wait()
    assert view.returncode == 0, said
    assert "drive.rrd: " in said
    table = load_recording(out).view(index="stamp", contents="vehicle/**").select().read_all()
    blobs = [value[0] for value in table["/vehicle/right/image:Blob"].to_pylist() if value]
    assert [bytes(blob) for blob in blobs] == [bytes(data["right"])] * 3
    buffers = [value[0] for value in table["/vehicle/left/depth:ImageBuffer"].to_pylist() if value]
    expected = np.nan_to_num(image_to_depth(talker.depths["left"][-1]), nan=0, posinf=0)
    np.testing.assert_array_equal(np.frombuffer(bytes(buffers[-1]), np.float32), expected.ravel())
    points = [value for value in table["/vehicle/points:Position3D"].to_pylist() if value]
    np.testing.assert_array_equal(points[-1], colored_points(talker.clouds[-1])[0])
    place = next(value for value in table["/vehicle/right:Translation3D"].to_pylist() if value)
    np.testing.assert_allclose(place, [rig["right"].camera_to_vehicle[:3, 3]], atol=1e-6)


def test_without_rerun_the_way_to_it_is_said(tmp_path: Path) -> None:
    if HAS_RERUN:
        pytest.skip("rerun is installed")
    view = rerun_view("--save", tmp_path / "drive.rrd")
    said = view.communicate(timeout=WAIT_S)[0]
    assert view.returncode == 2
    assert said.startswith("rerun_view: the viewer Rerun")
    assert "pip install -r requirements/viewer.txt" in said


def test_a_viewer_elsewhere_is_found_by_its_name() -> None:
    assert socket_address("localhost:9876") == socket_address("127.0.0.1:9876") == "127.0.0.1:9876"
    for wrong in ("laptop", "localhost:port", "no.such.host.invalid:9876", "localhost:-1"):
        with pytest.raises(ConfigError, match=rf"HOST:PORT .* got '{wrong}'"):
            socket_address(wrong)


def test_a_file_or_a_window_but_not_both(capsys: pytest.CaptureFixture[str]) -> None:
    options = parse_arguments(["--rig", "rig.yaml", "--cameras", "left", "--connect", "laptop:9876"])
    assert (options.rig, options.cameras, options.connect) == (Path("rig.yaml"), ("left",), "laptop:9876")
    with pytest.raises(SystemExit):
        parse_arguments(["--save", "drive.rrd", "--connect", "laptop:9876"])
    assert "not allowed with" in capsys.readouterr().err
