"""The node under every fault: what was sent, what came out, what was lost and why.

``python -m fsmde_ros.node.fault_matrix BAG RIG --out docs/results/faults.json --page docs/faults.md``
plays a short bag to the real node over DDS, once for each case, and checks what must hold.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from fsmde_ros.chaos.bag_filter import read_messages
from fsmde_ros.chaos.faults import Event, Fault, apply
from fsmde_ros.chaos.stream import Message, cameras
from fsmde_ros.checkpoint import find_checkpoint
from fsmde_ros.errors import FsmdeError
from fsmde_ros.node.rehearsal import Heard, NodeProcess, Stage, cut, untrained_checkpoint
from fsmde_ros.replay_settings import environment, lossless
from fsmde_ros.sources.grouping import group_frames

DEADLINE_S = 0.1  # of the node, in the time of the bag
RECOVERY_SWEEPS = 2
BEGIN, MIDDLE, END = 1.98, 2.98, 3.98  # s; at 12 Hz between two sweeps, even of cameras that fire in turn
COLUMNS = (
    *("fault", "sweeps in", "published", "complete", "partial", "lost, and why", "lost images"),
    *("states named", "recovery, sweeps", "p95 ms", "holds"),
)


@dataclass(frozen=True)
class Case:
    """One row of the matrix.

    Attributes:
        name: in words.
        faults: what is injected.
        expected: counters of the assembler that must equal what was injected: name to a function
            of the events.
        may_replace: the fault itself brings several sweeps at once, of which the newest is taken.
        may_reset: stamps go back, so that the output may go back once.
    """

    name: str
    faults: tuple[Fault, ...] = ()
    expected: Mapping[str, Callable[[Sequence[Event]], int]] = field(default_factory=dict)
    may_replace: bool = False
    may_reset: bool = False


@dataclass(frozen=True)
class Result:
    """What became of the sweeps of a case.

    ``sweeps_in`` are those with at least one image, ``usable`` those with at least one good one;
    ``lost`` says of the usable ones that were not published why; ``images_lost`` the same of single
    images, from the node's own counters. ``recovery`` counts the sweeps after the end of the fault
    until one is complete again; None where the fault lasts to the end. ``failures``: the checks
    that do not hold.
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
    images_lost: Mapping[str, int]
    states: Sequence[str]
    recovery: int | None
    latency_p95_ms: float | None
    failures: Sequence[str]


def all_cases(names: Sequence[str]) -> tuple[Case, ...]:
    """The matrix, for a bag of at least 5 s with cameras ``names``."""
    one, two = (names[0],), tuple(names[:2])
    count = len
    return (
        Case("none"),
        Case("5 % of the images lost", (Fault("drop", share=0.05),)),
        Case("half of the images lost", (Fault("drop", BEGIN, END, share=0.5),)),
        Case("one camera dead for 2 s", (Fault("dead", BEGIN, END, one),)),
        Case("all cameras dead for 1 s", (Fault("dead", BEGIN, MIDDLE),)),
        Case("one camera 0.3 s late", (Fault("delay", BEGIN, END, one, amount=0.3),), {"late": count}),
        Case("arrival jitter up to 20 ms", (Fault("jitter", BEGIN, END, amount=0.02),)),
        Case("images of one camera change places", (Fault("reorder", BEGIN, END, one),), {"out_of_order": _half}),
        Case("images twice", (Fault("duplicate", BEGIN, END, share=0.5),), {"duplicate": count}),
        Case("corrupt bytes in a third of the images", (Fault("corrupt", BEGIN, END, share=0.33),), {"refused": count}),
        Case("one camera blank", (Fault("blank", BEGIN, END, one),)),
        Case("two cameras swapped", (Fault("swap", BEGIN, END, two),)),
        Case("other calibration of one camera", (Fault("calibration", BEGIN, END, one),)),
        Case("one camera uncalibrated", (Fault("calibration", BEGIN, END, one, amount=0.0),)),
        Case("clock set forward 5 s", (Fault("clock_jump", MIDDLE, amount=5.0),), {"resets": _none, "strayed": _none}),
        Case(
            "clock set back 5 s",
            (Fault("clock_jump", MIDDLE, amount=-5.0371),),
            {"resets": lambda _: 1},
            may_reset=True,
        ),
        Case("clock of one camera an hour ahead", (Fault("wrong_clock", BEGIN, END, one),), {"strayed": count}),
        Case(
            "clock of one camera an hour behind",
            (Fault("wrong_clock", BEGIN, END, one, amount=-3600.0),),
            {"late": count},
        ),
        Case("one camera at half the rate", (Fault("rate", BEGIN, END, one),)),
        Case("all cameras at a third of the rate", (Fault("rate", BEGIN, END, amount=3.0),)),
        Case(
            "images held back and sent in bursts of 0.5 s", (Fault("burst", BEGIN, END, amount=0.5),), may_replace=True
        ),
        Case(
            "5 % lost, 5 % corrupt, 5 % twice, jitter",
            (
                Fault("drop", share=0.05),
                Fault("corrupt", share=0.05),
                Fault("duplicate", share=0.05),
                Fault("jitter", amount=0.01),
            ),
        ),
    )


