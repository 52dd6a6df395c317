"""``surround_depth``: images of all cameras in, metric depth of every view and one cloud out.

Wiring only. The executor's thread takes messages and puts sweeps together; the worker's thread
decodes, estimates and publishes the newest one. Deadlines and diagnostics run on a steady clock,
so that they hold with a simulated clock that stands still.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import partial

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.srv import ChangeState
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from rclpy.timer import Timer
from rclpy.utilities import ok, try_shutdown
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

import fsmde_ros
from fsmde_ros.bit_depth import BitDepth
from fsmde_ros.errors import ConfigError, FsmdeError
from fsmde_ros.estimator import Estimator
from fsmde_ros.mounting import describe_heights
from fsmde_ros.node import parameters
from fsmde_ros.node.beyond_training import BeyondTraining
from fsmde_ros.node.command_line import StopSignal, init_ros, split_ros_arguments
from fsmde_ros.node.diagnostics import Monitor
from fsmde_ros.node.ego_motion import EgoMotion, NoMotion, OdometryMotion, TfMotion
from fsmde_ros.node.elsewhere import Elsewhere
from fsmde_ros.node.estimation import build_estimator, degradation, warnings_to
from fsmde_ros.node.live_rig import LiveRig
from fsmde_ros.node.messages import (
    CAMERA_INFO_POLICIES,
    INPUT_POLICIES,
    INPUT_QOS,
    REPORT_QOS,
    stamp_ns,
)
from fsmde_ros.node.outputs import Outputs
from fsmde_ros.node.parameters import Settings
from fsmde_ros.node.pipeline import Job, Pipeline, ReceivedImage, begin, make_job, receive, size_problem, warm_up
from fsmde_ros.node.rate_limit import RateLimit
from fsmde_ros.node.rectified_frames import RectifiedFrames
from fsmde_ros.node.status_log import Seen, StatusLog
from fsmde_ros.node.synchronisation import Synchroniser, build_synchroniser
from fsmde_ros.node.transforms import Extrinsics, RigFileExtrinsics, TfBuffer, TfExtrinsics
from fsmde_ros.node.worker import LatestOnlyWorker
from fsmde_ros.rig import VEHICLE_FRAME, Rig
from fsmde_ros.rig_file import read_rig
from fsmde_ros.stamps import stamp_problem
from fsmde_ros.sweep_assembler import AssembledSweep, AssemblerConfig, CameraCounters, Counters

MIN_WAIT_NS = 1_000_000
RCLError = rclpy_implementation.RCLError
Success, Failure = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class SurroundDepthNode(LifecycleNode):
    """The managed node; see the README for its topics and parameters."""

    def __init__(self, build: Callable[[Settings], Estimator] = build_estimator) -> None:
        """Declare the parameters; raises ConfigError where one is unfit.

        ``build`` makes the estimator when the node is configured.
        """
        super().__init__("surround_depth")
        self._build_estimator = build
        self._log = LifecycleNode.get_logger(self)
        self.settings = parameters.declare(self)
        self._warn_of(parameters.untaken(self))
        parameters.watch(self, lambda: self.settings, self._apply)
        self.problem = ""  # why the last transition failed
        self._state = "unconfigured"
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", REPORT_QOS)
        self.create_timer(self.settings.diagnostics_period_s, self._diagnose, clock=self._steady)
        self._cameras: tuple[str, ...] = ()
        self._monitor = Monitor((), self._full_name)
        self._tf: TfBuffer | None = None
        self._motion: EgoMotion = NoMotion()
        self._live_rig: LiveRig | None = None
        self._beyond: BeyondTraining | None = None
        self._rectified_frames = RectifiedFrames(self._log.warning)
        self._depths: dict[str, BitDepth] = {}
        self._elsewhere: Elsewhere | None = None
        self._status_log = StatusLog()
        self._estimator: Estimator | None = None
        self._outputs: Outputs | None = None
        self._synchroniser: Synchroniser[ReceivedImage] | None = None
        self._pipeline: Pipeline | None = None
        self._rate_limit = RateLimit()
        self._worker: LatestOnlyWorker[Job] | None = None
        self._deadline: Timer | None = None  # of the sweep that is due next; a wait of rclpy is too dear to poll
        self._subscriptions_in: list[Subscription] = []
        service = self._service_change_state
        service.callback = partial(self._change_state_if_possible, service.callback)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and warm up the model, read the rig, advertise; fails with the reason."""
        try:
            self._configure()
        except Exception as error:  # rclpy would keep the reason of any to itself
            self._tell_failure("configure", error)
            self._release()
            return Failure
        self.problem, self._state = "", "inactive"
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and start the worker."""
        if self._outputs is None or self._estimator is None:
            self.problem = "cannot activate: a sweep is still in work since the last time; clean up and configure anew"
            self._log.error(self.problem)
            return Failure
        try:
            self._synchroniser = build_synchroniser(self.settings.sync_backend, self._assembler_config())
            self._monitor.restart()
            self._elsewhere, self._status_log = Elsewhere(self, self.settings), StatusLog()
            self._pipeline = pipeline = Pipeline(
                self._estimator,
                self._outputs,
                self._monitor,
                self._motion,
                lambda: self.settings,
                self._cameras,
                self._log.info,
                lambda: self._worker is not None and self._worker.is_waiting(),
            )
            self._rate_limit = RateLimit()
            failed = partial(self._sweep_failed, pipeline)
            self._worker = LatestOnlyWorker(pipeline.work, pipeline.replaced, pipeline.stopped, failed)
            for name in self._cameras:
                self._subscribe(name)
            self._deadline = self.create_timer(1.0, self._tick, clock=self._steady)
            self._deadline.cancel()
        except Exception as error:
            self._tell_failure("activate", error)
            self._stop()
            return Failure
        super().on_activate(state)
        self.problem, self._state = "", "active"
        self._warn_of(parameters.untaken(self, of_qos=True, cameras=self._cameras))
        self._log.info(f"listening to {', '.join(map(self._heard_topic, self._cameras))}")
        return Success

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, and finish the sweep in work."""
        self._stop()
        self._state = "inactive"
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of the model and the publishers."""
        self._release()
        self.problem, self._state = "", "unconfigured"
        return Success

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of everything, from any state."""
        self._stop()
        self._release()
        self._state = "finalized"
        return Success

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After a transition that raised: start over from unconfigured."""
        self._stop()
        self._release()
        self._state = "unconfigured"
        return Success

    def _change_state_if_possible(
        self,
        change: Callable[[ChangeState.Request, ChangeState.Response], ChangeState.Response],
        request: ChangeState.Request,
        response: ChangeState.Response,
    ) -> ChangeState.Response:
        """Refuse a transition that the state does not have; rclpy's own service would end the node."""
        try:
            return change(request, response)
        except RCLError as error:
            self._log.warning(f"refused, the node is {self._state}: {str(error).partition(', at')[0]}")
            response.success = False
            return response

    def _warn_of(self, problems: Sequence[str]) -> None:
        for problem in problems:
            self._log.warning(problem)

    def _tell_failure(self, transition: str, error: Exception) -> None:
        """Keep and log why a transition failed; with the traceback where no user could have caused it."""
        if isinstance(error, (FsmdeError, RuntimeError, OSError)):  # RuntimeError: torch, also out of memory
            self.problem, trace = f"cannot {transition}: {error}", ""
        else:
            self.problem = f"cannot {transition}: {type(error).__name__}: {error}"
            trace = "\n" + "".join(traceback.format_exception(error))
        self._log.error(self.problem + trace)

    def close(self) -> None:
        """End the worker and let go of everything, for good."""
        self._stop()
        self._release()
        LifecycleNode.destroy_node(self)

    def _configure(self) -> None:
        settings = self.settings
        rig = read_rig(settings.rig_file) if settings.rig_file else None
        self._cameras = settings.cameras or (rig.names if rig else ())
        if not self._cameras:
            raise ConfigError("parameters cameras and rig_file are both empty; set rig_file, or name the cameras")
        for name in self._cameras:
            parameters.check_camera_name(name, f"rig file {settings.rig_file}")
        self._assembler_config()
        if rig is None or settings.motion_fixed_frame:
            instead = "motion.odometry instead of motion.fixed_frame" if rig else "rig_file (rig_from_bag makes one)"
            self._tf = TfBuffer(self, f"parameters: set {instead}")
        extrinsics = self._build_extrinsics(rig)
        self._live_rig = LiveRig(self._cameras, extrinsics, rig, settings.input_rectified)
        self._depths = {name: BitDepth(partial(self._tell_bits, name)) for name in self._cameras}
        self._monitor = Monitor(self._cameras, self._full_name)
        with warnings_to(self._log.warning):
            self._estimator = self._build_estimator(settings)
            seconds = warm_up(self._estimator, len(self._cameras))
        self._beyond = BeyondTraining(self._estimator.card, self._log.warning)
        self._motion = self._build_motion(extrinsics.vehicle_frame)
        self._outputs = Outputs(self, self._cameras, extrinsics.vehicle_frame)
        card, backend = self._estimator.card, self._estimator.backend
        self._log.info(
            f"configured in the frame {extrinsics.vehicle_frame}: model {card.name} {card.input_size}, weights "
            f"{card.weights_sha256[:12]}, fsmde_ros {fsmde_ros.__version__}, on "
            f"{backend.name} (first run {seconds:.2f} s), cameras {', '.join(self._cameras)}, "
            f"{describe_heights(self._live_rig.rig(), extrinsics.ground_z)}; {settings.describe()}"
        )

    def _build_extrinsics(self, rig: Rig | None) -> Extrinsics:
        wanted = self.settings.vehicle_frame
        if rig is None:
            assert self._tf is not None
            return TfExtrinsics(self._tf, wanted or VEHICLE_FRAME, self.settings.ground_z)
        if wanted not in ("", rig.vehicle_frame):
            raise ConfigError(
                f"parameter vehicle_frame is '{wanted}', but the rig file {self.settings.rig_file} is in "
                f"'{rig.vehicle_frame}'; leave the parameter empty, or correct one of them"
            )
        if self.settings.ground_z not in (0.0, rig.ground_z):
            raise ConfigError(
                f"parameter ground_z is {self.settings.ground_z}, but the rig file {self.settings.rig_file} has "
                f"{rig.ground_z}; leave the parameter out, or correct one of them"
            )
        return RigFileExtrinsics(rig, self.settings.rig_file)

    def _build_motion(self, vehicle_frame: str) -> EgoMotion:
        if self.settings.motion_fixed_frame:
            assert self._tf is not None
            return TfMotion(self._tf, self.settings.motion_fixed_frame, vehicle_frame)
        topic = self.settings.motion_odometry
        return OdometryMotion(self, topic, vehicle_frame) if topic else NoMotion()

    def _assembler_config(self) -> AssemblerConfig:
        s = self.settings
        return AssemblerConfig(self._cameras, s.sync_anchor, s.sync_window_s, s.sync_deadline_s)

    @property
    def _full_name(self) -> str:
        """With the namespace: two nodes on one /diagnostics must not have one name."""
        name: str = self.get_fully_qualified_name()
        return name.lstrip("/")

    def _heard_topic(self, name: str) -> str:
        """Where the images of a camera are expected, namespace and remapping included."""
        topic: str = self.resolve_topic_name(self._topic(name))
        return topic

    def _topic(self, name: str) -> str:
        return f"{name}/{self.settings.input_form.topic}"

    def _subscribe(self, name: str) -> None:
        assert self._live_rig is not None
        kind = CompressedImage if self.settings.input_transport == "compressed" else Image
        for what, topic, callback, policies in (
            (CameraInfo, f"{name}/camera_info", partial(self._live_rig.take, name), CAMERA_INFO_POLICIES),
            (kind, self._topic(name), partial(self._take_image, name), INPUT_POLICIES),
        ):
            options = QoSOverridingOptions(policies)
            # A copy: rclpy writes the overrides of one topic into what it is given, and the next would have them.
            subscription = self.create_subscription(
                what, topic, callback, copy(INPUT_QOS), qos_overriding_options=options
            )
            self._subscriptions_in.append(subscription)

    def _take_image(self, name: str, message: CompressedImage | Image) -> None:
        assert self._synchroniser is not None
        assert self._live_rig is not None
        assert self._worker is not None
        assert self._estimator is not None
        now = time.monotonic()
        received = receive(message, self._depths[name])
        bad_stamp = stamp_problem(message.header.stamp.sec, message.header.stamp.nanosec)
        problem, rig = bad_stamp or received.problem, self._live_rig.rig()
        if not problem and rig is not None and name in rig:
            problem = size_problem(received, rig[name])
        stamp = None if bad_stamp else stamp_ns(message.header.stamp)
        self._monitor.took(name, now, message.header.frame_id, received.size, problem, stamp)
        if stamp is None:
            return
        # Not where a sweep waits already: this one may take its place, and its pixels would be for nothing. Nor where
        # sweeps may be skipped: which, is known by their stamps.
        is_sure = not self._worker.is_waiting() and self.settings.max_rate_hz == 0
        if is_sure and not problem and rig is not None and name in rig:
            received = begin(self._estimator, received, rig[name])
        self._submit(self._synchroniser.add(name, stamp, received, now))
        self._set_deadline()

    def _tell_bits(self, name: str, bits: int) -> None:
        """Say once what the images of a camera were found to hold; a thread that decodes calls it."""
        self._log.info(f"{name}: of the 16 bits of its images {bits} are in use; they are scaled by these from here on")

    def _tick(self) -> None:
        assert self._synchroniser is not None
        self._submit(self._synchroniser.tick(time.monotonic()))
        self._set_deadline()

    def _set_deadline(self) -> None:
        assert self._synchroniser is not None
        assert self._deadline is not None
        due = self._synchroniser.due
        if due is None:
            self._deadline.cancel()
            return
        self._deadline.timer_period_ns = max(MIN_WAIT_NS, round((due - time.monotonic()) * 1e9))
        self._deadline.reset()

    def _submit(self, sweeps: Sequence[AssembledSweep[ReceivedImage]]) -> None:
        assert self._worker is not None
        assert self._pipeline is not None
        assert self._live_rig is not None
        if sweeps:
            self._live_rig.refresh()
        for sweep in sweeps:
            job = make_job(sweep, self._live_rig)
            if not job.views:
                self._pipeline.unusable(job)
            elif self._rate_limit.passes(job.stamp_ns, len(job.views), self.settings.max_rate_hz):
                self._worker.submit(job)
            else:
                self._pipeline.skipped(job)

    def _sweep_failed(self, pipeline: Pipeline, job: Job, error: Exception) -> None:
        trace = "".join(traceback.format_exception(error))
        self._log.error(f"sweep {job.stamp_ns} failed:\n{trace}", throttle_duration_sec=5.0)
        pipeline.failed(job, error)

    def _apply(self, settings: Settings) -> None:
        self.settings = settings

    def _diagnose(self) -> None:
        now, live_rig, estimator = time.monotonic(), self._live_rig, self._estimator
        facts: dict[str, str] = {}
        if estimator is not None:
            facts |= {"model": estimator.card.name, "backend": estimator.backend.name}
        facts["motion"] = self._motion.describe()
        if live_rig is not None and self._beyond is not None:
            live_rig.refresh()
            facts["beyond_training"] = self._beyond.look(live_rig.rig())
            facts["rectified_frames"] = self._rectified_frames.look(live_rig.turns())
        synchroniser, worker = self._synchroniser, self._worker
        counters = synchroniser.counters if synchroniser else Counters()
        facts["silent"] = ",".join(synchroniser.silent()) if synchroniser else ""
        busy_s = worker.busy_s() if worker else 0.0
        degraded = ("" if estimator is None else degradation(estimator)) or self._motion.problem()
        statuses = [
            self._monitor.pipeline_status(self._state, self.problem, counters, busy_s, self.settings, facts, degraded)
        ]
        seen = {"pipeline": _seen(statuses[0], "judged")}
        if live_rig is not None:
            of_camera = synchroniser.camera_counters if synchroniser else {}
            elsewhere = self._elsewhere.find(self._monitor.unheard()) if synchroniser and self._elsewhere else {}
            for name in self._cameras:
                problem, has_info = live_rig.problem(name), live_rig.has_info(name)
                counts = of_camera.get(name, CameraCounters())
                topic, hint = self._heard_topic(name), elsewhere.get(name, "")
                statuses.append(
                    self._monitor.camera_status(name, now, topic, problem, has_info, counts, self._state, hint)
                )
                if not hint:  # else the log has it from where it was found
                    seen[name] = _seen(statuses[-1], "state")
        header = Header(stamp=self.get_clock().now().to_msg())
        self._diagnostics.publish(DiagnosticArray(header=header, status=statuses))
        if self._state == "active":
            self._tell_changes(seen)

    def _tell_changes(self, seen: Mapping[str, Seen]) -> None:
        """In the log, for those who do not read /diagnostics."""
        for is_warning, text in self._status_log.look(seen):
            if is_warning:
                self._log.warning(text)
            else:
                self._log.info(text)

    def _stop(self) -> None:
        for subscription in self._subscriptions_in:
            self.destroy_subscription(subscription)
        self._subscriptions_in = []
        if self._deadline is not None:
            self.destroy_timer(self._deadline)
        if self._worker is not None and not self._worker.stop():
            self._log.error("the sweep in work does not end; its thread is left behind with its estimator")
            self._estimator = None
        if self._pipeline is not None:
            self._pipeline.close()
        self._deadline = self._worker = self._pipeline = self._synchroniser = None

    def _release(self) -> None:
        if self._outputs is not None:
            self._outputs.close()
        if self._tf is not None:
            self._tf.close()
        self._motion.close()
        if self._estimator is not None:
            self._estimator.close()
        self._motion = NoMotion()
        self._outputs = self._tf = self._live_rig = self._beyond = self._estimator = None
        gc.collect()  # the caches of an estimator hold it in a circle, and with it the memory of its device


