"""What became of a drive with faults: what was sent against what the node said, and what does not hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from fsmde_ros.chaos.faults import Event
from fsmde_ros.chaos.stream import Message, cameras
from fsmde_ros.node.fault_cases import Case
from fsmde_ros.node.rehearsal import Heard
from fsmde_ros.sources.grouping import group_frames

RECOVERY_SWEEPS = 2
OF_EVENTS = ("late", "strayed", "out_of_order", "resets")  # counters that follow from the case
Frame = tuple[str, int]  # name of a camera, stamp in nanoseconds


@dataclass(frozen=True)
class Result:
    """What became of the sweeps of a case.

    ``sweeps_in`` are those with at least one image, ``usable`` those with at least one good one;
    ``lost`` says of the usable ones that were not published why; ``counters`` are the node's own of
    single images, without those at 0, and ``injected`` what they had to be, of those that the faults
    determine. ``states`` are what diagnostics said of cameras, besides OK, while the drive played.
    ``recovery`` counts the sweeps after the end of the fault until one is complete again, with the
    calibration of the start; None where the fault lasts to the end. ``failures``: the checks that do
    not hold.
    """

    case: str
    sweeps_in: int
    usable: int
    published: int
    complete: int
    partial: int
    lost: Mapping[str, int]
    images_in: int
    images_good: int
    depths: int
    counters: Mapping[str, int]
    injected: Mapping[str, int]
    states: Sequence[str]
    recovery: int | None
    latency_p95_ms: float | None
    failures: Sequence[str]


def judge(
    case: Case,
    bag: Sequence[Message],
    drive: Sequence[Message],
    events: Sequence[Event],
    heard: Heard,
    failures: Sequence[str] = (),
) -> Result:
    """Compare what the node said with what was sent.

    Args:
        case: the faults.
        bag: the drive as it was recorded.
        drive: the drive with the faults.
        events: what was done to it.
        heard: what the node said.
        failures: what is known to be wrong already.
    """
    names, sweep_of = cameras(bag), sweeps_of_messages(bag)
    sent = [m for m in drive if m.is_image]
    cut, garbled = (_frames(events, kind, bag) for kind in ("corrupt", "garble"))
    frames = {(m.camera, m.stamp_ns or 0): sweep_of[m.index] for m in sent}
    good = {frame: sweep for frame, sweep in frames.items() if frame not in cut | garbled}
    usable = set(good.values())
    out = [frames[frame] for frame in heard.depths if frame in frames and frame not in cut]
    views = Counter(out)
    lost = _causes(heard)
    counters, injected = _counters(heard), _injected(case, sent, events, cut)
    missed = {fault.kind for fault in case.faults} - {event.kind for event in events}
    failures = [*failures, *(f"the fault {kind} touched nothing; is the bag long enough?" for kind in sorted(missed))]
    failures += [*_output_failures(case, heard, out, usable - set(out), lost)]
    failures += _counter_failures(case, counters, injected, views, len(names))
    said = {state for name in names for state in heard.states.get(name, ())} - {"OK"}
    failures += [f"no camera was said to be '{state}'" for state in case.states if state not in said]
    failures += [f"a camera was said to be '{state}'" for state in sorted(said - {*case.states, *case.may_say})]
    replaced = usable - set(out) if case.may_replace else set()
    well = Counter(frames[f] for f in heard.depths if f in frames and f not in _recalibrated(heard))
    recovery = recovery_sweeps(
        case, events, {i: k for i, k in sweep_of.items() if k not in replaced}, bag, well, len(names)
    )
    if recovery is not None and recovery > RECOVERY_SWEEPS:
        failures.append(f"{recovery} sweeps until the first complete one after the fault")
    if any(fault.kind == "calibration" and fault.size for fault in case.faults) and not _recalibrated(heard):
        failures.append("the other calibration was never used")
    latencies = sorted(r.total_ms for r in heard.reports if r.total_ms is not None)
    return Result(
        case=case.name,
        sweeps_in=len(set(frames.values())),
        usable=len(usable),
        published=len(views),
        complete=sum(count == len(names) for count in views.values()),
        partial=sum(count < len(names) for count in views.values()),
        lost=lost,
        images_in=len(sent),
        images_good=len(good),
        depths=len(out),
        counters={name: counters[name] for name in ("refused", "duplicate", *OF_EVENTS) if counters.get(name)},
        injected=injected,
        states=sorted(said),
        recovery=recovery,
        latency_p95_ms=round(latencies[int(0.95 * (len(latencies) - 1))], 1) if latencies else None,
        failures=failures,
    )


def sweeps_of_messages(bag: Sequence[Message]) -> dict[int, int]:
    """Number of the sweep that an image of the bag belongs to, by the index of its message."""
    by_camera: dict[str, list[Message]] = {}
    for message in bag:
        if message.is_image:
            by_camera.setdefault(message.camera, []).append(message)
    stamps = {name: [m.stamp_ns or 0 for m in messages] for name, messages in by_camera.items()}
    groups = group_frames(stamps, next(iter(sorted(stamps))))
    return {
        by_camera[name][frame].index: number
        for number, group in enumerate(groups)
        for name, frame in group.frames.items()
    }


def recovery_sweeps(
    case: Case,
    events: Sequence[Event],
    sweep_of: Mapping[int, int],
    bag: Sequence[Message],
    views: Mapping[int, int],
    size: int,
) -> int | None:
    """Sweeps after the last one that the faults touched, until one has all views; None if they last to the end."""
    # A CameraInfo has the stamp of its image, so that one of another calibration touches that sweep.
    images = {(m.camera, m.stamp_ns): m.index for m in bag if m.is_image}
    camera_of = {m.topic: m.camera for m in bag}
    indices = [images.get((camera_of[e.topic], e.stamp_ns), -1) for e in events]
    touched = [sweep_of[index] for index in indices if index in sweep_of]
    last = max(sweep_of.values())
    end = max((fault.end for fault in case.faults), default=float("inf"))
    if any(fault.kind == "clock_jump" for fault in case.faults):  # it is over as soon as it has happened
        touched = [min(touched, default=0) - 1]
    elif end == float("inf") or not touched or max(touched) >= last:
        return None
    after = sorted({k for k in sweep_of.values() if k > max(touched)})
    return next((number for number, k in enumerate(after) if views.get(k, 0) == size), len(after))


def _frames(events: Sequence[Event], kind: str, bag: Sequence[Message]) -> set[Frame]:
    """The frames that faults of a kind touched."""
    camera_of = {m.topic: m.camera for m in bag}
    return {(camera_of[e.topic], e.stamp_ns or 0) for e in events if e.kind == kind}


def _recalibrated(heard: Heard) -> set[Frame]:
    """Frames whose depth has another focal length than the first of its camera; by 1 %, no rounding error."""
    first: dict[str, float] = {}
    return {
        (name, stamp) for name, stamp, focal in heard.focals if abs(focal / first.setdefault(name, focal) - 1) > 0.01
    }


def _injected(case: Case, sent: Sequence[Message], events: Sequence[Event], cut: set[Frame]) -> dict[str, int]:
    """What the node's counters must be; of the images themselves where they tell, otherwise of the events."""
    frames = [(m.camera, m.stamp_ns or 0) for m in sent]
    own = {
        "messages": len(frames),
        "duplicate": len(frames) - len({(m.camera, m.stamp_ns, m.index) for m in sent}),
        "refused": sum(frame in cut for frame in frames),
    }
    of_events = {name: case.expected[name](events) if name in case.expected else 0 for name in OF_EVENTS}
    return {name: n for name, n in (own | of_events).items() if name not in case.undetermined}