def _half(events: Sequence[Event]) -> int:
    return len(events) // 2


def _none(events: Sequence[Event]) -> int:
    return 0


def node_parameters(bag: Sequence[Message], rate: float) -> dict[str, object]:
    """Parameters of a node to which the bag is played at ``rate``: its deadline is in the time of the bag."""
    given = {"sync.deadline_s": DEADLINE_S / rate, "diagnostics.period_s": 0.2, "stuck_after_s": 30.0}
    return {**given, **lossless(cameras(bag))}


def run_case(case: Case, bag: Sequence[Message], node: NodeProcess, stage: Stage, rate: float, seed: int) -> Result:
    """Play the bag with the faults of a case to a node that is taken down and up again before.

    Raises RehearsalError where the node is gone or does not come up.
    """
    drive, events = apply(list(bag), list(case.faults), seed)
    stage.renew_node()
    stage.play(drive, rate)
    stage.settle()
    failures = [] if node.is_alive() else [f"the node ended: {node.tail()}"]
    return judge(case, bag, drive, events, stage.heard, failures)


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
    sweep_of = sweeps_of_messages(bag)
    corrupt = {(e.topic, e.stamp_ns) for e in events if e.kind == "corrupt"}
    sent = [m for m in drive if m.is_image]
    good = {(m.camera, m.stamp_ns): sweep_of[m.index] for m in sent if (m.topic, m.stamp_ns) not in corrupt}
    usable = set(good.values())
    out = [good[key] for key in heard.depths if key in good]
    views = {k: out.count(k) for k in set(out)}
    size = len(cameras(bag))
    counters = _counters(heard)
    failures = [*failures]
    if len(out) != len(heard.depths):
        failures.append(f"{len(heard.depths) - len(out)} depth images of images that were not sent")
    lost = _causes(heard)
    unpublished = usable - set(out)
    allowed = lost.get("replaced", 0) if case.may_replace else 0
    if len(unpublished) > allowed:
        failures.append(f"{len(unpublished)} sweeps with a good view were not published: {sorted(unpublished)[:10]}")
    # A sweep that was replaced is reported at once, before the one in work; it has no output.
    published = [report for report in heard.reports if not report.dropped]
    backward = sum(b.stamp_ns <= a.stamp_ns for a, b in pairwise(published))
    if backward > case.may_reset:
        failures.append(f"the output went back in time {backward} times")
    for name, of_events in case.expected.items():
        if counters.get(name, 0) != of_events(events):
            failures.append(f"{name} is {counters.get(name, 0)}, {of_events(events)} were injected")
    if counters.get("messages", 0) != len(sent):
        failures.append(f"{counters.get('messages', 0)} images were counted, {len(sent)} sent")
    replaced = unpublished if case.may_replace else set()
    recovery = recovery_sweeps(case, events, {i: k for i, k in sweep_of.items() if k not in replaced}, bag, views, size)
    if recovery is not None and recovery > RECOVERY_SWEEPS:
        failures.append(f"{recovery} sweeps until the first complete one after the fault")
    latencies = sorted(r.total_ms for r in heard.reports if r.total_ms is not None)
    return Result(
        case=case.name,
        sweeps_in=len({sweep_of[m.index] for m in sent}),
        usable=len(usable),
        published=len(set(out)),
        complete=sum(count == size for count in views.values()),
        partial=sum(count < size for count in views.values()),
        lost=lost,
        images_in=len(sent),
        images_good=len(good),
        depths=len(out),
        images_lost={
            name: counters[name] for name in ("late", "strayed", "duplicate", "refused") if counters.get(name)
        },
        states=sorted({s for name, states in heard.states.items() if name in cameras(bag) for s in states} - {"OK"}),
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
    stamps = {(m.topic, m.stamp_ns): m.index for m in bag}
    touched = [sweep_of[i] for e in events if (i := stamps.get((e.topic, e.stamp_ns), -1)) in sweep_of]
    last = max(sweep_of.values())
    end = max((fault.end for fault in case.faults), default=float("inf"))
    if any(fault.kind == "clock_jump" for fault in case.faults):  # it is over as soon as it has happened
        touched = [min(touched, default=0) - 1]
    elif end == float("inf") or not touched or max(touched) >= last:
        return None
    after = sorted({k for k in sweep_of.values() if k > max(touched)})
    return next((number for number, k in enumerate(after) if views.get(k, 0) == size), len(after))


def _counters(heard: Heard) -> dict[str, int]:
    """The counters of the newest diagnostics: those of the assembler, and images that were refused."""
    pipeline = heard.diagnostics.get("pipeline", {})
    prefix = "assembler "
    counts = {name.removeprefix(prefix): int(value) for name, value in pipeline.items() if name.startswith(prefix)}
    counts["refused"] = sum(int(v.get("refused", 0)) for name, v in heard.diagnostics.items() if name != "pipeline")
    return counts


def _causes(heard: Heard) -> dict[str, int]:
    """Dropped sweeps by cause."""
    causes: dict[str, int] = {}
    for report in heard.reports:
        if report.dropped:
            cause = report.reason.partition(":")[0]
            causes[cause] = causes.get(cause, 0) + 1
    return causes


def loss_lines(path: Path) -> list[str]:
    """What ``fsmde_ros.node.frame_loss`` has measured, as lines of the page; none where it has not."""
    if not path.is_file():
        return []
    measured = json.loads(path.read_text())
    lines = [
        "",
        "## Lost frames, beside message_filters",
        "",
        f"`python -m fsmde_ros.node.frame_loss`: {measured['sweeps']} simulated sweeps of the nuScenes rig at 12 Hz,",
        f"{100 * measured['loss']:g} % of the frames of each camera lost, window {measured['window_s']} s, "
        f"{len(measured['own'])} runs; {measured['about'] or 'message_filters as installed'}.",
        "",
        "| | sweeps with a frame | came out | whole | mixed |",
        "|---|---|---|---|---|",
    ]
    for name in ("own", "message_filters"):
        for run in measured.get(name, []):
            lines.append(f"| {name} | {run['sweeps_in']} | {run['out']} | {run['whole']} | {run['mixed']} |")
    return lines


def page(results: Sequence[Result], about: Mapping[str, object], extra: Sequence[str] = ()) -> str:
    """The matrix as a page, with ``extra`` lines behind it."""
    lines = [
        "# What the node does under faults",
        "",
        "Written by `python -m fsmde_ros.node.fault_matrix`; the same figures are in `docs/results/faults.json`.",
        f"{about['bag']}; node at {about['rate']} of real time with the checkpoint {about['checkpoint']},",
        f"on {about['machine']}; seed {about['seed']}, one run.",
        "",
        "The real node over DDS, taken down to unconfigured and up again before each case; the faults are those of",
        "`python -m fsmde_ros.chaos --help`. A case holds where the node does not end or hang; its output never goes",
        "back in time (but once, where the clock was set back); every sweep with at least one good view is published;",
        "the counters in `/diagnostics` equal what was injected; and at most two sweeps after the end of the fault",
        "are incomplete. *Lost images* are the node's own counters. Where images come in bursts, the sweeps that a",
        "newer one replaced count as lost, because depth of the past is of no use on a vehicle.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|---" * len(COLUMNS) + "|",
    ]
    for r in results:
        lost = ", ".join(f"{count} {cause}" for cause, count in r.lost.items()) or "0"
        images = ", ".join(f"{count} {cause}" for cause, count in r.images_lost.items()) or "0"
        recovery = "-" if r.recovery is None else str(r.recovery)
        cells = [r.case, r.sweeps_in, r.published, r.complete, r.partial, lost, images, ", ".join(r.states) or "-"]
        cells += [recovery, r.latency_p95_ms, "; ".join(r.failures) or "yes"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join([*lines, *extra]) + "\n"


def write(results: Sequence[Result], options: argparse.Namespace) -> None:
    """Write the results so far, as JSON and as a page."""
    about = {
        "bag": options.about or options.bag.name,
        "rate": options.rate,
        "checkpoint": options.checkpoint.name if options.checkpoint else "of the package",
        "machine": f"{os.cpu_count()} cores ({platform.machine()})",
        "seed": options.seed,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    content = {**about, "results": [dataclasses.asdict(result) for result in results]}
    options.out.write_text(json.dumps(content, indent=1) + "\n")
    if options.page:
        options.page.write_text(page(results, about, loss_lines(options.out.parent / "frame_loss.json")))


def matrix(options: argparse.Namespace, domain: int) -> tuple[list[Result], int]:
    """Run the cases that are wanted with one node, one after another; also the node's exit status.

    Raises RehearsalError where the node does not come up, SourceError for a bag that cannot be read.
    """
    results: list[Result] = []
    bag = cut(read_messages(options.bag), min(options.seconds, 1e6))
    with tempfile.TemporaryDirectory() as folder:
        if options.untrained:
            options.checkpoint = untrained_checkpoint(Path(folder) / "untrained.safetensors")
        parameters = {**node_parameters(bag, options.rate), "rig_file": options.rig}
        parameters |= {"checkpoint": options.checkpoint} if options.checkpoint else {}
        with NodeProcess(parameters, Path(folder) / "node.log", domain) as node, Stage(bag, domain) as stage:
            node.wait_until_active()
            for case in all_cases(cameras(bag)):
                if options.only and not any(word in case.name for word in options.only):
                    continue
                results.append(run_case(case, bag, node, stage, options.rate, options.seed))
                write(results, options)
                print(f"{case.name}: {'; '.join(results[-1].failures) or 'holds'}", flush=True)
            return results, node.stop()


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Exit status: 0 everything holds, 1 a check does not, 2 cannot run."""
    parser = argparse.ArgumentParser(prog="fault_matrix", description="Run the node under every fault.")
    parser.add_argument("bag", type=Path, help="a bag of at least 5 s")
    parser.add_argument("rig", type=Path, help="its rig file")
    parser.add_argument("--out", type=Path, default=Path("docs/results/faults.json"))
    parser.add_argument("--page", type=Path, help="also as a page (Markdown)")
    parser.add_argument("--checkpoint", type=find_checkpoint, help="file, or one of the package (small)")
    parser.add_argument("--untrained", action="store_true", help="a small network of random weights instead")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="use only so much of the bag (all)")
    parser.add_argument("--rate", type=float, default=0.5, help="speed of the bag, so that the machine keeps up (0.5)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=[], help="cases whose names contain one of these words")
    parser.add_argument("--about", default="", help="where the bag is from, for the page")
    options = parser.parse_args(argv)
    domain = os.getpid() % 100 + 1
    os.environ.update(environment(domain))
    try:
        results, status = matrix(options, domain)
    except FsmdeError as error:
        print(f"fault_matrix: {error}", file=sys.stderr)
        return 2
    print(f"{sum(not r.failures for r in results)} of {len(results)} cases hold; exit status of the node {status}")
    return int(status != 0 or any(result.failures for result in results))


if __name__ == "__main__":
    sys.exit(main())
