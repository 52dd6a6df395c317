"""The run itself: node, recorder, evaluator and player as processes over DDS."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from demo.drives import DriveBag
from demo.processes import Children
from fsmde_ros.replay_settings import environment, heard_topics, lossless, patience
from fsmde_ros.rig import Rig
from fsmde_ros.rig_file import read_lidars
from fsmde_ros.topics import DEPTH, DEPTH_INFO, POINTS, SWEEP

START_S = 120.0  # a cold start of the node imports torch and warms the network up
RUN_S = 1800.0


@dataclass(frozen=True)
class RunOptions:
    """How to run: see ``python -m demo --help``."""

    checkpoint: Path
    device: str = "auto"
    pace: str = "node"
    rate: float = 1.0


def recorded_topics(rig: Rig) -> list[str]:
    """What the node publishes and the demo keeps."""
    depth = [f"/{name}/{what}" for name in rig.names for what in (DEPTH, DEPTH_INFO)]
    return [*depth, f"/{POINTS}", f"/{SWEEP}", "/diagnostics"]


def run(drive: DriveBag, rig: Rig, options: RunOptions, out: Path) -> None:
    """Play the drive through the node; leaves ``report.json``, ``output_bag`` and ``logs`` in ``out``.

    Raises ChildError, with the end of its log, where one of the processes fails.
    """
    shutil.rmtree(out / "output_bag", ignore_errors=True)
    shutil.rmtree(out / "logs", ignore_errors=True)
    node: dict[str, object] = {"rig_file": drive.rig, "checkpoint": options.checkpoint, "device": options.device}
    node |= lossless(rig.names) | patience(options.pace)
    parameters = [argument for key, value in node.items() for argument in ("-p", f"{key}:={value}")]
    hashes = ["--bag", drive.bag, "--checkpoint", options.checkpoint]
    scoring = ["--rig", drive.rig, "--out", out / "report.json", "--max-depth", drive.max_depth]
    pace = ["--pace", options.pace, "--rate", options.rate]
    heard = [
        "--wait-for",
        *heard_topics(drive.bag, rig.names, read_lidars(drive.rig)),
        "--wait-for-subscribers",
        START_S,
    ]
    with Children(out / "logs", environment()) as children:
        children.start("node", "fsmde_ros.node.surround_depth_node", ["--ros-args", *parameters])
        children.start("evaluator", "fsmde_ros.node.evaluator_node", [*scoring, *hashes])
        children.start("recorder", "fsmde_ros.node.recorder", [out / "output_bag", "--topics", *recorded_topics(rig)])
        children.wait_for_line("evaluator", "connected to the node", START_S)
        children.wait_for_line("recorder", "complete: connected", START_S)
        children.start("player", "fsmde_ros.node.player", [drive.bag, *pace, *heard])
        children.wait("player", RUN_S)
        for name in ("recorder", "evaluator", "node"):
            children.stop(name)
