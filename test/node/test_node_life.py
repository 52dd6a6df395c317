"""The node in this process: its life cycle over and over, and an estimator that fails it.

The estimator is the real one with a backend that runs out of memory, raises or hangs, so that
everything else is what runs on a vehicle.
"""

from __future__ import annotations

import array
import gc
import threading
import time

import numpy as np
import psutil
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.logging import LoggingSeverity, set_logger_level
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header

from fsmde_ros.backends.memory_guard import MemoryGuard
from fsmde_ros.cloud_layout import cloud_columns
from fsmde_ros.estimator import Estimator
from fsmde_ros.images import encode_jpeg
from fsmde_ros.node.estimation import build_estimator
from fsmde_ros.node.messages import camera_to_info, stamp_message, stamp_ns
from fsmde_ros.node.surround_depth_node import SurroundDepthNode
from fsmde_ros.replay_settings import free_domain
from fsmde_ros.rig_file import write_rig

pytestmark = pytest.mark.ros

DOMAIN = free_domain()
NAMES = ("left", "middle", "right")
SIZE = (96, 160)
START, PERIOD_NS, STEP_NS = 1_532_402_927_000_000_000, 100_000_000, 20_000_000
DONE = TransitionCallbackReturn.SUCCESS


class Bench:
    """A node and its client on one executor."""

    def __init__(self, parameters, build):
        remap = parameters.pop("remap", {})
        arguments = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
        arguments += [word for old, new in remap.items() for word in ("-r", f"{old}:={new}")]
        rclpy.init(args=["--ros-args", *arguments], domain_id=DOMAIN)
        self.node = SurroundDepthNode(build)
        self.client = rclpy.create_node("client")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.executor.add_node(self.client)
        self.sweeps, self.diagnostics, self.clouds = [], [], []
        qos = QoSProfile(depth=50)
        self.client.create_subscription(DiagnosticArray, "/surround_depth/sweep", self.sweeps.append, qos)
        self.client.create_subscription(DiagnosticArray, "/diagnostics", self.diagnostics.append, qos)
        self.images = {
            n: self.client.create_publisher(CompressedImage, f"{n}/image_rect/compressed", qos) for n in NAMES
        }
        self.odometry = self.client.create_publisher(Odometry, "/odom", qos)

    def spin_until(self, condition, timeout=30.0):
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, f"timed out; {len(self.sweeps)} reports, {self.state()}"
            self.executor.spin_once(timeout_sec=0.02)

    def start(self):
        assert self.node.trigger_configure() == DONE, self.node.problem
        self.activate()

    def activate(self):
        assert self.node.trigger_activate() == DONE, self.node.problem
        self.spin_until(lambda: all(p.get_subscription_count() for p in self.images.values()))

    def deactivate(self):
        assert self.node.trigger_deactivate() == DONE
        self.spin_until(lambda: not any(p.get_subscription_count() for p in self.images.values()))

    def send(self, index, bad=()):
        """A sweep; the images of the cameras ``bad`` have no data."""
        for i, name in enumerate(NAMES):
            stamp = stamp_message(START + index * PERIOD_NS + i * STEP_NS)
            noise = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
            data = array.array("B", b"" if name in bad else encode_jpeg(noise).data)
            self.images[name].publish(CompressedImage(header=Header(stamp=stamp), format="jpeg", data=data))

    def hold_two(self, flaky):
        """Sweep 0 in work, until the gate of ``flaky`` is opened, and sweep 1 that waits."""
        flaky.backend.gate.clear()
        self.send(0)
        self.spin_until(lambda: flaky.backend.calls > 1)  # the first was to warm up
        self.send(1)
        self.spin_until(lambda: self.node._worker.is_waiting())

    def send_and_wait(self, index):
        count = len(self.sweeps)
        self.send(index)
        self.spin_until(lambda: len(self.sweeps) > count)
        return self.sweeps[-1].status[0]

    def pipeline(self, accept=lambda status: True):
        """The next diagnostics of the pipeline that ``accept`` likes."""
        self.diagnostics.clear()

        def found():
            return [m.status[0] for m in self.diagnostics if accept(m.status[0])]

        self.spin_until(found)
        return found()[-1]

    def state(self):
        return self.node._state_machine.current_state

    def close(self):
        self.executor.shutdown()
        self.node.close()
        self.client.destroy_node()
        rclpy.try_shutdown()


