"""Lost frames: the own synchroniser gives every sweep that has a frame, unmixed."""

from __future__ import annotations

import importlib.util
import json

import pytest

from fsmde_ros.node.frame_loss import main, run


@pytest.mark.parametrize("loss", [0.0, 0.05, 0.3])
def test_every_sweep_with_a_frame_comes_out_whole(loss):
    outcome = run("own", 120, loss, 0.05, seed=3)
    assert outcome.out == outcome.whole == outcome.sweeps_in
    assert outcome.sweeps_in >= 118
    assert outcome.mixed == 0
    assert outcome.frames_out == outcome.frames_in
    assert outcome.frames_in == pytest.approx(720 * (1 - loss), rel=0.05)


def test_the_command_writes_the_figures(tmp_path, capsys):
    out = tmp_path / "loss.json"
    assert main(["--sweeps", "24", "--seeds", "2", "--out", str(out)]) == 0
    written = json.loads(out.read_text())
    assert [outcome["out"] for outcome in written["own"]] == [24, 24]
    assert "own: sweeps out: 24 of 24, 24 of 24; mixed: 0" in capsys.readouterr().out
    assert ("message_filters" in written) == (importlib.util.find_spec("message_filters") is not None)


def test_frames_that_are_all_lost_leave_nothing():
    outcome = run("own", 12, 1.0, 0.05, seed=0)
    assert (outcome.sweeps_in, outcome.out, outcome.frames_in) == (0, 0, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sweeps", "0"], "--sweeps and --seeds must be at least 1, got 0 and 5"),
        (["--loss", "1.5"], "--loss must be a share from 0 to 1, got 1.5"),
        (["--loss", "nan"], "--loss must be a share from 0 to 1, got nan"),
        (["--window", "0"], "window_s and deadline_s must be above 0 seconds"),
        (["--sweeps", "1", "--seeds", "1", "--out", "/proc/none/loss.json"], "--out /proc/none/loss.json: cannot be"),
    ],
)
def test_what_cannot_run_is_said(arguments, message, capsys):
    assert main(arguments) == 2
    assert f"frame_loss: {message}" in capsys.readouterr().err
