"""The five steps of docs/own_rig.md, as they stand there, on a drive of a rig that nobody has built."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from demo.processes import Children
from fsmde_ros.checkpoint import load_checkpoint
from fsmde_ros.geometry import rigid
from fsmde_ros.replay_settings import environment, heard_topics
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.rig_file import read_lidars
from fsmde_ros.sources.bag_writer import write_bag
from training.town.drive import TownDrive
from training.town.settings import TownSettings

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.timeout(600)]  # it renders a drive and trains

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 240
SIZE = (72, 128)
# name: yaw to the left, pitch down, roll (degrees), place (m), horizontal field of view (degrees)
CAMERAS = {
    "bumper": (4.0, -3.0, 0.0, (3.4, 0.2, 0.6), 100.0),
    "mirror_left": (80.0, 12.0, 5.0, (1.9, 1.0, 1.1), 110.0),
    "mirror_right": (-75.0, 10.0, -6.0, (1.9, -1.0, 1.2), 105.0),
    "roof_rear": (160.0, 15.0, 0.0, (-0.6, 0.3, 2.3), 95.0),
    "hatch": (-150.0, 5.0, 8.0, (-0.9, -0.4, 1.4), 90.0),
}
# Smaller than on the page: a test has seconds where a user has minutes.
SMALLER = ["--size", "[64, 96]", "--steps", "2", "--val_every", "2", "--batch_size", "1", "--loader_workers", "0"]
# Training, validation and test of the page, and what stands for them of a drive of eight sweeps: still a gap of one.
FEWER = {":-140": ":-5", "-110:-70": "-4:-2", "-40:": "-1:"}
VARIABLES = environment() | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}  # tests of real time run beside it


def odd_rig() -> Rig:
    """Five wide lenses in odd places."""
    optical = rigid([0.5, -0.5, 0.5, -0.5], [0, 0, 0])  # looks along x of the vehicle
    cameras = []
    for name, (yaw, pitch, roll, place, view) in CAMERAS.items():
        half = np.radians([yaw, pitch, roll]) / 2
        turns = [
            rigid([np.cos(half[0]), 0, 0, np.sin(half[0])], list(place)),
            rigid([np.cos(half[1]), 0, np.sin(half[1]), 0], [0, 0, 0]),
            rigid([np.cos(half[2]), np.sin(half[2]), 0, 0], [0, 0, 0]),
        ]
        focal = SIZE[1] / 2 / np.tan(np.radians(view) / 2)
        intrinsics = np.array([[focal, 0, SIZE[1] / 2 - 3], [0, focal, SIZE[0] / 2 + 2], [0, 0, 1]])
        matrix = turns[0] @ turns[1] @ turns[2] @ optical
        cameras.append(Camera(name, SIZE, intrinsics, matrix, frame=f"{name}_optical"))
    return Rig(tuple(cameras))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight sweeps of a town drive with the odd rig, as a bag."""
    drive = TownDrive(11, TownSettings.held_out(), odd_rig(), duration_s=0.8, camera_rate_hz=10.0)
    write_bag(tmp_path / "drive_bag", drive)
    return tmp_path


def commands() -> list[tuple[str, list[str]]]:
    """(module, arguments) of the page, in order."""
    lines = re.findall(r"^    \.venv/bin/python (-m \S+ .*)$", (ROOT / "docs" / "own_rig.md").read_text(), re.MULTILINE)
    # what lies in the checkout is named relative to it
    lines = [line.replace("training/configs", str(ROOT / "training" / "configs")) for line in lines]
    named = [part for line in lines for part in re.findall(r"samples=(\S+)", line)]
    assert named == list(FEWER), "the page divides the drive otherwise than this test knows"
    lines = [re.sub(r"(?<=samples=)\S+", lambda found: FEWER[found[0]], line) for line in lines]
    return [(words[1], words[2:]) for words in map(shlex.split, lines)]


def run(module: str, arguments: list[str], folder: Path, fine: tuple[int, ...] = (0,)) -> str:
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | VARIABLES, capture_output=True, text=True, timeout=WAIT_S
    )
    assert done.returncode in fine, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def test_from_a_bag_to_a_running_node(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = commands()
    modules = [module.removeprefix("fsmde_ros.") for module, _ in page]
    assert modules == [
        *("sources.convert", "check_rig", "training.distill", "training.evaluate"),
        *("node.surround_depth_node", "node.evaluator_node", "node.player"),
    ]
    (convert, check, distil, evaluate, node, evaluator, player) = page

    assert f"5 cameras ({', '.join(CAMERAS)}), LiDAR: lidar_top" in run(*convert, folder)
    assert "bumper" in run(*check, folder, fine=(0, 1))  # 1: cameras that are rolled look wrong, rightly
    assert "wrote own.safetensors" in run(distil[0], [*distil[1], *SMALLER], folder)
    _, card = load_checkpoint(folder / "own.safetensors")
    assert card.input_size == (64, 96)
    assert "a recorded bag, 2 steps" in card.training_data
    assert "validation/abs_rel" in card.metrics
    run(*evaluate, folder)
    assert (folder / "out" / "own_rig" / "evaluation" / "report.html").stat().st_size > 1000
    scores = json.loads((folder / "out" / "own_rig" / "evaluation" / "report.json").read_text())
    assert "metric" in json.dumps(scores)

    monkeypatch.chdir(folder)
    with Children(folder / "logs", VARIABLES) as children:
        children.start("node", node[0], [*node[1], "-p", "device:=cpu"])
        children.start("evaluator", *evaluator)
        children.wait_for_line("evaluator", "connected to the node", WAIT_S)
        heard = heard_topics(folder / "drive_bag", CAMERAS, read_lidars(folder / "rig.yaml"))
        children.start("player", player[0], [*player[1][:-1], str(WAIT_S), "--wait-for", *heard])
        children.wait("player", WAIT_S)
        children.stop("evaluator")
        children.stop("node")
    report = json.loads((folder / "report.json").read_text())
    assert set(report["views"]) == set(CAMERAS)
    assert report["overall"]["n"] > 100