def _seen(status: DiagnosticStatus, judged: str) -> Seen:
    """A status for the log; ``judged``: which of its values says what is wrong."""
    return Seen(next(pair.value for pair in status.values if pair.key == judged), status.message)


def start(node: SurroundDepthNode) -> None:
    """Configure and activate; raises ConfigError with the reason where that fails."""
    managed: LifecycleNode = node
    if managed.trigger_configure() != Success or managed.trigger_activate() != Success:
        raise ConfigError(node.problem or "cannot start: a transition failed; see the log")


def run(ros_arguments: Sequence[str]) -> int:
    """Serve the node until SIGINT or SIGTERM; exit status 0, or 1 where it cannot start."""
    with StopSignal() as stop:
        init_ros(ros_arguments)
        try:
            node = SurroundDepthNode()
            if node.settings.autostart:
                start(node)
            executor = SingleThreadedExecutor()
            executor.add_node(node)
            while not stop and ok():
                executor.spin_once(timeout_sec=0.1)
            node.close()
            executor.shutdown()
        except ExternalShutdownException:
            return 0
        finally:
            try_shutdown()
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Exit status: 0 ended by a signal, 1 cannot start."""
    own, ros_arguments = split_ros_arguments(sys.argv[1:] if argv is None else argv)
    argparse.ArgumentParser(
        prog="surround_depth",
        description="Metric depth of a ring of cameras.",
        epilog="Everything is a ROS parameter: surround_depth --ros-args -p rig_file:=rig.yaml -p device:=cpu. "
        "The README lists them.",
    ).parse_args(own)
    try:
        return run(ros_arguments)
    except FsmdeError as error:
        print(f"surround_depth: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
