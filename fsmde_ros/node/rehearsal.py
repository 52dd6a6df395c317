"""The real node as a process, a drive that is played to it over DDS, and what it said.

What the fault matrix and the soak share. The drive is played from memory by this process, which
also listens, so that nothing but the node under test runs beside it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from fsmde_ros.chaos.stream import Message, cameras, first_image_ns
from fsmde_ros.checkpoint import save_checkpoint
from fsmde_ros.errors import FsmdeError
from fsmde_ros.model_card import ModelCard
from fsmde_ros.network.encoder import EncoderConfig, StageConfig
from fsmde_ros.network.student import Student, StudentConfig
from fsmde_ros.node.bag_topics import message_class
from fsmde_ros.node.messages import stamp_ns
from fsmde_ros.replay_settings import environment
from fsmde_ros.stamps import NS
from fsmde_ros.topics import DEPTH, DEPTH_INFO, POINTS, PREVIEW, STDDEV, SWEEP

QUEUE = QoSProfile(depth=200)
STARTED = "listening to "  # the node's line when it is active
WARM_S = 1.0  # s of a drive until the states of the cameras count: before, no camera has sent enough
START_S, STOP_S, QUIET_S, SETTLE_S = 180.0, 60.0, 1.0, 30.0


class RehearsalError(FsmdeError):
    """The node under test did not start, or ended on its own."""


@dataclass(frozen=True)
class Report:
    """One message of ``~/sweep``, and when it came (seconds of a steady clock)."""

    stamp_ns: int
    views: tuple[str, ...]
    dropped: bool
    reason: str
    total_ms: float | None
    arrived: float


@dataclass
class Heard:
    """What the node said.

    Attributes:
        reports: of ``~/sweep``, in the order of arrival.
        depths: camera and stamp of every depth image, in the order of arrival.
        focals: camera, stamp and focal length (f_x, pixels) of the CameraInfo of every depth image.
        diagnostics: values of the newest status by its name, with "level" and "message".
        states: every state that a camera or the pipeline was said to be in while faults were about
            to come, by name.
        others: messages of the cloud, the preview and stddev, by topic; they are taken as bytes.
    """

    reports: list[Report] = field(default_factory=list)
    depths: list[tuple[str, int]] = field(default_factory=list)
    focals: list[tuple[str, int, float]] = field(default_factory=list)
    diagnostics: dict[str, dict[str, str]] = field(default_factory=dict)
    states: dict[str, set[str]] = field(default_factory=dict)
    others: dict[str, int] = field(default_factory=dict)


class NodeProcess:
    """``surround_depth`` with parameters; its output goes to a log file. A context manager that ends it."""

    def __init__(self, parameters: Mapping[str, object], log: Path, domain: int) -> None:
        arguments = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
        command = [sys.executable, "-m", "fsmde_ros.node.surround_depth_node", "--ros-args", *arguments]
        self.log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment(domain)},
            )

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def wait_until_active(self) -> None:
        """Return when the node listens. Raises RehearsalError where it ends or takes too long."""
        deadline = time.monotonic() + START_S
        while STARTED not in self.log.read_text(errors="replace"):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RehearsalError(f"the node did not start; the end of {self.log}:\n{self.tail()}")
            time.sleep(0.1)

    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def stop(self) -> int:
        """End the node with SIGINT; its exit status, negative where it had to be killed."""
        if self.is_alive():
            self._process.send_signal(signal.SIGINT)
        try:
            return self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def tail(self) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])

    def usage(self) -> tuple[float, int]:
        """Resident memory in MiB and number of threads, as the kernel counts them."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        values = dict(line.split(":", 1) for line in lines if ":" in line)
        return int(values["VmRSS"].split()[0]) / 1024, int(values["Threads"])