def _output_failures(
    case: Case, heard: Heard, out: Sequence[int], unpublished: set[int], lost: Mapping[str, int]
) -> list[str]:
    """What is wrong with the images that came out."""
    failures = []
    if len(out) != len(heard.depths):
        failures.append(f"{len(heard.depths) - len(out)} depth images of images that were not sent or cut off")
    allowed = lost.get("replaced", 0) if case.may_replace else 0
    if len(unpublished) > allowed:
        failures.append(f"{len(unpublished)} sweeps with a good view were not published: {sorted(unpublished)[:10]}")
    # A sweep that was replaced is reported at once, before the one in work; it has no output.
    published = [report for report in heard.reports if not report.dropped]
    backward = sum(b.stamp_ns <= a.stamp_ns for a, b in pairwise(published))
    if backward > case.may_reset:
        failures.append(f"the output went back in time {backward} times")
    return failures


def _counter_failures(
    case: Case,
    counters: Mapping[str, int],
    injected: Mapping[str, int],
    views: Mapping[int, int],
    size: int,
) -> list[str]:
    """Counters that are not what was injected, or not what came out."""
    failures = []
    for name, wanted in injected.items():
        got = counters.get(name, 0)
        may_be_unread = name == "refused" and case.may_replace and got < wanted  # images of a replaced sweep are not
        if got != wanted and not may_be_unread:
            failures.append(f"{name}: {got} counted, {wanted} expected")
    for name, number in (
        ("complete", sum(count == size for count in views.values())),
        ("partial", sum(count < size for count in views.values())),
    ):
        if counters.get(name, 0) != number:
            failures.append(f"{counters.get(name, 0)} {name} sweeps were counted, {number} came")
    return failures


def _counters(heard: Heard) -> dict[str, int]:
    """The counters of the newest diagnostics: of the images, those refused, and of the sweeps that went out."""
    pipeline = heard.diagnostics.get("pipeline", {})
    prefix = "assembler "
    counts = {name.removeprefix(prefix): int(value) for name, value in pipeline.items() if name.startswith(prefix)}
    counts["refused"] = sum(int(v.get("refused", 0)) for name, v in heard.diagnostics.items() if name != "pipeline")
    return counts | {name: int(pipeline.get(name, 0)) for name in ("complete", "partial")}


def _causes(heard: Heard) -> dict[str, int]:
    """Dropped sweeps by cause."""
    return dict(Counter(report.reason.partition(":")[0] for report in heard.reports if report.dropped))