@pytest.fixture
def bench(tmp_path, tiny_checkpoint, ring):
    """Start a node; it is gone afterwards."""
    running = []

    def go(build=build_estimator, **parameters):
        write_rig(ring(NAMES, SIZE), tmp_path / "rig.yaml")
        given = {"rig_file": tmp_path / "rig.yaml", "checkpoint": tiny_checkpoint, "device": "cpu"}
        given |= {"diagnostics.period_s": 0.1, "sync.deadline_s": 10.0}  # all views come, however slow the machine
        running.append(Bench({**given, **parameters}, build))
        return running[-1]

    yield go
    for each in running:
        each.close()


def values(status):
    return {pair.key: pair.value for pair in status.values}


def resources(node):
    gc.collect()
    process = psutil.Process()
    counts = (len(list(node.subscriptions)), len(list(node.publishers)), len(list(node.timers)))
    return threading.active_count(), process.num_fds(), counts, process.memory_info().rss / 2**20


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_thirty_lives_leak_nothing(bench):
    it = bench()
    depths, clouds = [], []
    it.client.create_subscription(Image, "left/depth/image_rect", depths.append, 10)
    it.client.create_subscription(PointCloud2, "/surround_depth/points", clouds.append, 10)

    def live(index):
        """Up, a sweep with depth and cloud, and down: decoders, worker and fusion have been at work."""
        depths.clear()
        clouds.clear()
        it.start()
        assert values(it.send_and_wait(index))["state"] == "published"
        it.spin_until(lambda: depths and clouds)
        it.deactivate()
        assert it.node.trigger_cleanup() == DONE

    for index in range(5):  # first use fills caches
        live(index)
    threads, files, counts, memory = resources(it.node)
    for index in range(5, 30):
        live(index)
    now = resources(it.node)
    assert now[0] <= threads
    assert now[1] <= files + 2
    assert now[2] == counts
    assert now[3] < memory + 12, "MiB"
    assert it.state()[0] == State.PRIMARY_STATE_UNCONFIGURED


@pytest.mark.parametrize("is_active", [False, True])
def test_a_shutdown_from_any_state_lets_go_of_everything(bench, is_active):
    it = bench()
    for transition in ("configure", "cleanup"):  # libraries keep a thread of their own from the first use on
        assert getattr(it.node, f"trigger_{transition}")() == DONE
    before = threading.active_count()
    if is_active:
        it.start()
        assert values(it.send_and_wait(0))["state"] == "published"
    else:
        assert it.node.trigger_configure() == DONE
    assert it.node.trigger_shutdown() == DONE
    assert it.state()[0] == State.PRIMARY_STATE_FINALIZED
    it.spin_until(lambda: threading.active_count() <= before)


def test_it_can_be_activated_again_without_a_cleanup(bench):
    it = bench()
    it.start()
    assert values(it.send_and_wait(0))["state"] == "published"
    it.deactivate()
    it.activate()
    assert values(it.send_and_wait(1))["state"] == "published"


def test_cameras_are_judged_only_while_the_node_listens_and_anew_after_a_pause(bench):
    it = bench()
    it.start()
    for index in range(3):
        assert values(it.send_and_wait(index))["state"] == "published"
    it.pipeline()
    it.deactivate()
    time.sleep(1.1)  # more than a camera that is judged may be silent
    it.pipeline(lambda status: "inactive" in status.message)
    cameras = it.diagnostics[-1].status[1:]
    assert [(values(s)["state"], s.level) for s in cameras] == [("inactive", DiagnosticStatus.OK)] * 3
    it.activate()
    assert values(it.send_and_wait(3))["state"] == "published"
    it.pipeline(lambda status: values(status)["complete"] == "4")
    said = {s.message for m in it.diagnostics for s in m.status[1:]}
    assert not [message for message in said if "-" in message or "stale" in message]