class Stage:
    """Publishers for the topics of a drive and subscriptions to what the node says. A context manager."""

    def __init__(self, drive: Sequence[Message], domain: int) -> None:
        self.heard = Heard()
        self._is_watching = False
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        self._node = Node("rehearsal", context=self._context, start_parameter_services=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self.cameras = cameras(drive)
        types = {m.topic: m.msgtype for m in drive if m.camera in self.cameras or m.msgtype == "nav_msgs/msg/Odometry"}
        self._images = [m.topic for m in {m.topic: m for m in drive if m.is_image}.values()]
        kinds = {topic: message_class(msgtype) for topic, msgtype in types.items()}
        self._publishers = {
            topic: self._node.create_publisher(kind, topic, QUEUE) for topic, kind in kinds.items() if kind is not None
        }
        self._outputs = {
            f"/{POINTS}": PointCloud2,
            f"/{PREVIEW}": CompressedImage,
            **{f"/{name}/{STDDEV}": Image for name in self.cameras},
        }
        self._change = self._node.create_client(ChangeState, "/surround_depth/change_state")
        self._node.create_subscription(DiagnosticArray, f"/{SWEEP}", self._take_report, QUEUE)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._take_diagnostics, QUEUE)
        for name in self.cameras:
            self._node.create_subscription(Image, f"/{name}/{DEPTH}", self._taker(name), QUEUE)
            self._node.create_subscription(CameraInfo, f"/{name}/{DEPTH_INFO}", self._info_taker(name), QUEUE)
        for topic, kind in self._outputs.items():
            self._node.create_subscription(kind, topic, self._counter(topic), QUEUE, raw=True)

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    def renew_node(self) -> None:
        """Take the node down to unconfigured and up again, so that it knows nothing of what was.

        Raises RehearsalError where a transition fails or does not come to an end.
        """
        down = (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)
        for number in (*down, Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            deadline = time.monotonic() + START_S
            while not self._change.service_is_ready() and time.monotonic() < deadline:
                self._executor.spin_once(timeout_sec=0.05)
            future = self._change.call_async(ChangeState.Request(transition=Transition(id=number)))
            while not future.done() and time.monotonic() < deadline:
                self._executor.spin_once(timeout_sec=0.05)
            if not future.done() or not future.result().success:
                raise RehearsalError(f"transition {number} of the node failed or did not come to an end")
        self.heard = Heard()
        self.wait_for_node()

    def wait_for_node(self) -> None:
        """Return when the node hears all images and is heard itself. Raises RehearsalError otherwise."""
        own = [f"/{SWEEP}", *self._outputs, *(f"/{name}/{DEPTH}" for name in self.cameras)]
        deadline = time.monotonic() + START_S
        while not (
            all(self._publishers[topic].get_subscription_count() == 1 for topic in self._images)
            and all(self._node.count_publishers(topic) == 1 for topic in own)
        ):
            if time.monotonic() > deadline:
                raise RehearsalError("the node does not listen to the images of the drive; does the rig file fit it?")
            self._executor.spin_once(timeout_sec=0.05)
        self.spin(1.0)

    def play(self, drive: Sequence[Message], rate: float = 1.0) -> int:
        """Publish a drive at its own pace; the number of images that went out."""
        begin_bag, begin, sent = min(m.time_ns for m in drive if m.is_image), time.monotonic(), 0
        for message in drive:
            if message.topic not in self._publishers:
                continue
            self._is_watching = message.time_ns - begin_bag > WARM_S * NS
            due = begin + max(0, message.time_ns - begin_bag) / NS / rate
            while (left := due - time.monotonic()) > 0:
                self._executor.spin_once(timeout_sec=min(left, 0.01))
            self._publishers[message.topic].publish(message.data)
            sent += message.is_image
        self._is_watching = False
        return sent

    def settle(self) -> None:
        """Listen until the node has said nothing new of a sweep for a while, and one diagnostics more."""
        deadline, quiet, count = time.monotonic() + SETTLE_S, time.monotonic(), len(self.heard.reports)
        while time.monotonic() < deadline and time.monotonic() - quiet < QUIET_S:
            self._executor.spin_once(timeout_sec=0.05)
            if len(self.heard.reports) != count:
                quiet, count = time.monotonic(), len(self.heard.reports)
        self.heard.diagnostics.clear()
        while time.monotonic() < deadline and not self.heard.diagnostics:
            self._executor.spin_once(timeout_sec=0.05)

    def spin(self, seconds: float) -> None:
        """Listen for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=min(left, 0.05))

    def _take_report(self, message: DiagnosticArray) -> None:
        status = message.status[0]
        values = {pair.key: pair.value for pair in status.values}
        self.heard.reports.append(
            Report(
                stamp_ns(message.header.stamp),
                tuple(name for name in values["views"].split(",") if name),
                values["state"] != "published",
                status.message,
                float(values["total_ms"]) if "total_ms" in values else None,
                time.monotonic(),
            )
        )

    def _take_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            name = status.name.partition(": ")[2]
            values = {pair.key: pair.value for pair in status.values}
            self.heard.diagnostics[name] = {**values, "level": str(ord(status.level)), "message": status.message}
            if self._is_watching:
                state = values["state"] if name in self.cameras else status.message
                self.heard.states.setdefault(name, set()).add(state)

    def _counter(self, topic: str):  # type: ignore[no-untyped-def]  # a callback of rclpy
        def count(message: bytes) -> None:
            self.heard.others[topic] = self.heard.others.get(topic, 0) + 1

        return count

    def _info_taker(self, camera: str):  # type: ignore[no-untyped-def]  # a callback of rclpy
        def take(message: CameraInfo) -> None:
            self.heard.focals.append((camera, stamp_ns(message.header.stamp), float(message.k[0])))

        return take

    def _taker(self, camera: str):  # type: ignore[no-untyped-def]  # a callback of rclpy
        def take(message: Image) -> None:
            self.heard.depths.append((camera, stamp_ns(message.header.stamp)))

        return take


def untrained_checkpoint(path: Path) -> Path:
    """A network of random weights and small pictures, with which any machine keeps up with the cameras."""
    torch.manual_seed(0)
    stages = (
        StageConfig(3, 2, 1, 8, 1),
        StageConfig(3, 2, 2, 8, 1),
        StageConfig(5, 2, 2, 16, 1),
        StageConfig(3, 2, 2, 16, 2),
    )
    config = StudentConfig(
        EncoderConfig(stem_channels=8, stages=stages, frozen_stages=0),
        bins=16,
        attention_dim=16,
        attention_heads=2,
        attention_blocks=1,
        decoder_widths=(8, 8, 8),
    )
    save_checkpoint(
        path, Student(config).eval(), ModelCard("untrained", config, (64, 96), "none", "none", "Apache-2.0")
    )
    return path


def cut(drive: Sequence[Message], seconds: float) -> list[Message]:
    """The messages of the first ``seconds``, counted from the first image; raises SourceError where there is none."""
    begin = first_image_ns(drive)
    return [message for message in drive if message.time_ns < begin + round(seconds * NS)]
