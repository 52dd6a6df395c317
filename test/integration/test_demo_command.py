"""``python -m demo`` as a user runs it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
from rosbags.rosbag2 import Reader

pytestmark = [pytest.mark.ros, pytest.mark.slow]

TOWN = ("--drive", "town:7", "--size", "108x192", "--duration", "0.25", "--workers", "2")


def demo(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    places = ("--out", folder / "out", "--cache", folder / "cache", "--device", "cpu")
    command = [sys.executable, "-m", "demo", *map(str, (*places, *arguments))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str], status: int) -> str:
    try:
        output = process.communicate(timeout=200)[0]
    finally:
        process.kill()
    assert process.returncode == status, output
    assert "Traceback" not in output
    return output


def test_a_town_from_nothing_and_from_the_cache(tmp_path: Path, untrained: Path) -> None:
    output = finish(demo(tmp_path, *TOWN, "--checkpoint", untrained), 0)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["sweeps"]["lost"] == 0
    assert report["sweeps"]["complete"] == report["sweeps"]["in"] >= 3
    assert report["inputs"]["checkpoint"]["name"] == "untrained.safetensors"
    assert str(tmp_path) not in json.dumps(report), "paths of one machine say nothing on another"
    assert cv2.imread(str(tmp_path / "out" / "surround.png")) is not None
    with Reader(tmp_path / "out" / "output_bag") as reader:
        assert "/surround_depth/points" in reader.topics
    assert "ground plane" in output
    assert f"report               {tmp_path / 'out' / 'report.json'}" in output

    again = finish(demo(tmp_path, *TOWN, "--checkpoint", untrained), 0)
    assert "taken from" in again
    assert "rendering" not in again
    repeated = json.loads((tmp_path / "out" / "report.json").read_text())
    assert repeated["inputs"] == report["inputs"]
    assert repeated["overall"] == pytest.approx(report["overall"], rel=1e-4)


def test_a_bad_checkpoint_ends_the_demo_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_text("not a checkpoint")
    output = finish(demo(tmp_path, *TOWN, "--checkpoint", tmp_path / "bad.safetensors"), 1)
    assert "'node' ended with status" in output
    assert "cannot be read as safetensors" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_running(tmp_path: Path, untrained: Path, number: int) -> None:
    process = demo(tmp_path, *TOWN, "--checkpoint", untrained)
    deadline = time.monotonic() + 120
    while not (tmp_path / "out" / "logs" / "recorder.log").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(number)
    assert "interrupted; nothing is left running" in finish(process, 130)
    logs = str(tmp_path / "out")
    running = [p.name for p in Path("/proc").iterdir() if p.name.isdigit() and logs in _command(p)]
    assert not running


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


@pytest.mark.parametrize(
    ("drive", "message"),
    [
        ("kitti:somewhere", "the drive must be town:held-out, town:SEED, nuscenes:FOLDER or ddad:FOLDER"),
        ("nuscenes:no/such/folder", "no folder 'no/such/folder'"),
    ],
)
def test_a_drive_that_is_none_is_refused(tmp_path: Path, untrained: Path, drive: str, message: str) -> None:
    assert message in finish(demo(tmp_path, "--drive", drive, "--checkpoint", untrained), 1)
