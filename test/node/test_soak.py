"""The soak for twenty seconds, and the arithmetic of its summary."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from fsmde_ros.chaos.bag_filter import read_messages
from fsmde_ros.chaos.stream import Message
from fsmde_ros.images import encode_jpeg
from fsmde_ros.node import soak
from fsmde_ros.node.rehearsal import Heard
from fsmde_ros.node.soak import FAULTS, Sample, main, summary, turn
from fsmde_ros.provenance import sha256_of
from fsmde_ros.rig_file import write_rig
from fsmde_ros.sources.bag_writer import write_bag
from fsmde_ros.sweep import Sweep, View

NAMES = ("left", "middle", "right")
SIZE = (96, 160)
START, PERIOD, STEP, COUNT = 1_600_000_000_000_000_000, 100_000_000, 15_000_000, 30


@pytest.fixture(scope="module")
def drive(tmp_path_factory, ring):
    """A bag of 3 s at 10 Hz and the rig file that fits it."""
    folder = tmp_path_factory.mktemp("drive")
    rig = ring(NAMES, SIZE)
    image = encode_jpeg(np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8))
    sweeps = [
        Sweep(
            rig,
            START + k * PERIOD,
            {n: View(image, START + k * PERIOD + i * STEP, np.eye(4)) for i, n in enumerate(NAMES)},
        )
        for k in range(COUNT)
    ]
    write_bag(folder / "bag", sweeps)
    write_rig(rig, folder / "rig.yaml")
    return folder


def test_turns_go_on_in_time_and_have_faults_of_their_own(drive):
    bag = read_messages(drive / "bag")
    first, second = turn(bag, 0, 1), turn(bag, 1, 1)
    assert {f.kind for f in FAULTS} == {"drop", "corrupt", "duplicate", "jitter", "delay"}

    def stamps(messages: list[Message]) -> set[int]:
        return {m.stamp_ns for m in messages if m.is_image and m.camera == "left"}

    assert max(stamps(first)) < min(stamps(second))
    assert {s - START for s in stamps(first)} <= {k * PERIOD for k in range(COUNT)}
    assert {(s - START) % PERIOD for s in stamps(second)} == {0}, "no jump between two turns"
    assert min(stamps(second)) - START <= (COUNT + 3) * PERIOD
    lost = [
        set(range(COUNT)) - {(s - START) // PERIOD - n * COUNT for s in stamps(t)}
        for n, t in enumerate((first, second))
    ]
    assert lost[0] != lost[1]


def test_transforms_go_on_in_time_with_the_images(drive):
    bag = read_messages(drive / "bag")
    begin = min(m.stamp_ns for m in bag if m.is_image)

    def of(messages: list[Message]) -> list[int]:
        at = [t.header.stamp for m in messages if m.topic == "/tf" for t in m.decoded().transforms]
        return [stamp.sec * 10**9 + stamp.nanosec - begin for stamp in at]

    poses = of(bag)
    assert len(poses) >= COUNT
    later = of(turn(bag, 2, 1))
    assert {b - a for a, b in zip(poses, later, strict=True)} == {2 * COUNT * PERIOD}


def test_the_summary_compares_the_first_and_last_sixth():
    samples = [Sample(10.0 * k, 100.0 + k, 20, 10, 1, 50.0, 100.0 + 10 * k, {}) for k in range(1, 13)]
    result = summary(samples, 0)
    assert result["rss_mib_first_sixth"] == 101.5
    assert result["rss_mib_last_sixth"] == 111.0
    assert result["memory_growth_percent"] == pytest.approx(100 * (111 / 101.5 - 1), abs=0.01)
    assert (result["p99_ms_first_sixth"], result["p99_ms_last_sixth"]) == (115.0, 210.0)
    assert (result["sweeps"], result["dropped"], result["seconds"]) == (120, 12, 120.0)


class Stopping:
    """A node that is gone after so many turns, and the stage it plays on."""

    def __init__(self, turns: int) -> None:
        self.turns, self.heard = turns, Heard()

    def __enter__(self) -> Stopping:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait_until_active(self) -> None:
        pass

    wait_for_node = settle = wait_until_active

    def play(self, *_: object) -> None:
        self.turns -= 1

    def is_alive(self) -> bool:
        return self.turns > 0

    def usage(self) -> tuple[float, int]:
        if self.turns <= 0:
            raise KeyError("VmRSS")
        return 100.0, 20

    def stop(self) -> int:
        return -11


def soak_of(drive, monkeypatch, turns):
    """The soak of the real program with a node that ends after some turns."""
    node = Stopping(turns)
    monkeypatch.setattr(soak, "NodeProcess", lambda *_: node)
    monkeypatch.setattr(soak, "Stage", lambda *_: node)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    return [str(drive / "bag"), str(drive / "rig.yaml"), "--untrained", "--every", "1e-6"]


def test_a_node_that_ends_is_reported_with_what_was_measured(drive, tmp_path, monkeypatch):
    out = tmp_path / "new" / "soak.json"
    assert main([*soak_of(drive, monkeypatch, 3), "--out", str(out)]) == 1
    result = json.loads(out.read_text())
    assert result["summary"]["exit_status"] == -11
    assert len(result["samples"]) == 2


def test_a_soak_that_is_interrupted_keeps_what_was_measured(drive, tmp_path, monkeypatch):
    arguments = soak_of(drive, monkeypatch, 3)

    def play(self: Stopping, *_: object) -> None:
        self.turns -= 1
        if self.turns == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Stopping, "play", play)
    out = tmp_path / "soak.json"
    assert main([*arguments, "--out", str(out)]) == 130
    result = json.loads(out.read_text())
    assert len(result["samples"]) == 1
    assert result["summary"]["exit_status"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--minutes", "0"], "--minutes, --every (seconds) and --rate must be above 0, got 0, 30 and 1"),
        (["--rate", "0"], "must be above 0, got 60, 30 and 0"),
        (["--untrained", "--out", "/proc/none/soak.json"], "soak: /proc/none: cannot be written"),
    ],
)
def test_what_cannot_run_is_said_before_the_node_starts(drive, arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(soak, "NodeProcess", None)
    assert main([str(drive / "bag"), str(drive / "rig.yaml"), *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.ros
@pytest.mark.slow
def test_twenty_seconds(drive, tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))  # main chooses a DDS domain for its own process
    out = tmp_path / "soak.json"
    arguments = ["--minutes", "0.33", "--every", "5", "--rate", "0.5", "--checkpoint", str(tiny_checkpoint)]
    assert main([str(drive / "bag"), str(drive / "rig.yaml"), *arguments, "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert result["summary"]["exit_status"] == 0
    assert result["summary"]["seconds"] >= 19
    assert result["inputs"]["checkpoint"]["sha256"] == sha256_of(tiny_checkpoint)
    published = result["summary"]["sweeps"] - result["summary"]["dropped"]
    for what in ("clouds", "previews"):
        assert result["summary"][what] >= 0.8 * published, "somebody listens to everything"
    assert result["summary"]["stddevs"] > 2 * published
    last = result["samples"][-1]["counters"]
    assert last["complete"] > 20
    assert last["partial"] > 5
    assert last["assembler duplicate"] > 0
    assert last["assembler resets"] == 0
