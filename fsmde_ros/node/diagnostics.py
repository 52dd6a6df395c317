"""What the node knows of its cameras and its work, and how it says so.

One status for each camera, the most specific cause first, and one for the pipeline; a report for
every sweep. Messages are counted in two threads, hence the lock.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

from fsmde_ros.node.parameters import Settings
from fsmde_ros.sweep_assembler import PAUSE_S, CameraCounters, Counters

REPLACED, STOPPED = "replaced", "deactivated"  # the causes of drops that are no failure
UNUSABLE = "no usable view"  # a failure only where nothing else is published: one camera may be faster than the others
STALE_S = 1.0  # at least; five periods for a slow camera
LATENCIES = 200
OUTCOMES = 100  # sweeps over which the share of replaced ones is taken
MANY_REPLACED = 0.1
MANY_REPEATED = 0.5  # share of images with a stamp that was there before; a driver that sends each twice has this


@dataclass
class CameraRecord:
    """What came of one camera.

    Attributes:
        frames: images that arrived.
        arrivals: their last times, seconds of a steady clock.
        refused: images that could not be used.
        problem: why the last image that arrived cannot be used; empty where it seems to be usable.
        failed: why the last image that was worked on could not be used after all; empty where it could.
        frame_id: frame of the last image.
        size: (H, W) of the last readable image, pixels.
        stamp_ns: stamp of the last image, nanoseconds; None where it had none that can be used.
        repeated: images since the last diagnostics that had the stamp of the one before.
        told: the counters of the synchroniser at the last diagnostics.
    """

    frames: int = 0
    arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=20))
    refused: int = 0
    problem: str = ""
    failed: str = ""
    frame_id: str = ""
    size: tuple[int, int] | None = None
    stamp_ns: int | None = None
    repeated: int = 0
    told: CameraCounters = field(default_factory=CameraCounters)

    def rate_hz(self) -> float:
        """Frames a second, as most of the last ones came; 0 before the second one.

        By the median, so that a pause long ago does not make the camera a slow one.
        """
        gap = float(np.median(np.diff(self.arrivals))) if len(self.arrivals) > 1 else 0.0
        return 1 / gap if gap > 0 else 0.0


@dataclass
class PipelineRecord:
    """What came of the sweeps.

    Attributes:
        complete, partial: sweeps that were published.
        dropped: sweeps that were not, by cause.
        skipped: sweeps that were not, because ``max_rate_hz`` wants fewer.
        total_ms: the last latencies, milliseconds.
        last_error: why the last dropped sweep was dropped.
        failing: sweeps that could not be published since the last one that was.
        unusable: of these, had no usable view.
        outcomes: of the last sweeps, whether they were replaced by newer ones.
        published_at: when the last ones were published, seconds of a steady clock.
    """

    complete: int = 0
    partial: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    skipped: int = 0
    total_ms: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES))
    last_error: str = ""
    failing: int = 0
    unusable: int = 0
    outcomes: deque[bool] = field(default_factory=lambda: deque(maxlen=OUTCOMES))
    published_at: deque[float] = field(default_factory=lambda: deque(maxlen=20))

    def silent_s(self, now: float, max_rate_hz: float) -> float:
        """For how long no sweep has been published, seconds; 0 while that is as usual, or as ``max_rate_hz`` wants."""
        if not self.published_at:
            return 0.0
        usual = float(np.median(np.diff(self.published_at))) if len(self.published_at) > 1 else 0.0
        wanted = 1 / max_rate_hz if max_rate_hz > 0 else 0.0
        silent = now - self.published_at[-1]
        return silent if silent > max(STALE_S, 5 * usual, 5 * wanted) else 0.0

    def is_failing(self, silent_s: float) -> bool:
        """Whether sweeps fail, and not only those of a bad camera between the sweeps of the others.

        ``silent_s``: for how long nothing was published.
        """
        return self.failing > self.unusable or (self.failing > 0 and (silent_s > 0 or not self.published_at))

    def replaced_share(self) -> float:
        """Share of the last sweeps that were replaced by newer ones."""
        return sum(self.outcomes) / len(self.outcomes) if self.outcomes else 0.0


class Monitor:
    """Counts of the cameras and the pipeline, written by both threads of the node.

    ``node``: its name with its namespace, with which the names of the statuses begin.
    """

    def __init__(self, cameras: Sequence[str], node: str = "surround_depth") -> None:
        self._node = node
        self._lock = threading.Lock()
        self._cameras = {name: CameraRecord() for name in cameras}
        self._pipeline = PipelineRecord()

    def restart(self) -> None:
        """The synchroniser counts from 0 again, and what came before a pause is no sign of life any more."""
        with self._lock:
            for record in self._cameras.values():
                record.arrivals.clear()
                record.problem, record.failed, record.stamp_ns, record.repeated = "", "", None, 0
                record.told = CameraCounters()
            pipeline = self._pipeline
            for kept in (pipeline.total_ms, pipeline.outcomes, pipeline.published_at):
                kept.clear()
            pipeline.failing, pipeline.unusable, pipeline.last_error = 0, 0, ""

    def took(
        self,
        camera: str,
        now: float,
        frame_id: str,
        size: tuple[int, int] | None,
        problem: str,
        stamp_ns: int | None = None,
    ) -> None:
        """An image arrived at ``now``, with the reason why it cannot be used, or an empty one.

        ``stamp_ns``: its stamp, None where that cannot be used.
        """
        with self._lock:
            record = self._cameras[camera]
            # After a pause the same stamp is a bag of one sweep, played again.
            is_repeated = stamp_ns is not None and stamp_ns == record.stamp_ns and now - record.arrivals[-1] <= PAUSE_S
            record.repeated += is_repeated
            record.stamp_ns = stamp_ns
            record.frames += 1
            record.arrivals.append(now)
            record.frame_id, record.size, record.problem = frame_id, size or record.size, problem
            record.refused += bool(problem)

    def refused(self, camera: str, problem: str) -> None:
        """An image that had arrived could not be used after all; by then the next one may have arrived."""
        with self._lock:
            self._cameras[camera].failed = problem
            self._cameras[camera].refused += 1

    def decoded(self, cameras: Iterable[str]) -> None:
        """Images of these cameras could be used."""
        with self._lock:
            for camera in cameras:
                self._cameras[camera].failed = ""

    def published(self, is_complete: bool, total_ms: float) -> None:
        """A sweep went out."""
        with self._lock:
            self._pipeline.published_at.append(time.monotonic())
            self._pipeline.complete += is_complete
            self._pipeline.partial += not is_complete
            self._pipeline.total_ms.append(total_ms)
            self._pipeline.failing = self._pipeline.unusable = 0
            self._pipeline.outcomes.append(False)

    def dropped(self, cause: str, message: str) -> None:
        """A sweep did not go out; ``cause`` is a word to count by."""
        with self._lock:
            self._pipeline.dropped[cause] = self._pipeline.dropped.get(cause, 0) + 1
            self._pipeline.last_error = message
            self._pipeline.failing += cause not in (REPLACED, STOPPED)
            self._pipeline.unusable += cause == UNUSABLE
            if cause != UNUSABLE:  # which takes no turn of the worker
                self._pipeline.outcomes.append(cause == REPLACED)

    def skipped(self) -> None:
        """A sweep did not go out, as was wanted."""
        with self._lock:
            self._pipeline.skipped += 1

    def unheard(self) -> tuple[str, ...]:
        """Cameras of which no image has arrived since the node listens."""
        with self._lock:
            return tuple(name for name, record in self._cameras.items() if not record.arrivals)

    def camera_status(
        self,
        camera: str,
        now: float,
        topic: str,
        rig_problem: str,
        has_info: bool,
        counters: CameraCounters,
        node_state: str = "active",
        elsewhere: str = "",
    ) -> DiagnosticStatus:
        """State of a camera since the last time it was asked for.

        ``rig_problem``: why its calibration cannot be used; empty where it can. ``counters``: what
        the synchroniser has counted of its messages. ``node_state``: of the life cycle; a node that is not active
        does not listen, and says nothing about its cameras. ``elsewhere``: where images of a camera are that was never
        heard, and how to take them; empty where that is not known.
        """
        with self._lock:
            record = self._cameras[camera]
            if node_state == "active":
                level, state, message = _judge(record, now, topic, rig_problem, has_info, counters, elsewhere)
                record.told, record.repeated = replace(counters), 0
            else:
                level, state = DiagnosticStatus.OK, node_state
                message = f"not judged: the node is {node_state} and does not listen to {topic}"
            age = now - record.arrivals[-1] if record.arrivals else float("nan")
            values = {
                "state": state,
                "topic": topic,
                "frames": record.frames,
                "rate_hz": f"{record.rate_hz():.2f}",
                "age_s": f"{age:.3f}",
                "refused": record.refused,
                "late": counters.late,
                "out_of_order": counters.out_of_order,
                "duplicate": counters.duplicate,
                "strayed": counters.strayed,
                "frame_id": record.frame_id,
                "size": "" if record.size is None else f"{record.size[1]}x{record.size[0]}",
            }
        return _status(level, f"{self._node}: {camera}", message, values, self._node)

    def pipeline_status(
        self,
        state: str,
        problem: str,
        counters: Counters,
        busy_s: float,
        settings: Settings,
        facts: Mapping[str, str],
        degraded: str = "",
    ) -> DiagnosticStatus:
        """State of the pipeline; in the value ``judged`` what is wrong in a word or two, or OK.

        ``state`` is that of the life cycle, ``problem`` why a transition failed, ``busy_s`` the age
        of the sweep in work, ``degraded`` what had to be given up; ``facts`` go in as they are.
        """
        with self._lock:
            record = self._pipeline
            latencies = np.array(record.total_ms) if record.total_ms else np.full(1, np.nan)
            p50, p95, p99 = np.percentile(latencies, [50, 95, 99])
            silent_s = record.silent_s(time.monotonic(), settings.max_rate_hz)
            level, judged, message = _judge_pipeline(record, busy_s, silent_s, float(p95), settings, degraded)
            if problem:
                level, judged, message = DiagnosticStatus.ERROR, "cannot start", problem
            elif state != "active":
                level, judged, message = DiagnosticStatus.WARN, state, f"the node is {state}"
            values = {
                "state": state,
                "judged": judged,
                "complete": record.complete,
                "partial": record.partial,
                **{f"dropped ({cause})": count for cause, count in sorted(record.dropped.items())},
                "skipped": record.skipped,
                "last_error": record.last_error,
                **{f"latency_{name}_ms": f"{value:.1f}" for name, value in (("p50", p50), ("p95", p95), ("p99", p99))},
                "latency_budget_ms": settings.latency_budget_ms,
                "busy_s": f"{busy_s:.1f}",
                "degraded": degraded,
                **{f"assembler {name}": value for name, value in counters.as_dict().items()},
                **facts,
            }
        return _status(level, f"{self._node}: pipeline", message, values, self._node)


def _judge_pipeline(
    record: PipelineRecord, busy_s: float, silent_s: float, p95_ms: float, settings: Settings, degraded: str
) -> tuple[bytes, str, str]:
    """Level, what is wrong in a word or two, and message of an active pipeline."""
    error, warn = DiagnosticStatus.ERROR, DiagnosticStatus.WARN
    if busy_s > settings.stuck_after_s:
        message = f"stuck: one sweep has been in work for {busy_s:.1f} s; look at the backend and its device"
        return error, "stuck", message
    if record.is_failing(silent_s):
        return error, "failing", f"the last {record.failing} sweeps were not published: {record.last_error}"
    if not record.total_ms:
        return warn, "nothing yet", record.last_error or "no sweep was published yet"
    if silent_s:
        return warn, "silent", f"no sweep was published for {silent_s:.1f} s; see the cameras"
    if degraded:
        return warn, "degraded", degraded
    if record.replaced_share() > MANY_REPLACED:
        message = (
            f"{100 * record.replaced_share():.0f} % of the last sweeps were replaced by newer ones: the machine is "
            "slower than the cameras"
        )
        return warn, "too slow", message
    if p95_ms > settings.latency_budget_ms:
        message = f"latency p95 {p95_ms:.0f} ms is above the budget of {settings.latency_budget_ms:.0f} ms"
        return warn, "above the budget", message
    return DiagnosticStatus.OK, "OK", "sweeps are published"


def _judge(
    record: CameraRecord,
    now: float,
    topic: str,
    rig_problem: str,
    has_info: bool,
    counters: CameraCounters,
    elsewhere: str,
) -> tuple[bytes, str, str]:
    """Level, state and message of a camera."""
    error, warn = DiagnosticStatus.ERROR, DiagnosticStatus.WARN
    calibration = next(
        (w for w in ("no extrinsics", "uncalibrated", "no CameraInfo") if w in rig_problem), "bad CameraInfo"
    )
    if not record.arrivals:
        hint = f"; also {rig_problem}" if rig_problem else ""
        remedy = elsewhere or "check the driver, the topic and its QoS"
        return error, "no messages", f"no messages on {topic}; {remedy}{hint}"
    age, rate = now - record.arrivals[-1], record.rate_hz()
    if age > max(STALE_S, 5 / rate if rate > 0 else STALE_S):
        return error, "stale", f"stale: the last image on {topic} came {age:.1f} s ago"
    if rig_problem:
        return error, calibration, rig_problem
    unusable = record.problem or record.failed
    if unusable:
        state = next((state for state in ("wrong size", "bad stamp") if unusable.startswith(state)), "undecodable")
        return error, state, unusable
    new = counters.messages - record.told.messages
    strayed, late = counters.strayed - record.told.strayed, counters.late - record.told.late
    # A stamp that stands still is a duplicate to the synchroniser only until the other cameras have left it behind.
    repeated = max(counters.duplicate - record.told.duplicate, record.repeated)
    if repeated > MANY_REPEATED * new + 0.5:  # by half an image, where the first one of a pair was counted before
        return (
            error,
            "bad stamp",
            (
                f"bad stamp: repeats in {repeated} of the last {new} images; the driver must stamp each with the time "
                "of its exposure"
            ),
        )
    if strayed:
        return (
            error,
            "bad stamp",
            (
                f"bad stamp: {strayed} of the last {new} images were stamped far ahead of the other cameras; "
                "synchronise the clocks"
            ),
        )
    out_of_order = counters.out_of_order - record.told.out_of_order
    if out_of_order and 2 * out_of_order >= late:  # most of those that were late came behind newer ones
        return warn, "out of order", "out of order: images came after newer ones; look at the driver and its network"
    if late:
        return (
            warn,
            "late",
            (
                f"late: {late} of the last {new} images came when their sweep had left; look at the driver, its "
                "network and its clock, or raise sync.deadline_s"
            ),
        )
    if not has_info:
        return (
            warn,
            "no CameraInfo",
            "no CameraInfo, or an uncalibrated one: the intrinsics of the one before are used, or of the rig file",
        )
    return DiagnosticStatus.OK, "OK", f"OK, {rate:.1f} Hz"


@dataclass(frozen=True)
class SweepReport:
    """What became of one sweep, for ``~/sweep``.

    Attributes:
        stamp: reference stamp.
        views: cameras whose depth was published.
        missing: the other cameras.
        reason: in words; for a sweep that was not published why.
        state: "skipped" is one that was not, as was wanted; "dropped" one that was not, otherwise.
        times_ms: times by name (decode, network, stereo, publish, total); empty where it was not published.
        motion_m: how far a view was moved at most to be of the reference time, metres; None
            where the motion of the vehicle is not known.
    """

    stamp: Time
    views: tuple[str, ...]
    missing: tuple[str, ...]
    reason: str
    state: Literal["published", "dropped", "skipped"] = "published"
    times_ms: Mapping[str, float] = field(default_factory=dict)
    motion_m: float | None = None

    def to_line(self) -> str:
        """For the log; begins with the stamp as image headers have it."""
        state = f"published {len(self.views)} views" if self.state == "published" else self.state
        times = "".join(f", {name} {value:.1f} ms" for name, value in self.times_ms.items())
        return f"sweep {self.stamp.sec}.{self.stamp.nanosec:09d}: {state}{times}; {self.reason}"

    def to_message(self, frame_id: str) -> DiagnosticArray:
        """The message of ``~/sweep``."""
        published = DiagnosticStatus.WARN if self.missing else DiagnosticStatus.OK
        levels = {"published": published, "dropped": DiagnosticStatus.ERROR, "skipped": DiagnosticStatus.OK}
        values = {
            "views": ",".join(self.views),
            "missing": ",".join(self.missing),
            "state": self.state,
            "motion_m": "" if self.motion_m is None else f"{self.motion_m:.3f}",
            **{f"{name}_ms": f"{value:.3f}" for name, value in self.times_ms.items()},
        }
        status = _status(levels[self.state], "sweep", self.reason, values)
        return DiagnosticArray(header=Header(stamp=self.stamp, frame_id=frame_id), status=[status])


def _status(
    level: bytes, name: str, message: str, values: Mapping[str, object], node: str = "surround_depth"
) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return DiagnosticStatus(level=level, name=name, message=message, hardware_id=node, values=pairs)