def test_a_transition_that_does_not_fit_the_state_is_refused(bench):
    """As of a lifecycle manager that does not look at the state first: rclpy's own service ends the process."""
    it = bench(autostart=False)
    service = it.client.create_client(ChangeState, "/surround_depth/change_state")
    it.spin_until(service.service_is_ready)

    def change(number):
        answer = service.call_async(ChangeState.Request(transition=Transition(id=number)))
        it.spin_until(answer.done)
        return answer.result().success

    configure, cleanup, activate, deactivate = (
        Transition.TRANSITION_CONFIGURE,
        Transition.TRANSITION_CLEANUP,
        Transition.TRANSITION_ACTIVATE,
        Transition.TRANSITION_DEACTIVATE,
    )
    wanted = [activate, configure, configure, activate, activate, cleanup, deactivate, deactivate, 99, cleanup]
    assert [change(number) for number in wanted] == [
        *(False, True, False, True, False, False, True, False, False, True)
    ]
    it.start()
    assert values(it.send_and_wait(0))["state"] == "published"


def test_the_log_tells_once_why_nothing_comes_out_and_when_it_does(bench, capfd):
    log = ""

    def lines(text):
        nonlocal log
        log += capfd.readouterr().err
        return [line for line in log.splitlines() if text in line]

    it = bench()
    it.start()
    it.spin_until(lambda: lines("no messages on"))
    [line] = lines("no messages on")
    assert "[WARN]" in line
    assert "left (middle, right likewise): no messages on /left/image_rect/compressed; check the driver" in line
    for activation in range(2):
        assert len(lines("the first sweep is published: 3 of 3 views, ")) == activation
        for index in range(3):
            assert values(it.send_and_wait(3 * activation + index))["state"] == "published"
        assert len(lines("the first sweep is published: 3 of 3 views, ")) == activation + 1
        it.deactivate()
        it.activate()


def test_the_log_tells_a_camera_that_fails_and_that_it_is_well_again(bench, ring, capfd):
    it = bench()
    infos = {name: it.client.create_publisher(CameraInfo, f"{name}/camera_info", 10) for name in NAMES}
    it.start()
    it.spin_until(lambda: all(publisher.get_subscription_count() for publisher in infos.values()))
    for name, publisher in infos.items():
        publisher.publish(camera_to_info(ring(NAMES, SIZE)[name], Header()))
    log, index = "", 0

    def drive_until(text, names=NAMES):
        nonlocal log, index
        for _ in range(200):
            index += 1
            it.send(index, bad=set(NAMES) - set(names))
            it.pipeline()
            log += capfd.readouterr().err
            if text in log:
                return
        raise AssertionError(log)

    drive_until("left: the image has no data", names=NAMES[1:])
    drive_until("left: OK again")
    assert log.count("left: the image has no data") == 1
    assert log.count("left: OK again") == 1
    assert "middle" not in log.partition("the first sweep is published")[2]


def test_topics_are_told_as_they_are_heard(bench):
    it = bench(remap={"left/image_rect/compressed": "/cams/l/compressed"})
    assert it.node.trigger_configure() == DONE, it.node.problem
    it.pipeline()
    assert values(it.diagnostics[-1].status[1])["topic"] == "/cams/l/compressed"
    assert values(it.diagnostics[-1].status[2])["topic"] == "/middle/image_rect/compressed"


def test_a_failure_nobody_foresaw_is_told_and_can_be_tried_again(bench):
    errors = [KeyError("weights")]

    def build(settings):
        if errors:
            raise errors.pop()
        return build_estimator(settings)

    it = bench(build)
    assert it.node.trigger_configure() != DONE
    assert it.node.problem == "cannot configure: KeyError: 'weights'"
    assert it.state()[0] == State.PRIMARY_STATE_UNCONFIGURED
    assert "KeyError: 'weights'" in it.pipeline(lambda status: status.level == DiagnosticStatus.ERROR).message
    it.start()
    assert values(it.send_and_wait(0))["state"] == "published"


class FlakyBackend:
    """The real backend, which raises or hangs when it is told to."""

    name = "flaky"

    def __init__(self, backend):
        self._backend = backend
        self.error, self.room, self.gate, self.calls = None, 99, threading.Event(), 0
        self.gate.set()

    def __call__(self, images, *rest):
        self.calls += 1
        self.gate.wait(30)
        if self.error is not None:
            raise self.error
        if len(images) > self.room:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self._backend(images, *rest)


@pytest.fixture
def flaky():
    """A builder of estimators whose backend is a ``FlakyBackend``, which is ``builder.backend``."""

    def build(settings):
        estimator = build_estimator(settings)
        build.backend = FlakyBackend(estimator.backend)
        return Estimator(MemoryGuard(build.backend), estimator.card)

    return build


