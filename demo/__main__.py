"""The main job, end to end: a drive goes in, six metric depth images and one cloud come out.

python -m demo                                    a town nobody trained on (rendered once, then cached)
python -m demo --drive nuscenes:../data/nuscenes  a real drive in the nuScenes schema
python -m demo --drive ddad:../data/ddad          a real drive in the DDAD schema
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from demo.drives import DriveName, TownSize, prepare
from demo.replay import RunOptions, run
from fsmde_ros.checkpoint import default_checkpoint, find_checkpoint, shipped_names
from fsmde_ros.errors import CheckpointError, FsmdeError
from fsmde_ros.interruption import INTERRUPTED, end_on_signals
from fsmde_ros.option_types import above_0, image_size
from fsmde_ros.picture import draw
from fsmde_ros.replay_report import format_report
from fsmde_ros.rig_file import read_rig
from fsmde_ros.sources.recorded_depth import middle_of_fullest, snapshots

Result = TypeVar("Result")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo. Exit status: 0 done, 1 something failed (said on stderr), 130 interrupted."""
    options = _parser().parse_args(arguments)
    end_on_signals()
    try:
        _demo(options)
    except FsmdeError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"demo: cannot be written: {error.filename or options.out}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted; nothing is left running", file=sys.stderr)
        return INTERRUPTED
    return 0


def _demo(options: argparse.Namespace) -> None:
    out: Path = options.out
    name = DriveName.parse(options.drive)
    checkpoint = options.checkpoint or default_checkpoint()
    if not checkpoint.is_file():  # the node would say so too, minutes later
        raise CheckpointError(f"checkpoint '{checkpoint}': no such file; the package has {shipped_names()}")
    out.mkdir(parents=True, exist_ok=True)
    town = TownSize(options.size, options.duration, options.workers)
    drive = _stage(f"drive {options.drive}", lambda: prepare(name, town, options.cache, out, options.scene))
    rig = read_rig(drive.rig)
    run_options = RunOptions(checkpoint, options.device, options.pace, options.rate)
    _stage(f"replay of {drive.bag.name} through the node", lambda: run(drive, rig, run_options, out))
    report = json.loads((out / "report.json").read_text())
    table = format_report(report)
    _stage("picture", lambda: _picture(drive.bag, out, f"{name.kind} {Path(name.place).name}", report))
    print(f"\n{table}\n")
    for what, path in (
        ("report", out / "report.json"),
        ("picture", out / "surround.png"),
        ("depth and clouds", out / "output_bag"),
        ("bag that was played", drive.bag),
        ("rig file", drive.rig),
        ("logs", out / "logs"),
    ):
        print(f"{what:20} {path}")


def _picture(bag: Path, out: Path, drive: str, report: dict[str, Any]) -> None:
    rig = read_rig(bag.parent / "rig.yaml")
    overall, plane, sweeps = report["overall"], report["baseline"]["ground_plane"], report["sweeps"]
    lines = [
        f"{drive}, against LiDAR: AbsRel {overall['abs_rel']:.3f}, delta1 {overall['d1']:.3f} ({overall['n']} points)",
        f"ground plane, no network: AbsRel {plane['abs_rel']:.3f}, delta1 {plane['d1']:.3f}",
        f"sweeps: {sweeps['in']} in, {sweeps['complete']} complete, {sweeps['partial']} partial, {sweeps['lost']} lost",
    ]
    snapshot = next(snapshots(out / "output_bag", bag, rig, middle_of_fullest))
    draw(snapshot, out / "surround.png", lines)


def _stage(title: str, work: Callable[[], Result]) -> Result:
    """Do a part of the work, telling what it is and how long it took."""
    print(f"==> {title}", flush=True)
    started = time.monotonic()
    result = work()
    print(f"    {time.monotonic() - started:.1f} s", flush=True)
    return result


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--drive", default="town:held-out", help="town:held-out, town:SEED, nuscenes:DIR or ddad:DIR")
    parser.add_argument("--scene", help="name of the scene, where a data set has several")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder of the results (out/demo)")
    parser.add_argument("--cache", type=Path, default=Path(".cache/demo"), help="rendered towns (.cache/demo)")
    parser.add_argument("--checkpoint", type=find_checkpoint, help="of the node: file, or one of the package (small)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (auto)")
    parser.add_argument(
        "--pace", choices=("node", "clock"), default="node", help="as fast as the node keeps up, or real time (node)"
    )
    parser.add_argument("--rate", type=above_0(), default=1.0, help="speed under --pace clock (1.0)")
    parser.add_argument("--duration", type=above_0(), default=10.0, help="seconds of a town's drive (10)")
    parser.add_argument(
        "--size",
        type=image_size(),
        default=TownSize.image,
        metavar="HxW",
        help="images of a town (256x448)",
    )
    parser.add_argument("--workers", type=int, default=TownSize.workers, help="processes that render (all cores)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
