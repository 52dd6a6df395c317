"""What the node tells of cameras that its student does not know, as the rig changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fsmde_ros.checkpoint import default_checkpoint, read_card
from fsmde_ros.node.beyond_training import BeyondTraining
from fsmde_ros.rig import Rig

MakeRing = Callable[[tuple[str, ...], tuple[int, int]], Rig]


def raised(rig: Rig, name: str, height: float) -> Rig:
    """One camera at another height, metres."""
    pose = rig[name].camera_to_vehicle.copy()
    pose[2, 3] = height
    cameras = tuple(replace(c, camera_to_vehicle=pose) if c.name == name else c for c in rig.cameras)
    return replace(rig, cameras=cameras)


def test_each_camera_is_told_once(ring: MakeRing) -> None:
    told: list[object] = []
    beyond = BeyondTraining(read_card(default_checkpoint()), told.append)
    rig = ring(("front", "left", "right"), (90, 160))
    assert beyond.look(None) == beyond.look(rig) == ""
    swaying = [raised(rig, "left", 0.3 + 0.01 * i) for i in range(3)]
    assert beyond.look(swaying[0]) == beyond.look(swaying[0]) == "left: height 0.30 m (trained on 0.61 to 2.56)"
    assert beyond.look(swaying[2]).startswith("left: height 0.32 m")
    assert len(told) == 1
    assert str(told[0]).startswith("model small was not trained on such cameras, and its depth may be far off: left: ")
    assert str(told[0]).endswith("; set checkpoint to small_any_rig, trained on cameras like these")
    assert beyond.look(raised(swaying[2], "front", 12.0)).count("height") == 2
    assert "docs/own_rig.md" in str(told[1])  # nobody was trained at 12 m
    assert beyond.look(rig) == ""
    for height in (0.53, 0.54) * 5:  # about the limit
        beyond.look(raised(rig, "left", height))
    assert beyond.look(raised(rig, "left", 0.3)) != ""
    assert len(told) == 2


def test_nothing_is_said_of_a_training_that_nobody_knows(ring: MakeRing) -> None:
    told: list[object] = []
    beyond = BeyondTraining(replace(read_card(default_checkpoint()), cameras=None), told.append)
    assert beyond.look(raised(ring(("front",), (90, 160)), "front", 30.0)) == ""
    assert told == []
