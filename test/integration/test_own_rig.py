"""The five steps of the README, as they stand there, on a drive of another rig."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from demo.drives import DriveBag
from demo.replay import environment
from fsmde_ros.rig_file import read_lidars, read_rig
from fsmde_ros.sources.bag import sweeps
from fsmde_ros.sources.bag_writer import write_bag

pytestmark = [pytest.mark.ros, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 240


def steps() -> dict[str, list[str]]:
    """Command line by module, of the section of the README."""
    section = (ROOT / "README.md").read_text().split("## Your own rig in five steps")[1].split("\n## ")[0]
    lines = re.findall(r"\.venv/bin/python (-m \S+ .*)$", section, flags=re.MULTILINE)
    assert len(lines) >= 5
    return {shlex.split(line)[1]: [sys.executable, *shlex.split(line)] for line in reversed(lines)}


@pytest.fixture
def folder(town: DriveBag, tmp_path: Path) -> Path:
    """The town's drive with four of its cameras, under other names."""
    rig = read_rig(town.rig)
    names = dict(zip(rig.names[:4], ("ahead", "starboard", "port", "aft"), strict=True))
    cameras = tuple(replace(rig[old], name=new, frame=f"{new}_optical") for old, new in names.items())
    other = replace(rig, cameras=cameras)
    found = sweeps(town.bag, rig, read_lidars(town.rig))
    renamed = (replace(s, rig=other, views={names[n]: v for n, v in s.views.items() if n in names}) for s in found)
    write_bag(tmp_path / "drive_bag", renamed)
    return tmp_path


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, env=_environment(), capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def start(command: list[str], folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, cwd=folder, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _environment() -> dict[str, str]:
    return os.environ | environment() | {"PYTHONPATH": str(ROOT)}


def test_the_five_steps(folder: Path) -> None:
    written = steps()
    said = run(written["fsmde_ros.sources.convert"], folder)
    assert "rig.yaml: 4 cameras (ahead, starboard, port, aft), LiDAR: lidar_top" in said
    said = run(written["fsmde_ros.check_rig"], folder)
    assert "starboard" in said
    assert "warning" not in said
    assert len(np.unique(cv2.imread(str(folder / "rig_check" / "scan.png")))) > 50
    node = start([*written["fsmde_ros.node.surround_depth_node"], "-p", "device:=cpu"], folder)
    evaluator = start(written["fsmde_ros.node.evaluator_node"], folder)
    try:
        run([*written["fsmde_ros.node.player"][:-1], str(WAIT_S)], folder)
        evaluator.send_signal(signal.SIGINT)
        table = evaluator.communicate(timeout=WAIT_S)[0]
        node.send_signal(signal.SIGINT)
        node.communicate(timeout=60)
    finally:
        for process in (node, evaluator):
            process.kill()
            process.wait()
    assert evaluator.returncode == 0, table
    report = json.loads((folder / "report.json").read_text())
    assert set(report["views"]) == {"ahead", "starboard", "port", "aft"}
    assert report["overall"]["n"] > 100
    assert "overall" in table
