"""The node under every fault: what was sent, what came out, what was lost and why.

``python -m fsmde_ros.node.fault_matrix BAG RIG --out docs/results/faults.json --page docs/faults.md``
plays a short bag to the real node over DDS, once for each case, and checks what must hold.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fsmde_ros.chaos.bag_filter import read_messages
from fsmde_ros.chaos.faults import apply
from fsmde_ros.chaos.stream import Message, cameras
from fsmde_ros.checkpoint import default_checkpoint, find_checkpoint
from fsmde_ros.errors import ConfigError, FsmdeError
from fsmde_ros.interruption import INTERRUPTED, end_on_signals
from fsmde_ros.node.fault_cases import Case, all_cases
from fsmde_ros.node.fault_judge import Result, judge
from fsmde_ros.node.rehearsal import NodeProcess, Stage, cut, untrained_checkpoint
from fsmde_ros.provenance import describe_run
from fsmde_ros.replay_settings import environment, lossless, own_domain

DEADLINE_S = 0.1  # of the node, in the time of the bag
COLUMNS = (
    *("fault", "sweeps in", "published", "complete", "partial", "lost, and why", "counted (injected)"),
    *("states named", "recovery, sweeps", "p95 ms", "holds"),
)


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


def page(results: Sequence[Result], about: Mapping[str, Any], extra: Sequence[str] = ()) -> str:
    """The matrix as a page, with ``extra`` lines behind it."""
    inputs = about["inputs"]
    cores, processor = about["machine"]["cores"], about["machine"]["processor"]
    names = {name: f"{facts['name']} (SHA-256 {facts['sha256'][:12]})" for name, facts in inputs.items()}
    lines = [
        "# What the node does under faults",
        "",
        "The same figures are in `docs/results/faults.json`, with the hashes of the inputs and of the program. Made by",
        "",
        f"    {about['command']}",
        "",
        f"Bag: {about['bag'] or names['bag']}, checkpoint: {names['checkpoint']}; played at {about['rate']:g} of real",
        f"time on {cores} cores of {processor}; seed {about['seed']}, one run.",
        "",
        "The real node over DDS, taken down to unconfigured and up again before each case; the faults are those of",
        "`python -m fsmde_ros.chaos --help`. A case holds where the node does not end or hang; its output never goes",
        "back in time (but once, where the clock was set back); every sweep with at least one good view is published;",
        "every counter in `/diagnostics` equals what was injected, in brackets, and is 0 where nothing was (*any*",
        "where the fault leaves open how many); diagnostics name the states of cameras that the fault causes, and no",
        "other; and at most two sweeps after the end of the fault are incomplete or have another calibration. Where",
        "images come in bursts, the sweeps that a newer one replaced count as lost, because depth of the past is of no",
        "use on a vehicle.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|---" * len(COLUMNS) + "|",
    ]
    for r in results:
        lost = ", ".join(f"{count} {cause}" for cause, count in r.lost.items()) or "0"
        counted = ", ".join(f"{n} {name} ({r.injected.get(name, 'any')})" for name, n in r.counters.items()) or "0"
        recovery = "-" if r.recovery is None else str(r.recovery)
        cells = [r.case, r.sweeps_in, r.published, r.complete, r.partial, lost, counted, ", ".join(r.states) or "-"]
        cells += [recovery, r.latency_p95_ms, "; ".join(r.failures) or "yes"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join([*lines, *extra]) + "\n"


def write(results: Sequence[Result], about: Mapping[str, Any], out: Path, page_path: Path | None) -> None:
    """Write the results so far, as JSON and as a page."""
    for path in (out, page_path or out):
        path.parent.mkdir(parents=True, exist_ok=True)
    content = {**about, "results": [dataclasses.asdict(result) for result in results]}
    out.write_text(json.dumps(content, indent=1) + "\n")
    if page_path:
        page_path.write_text(page(results, about, loss_lines(out.parent / "frame_loss.json")))


def matrix(options: argparse.Namespace, command: str, domain: int) -> tuple[list[Result], int]:
    """Run the cases that are wanted with one node, one after another; also the node's exit status.

    Raises RehearsalError where the node does not come up, SourceError for a bag that cannot be read, ConfigError for
    options out of range, OSError where the results cannot be written.
    """
    if not (0 < options.rate < float("inf") and options.seconds > 0):
        raise ConfigError(f"--rate and --seconds must be above 0, got {options.rate:g} and {options.seconds:g}")
    results: list[Result] = []
    bag = cut(read_messages(options.bag), min(options.seconds, 1e6))
    if len(cameras(bag)) < 2:
        raise ConfigError(
            f"the bag has images of {cameras(bag)[0]} alone; expected those of two cameras or more, for the cases are "
            "about one among others"
        )
    with tempfile.TemporaryDirectory() as folder:
        if options.untrained:
            checkpoint = untrained_checkpoint(Path(folder) / "untrained.safetensors")
        else:
            checkpoint = options.checkpoint or default_checkpoint()
        inputs = {"bag": options.bag, "rig": options.rig, "checkpoint": checkpoint}
        told = {"command": command, "bag": options.about, "rate": options.rate, "seed": options.seed}
        about = {**told, **describe_run(inputs)}
        parameters = {**node_parameters(bag, options.rate), "rig_file": options.rig, "checkpoint": checkpoint}
        write(results, about, options.out, options.page)  # where that cannot be done, not a case later
        with NodeProcess(parameters, Path(folder) / "node.log", domain) as node, Stage(bag, domain) as stage:
            node.wait_until_active()
            for case in all_cases(cameras(bag)):
                if options.only and case.name not in options.only:
                    continue
                results.append(run_case(case, bag, node, stage, options.rate, options.seed))
                write(results, about, options.out, options.page)
                print(f"{case.name}: {'; '.join(results[-1].failures) or 'holds'}", flush=True)
            return results, node.stop()


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Exit status: 0 everything holds, 1 a check does not, 2 cannot run, 130 interrupted."""
    given = sys.argv[1:] if argv is None else argv
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
    parser.add_argument("--only", action="append", default=[], metavar="CASE", help="a case by its name; all without")
    parser.add_argument("--about", default="", help="what the bag is, for the page")
    options = parser.parse_args(given)
    known = [case.name for case in all_cases(("a", "b"))]
    if unknown := [name for name in options.only if name not in known]:
        parser.error(f"--only: no case {', '.join(unknown)}; there are: {'; '.join(known)}")
    domain = own_domain()
    os.environ.update(environment())
    command = f"python -m fsmde_ros.node.fault_matrix {shlex.join(map(str, given))}"
    end_on_signals()
    try:
        results, status = matrix(options, command, domain)
    except FsmdeError as error:
        print(f"fault_matrix: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"fault_matrix: {error.filename or options.out}: cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    print(f"{sum(not r.failures for r in results)} of {len(results)} cases hold; exit status of the node {status}")
    return int(status != 0 or any(result.failures for result in results))


if __name__ == "__main__":
    sys.exit(main())
