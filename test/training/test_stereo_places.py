"""Where motion stereo gains and costs: what moves is known, poses are turned, and the command says all of it."""

from __future__ import annotations

import re

import numpy as np
import pytest

from fsmde_ros.geometry import transform
from training.stereo_places import PLACES, _places, main, turned
from training.town.annotations import box
from training.town.drive import nuscenes_drive
from training.town.settings import TownSettings


@pytest.mark.parametrize("degrees", [0.0, 0.3, 90.0])
def test_a_turn_is_of_so_many_degrees(degrees: float) -> None:
    turn = turned(degrees, np.random.default_rng(3))
    np.testing.assert_allclose(turn[:3, :3] @ turn[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.degrees(np.arccos(np.clip((np.trace(turn[:3, :3]) - 1) / 2, -1, 1))) == pytest.approx(degrees, abs=1e-4)
    assert not turn[:3, 3].any()


def test_points_on_what_moves_are_told_from_those_beside_it() -> None:
    world = nuscenes_drive(1, (36, 64), TownSettings.held_out(), duration_s=4.0).world
    kinds = {place: [] for place in PLACES}
    for mover in world.layout.movers:
        kind = "drives ahead" if mover.street is None else "moves" if mover.speed else "stands"
        kinds[kind].append(mover)
    assert kinds["moves"], "another seed is needed"
    for kind, movers in kinds.items():
        for mover in movers[:3]:
            for t in (0.5, 2.0):  # it is looked for where it is at that time
                pose = world.mover_to_map(mover, t)
                centre, size = box(mover)
                points = transform(pose, np.array([centre, centre + np.array([0, 0, size[2] + 50])]))
                assert [PLACES[k] for k in _places(world, points, t)] == [kind, "stands"]


def test_the_command_prints_a_row_for_every_place(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--checkpoint", "nano", "--drives", "1", "--sweeps", "1", "--turn", "0", "30"]
    assert main(options) == 0
    rows = re.findall(r"^(.{26})(\S.*?) +([\d.]+)% +([\d.]+|nan) +([\d.]+|nan)$", capsys.readouterr().out, re.MULTILINE)
    assert [row[0].strip() for row in rows[::4]] == ["student alone", "motion stereo", "turned by 30 degrees"]
    assert [row[1] for row in rows] == ["all", *PLACES] * 3
    alone, corrected, wrong = (float(row[3]) for row in rows[::4])
    assert corrected < alone
    assert corrected < wrong
    assert main(["--checkpoint", "nothing.safetensors"]) == 1
    assert "nothing.safetensors" in capsys.readouterr().err
