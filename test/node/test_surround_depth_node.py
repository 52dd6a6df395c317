"""The real node as a process, over real DDS: what goes in, what comes out, what is refused.

Pictures are 96 x 160, the network's input is 64 x 96, and the rigs have 3 or 6 cameras, so that an
exchange of height and width or a fixed number of cameras shows.
"""

from __future__ import annotations

import array
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from contextlib import closing
from dataclasses import replace

import cv2
import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from nav_msgs.msg import Odometry
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Float64, Header

from fsmde_ros.checkpoint import load_checkpoint, save_checkpoint
from fsmde_ros.cloud_layout import cloud_columns
from fsmde_ros.geometry import rigid, scale_intrinsics
from fsmde_ros.images import decode, encode_jpeg, resize
from fsmde_ros.motion_stereo import MotionStereo, keyframe
from fsmde_ros.network_view import network_view
from fsmde_ros.node.messages import camera_to_info, image_to_depth, image_to_rgb, stamp_message, stamp_ns
from fsmde_ros.replay_settings import free_domain, lossless
from fsmde_ros.rig_file import write_rig
from fsmde_ros.sweep import SurroundDepth
from fsmde_ros.trained_cameras import TrainedCameras

pytestmark = pytest.mark.ros

DOMAIN = free_domain()
SIX = ("cam_front", "cam_front_right", "cam_back_right", "cam_back", "cam_back_left", "cam_front_left")
THREE = ("left", "middle", "right")
SIZE, INPUT_SIZE = (96, 160), (64, 96)
START, PERIOD_NS, STEP_NS = 1_532_402_927_000_000_000, 83_333_333, 7_000_000
QOS = QoSProfile(depth=50)


def picture(seed, size=SIZE):
    noise = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    return cv2.resize(noise, size[::-1])