def test_an_exception_costs_one_sweep_and_is_told(bench, flaky):
    it = bench(flaky)
    it.start()
    assert values(it.send_and_wait(0))["state"] == "published"
    flaky.backend.error = ValueError("a loose cable")
    status = it.send_and_wait(1)
    assert values(status)["state"] == "dropped"
    assert "failed: ValueError: a loose cable" in status.message
    assert "the last 1 sweeps were not published" in it.pipeline(lambda s: s.level == DiagnosticStatus.ERROR).message
    flaky.backend.error = None
    assert values(it.send_and_wait(2))["state"] == "published"
    pipeline = it.pipeline(lambda s: values(s)["complete"] == "2")
    assert values(pipeline)["dropped (failed)"] == "1"
    assert pipeline.level != DiagnosticStatus.ERROR


def test_too_little_memory_degrades_and_is_told(bench, flaky):
    it = bench(flaky)
    it.start()
    flaky.backend.room = 1
    status = it.send_and_wait(0)
    assert values(status)["views"] == "left,middle,right"
    pipeline = it.pipeline(lambda s: values(s)["complete"] == "1")
    assert pipeline.level == DiagnosticStatus.WARN
    assert "1 views at a time" in pipeline.message
    flaky.backend.room = 0
    status = it.send_and_wait(1)
    assert "out of memory on flaky with one view at a time" in status.message
    assert it.pipeline(lambda s: s.level == DiagnosticStatus.ERROR)
    flaky.backend.room = 99
    assert values(it.send_and_wait(2))["state"] == "published"


def test_too_little_memory_at_the_first_run_fails_configure_with_the_reason(bench):
    def build(settings):
        estimator = build_estimator(settings)
        backend = FlakyBackend(estimator.backend)
        backend.room = 0
        return Estimator(MemoryGuard(backend), estimator.card)

    it = bench(build)
    assert it.node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert "out of memory on flaky" in it.node.problem
    assert it.state()[0] == State.PRIMARY_STATE_UNCONFIGURED
    assert "out of memory" in it.pipeline().message


def test_a_stuck_backend_is_told_while_it_is_stuck(bench, flaky):
    it = bench(flaky, stuck_after_s=0.6)
    it.start()
    flaky.backend.gate.clear()
    it.send(0)
    stuck = it.pipeline(lambda s: s.level == DiagnosticStatus.ERROR)
    assert "stuck: one sweep has been in work for" in stuck.message
    it.send(1)
    it.send(2)
    it.spin_until(lambda: it.sweeps)  # the second has replaced the first, which is told at once
    flaky.backend.gate.set()
    it.spin_until(lambda: len(it.sweeps) >= 3)
    assert [values(m.status[0])["state"] for m in it.sweeps] == ["dropped", "published", "published"]
    assert it.pipeline(lambda s: s.level != DiagnosticStatus.ERROR)


