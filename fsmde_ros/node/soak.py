"""The node for as long as you like, with faults on: memory, latency and counters over time.

``python -m fsmde_ros.node.soak BAG RIG --minutes 60`` plays a bag over and over to the real node, as
one drive without an end: stamps go on from turn to turn, and every turn has faults of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from fsmde_ros.chaos.bag_filter import read_messages
from fsmde_ros.chaos.faults import Fault, apply
from fsmde_ros.chaos.stream import Message, cameras, first_image_ns
from fsmde_ros.checkpoint import default_checkpoint, find_checkpoint
from fsmde_ros.errors import ConfigError, FsmdeError
from fsmde_ros.interruption import INTERRUPTED, end_on_signals
from fsmde_ros.node.rehearsal import NodeProcess, Stage, untrained_checkpoint
from fsmde_ros.provenance import describe_run
from fsmde_ros.replay_settings import environment, lossless, own_domain
from fsmde_ros.topics import POINTS, PREVIEW

FAULTS = (
    Fault("drop", share=0.05),
    Fault("corrupt", share=0.01),
    Fault("duplicate", share=0.02),
    Fault("jitter", amount=0.01),
    Fault("delay", share=0.01, amount=0.3),
)
COUNTERS = ("complete", "partial", "assembler messages", "assembler late", "assembler duplicate", "assembler resets")


@dataclass(frozen=True)
class Sample:
    """The node at one moment.

    Attributes:
        at_s: seconds since the start.
        rss_mib, threads: of its process.
        sweeps: reports since the sample before; of these ``dropped`` were not published.
        p50_ms, p99_ms: latency of the published ones; None without any.
        clouds, previews, stddevs: messages that came of the cloud, the preview and the uncertainty.
        counters: of the newest diagnostics, since the start of the node.
    """

    at_s: float
    rss_mib: float
    threads: int
    sweeps: int
    dropped: int
    p50_ms: float | None
    p99_ms: float | None
    counters: Mapping[str, int]
    clouds: int = 0
    previews: int = 0
    stddevs: int = 0


@dataclass(frozen=True)
class Pace:
    """How long to play, seconds between two samples, and the speed of the bag."""

    seconds: float
    every_s: float
    rate: float

    def __post_init__(self) -> None:
        if not (self.seconds > 0 and self.every_s > 0 and 0 < self.rate < float("inf")):
            raise ConfigError(
                "--minutes, --every (seconds) and --rate must be above 0, got "
                f"{self.seconds / 60:g}, {self.every_s:g} and {self.rate:g}"
            )


def turn(bag: Sequence[Message], number: int, seed: int) -> list[Message]:
    """The drive of one turn: all stamps, also of ``/tf``, go on where the turn before ended; faults are its own."""
    first = cameras(bag)[0]
    times = [message.time_ns for message in bag if message.is_image and message.camera == first]
    length = (max(times) - min(times)) * len(times) // max(1, len(times) - 1)  # one period more than first to last
    shift = number * length
    moved = [message.sent_at(message.time_ns + shift).shifted(shift) for message in bag]
    drive, _ = apply(moved, list(FAULTS), seed + number)
    return drive


def soak(
    bag: Sequence[Message],
    parameters: Mapping[str, object],
    pace: Pace,
    seed: int,
    keep: Callable[[Sequence[Sample]], object],
) -> tuple[list[Sample], int]:
    """Play turns at a pace; the samples, and the exit status of the node. ``keep`` takes them after each one.

    Raises RehearsalError where the node does not start; ends early where it does not live on.
    """
    domain = own_domain()
    samples: list[Sample] = []
    with tempfile.TemporaryDirectory() as folder:
        given = {"sync.deadline_s": 0.1 / pace.rate, "diagnostics.period_s": 1.0, **lossless(cameras(bag))}
        with NodeProcess({**given, **parameters}, Path(folder) / "node.log", domain) as node:
            node.wait_until_active()
            with Stage(bag, domain) as stage:
                stage.wait_for_node()
                begin, taken, number = time.monotonic(), time.monotonic(), 0
                while time.monotonic() - begin < pace.seconds and node.is_alive():
                    stage.play(turn(bag, number, seed), pace.rate)
                    number += 1
                    if node.is_alive() and (time.monotonic() - taken >= pace.every_s or not samples):
                        taken = time.monotonic()
                        samples.append(sample(stage, node, taken - begin))
                        keep(samples)
                stage.settle()
                if node.is_alive():
                    samples.append(sample(stage, node, time.monotonic() - begin))
            return samples, node.stop()


def sample(stage: Stage, node: NodeProcess, at_s: float) -> Sample:
    """What the node is like now; the reports that were heard are used up."""
    reports = [*stage.heard.reports]
    stage.heard.reports.clear()
    stage.heard.depths.clear()
    stage.heard.focals.clear()
    others = dict(stage.heard.others)
    stage.heard.others.clear()
    latencies = [report.total_ms for report in reports if report.total_ms is not None]
    p50, p99 = np.percentile(latencies, [50, 99]).round(1).tolist() if latencies else (None, None)
    pipeline = stage.heard.diagnostics.get("pipeline", {})
    rss, threads = node.usage()
    return Sample(
        round(at_s, 1),
        round(rss, 1),
        threads,
        len(reports),
        sum(report.dropped for report in reports),
        p50,
        p99,
        {name: int(pipeline[name]) for name in COUNTERS if name in pipeline},
        others.get(f"/{POINTS}", 0),
        others.get(f"/{PREVIEW}", 0),
        sum(count for topic, count in others.items() if topic.endswith("/stddev")),
    )


def summary(samples: Sequence[Sample], status: int | None) -> dict[str, object]:
    """Growth of memory from the first sixth of the time to the last, likewise of latency; crashes.

    ``status``: exit status of the node; None while it runs.
    """
    end = samples[-1].at_s if samples else 0.0
    first = [s for s in samples if s.at_s <= end / 6] or [*samples[:1]]
    last = [s for s in samples if s.at_s >= end * 5 / 6]

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return round(float(np.mean(known)), 2) if known else None

    memory = mean([s.rss_mib for s in first]), mean([s.rss_mib for s in last])
    return {
        "seconds": end,
        "exit_status": status,
        "sweeps": sum(s.sweeps for s in samples),
        "dropped": sum(s.dropped for s in samples),
        "clouds": sum(s.clouds for s in samples),
        "previews": sum(s.previews for s in samples),
        "stddevs": sum(s.stddevs for s in samples),
        "rss_mib_first_sixth": memory[0],
        "rss_mib_last_sixth": memory[1],
        "memory_growth_percent": round(100 * (memory[1] / memory[0] - 1), 2) if memory[0] and memory[1] else None,
        "p99_ms_first_sixth": mean([s.p99_ms for s in first]),
        "p99_ms_last_sixth": mean([s.p99_ms for s in last]),
        "threads_first_and_last": [samples[0].threads, samples[-1].threads] if samples else [],
    }


def write(
    out: Path, about: Mapping[str, object], samples: Sequence[Sample], status: int | None = None
) -> dict[str, object]:
    """Write what was measured so far as JSON; returns it. ``about``: what goes before it. Raises OSError."""
    content: dict[str, object] = {
        **about,
        "faults": [fault.kind for fault in FAULTS],
        "summary": summary(samples, status),
        "samples": [dataclasses.asdict(s) for s in samples],
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(content, indent=1) + "\n")
    return content


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Exit status: 0 the node lived to the end, 1 it did not, 2 cannot run, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="soak", description="Run the node for long, with faults on.")
    parser.add_argument("bag", type=Path, help="a bag of some seconds")
    parser.add_argument("rig", type=Path, help="its rig file")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=30.0, help="seconds between two samples (30)")
    parser.add_argument("--rate", type=float, default=1.0, help="speed of the bag (1.0)")
    parser.add_argument("--checkpoint", type=find_checkpoint, help="file, or one of the package (small)")
    parser.add_argument("--untrained", action="store_true", help="a small network of random weights instead")
    parser.add_argument("--backend", default="auto", help="of the node (auto)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("docs/results/soak.json"))
    options = parser.parse_args(argv)
    given = shlex.join(sys.argv[1:] if argv is None else argv)
    os.environ.update(environment())
    parameters: dict[str, object] = {"rig_file": options.rig, "backend": options.backend}
    end_on_signals()
    try:
        pace = Pace(60 * options.minutes, options.every, options.rate)
        bag = read_messages(options.bag)
        first_image_ns(bag)  # a soak without images would be none
        with tempfile.TemporaryDirectory() as folder:
            if options.untrained:
                options.checkpoint = untrained_checkpoint(Path(folder) / "untrained.safetensors")
            checkpoint = options.checkpoint or default_checkpoint()
            parameters["checkpoint"] = checkpoint
            about = describe_run({"bag": options.bag, "rig": options.rig, "checkpoint": checkpoint})
            about = {"command": f"python -m fsmde_ros.node.soak {given}", **about}
            keep = partial(write, options.out, about)
            keep([])  # where that cannot be done, not an hour later
            samples, status = soak(bag, parameters, pace, options.seed, keep)
            content = keep(samples, status)
    except FsmdeError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        print(f"soak: {error.filename or options.out}: cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    print(json.dumps(content["summary"], indent=1))
    return int(status != 0)


if __name__ == "__main__":
    sys.exit(main())