class NodeProcess:
    """``python -m fsmde_ros.node.surround_depth_node`` with its output."""

    def __init__(self, **parameters):
        arguments = [f"-p {name.replace('__', '.')}:={value}" for name, value in parameters.items()]
        command = [sys.executable, "-m", "fsmde_ros.node.surround_depth_node", "--ros-args"]
        environment = {
            **os.environ,
            "ROS_DOMAIN_ID": str(DOMAIN),
            "OMP_NUM_THREADS": "1",
        }
        command += [word for argument in arguments for word in argument.split(" ", 1)]
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines = []
        self._reader = threading.Thread(target=lambda: self.lines.extend(self.process.stdout), daemon=True)
        self._reader.start()

    @property
    def output(self):
        return "".join(self.lines)

    def wait(self, timeout=60):
        status = self.process.wait(timeout)
        self._reader.join(5)
        return status

    def stop(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.wait(20)
            raise


class Client:
    """Publishes the images of a rig and collects what the node says."""

    def __init__(self, rig, transport="compressed", base="image_rect", namespace=""):
        self.rig = rig
        self.context = Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        self.node = Node("client", context=self.context, namespace=namespace)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        kind, end = (CompressedImage, "/compressed") if transport == "compressed" else (Image, "")
        self.images = {n: self.node.create_publisher(kind, f"{n}/{base}{end}", QOS) for n in rig.names}
        self.infos = {n: self.node.create_publisher(CameraInfo, f"{n}/camera_info", QOS) for n in rig.names}
        self.received = defaultdict(list)
        self.newest = -1
        for name in rig.names:
            self.listen(Image, f"{name}/depth/image_rect")
            self.listen(CameraInfo, f"{name}/depth/camera_info")
        self.listen(DiagnosticArray, "surround_depth/sweep")
        self.listen(DiagnosticArray, "/diagnostics")

    def listen(self, kind, topic):
        self.node.create_subscription(kind, topic, self.received[topic].append, QOS)

    def spin_until(self, condition, timeout=60.0):
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, (
                f"timed out; received { ({k: len(v) for k, v in self.received.items()}) }"
            )
            self.executor.spin_once(timeout_sec=0.02)

    def spin_for(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)

    def wait_for_node(self):
        sweeps = "surround_depth/sweep"
        self.spin_until(
            lambda: (
                all(p.get_subscription_count() for p in (*self.images.values(), *self.infos.values()))
                and self.node.count_publishers(sweeps)
            )
        )
        self.spin_for(0.3)

    def header(self, name, sweep):
        index = self.rig.names.index(name)
        return Header(stamp=stamp_message(START + sweep * PERIOD_NS + index * STEP_NS), frame_id=f"{name}_optical")

    def send(self, sweep, only=None, pictures=None, infos=None):
        self.newest = max(self.newest, sweep)
        for name in only or self.rig.names:
            header = self.header(name, sweep)
            self.infos[name].publish((infos or {}).get(name) or camera_to_info(self.rig[name], header))
            message = (pictures or {}).get(name) or self.jpeg(name, sweep)
            message.header = header
            self.images[name].publish(message)

    def jpeg(self, name, seed):
        return CompressedImage(format="jpeg", data=array.array("B", encode_jpeg(picture(seed)).data))

    def sweeps(self):
        return [message.status[0] for message in self.received["surround_depth/sweep"]]

    def send_and_wait(self, sweep, **kwargs):
        """Send one sweep and wait for its report, the newest one, and for the depth of its views."""
        before = {topic: len(messages) for topic, messages in self.received.items()}
        self.send(sweep, **kwargs)
        self.spin_until(lambda: len(self.sweeps()) > before.get("surround_depth/sweep", 0))
        views = [name for name in values(self.sweeps()[-1])["views"].split(",") if name]
        topics = [f"{name}/depth/{what}" for name in views for what in ("image_rect", "camera_info")]
        self.spin_until(lambda: all(len(self.received[topic]) > before.get(topic, 0) for topic in topics))
        return self.sweeps()[-1]

    def status(self, name, accept=lambda status: True, timeout=30.0):
        """The next diagnostics of a camera or of the pipeline that ``accept`` likes."""
        seen = len(self.received["/diagnostics"])

        def find():
            for message in self.received["/diagnostics"][seen:]:
                for status in message.status:
                    if status.name == f"surround_depth: {name}" and accept(status):
                        return status
            return None

        self.spin_until(lambda: find() is not None, timeout)
        return find()

    def status_in_use(self, name, accept, **kwargs):
        """Diagnostics of a camera that ``accept`` likes, while sweeps come: what came last gets stale in a second."""
        for _ in range(100):
            seen = len(self.received["/diagnostics"])
            self.send_and_wait(self.newest + 1, **kwargs)
            self.spin_until(lambda: len(self.received["/diagnostics"]) >= seen + 2)  # noqa: B023
            for message in self.received["/diagnostics"][seen:]:
                for status in message.status:
                    if status.name == f"surround_depth: {name}" and accept(status):
                        return status
        raise AssertionError(f"never: {status}")

    def set(self, name, value):
        """Set a parameter of the node, and its answer."""
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        return self.call(SetParameters, "set_parameters", request).results[0]

    def get(self, name):
        """The value of a parameter of the node."""
        return self.call(GetParameters, "get_parameters", GetParameters.Request(names=[name])).values[0]

    def call(self, kind, name, request):
        """The answer of a service of the node."""
        service = self.node.create_client(kind, f"surround_depth/{name}")
        self.spin_until(service.service_is_ready)
        future = service.call_async(request)
        self.spin_until(future.done)
        self.node.destroy_client(service)
        return future.result()

    def close(self):
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()


def values(status):
    return {pair.key: pair.value for pair in status.values}


def is_ok(status):
    return status.level == DiagnosticStatus.OK


def is_(state):
    return lambda status: values(status)["state"] == state


@pytest.fixture
def start(tmp_path, tiny_checkpoint, ring):
    """Start a node and its client; both are gone afterwards, whatever happens."""
    running = []

    def go(
        names=THREE, transport="compressed", base="image_rect", file_names=None, outlines=None, wait=True, **parameters
    ):
        rig = ring(names, SIZE)
        cameras = [replace(rig[name], self_occlusion=(outlines or {}).get(name, ())) for name in file_names or names]
        write_rig(replace(rig, cameras=tuple(cameras)), tmp_path / "rig.yaml")
        given = {"rig_file": tmp_path / "rig.yaml", "checkpoint": tiny_checkpoint, "device": "cpu"}
        given |= {"diagnostics__period_s": 0.2, "sync__deadline_s": 1.0, **lossless(names)}
        node = NodeProcess(**{**given, **parameters})
        client = Client(rig, transport, base)
        running.extend([client.close, node.stop])
        if wait:
            client.wait_for_node()
        return node, client

    yield go
    for close in reversed(running):
        close()


@pytest.mark.parametrize("names", [SIX, THREE])
def test_depth_of_every_view_and_a_cloud_come_out(start, names):
    _, client = start(names, cloud__max_relative_stddev=0.0)
    client.listen(PointCloud2, "surround_depth/points")
    client.listen(Float64, "surround_depth/latency/total")
    client.listen(Image, f"{names[1]}/depth/stddev")
    client.listen(Image, f"{names[1]}/depth/color")
    client.listen(CompressedImage, "surround_depth/preview/compressed")
    client.spin_for(0.5)
    for sweep in range(4):
        status = client.send_and_wait(sweep)
        assert (status.level, values(status)["state"]) == (DiagnosticStatus.OK, "published")
        assert values(status)["views"].split(",") == list(names)
        assert float(values(status)["total_ms"]) >= float(values(status)["network_ms"]) > 0
    for topic in ("preview/compressed", "latency/total", "points"):
        client.spin_until(lambda topic=topic: len(client.received[f"surround_depth/{topic}"]) == 4)
    for topic in ("stddev", "color"):
        client.spin_until(lambda topic=topic: len(client.received[f"{names[1]}/depth/{topic}"]) == 4)

    for name in names:
        depths, infos = client.received[f"{name}/depth/image_rect"], client.received[f"{name}/depth/camera_info"]
        assert [m.header for m in depths] == [client.header(name, sweep) for sweep in range(4)]
        assert [m.header for m in infos] == [m.header for m in depths]
        assert (depths[0].encoding, depths[0].height, depths[0].width) == ("32FC1", *INPUT_SIZE)
        depth = image_to_depth(depths[0])
        assert not (depth == 0).any()
        finite = depth[np.isfinite(depth)]
        assert ((finite > 0.1) & (finite < 210)).all()
        expected = scale_intrinsics(client.rig[name].intrinsics, SIZE, INPUT_SIZE)
        np.testing.assert_allclose(np.reshape(infos[0].k, (3, 3)), expected)
        np.testing.assert_allclose(np.reshape(infos[0].p, (3, 4))[:, :3], expected)
        assert (infos[0].height, infos[0].width) == INPUT_SIZE
    stddevs = client.received[f"{names[1]}/depth/stddev"]
    assert [m.header for m in stddevs] == [client.header(names[1], sweep) for sweep in range(4)]
    stddev = image_to_depth(stddevs[0])
    assert stddev.shape == INPUT_SIZE
    assert (stddev[np.isfinite(image_to_depth(client.received[f"{names[1]}/depth/image_rect"][0]))] > 0).all()
    check_cloud(client, names, {1: stddev})
    colours = client.received[f"{names[1]}/depth/color"]
    assert [m.header for m in colours] == [client.header(names[1], sweep) for sweep in range(4)]
    assert (colours[0].encoding, colours[0].height, colours[0].width) == ("rgb8", *INPUT_SIZE)
    view = network_view(client.rig[names[1]], INPUT_SIZE)
    assert not view.is_plain  # 5:3 in 3:2: what the network saw has a rim, what is published has none
    shown = view.take(view.image(encode_jpeg(picture(0))).transpose(2, 0, 1)).transpose(1, 2, 0)
    np.testing.assert_array_equal(image_to_rgb(colours[0]), shown)
    assert np.abs(shown.astype(int) - resize(decode(encode_jpeg(picture(0))), INPUT_SIZE)).mean() < 6


def check_cloud(client, names, stddevs):
    """Each point of a view lies on the ray of a pixel, at the depth and with the stddev that were published for it."""
    message = client.received["surround_depth/points"][0]
    assert message.header.frame_id == "base_link"
    first = [START + index * STEP_NS for index in range(len(names))]
    assert stamp_ns(message.header.stamp) in first
    columns = cloud_columns(message)
    assert message.width > 100
    assert message.is_dense
    points = np.stack([columns[c] for c in "xyz"], axis=1).astype(float)
    assert np.isfinite(points).all()
    assert (np.linalg.norm(points, axis=1) <= 60.001).all()
    for index, name in enumerate(names):
        camera = client.rig[name].resized(INPUT_SIZE)
        own = points[columns["view"] == index]
        in_camera = (own - camera.camera_to_vehicle[:3, 3]) @ camera.camera_to_vehicle[:3, :3]
        pixels = in_camera @ camera.intrinsics.T
        x, y = (np.round(pixels[:, i] / pixels[:, 2]).astype(int) for i in (0, 1))
        depth = image_to_depth(client.received[f"{name}/depth/image_rect"][0])
        np.testing.assert_allclose(depth[y, x], in_camera[:, 2], rtol=1e-3)
        if index in stddevs:
            np.testing.assert_allclose(stddevs[index][y, x], columns["stddev"][columns["view"] == index], rtol=1e-3)


def test_overrides_for_a_replay_that_loses_nothing_are_no_misspelt_ones(start):
    """They are for whatever images the node may take; a misspelt one of the same images is told."""
    wrong = "qos_overrides./left/image_raw.subscription.reliabilty"
    node, client = start(THREE, **{wrong: "reliable"})
    assert values(client.send_and_wait(0))["state"] == "published"
    client.spin_until(lambda: "has none of that name" in node.output)
    [line] = [line for line in node.output.splitlines() if "has none of that name" in line]
    assert f"parameter {wrong}: " in line


def test_a_silent_camera_costs_nothing_but_itself(start):
    _, client = start(SIX)
    others = SIX[:3] + SIX[4:]
    for sweep in range(12):
        status = client.send_and_wait(sweep, only=others)
        assert status.level == DiagnosticStatus.WARN
        assert values(status)["views"].split(",") == list(others)
        assert values(status)["missing"] == "cam_back"
    for name in others:
        assert len(client.received[f"{name}/depth/image_rect"]) == 12
    assert not client.received["cam_back/depth/image_rect"]
    assert "no messages" in client.status("cam_back").message
    assert values(client.status("pipeline"))["partial"] == "12"
    assert client.status_in_use("cam_front", is_ok, only=others)


def test_at_the_rate_of_real_cameras_every_sweep_is_accounted_for(start):
    """12 Hz, 42 ms spread, 5 % of the images lost: each sweep comes out with the views it has, in order.

    On a machine that is busy with something else the node may replace sweeps by newer ones, and says so of each.
    """
    _, client = start(SIX)
    kept = np.random.default_rng(1).random((24, 6)) > 0.05
    begin = time.monotonic()
    for sweep, index in np.ndindex(kept.shape):
        client.spin_for(max(0.0, begin + sweep * PERIOD_NS / 1e9 + index * STEP_NS / 1e9 - time.monotonic()))
        if kept[sweep, index]:
            client.send(sweep, only=[SIX[index]])
    client.spin_until(lambda: len(client.sweeps()) >= len(kept))
    reports = client.received["surround_depth/sweep"]
    by_sweep = {round((stamp_ns(m.header.stamp) - START) / PERIOD_NS - 0.2): m.status[0] for m in reports}
    assert sorted(by_sweep) == list(range(len(kept)))
    published = [n for n, status in by_sweep.items() if values(status)["state"] != "dropped"]
    assert published == sorted(published)
    assert published[-1] == len(kept) - 1, "the newest is never the one that is replaced"
    assert all(s.message.startswith("replaced") for n, s in by_sweep.items() if n not in published)
    for number in published:
        assert values(by_sweep[number])["views"] == ",".join(np.array(SIX)[kept[number]])
    for index, name in enumerate(SIX):
        count = kept[published, index].sum()
        client.spin_until(lambda topic=f"{name}/depth/image_rect", n=count: len(client.received[topic]) == n)


def truncated():
    data = encode_jpeg(picture(1)).data
    return CompressedImage(format="jpeg", data=array.array("B", data[: len(data) // 2]))


def wrong_size():
    return CompressedImage(format="jpeg", data=array.array("B", encode_jpeg(picture(1, (48, 80))).data))


@pytest.mark.parametrize(
    ("bad", "state", "reason"),
    [
        (CompressedImage(format="jpeg"), "undecodable", "no data"),
        (truncated(), "undecodable", "truncated"),
        (CompressedImage(format="h264", data=array.array("B", b"nonsense" * 9)), "undecodable", "neither JPEG nor PNG"),
        (wrong_size(), "wrong size", "80x48, its calibration is for 160x96"),
    ],
    ids=["empty", "truncated", "unknown", "size"],
)
def test_a_bad_image_costs_only_its_view_and_says_why(start, bad, state, reason):
    _, client = start(THREE)
    for sweep in range(3):
        status = client.send_and_wait(sweep, pictures={"middle": bad})
        assert values(status)["views"] == "left,right"
        assert reason in status.message
    camera = client.status_in_use("middle", is_(state), pictures={"middle": bad})
    assert camera.level == DiagnosticStatus.ERROR
    assert reason in camera.message
    assert client.status_in_use("left", is_ok, pictures={"middle": bad})
    status = client.send_and_wait(client.newest + 1)
    assert values(status)["missing"] == ""
    assert client.status_in_use("middle", is_ok)


def test_a_camera_info_that_cannot_be_used_costs_its_camera_until_a_better_one_comes(start):
    _, client = start(THREE)
    binned = camera_to_info(client.rig["left"], Header(frame_id="left_optical"))
    binned.binning_x = binned.binning_y = 2
    for sweep in range(3):
        client.send(sweep, only=["left"], infos={"left": binned})
        client.spin_for(0.05)
        status = client.send_and_wait(sweep, only=["middle", "right"])
    assert values(status)["views"] == "middle,right"
    assert client.status_in_use("left", is_("bad CameraInfo"), infos={"left": binned})
    client.send_and_wait(client.newest + 1)
    status = client.send_and_wait(client.newest + 1)
    assert values(status)["views"] == "left,middle,right"


def test_an_uncalibrated_camera_info_leaves_the_rig_file_in_force(start):
    _, client = start(THREE)
    zero = CameraInfo(height=SIZE[0], width=SIZE[1], header=Header(frame_id="left_optical"))
    for sweep in range(3):
        status = client.send_and_wait(sweep, infos={"left": zero})
    assert values(status)["views"] == "left,middle,right"
    assert client.status_in_use("left", is_("no CameraInfo"), infos={"left": zero}).level == DiagnosticStatus.WARN


def test_a_changed_camera_info_changes_the_rig(start):
    _, client = start(THREE)
    client.send_and_wait(0)
    moved = client.rig["left"].resized(SIZE)
    changed = camera_to_info(moved, client.header("left", 1))
    changed.k[0] = changed.p[0] = 200.0
    for sweep in range(1, 20):  # nothing says which of two topics is heard first
        client.send_and_wait(sweep, infos={"left": changed})
        info = client.received["left/depth/camera_info"][-1]
        if info.k[0] == pytest.approx(200.0 * 96 / 160):
            return
    raise AssertionError(info.k)


def test_a_camera_without_extrinsics_is_named_and_the_others_go_on(start):
    _, client = start(THREE, file_names=THREE[:2], cameras="[left,middle,right]")
    status = client.send_and_wait(0)
    assert values(status)["views"] == "left,middle"
    camera = client.status_in_use("right", is_("no extrinsics"))
    assert "not in the rig file" in camera.message


@pytest.mark.parametrize("why", ["no message", "no extrinsics"])
def test_the_view_of_a_point_is_its_camera_also_where_the_first_one_is_missing(start, why):
    known = THREE if why == "no message" else THREE[1:]
    _, client = start(THREE, file_names=known, cameras="[left,middle,right]", cloud__max_relative_stddev=0.0)
    client.listen(PointCloud2, "surround_depth/points")
    client.spin_until(lambda: client.node.count_publishers("/surround_depth/points"))
    client.spin_for(0.3)
    only = THREE[1:] if why == "no message" else THREE
    status = client.send_and_wait(0, only=only)
    assert values(status)["missing"] == "left"
    client.spin_until(lambda: client.received["surround_depth/points"])
    assert set(cloud_columns(client.received["surround_depth/points"][0])["view"]) == {1, 2}


def test_headers_that_a_driver_does_not_fill_are_told_with_the_remedy(start):
    _, client = start(THREE)
    for _ in range(50):
        seen = len(client.received["/diagnostics"])
        client.images["left"].publish(client.jpeg("left", 0))
        client.spin_until(lambda: len(client.received["/diagnostics"]) > seen)  # noqa: B023
        statuses = [s for m in client.received["/diagnostics"][seen:] for s in m.status if s.name.endswith(": left")]
        if any(values(status)["state"] == "bad stamp" for status in statuses):
            break
    assert statuses[-1].level == DiagnosticStatus.ERROR
    assert "header.stamp" in statuses[-1].message


def test_a_stamp_that_stands_still_is_told_with_the_remedy(start):
    _, client = start(THREE)
    stuck = Header(stamp=stamp_message(START), frame_id="left_optical")
    client.spin_until(lambda: client.received["/diagnostics"])
    for sweep in range(100):
        client.send(sweep, only=THREE[1:])
        message = client.jpeg("left", 0)
        message.header = stuck
        client.images["left"].publish(message)
        client.spin_for(0.04)
        statuses = [s for s in client.received["/diagnostics"][-1].status if s.name.endswith(": left")]
        if "bad stamp: repeats" in statuses[0].message:
            break
    assert statuses[0].level == DiagnosticStatus.ERROR
    assert values(statuses[0])["state"] == "bad stamp"


def test_a_camera_info_that_is_published_once_is_heard_where_its_durability_is_set(start):
    """With the overrides of the one topic only: the images beside it stay volatile, which their publishers are."""
    policies = {"durability": "transient_local", "reliability": "reliable"}
    overrides = {f"qos_overrides./left/camera_info.subscription.{name}": value for name, value in policies.items()}
    _, client = start(THREE, wait=False, **overrides)
    client.node.destroy_publisher(client.infos["left"])
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    client.infos["left"] = client.node.create_publisher(CameraInfo, "left/camera_info", latched)
    info = camera_to_info(client.rig["left"], client.header("left", 0))
    info.k[0] = info.p[0] = 200.0
    client.infos["left"].publish(info)
    client.wait_for_node()
    for sweep in range(3):
        for name in THREE:
            message = client.jpeg(name, sweep)
            message.header = client.header(name, sweep)
            client.images[name].publish(message)
        client.spin_until(lambda: len(client.sweeps()) > sweep)  # noqa: B023
    client.spin_until(lambda: len(client.received["left/depth/camera_info"]) == 3)
    assert client.received["left/depth/camera_info"][-1].k[0] == pytest.approx(200.0 * 96 / 160)


def test_a_sweep_without_a_usable_view_is_dropped_with_its_reason(start):
    _, client = start(THREE)
    status = client.send_and_wait(0, pictures={name: CompressedImage(format="jpeg") for name in THREE})
    assert (status.level, values(status)["state"]) == (DiagnosticStatus.ERROR, "dropped")
    assert "no data" in status.message
    assert values(client.send_and_wait(1))["state"] == "published"
    assert values(client.status("pipeline"))["dropped (no usable view)"] == "1"


def raw(encoding, pixels, padding=4):
    padded = np.concatenate([pixels.reshape(SIZE[0], -1), np.zeros((SIZE[0], padding), np.uint8)], axis=1)
    return Image(
        height=SIZE[0], width=SIZE[1], encoding=encoding, step=padded.shape[1], data=array.array("B", padded.tobytes())
    )


def test_raw_images_of_any_encoding_give_the_same_depth(start):
    _, client = start(THREE, transport="raw", input__transport="raw")
    rgb = picture(5)
    bgra = np.dstack([rgb[..., ::-1], np.zeros(SIZE, np.uint8)])
    pictures = {"left": raw("rgb8", rgb), "middle": raw("rgb8", rgb), "right": raw("rgb8", rgb)}
    client.send_and_wait(0, pictures=pictures)
    client.send_and_wait(1, pictures={**pictures, "left": raw("bgr8", rgb[..., ::-1]), "right": raw("bgra8", bgra)})
    for name in THREE:
        first, second = (image_to_depth(m) for m in client.received[f"{name}/depth/image_rect"])
        np.testing.assert_array_equal(first, second)
    status = client.send_and_wait(2, pictures={**pictures, "right": raw("64FC9", rgb)})
    assert values(status)["views"] == "left,middle"
    camera = client.status_in_use("right", is_("undecodable"), pictures={**pictures, "right": raw("64FC9", rgb)})
    assert "encoding '64FC9', expected one of rgb8" in camera.message


def test_a_12_bit_sensor_gives_the_depth_that_8_bits_of_it_give(start):
    """Its driver leaves the upper bits empty; what a bright picture told holds for the dark one after it."""
    node, client = start(THREE, transport="raw", input__transport="raw")
    grey = picture(5)[..., 0]
    grey[0, 0] = 255
    for sweep, seen in enumerate((grey, grey // 8)):
        deep = raw("mono16", (seen.astype("<u2") << 4 | 0x5).view(np.uint8))
        client.send_and_wait(2 * sweep, pictures=dict.fromkeys(THREE, deep))
        client.send_and_wait(2 * sweep + 1, pictures=dict.fromkeys(THREE, raw("mono8", seen)))
    for name in THREE:
        depths = [image_to_depth(message) for message in client.received[f"{name}/depth/image_rect"]]
        np.testing.assert_array_equal(depths[0], depths[1])
        np.testing.assert_array_equal(depths[2], depths[3])
        assert not np.array_equal(depths[0], depths[2])
        assert node.output.count(f"{name}: of the 16 bits of its images 12 are in use") == 1


@pytest.mark.parametrize(
    ("transport", "base", "parameters"),
    [
        ("raw", "image_rect", "-p input.transport:=raw"),
        ("compressed", "image_raw", "-p input.rectified:=false"),
        ("raw", "image_raw", "-p input.rectified:=false -p input.transport:=raw"),
    ],
)
def test_images_that_are_published_in_another_form_are_pointed_to(start, transport, base, parameters):
    node, client = start(THREE, transport=transport, base=base, wait=False)
    end = "/compressed" if transport == "compressed" else ""
    hint = f"/middle/{base}{end} is published: start the node with {parameters}"
    client.spin_until(lambda: "listening to" in node.output)
    status = client.status("middle", lambda status: hint in status.message)
    assert values(status)["state"] == "no messages"
    assert status.message == f"no messages on /middle/image_rect/compressed; {hint}"
    told = "no images of "

    def named():
        lines = [line.split(told)[1].split(":")[0] for line in node.output.splitlines() if told in line]
        return sorted(name for line in lines for name in line.split(", "))

    client.spin_until(lambda: len(named()) >= len(THREE))
    client.spin_for(1.0)
    assert named() == sorted(THREE), "each once"


def test_a_topic_that_has_a_publisher_is_waited_for(start):
    """A driver with both: what it has not sent yet may come."""
    node, client = start(THREE)
    other = [client.node.create_publisher(Image, f"{name}/image_rect", QOS) for name in THREE]
    client.spin_until(lambda: all(p.get_subscription_count() for p in client.images.values()))
    status = client.status("middle", is_("no messages"))
    assert "check the driver" in status.message
    client.spin_for(1.0)
    assert "no images of" not in node.output
    assert len(other) == 3


def test_unrectified_images_are_rectified_with_k_and_d(start):
    _, client = start(THREE, base="image_raw", input__rectified="false")
    infos = {}
    for name in THREE:
        infos[name] = camera_to_info(client.rig[name], client.header(name, 0))
        infos[name].d = [-0.2, 0.03, 0.0, 0.0, 0.0]
        infos[name].p = [0.0] * 12
    client.send_and_wait(0)
    client.send_and_wait(1, infos=infos)
    client.send_and_wait(2, pictures={n: client.jpeg(n, 1) for n in THREE}, infos=infos)
    plain = client.send_and_wait(3, pictures={n: client.jpeg(n, 1) for n in THREE})
    assert values(plain)["missing"] == ""
    depths = [image_to_depth(m) for m in client.received["left/depth/image_rect"]]
    np.testing.assert_array_equal(depths[1], depths[2])
    assert not np.array_equal(depths[2], depths[3])


def test_the_own_vehicle_is_in_neither_depth_nor_cloud(start):
    height, width = SIZE
    everything = [[-0.5, -0.5], [width - 0.5, -0.5], [width - 0.5, height - 0.5], [-0.5, height - 0.5]]
    _, client = start(THREE, outlines={THREE[1]: [everything]}, cloud__max_relative_stddev=0.0)
    client.listen(PointCloud2, "surround_depth/points")
    client.listen(Image, f"{THREE[1]}/depth/stddev")
    client.spin_for(0.5)
    assert values(client.send_and_wait(0))["missing"] == ""
    for topic in ("surround_depth/points", f"{THREE[1]}/depth/stddev"):
        client.spin_until(lambda topic=topic: client.received[topic])
    depth = {name: image_to_depth(client.received[f"{name}/depth/image_rect"][0]) for name in THREE}
    assert [bool(np.isnan(depth[name]).all()) for name in THREE] == [False, True, False]
    assert np.isnan(image_to_depth(client.received[f"{THREE[1]}/depth/stddev"][0])).all()
    views = cloud_columns(client.received["surround_depth/points"][0])["view"]
    assert set(views.astype(int)) == {0, 2}


def test_with_odometry_depth_is_corrected_by_the_sweeps_before(start):
    """What comes out is what motion stereo makes of the depth without it; the vehicle drives a metre a sweep."""
    _, client = start(THREE)
    odometry = client.node.create_publisher(Odometry, "/odom", QOS)
    client.spin_until(odometry.get_subscription_count)
    topics = {name: [f"{name}/depth/{what}" for what in ("image_rect", "stddev", "color")] for name in THREE}
    for name in THREE:
        client.listen(Image, topics[name][1])
        client.listen(Image, topics[name][2])
    client.spin_for(0.5)

    def metres(stamp):
        return (stamp - START) / PERIOD_NS

    def drive(sweep, seed, like):
        """Depth of a sweep of the pictures of ``seed``, and what is kept of them at the stamps of sweep ``like``."""
        for ms in range(-20, 41, 10):
            stamp = START + sweep * PERIOD_NS + ms * 1_000_000
            message = Odometry(header=Header(stamp=stamp_message(stamp)), child_frame_id="base_link")
            message.pose.pose.position.x, message.pose.pose.orientation.w = metres(stamp), 1.0
            odometry.publish(message)
        client.spin_for(0.1)
        jpegs = {name: client.jpeg(name, seed + index) for index, name in enumerate(THREE)}
        assert values(client.send_and_wait(sweep, pictures=jpegs))["missing"] == ""
        count = len(client.received[topics[THREE[0]][0]])
        client.spin_until(lambda: all(len(client.received[topic]) == count for own in topics.values() for topic in own))
        depth, stddev = (np.stack([image_to_depth(client.received[topics[n][k]][-1]) for n in THREE]) for k in (0, 1))
        colors = np.stack([image_to_rgb(client.received[topics[name][2]][-1]) for name in THREE])
        stamps = {name: stamp_ns(client.header(name, like).stamp) for name in THREE}
        poses = {name: rigid([1, 0, 0, 0], [metres(stamp), 0, 0]) for name, stamp in stamps.items()}
        rig = client.rig.subset(THREE).resized(INPUT_SIZE)
        return SurroundDepth(rig, sweep, depth, stddev), keyframe(rig, START + like * PERIOD_NS, colors, poses)

    _, before = drive(0, seed=10, like=0)
    corrected, now = drive(1, seed=11, like=1)
    assert client.set("motion.stereo", False).successful
    plain, _ = drive(2, seed=11, like=1)
    assert not np.allclose(corrected.depth, plain.depth, rtol=0.02)
    with closing(MotionStereo()) as stereo:
        expected = stereo.correct(plain, now, [before])
    np.testing.assert_allclose(corrected.depth, expected.depth, rtol=1e-3)
    np.testing.assert_allclose(corrected.stddev, expected.stddev, rtol=1e-2)


def test_millimetres_on_request(start):
    _, client = start(THREE, depth__encoding="16UC1")
    client.send_and_wait(0)
    assert client.received["left/depth/image_rect"][0].encoding == "16UC1"
    assert client.set("depth.encoding", "32FC1").successful
    client.send_and_wait(1)
    assert client.received["left/depth/image_rect"][1].encoding == "32FC1"


def test_the_range_set_at_run_time_limits_the_depth(start):
    _, client = start(THREE)
    assert client.set("depth.max_range_m", 0.6).successful
    client.send_and_wait(0)
    depth = image_to_depth(client.received["left/depth/image_rect"][0])
    assert np.isinf(depth).any()
    assert not (np.isfinite(depth) & (depth > 0.6)).any()


def test_what_is_set_of_the_cloud_at_run_time_takes_effect(start):
    every = {"cloud.stride": 1, "cloud.voxel_m": 0.0, "cloud.max_relative_stddev": 0.0, "cloud.max_range_m": 1000.0}
    _, client = start(THREE, **{name.replace(".", "__"): value for name, value in every.items()})
    client.listen(PointCloud2, "surround_depth/points")
    client.spin_for(0.5)

    def cloud(**changed):
        """Points [N, 3] and their relative stddev [N] of one and the same picture, with some parameters changed."""
        for name, value in {**every, **changed}.items():
            assert client.set(name, value).successful
        seen = len(client.received["surround_depth/points"])
        client.send_and_wait(client.newest + 1, pictures={n: client.jpeg(n, 0) for n in THREE})
        client.spin_until(lambda: len(client.received["surround_depth/points"]) > seen)
        columns = cloud_columns(client.received["surround_depth/points"][-1])
        points = np.stack([columns[axis] for axis in "xyz"], axis=1).astype(float)
        optical = np.stack([client.rig[name].camera_to_vehicle for name in THREE])[columns["view"]]  # [N, 4, 4]
        depth = ((points - optical[:, :3, 3]) * optical[:, :3, 2]).sum(axis=1)
        return points, columns["stddev"] / depth

    points, spread = cloud()
    height, width = INPUT_SIZE
    finite = sum(np.isfinite(image_to_depth(client.received[f"{n}/depth/image_rect"][-1])).sum() for n in THREE)
    assert len(points) == finite > 0.9 * 3 * height * width
    coarse, _ = cloud(**{"cloud.stride": 8})
    assert 0 < len(coarse) <= 3 * (height // 8) * (width // 8)
    distance = np.linalg.norm(points, axis=1)
    middle = float(np.median(distance))
    near, _ = cloud(**{"cloud.max_range_m": middle})
    assert len(near) == pytest.approx((distance <= middle).sum(), abs=5)
    assert (np.linalg.norm(near, axis=1) <= middle + 1e-3).all()
    typical = float(np.median(spread))
    sure, relative = cloud(**{"cloud.max_relative_stddev": typical})
    assert len(sure) == pytest.approx((spread <= typical).sum(), abs=5)
    assert (relative <= typical + 1e-3).all()
    thin, _ = cloud(**{"cloud.voxel_m": 0.5})
    voxels = len(np.unique(np.floor(points / 0.5), axis=0))
    assert len(thin) == pytest.approx(voxels, rel=0.01)
    assert voxels < 0.8 * len(points)

    assert client.set("cloud.enabled", False).successful
    seen = len(client.received["surround_depth/points"])
    for _ in range(3):
        assert values(client.send_and_wait(client.newest + 1))["state"] == "published"
    assert client.set("cloud.enabled", True).successful
    client.send_and_wait(client.newest + 1)
    client.spin_until(lambda: len(client.received["surround_depth/points"]) > seen)
    client.spin_for(0.3)
    assert [stamp_ns(m.header.stamp) // PERIOD_NS for m in client.received["surround_depth/points"][seen:]] == [
        (START + client.newest * PERIOD_NS) // PERIOD_NS
    ]


def test_the_width_of_the_preview_can_be_set_at_run_time(start):
    _, client = start(THREE)
    client.listen(CompressedImage, "surround_depth/preview/compressed")
    client.spin_for(0.5)
    for sweep, width in enumerate((960, 300)):
        assert client.set("preview.width", width).successful
        client.send_and_wait(sweep)
        client.spin_until(lambda: len(client.received["surround_depth/preview/compressed"]) > sweep)  # noqa: B023
        jpeg = np.frombuffer(client.received["surround_depth/preview/compressed"][-1].data, np.uint8)
        assert cv2.imdecode(jpeg, cv2.IMREAD_COLOR).shape[1] == width


def test_the_latency_budget_can_be_set_at_run_time(start):
    _, client = start(THREE, latency_budget_ms=60000.0, stuck_after_s=600.0)
    assert client.status_in_use("pipeline", is_ok)
    assert client.set("latency_budget_ms", 1.0).successful
    status = client.status_in_use("pipeline", lambda status: status.level == DiagnosticStatus.WARN)
    assert "above the budget of 1 ms" in status.message
    assert client.set("latency_budget_ms", 60000.0).successful
    assert client.status_in_use("pipeline", is_ok)


def test_what_cannot_be_set_at_run_time_is_refused_with_the_reason(start):
    _, client = start(THREE, wait=False, autostart="false", depth__max_range_m=80.0, latency_budget_ms=300.0)
    for name, value, reason in (
        ("depth.encoding", "mono8", "expected one of 32FC1, 16UC1"),
        ("depth.encoding", "16UC1", "80.0 m does not fit depth.encoding 16UC1"),
        ("stuck_after_s", 0.2, "0.2 s is within latency_budget_ms, 300.0 ms"),
        ("latency_budget_ms", 6000.0, "5.0 s is within latency_budget_ms, 6000.0 ms"),
        ("cloud.voxel_m", 1e-5, "at least 2 millionths of the range 60.0 m"),
        ("cloud.voxel_m", float("nan"), "cloud.voxel_m"),
        ("cloud.stride", 2.0, "Wrong parameter type, expected 'Type.INTEGER'"),
        ("cloud.stride", 0, "cloud.stride"),
        ("cloud.enabled", "yes", "Wrong parameter type, expected 'Type.BOOL'"),
        ("preview.width", 10, "preview.width"),
        ("checkpoint", "other", "read-only"),
    ):
        before = client.get(name)
        refused = client.set(name, value)
        assert not refused.successful, (name, value)
        assert reason in refused.reason
        assert client.get(name) == before


def test_lifecycle_transitions_free_and_take_again(start):
    node, client = start(THREE, wait=False, autostart="false")
    change = client.node.create_client(ChangeState, "surround_depth/change_state")
    state = client.node.create_client(GetState, "surround_depth/get_state")
    client.spin_until(lambda: change.service_is_ready() and state.service_is_ready())

    def transition(number):
        future = change.call_async(ChangeState.Request(transition=Transition(id=number)))
        client.spin_until(future.done)
        assert future.result().success
        future = state.call_async(GetState.Request())
        client.spin_until(future.done)
        return future.result().current_state.label

    sweep = 0
    for _ in range(3):
        assert transition(Transition.TRANSITION_CONFIGURE) == "inactive"
        assert transition(Transition.TRANSITION_ACTIVATE) == "active"
        client.wait_for_node()
        assert values(client.send_and_wait(sweep))["state"] == "published"
        sweep += 10
        assert transition(Transition.TRANSITION_DEACTIVATE) == "inactive"
        client.spin_until(lambda: not any(p.get_subscription_count() for p in client.images.values()))
        assert client.status("pipeline", lambda status: "inactive" in status.message)
        assert transition(Transition.TRANSITION_CLEANUP) == "unconfigured"
        client.spin_until(lambda: client.node.count_publishers("left/depth/image_rect") == 0)
    assert transition(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN) == "finalized"
    assert node.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_process_without_a_trace(start, number):
    node, client = start(THREE)
    client.send_and_wait(0)
    client.send(1)
    assert node.stop(number) == 0
    assert "Traceback" not in node.output
    assert "configured in the frame base_link: model tiny" in node.output
    assert "cameras left, middle, right, the road at z = 0.00 m, the cameras 1.50 to 1.50 m above it; " in node.output


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"checkpoint": "corrupt"}, "corrupt"),
        ({"checkpoint": "absent.safetensors"}, "absent.safetensors"),
        ({"rig_file": "absent.yaml"}, "absent.yaml"),
        ({"device": "abacus"}, "abacus"),
        ({"cloud__stride": 100}, "cloud.stride"),
        ({"cloud__max_range_m": 60}, "decimal point"),
        ({"sync__anchor": "nobody"}, "nobody"),
        ({"sync__backend": "message_filters"}, "message_filters"),
        ({"vehicle_frame": "moon"}, "moon"),
        ({"ground_z": -0.5}, "ground_z is -0.5, but the rig file"),
        ({"depth__encoding": "16UC1", "depth__max_range_m": 80.0}, "80.0 m does not fit depth.encoding 16UC1"),
        ({"sync__deadline_s": 0.01}, "0.01 s is shorter than sync.window_s, 0.05 s"),
        ({"stuck_after_s": 0.4}, "0.4 s is within latency_budget_ms, 500.0 ms"),
        ({"motion__fixed_frame": "map", "motion__odometry": "/gps"}, "expected one of them"),
        ({"cloud__enabled": "maybe"}, "cloud.enabled"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_work_ends_with_the_reason(start, tmp_path, parameters, reason):
    if parameters.get("checkpoint") == "corrupt":
        (tmp_path / "broken.safetensors").write_bytes(os.urandom(200))
        parameters = {"checkpoint": tmp_path / "broken.safetensors"}
    if "sync__backend" in parameters and importlib.util.find_spec("message_filters"):
        pytest.skip("message_filters is installed: the node can use it")
    node, _ = start(THREE, wait=False, **parameters)
    assert node.wait() == 1
    assert reason in node.output.splitlines()[-1]
    assert node.output.splitlines()[-1].startswith("surround_depth: ")
    assert "Traceback" not in node.output


@pytest.mark.parametrize(
    ("text", "arguments", "reason"),
    [
        (None, ["--params-file", "FILE"], "Error opening YAML file"),
        ("/**: [", ["--params-file", "FILE"], "FILE"),
        ("rig_file: rig.yaml\n", ["--params-file", "FILE"], "before ros__parameters"),
        ("", ["-p", "rig_file"], "'-p rig_file'"),
        ("", ["--parameters-file", "FILE"], "--parameters-file"),
    ],
)
def test_ros_arguments_that_cannot_be_read_are_told_in_one_line(tmp_path, text, arguments, reason):
    file = tmp_path / "params.yaml"
    if text is not None:
        file.write_text(text)
    given = [str(file) if word == "FILE" else word for word in arguments]
    command = [sys.executable, "-m", "fsmde_ros.node.surround_depth_node", "--ros-args", *given]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]  # there may be one of rcl before
    assert line.startswith("surround_depth: what follows --ros-args cannot be used: ")
    assert reason.replace("FILE", str(file)) in line
    assert "Traceback" not in done.stderr


def test_a_managed_node_stays_with_the_reason_in_its_diagnostics(start, tmp_path):
    _, client = start(THREE, wait=False, autostart="false", checkpoint=tmp_path / "absent.safetensors")
    change = client.node.create_client(ChangeState, "surround_depth/change_state")
    client.spin_until(change.service_is_ready)
    future = change.call_async(ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE)))
    client.spin_until(future.done)
    assert not future.result().success
    status = client.status("pipeline", lambda s: s.level == DiagnosticStatus.ERROR)
    assert "absent.safetensors" in status.message


def test_cameras_that_the_model_does_not_know_are_told(start, tiny_checkpoint, tmp_path):
    """Once in the log, and in every diagnostics."""
    student, card = load_checkpoint(tiny_checkpoint)
    cameras = TrainedCameras((0.2, 0.5), (-5.0, 5.0), (-5.0, 5.0), (40.0, 110.0))
    save_checkpoint(tmp_path / "low.safetensors", student, replace(card, name="low", cameras=cameras))
    node, client = start(THREE, checkpoint=tmp_path / "low.safetensors")
    client.send_and_wait(0)
    told = values(client.status("pipeline", lambda s: values(s)["beyond_training"]))["beyond_training"]
    assert told.split("; ") == [f"{name}: height 1.50 m (trained on 0.20 to 0.50)" for name in THREE]
    log = node.output
    assert log.count("model low was not trained on such cameras, and its depth may be far off: ") == 1
    assert "set checkpoint to base or " in log


def test_images_that_are_turned_against_their_lens_are_told(start):
    """Of a stereo pair: once in the log, and in every diagnostics."""
    node, client = start(THREE)
    turned = camera_to_info(client.rig["left"], client.header("left", 0))
    turned.r = rigid([np.cos(0.01), np.sin(0.01), 0, 0], [0, 0, 0])[:3, :3].ravel().tolist()
    what = "left: its rectified images are turned by 1.1 degrees against its lens (R of its CameraInfo)"
    told = client.status_in_use("pipeline", lambda s: values(s)["rectified_frames"], infos={"left": turned})
    assert values(told)["rectified_frames"] == what
    client.status_in_use("pipeline", lambda s: True, infos={"left": turned})
    assert node.output.count(f"{what}; the frame of a camera must be that of its rectified images") == 1


def test_deadlines_hold_with_a_clock_that_stands_still(start):
    _, client = start(THREE, use_sim_time="true")
    status = client.send_and_wait(0, only=["left", "right"])
    assert values(status)["views"] == "left,right"
    assert client.status_in_use("left", is_ok, only=["left", "right"])