def test_after_a_slow_sweep_comes_the_newest_and_what_lies_between_is_dropped(bench, flaky):
    it = bench(flaky, stuck_after_s=60.0)
    it.start()
    flaky.backend.gate.clear()
    it.send(0)
    it.spin_until(lambda: flaky.backend.calls > 1)  # the first was to warm up
    for index in range(1, 7):
        it.send(index)
        it.spin_until(lambda: len(it.sweeps) >= index - 1)  # noqa: B023
    flaky.backend.gate.set()
    it.spin_until(lambda: len(it.sweeps) >= 7)
    states = {(stamp_ns(m.header.stamp) - START) // PERIOD_NS: values(m.status[0])["state"] for m in it.sweeps}
    assert states == {0: "published", **dict.fromkeys(range(1, 6), "dropped"), 6: "published"}
    assert values(it.pipeline(lambda s: values(s)["complete"] == "2"))["dropped (replaced)"] == "5"


def test_a_sweep_of_a_bad_camera_alone_does_not_take_the_place_of_one_that_waits(bench, flaky):
    it = bench(flaky, **{"stuck_after_s": 60.0, "sync.deadline_s": 1.0})
    it.start()
    it.hold_two(flaky)
    stamp = stamp_message(START + PERIOD_NS + PERIOD_NS // 2)
    it.images["left"].publish(CompressedImage(header=Header(stamp=stamp), format="jpeg"))
    it.spin_until(lambda: it.sweeps)
    flaky.backend.gate.set()
    it.spin_until(lambda: len(it.sweeps) >= 3)
    assert [values(m.status[0])["state"] for m in it.sweeps] == ["dropped", "published", "published"]
    assert it.sweeps[0].status[0].message.startswith("no usable view: left: the image has no data")
    assert it.pipeline(lambda s: values(s)["complete"] == "2").level != DiagnosticStatus.ERROR


def test_sweeps_that_come_too_soon_are_skipped_undecoded(bench):
    loaded = []

    class Counting(Estimator):
        def load(self, pixels, camera):
            loaded.append(camera.name)
            return super().load(pixels, camera)

    def build(settings):
        estimator = build_estimator(settings)
        return Counting(MemoryGuard(estimator.backend), estimator.card)

    it = bench(build, **{"max_rate_hz": 5.0, "latency_budget_ms": 4000.0})
    it.start()
    states = [values(it.send_and_wait(index))["state"] for index in range(6)]
    assert states == ["published", "skipped"] * 3
    assert it.sweeps[-1].status[0].level == DiagnosticStatus.OK
    assert it.sweeps[-1].status[0].message == "skipped: max_rate_hz is 5, and the last sweep was not long ago"
    assert len(loaded) == 3 * len(NAMES)
    pipeline = it.pipeline(lambda s: values(s)["complete"] == "3")
    assert (values(pipeline)["skipped"], pipeline.level) == ("3", DiagnosticStatus.OK)
    assert it.node.set_parameters([Parameter("max_rate_hz", value=0.0)])[0].successful
    assert [values(it.send_and_wait(index))["state"] for index in range(6, 9)] == ["published"] * 3


def test_a_sweep_that_a_deactivation_drops_is_no_sign_of_a_slow_machine(bench, flaky):
    it = bench(flaky, stuck_after_s=60.0)
    it.start()
    it.hold_two(flaky)
    threading.Timer(0.1, flaky.backend.gate.set).start()
    it.deactivate()
    it.spin_until(lambda: len(it.sweeps) >= 2)
    told = {values(m.status[0])["state"]: m.status[0].message for m in it.sweeps}
    assert told == {"dropped": "deactivated: the node was deactivated before its turn", "published": "complete"}


def test_how_long_is_stuck_can_be_set_at_run_time(bench, flaky):
    it = bench(flaky, stuck_after_s=600.0)
    it.start()
    flaky.backend.gate.clear()
    it.send(0)
    assert it.pipeline().level != DiagnosticStatus.ERROR
    assert it.node.set_parameters([Parameter("stuck_after_s", value=0.6)])[0].successful
    assert "stuck" in it.pipeline(lambda s: s.level == DiagnosticStatus.ERROR).message
    flaky.backend.gate.set()
    it.spin_until(lambda: it.sweeps)


def odometry(stamp_ns, x, child="base_link"):
    message = Odometry(header=Header(stamp=stamp_message(stamp_ns), frame_id="odom"), child_frame_id=child)
    message.pose.pose.position.x = x
    message.pose.pose.orientation.w = 1.0
    return message


def test_the_cloud_is_of_one_moment_where_odometry_tells_the_motion(bench):
    """10 m/s ahead: of views 20 ms apart the points of the later ones lie 0.2 and 0.4 m further on."""
    it = bench(
        **{"cloud.voxel_m": 0.0, "cloud.max_relative_stddev": 0.0, "sync.anchor": "left", "cloud.max_range_m": 500.0}
    )
    it.client.create_subscription(PointCloud2, "/surround_depth/points", it.clouds.append, QoSProfile(depth=5))
    it.start()
    it.spin_until(lambda: it.odometry.get_subscription_count() and it.client.count_publishers("/surround_depth/points"))
    time.sleep(0.3)
    assert values(it.send_and_wait(0))["motion_m"] == ""  # not known yet
    it.odometry.publish(odometry(START, 0.0, child="gps"))
    assert "expected 'base_link'" in values(it.pipeline(lambda s: "expected" in values(s)["motion"]))["motion"]
    for millisecond in range(0, 200, 10):
        it.odometry.publish(odometry(START + 10**6 * millisecond, 0.01 * millisecond))
    it.pipeline(lambda s: values(s)["motion"] == "odometry /odom")
    assert float(values(it.send_and_wait(1))["motion_m"]) == pytest.approx(0.4, abs=1e-3)
    it.spin_until(lambda: len(it.clouds) == 2)
    for index, shift in enumerate((0.0, 0.2, 0.4)):
        still, moved = (points_of(cloud, index) for cloud in it.clouds)
        np.testing.assert_allclose(moved - still, np.tile([shift, 0, 0], (len(still), 1)), atol=2e-3)


@pytest.mark.usefixtures("tf2")
@pytest.mark.parametrize("places", [{}, {"rig_file": '""', "cameras": "[left,middle,right]"}], ids=["rig file", "TF"])
def test_the_vehicle_frame_may_have_the_slash_of_ros_1(bench, places):
    """With a rig file the node did not start, with TF it refused odometry and its clouds were of ``/base_link``."""
    it = bench(vehicle_frame="/base_link", **places)
    it.start()
    it.spin_until(lambda: it.odometry.get_subscription_count())
    for millisecond in (0, 10):
        it.odometry.publish(odometry(START + 10**6 * millisecond, 0.0))
    it.pipeline(lambda s: values(s)["motion"] == "odometry /odom")
    assert it.node._live_rig._extrinsics.vehicle_frame == "base_link"


@pytest.mark.parametrize(("given", "heard"), [("/odom", "/odom"), ("odom", "/car/odom")])
def test_odometry_within_the_namespace_is_named_without_a_slash(bench, given, heard):
    it = bench(remap={"__ns": "/car"}, **{"motion.odometry": given})
    assert it.node.trigger_configure() == DONE, it.node.problem
    it.spin_until(lambda: it.node.count_subscribers(heard) == 1)


def test_odometry_that_stops_is_a_warning(bench):
    it = bench()
    it.start()
    it.spin_until(lambda: it.odometry.get_subscription_count())
    for millisecond in range(0, 500, 10):
        it.odometry.publish(odometry(START + 10**6 * millisecond, 0.01 * millisecond))
    it.pipeline(lambda s: values(s)["motion"] == "odometry /odom")
    for index in range(1, 30):
        it.send_and_wait(index)
    status = it.pipeline(lambda s: "has stopped or lags" in s.message)
    assert status.level == DiagnosticStatus.WARN
    assert "has stopped or lags" in values(status)["motion"]


def test_odometry_that_comes_too_seldom_is_a_warning(bench):
    """One pose a second: of ten sweeps six have none, never for as long as two seconds."""
    it = bench()
    it.start()
    it.spin_until(lambda: it.odometry.get_subscription_count())
    for second in (-1, 0):
        it.odometry.publish(odometry(START + second * 10**9, 10.0 * second))
    it.pipeline(lambda s: values(s)["motion"] == "odometry /odom")
    for index in range(1, 10):
        it.send_and_wait(index)
    status = it.pipeline(lambda s: "% of the last sweeps had no pose" in s.message)
    assert status.level == DiagnosticStatus.WARN
    assert values(status)["judged"] == "degraded"
    assert "/odom comes too late or too seldom" in status.message
    assert "comes too late or too seldom" in values(status)["motion"]


def points_of(cloud, view):
    """x y z of the points of one view, in the order of the pixels (voxels are off)."""
    columns = cloud_columns(cloud)
    return np.stack([columns[axis] for axis in "xyz"], axis=-1)[columns["view"] == view]


def test_every_sweep_is_in_the_debug_log_by_its_stamp(bench, capfd):
    it = bench()
    it.start()
    set_logger_level("surround_depth", LoggingSeverity.DEBUG)
    try:
        it.send_and_wait(0)
    finally:
        set_logger_level("surround_depth", LoggingSeverity.INFO)
    stamp, said = it.sweeps[-1].header.stamp, capfd.readouterr().err
    line = next(line for line in said.splitlines() if "]: sweep " in line)
    assert f"sweep {stamp.sec}.{stamp.nanosec:09d}: published 3 views, decode " in line
    assert line.endswith("; complete")
    assert "weights " in said
    assert ", fsmde_ros 0." in said
