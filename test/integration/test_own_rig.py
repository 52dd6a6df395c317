"""The five steps of the README, as they stand there, on a drive of another rig."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from demo.drives import DriveBag
from demo.processes import Children
from fsmde_ros.replay_settings import environment, heard_topics
from fsmde_ros.rig_file import read_lidars, read_rig
from fsmde_ros.sources.bag import sweeps
from fsmde_ros.sources.bag_writer import write_bag

pytestmark = [pytest.mark.ros, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 240


def steps() -> dict[str, list[str]]:
    """Arguments by module, of the section of the README."""
    section = (ROOT / "README.md").read_text().split("## Your own rig in five steps")[1].split("\n## ")[0]
    lines = re.findall(r"\.venv/bin/python (-m \S+ .*)$", section, flags=re.MULTILINE)
    assert len(lines) >= 5
    return {words[1]: words[2:] for words in map(shlex.split, reversed(lines))}


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


def test_the_five_steps(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    written = steps()
    with Children(folder / "logs", environment() | {"PYTHONPATH": str(ROOT)}) as children:

        def run(name: str, module: str, arguments: list[str]) -> str:
            children.start(name, module, arguments)
            children.wait(name, WAIT_S)
            return children.log(name).read_text()

        module = "fsmde_ros.sources.convert"
        said = run("convert", module, written[module])
        assert "rig.yaml: 4 cameras (ahead, starboard, port, aft), LiDAR: lidar_top" in said
        module = "fsmde_ros.check_rig"
        said = run("check_rig", module, written[module])
        assert "starboard" in said
        assert "warning" not in said
        assert len(np.unique(cv2.imread(str(folder / "rig_check" / "scan.png")))) > 50
        module = "fsmde_ros.node.surround_depth_node"
        children.start("node", module, [*written[module], "-p", "device:=cpu"])
        module = "fsmde_ros.node.evaluator_node"
        children.start("evaluator", module, written[module])
        children.wait_for_line("evaluator", "connected to the node", WAIT_S)
        rig = folder / "rig.yaml"
        heard = heard_topics(folder / "drive_bag", read_rig(rig).names, read_lidars(rig))
        module = "fsmde_ros.node.player"
        run("player", module, [*written[module][:-1], str(WAIT_S), "--wait-for", *heard])
        children.stop("evaluator")
        children.stop("node")
        table = children.log("evaluator").read_text()
    report = json.loads((folder / "report.json").read_text())
    assert set(report["views"]) == {"ahead", "starboard", "port", "aft"}
    assert report["overall"]["n"] > 100
    assert "overall" in table
