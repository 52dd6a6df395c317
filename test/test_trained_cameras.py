"""What a student was trained on, and what of a rig lies beyond it; angles worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fsmde_ros.checkpoint import checkpoints_for, find_checkpoint, read_card, shipped_checkpoints
from fsmde_ros.errors import CheckpointError
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.rig_file import read_rig
from fsmde_ros.trained_cameras import TrainedCameras, advice

SIZE = (90, 150)
OF_CARS = TrainedCameras(height=(0.6, 2.6), pitch=(-8.0, 3.0), roll=(-1.5, 1.5), horizontal_fov=(42.0, 110.0))
CONFIG = Path(__file__).parent.parent / "config"


def looking(
    height: float = 1.5, down: float = 0.0, roll: float = 0.0, fov: float = 90.0, size: tuple[int, int] = (180, 300)
) -> Camera:
    """A camera that looks along x, then ``down`` and rolled clockwise, degrees."""
    focal = size[1] / 2 / np.tan(np.radians(fov) / 2)
    intrinsics = np.array([[focal, 0, (size[1] - 1) / 2], [0, focal, (size[0] - 1) / 2], [0, 0, 1]])
    a, b = np.radians([down, roll])
    forward = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    pitch = np.array([[1, 0, 0], [0, np.cos(a), np.sin(a)], [0, -np.sin(a), np.cos(a)]])
    turn = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    pose = np.eye(4)
    pose[:3, :3], pose[2, 3] = forward @ pitch @ turn, height
    return Camera("front", size, intrinsics, pose)


@pytest.mark.parametrize(
    ("camera", "ground_z", "said"),
    [
        (looking(), 0.0, ""),
        (looking(height=2.8, down=11, roll=5, fov=113), 0.0, ""),  # hardly beyond
        (looking(height=0.3), 0.0, "height 0.30 m (trained on 0.60 to 2.60)"),
        (looking(height=0.3), -1.0, ""),  # the road lies a metre below the origin
        (looking(height=3.5), 0.0, "height 3.50 m"),
        (looking(down=35), 0.0, "pitch -35 degrees (trained on -8 to 3)"),
        (looking(down=-20), 0.0, "pitch 20 degrees"),
        (looking(roll=20), 0.0, "roll 20 degrees (trained on -2 to 2)"),
        (looking(roll=200), 0.0, "roll 20 degrees"),  # turned for the network
        (looking(roll=180), 0.0, ""),
        (looking(roll=90, size=(300, 180), fov=60), 0.0, ""),  # 87 degrees wide once it is upright
        (looking(fov=25), 0.0, "field of view of the network's input 25 degrees (trained on 42 to 110)"),
        (looking(fov=140), 0.0, "field of view of the network's input 140 degrees"),
        (looking(height=0.3, fov=25), 0.0, "height 0.30 m (trained on 0.60 to 2.60), field of view of"),
    ],
)
def test_what_is_beyond_the_training_is_told_in_words(camera: Camera, ground_z: float, said: str) -> None:
    found = OF_CARS.beyond(Rig((camera,), ground_z=ground_z), SIZE)
    assert list(found) == (["front"] if said else [])
    assert found.get("front", "").startswith(said)


def test_the_extent_of_rigs_and_of_two_trainings() -> None:
    low, high = Rig((looking(height=0.4, down=10),)), Rig((looking(height=3.0, fov=60),), ground_z=1.0)
    found = TrainedCameras.of([low, high])
    assert found == TrainedCameras((0.4, 2.0), (-10.0, 0.0), (0.0, 0.0), (60.0, 90.0))
    assert TrainedCameras.of([]) is None
    first, second = TrainedCameras.of([low]), TrainedCameras.of([high])
    assert first is not None
    assert second is not None
    assert first.joined(second) == second.joined(first) == found


def test_a_training_is_not_beyond_itself() -> None:
    """Also where the frame of the vehicle is at the sensors, so that heights are 0 or below."""
    for height in (-0.3, 0.0, 0.004):
        rig = Rig((looking(height=height),))
        own = TrainedCameras.of([rig])
        assert own is not None
        assert own.beyond(rig, SIZE) == {}
        assert own.beyond(Rig((looking(height=height + 0.005),)), SIZE) == {}
        assert list(own.beyond(Rig((looking(height=height + 0.2),)), SIZE)) == ["front"]


def test_what_two_have_seen_both() -> None:
    high = replace(OF_CARS, height=(2.0, 4.0), pitch=(-40.0, 0.0))
    assert OF_CARS.shared(high) == high.shared(OF_CARS) == replace(OF_CARS, height=(2.0, 2.6), pitch=(-8.0, 0.0))
    assert OF_CARS.shared(replace(OF_CARS, height=(3.0, 4.0))) is None


@pytest.mark.parametrize("change", [{"height": (2.0, 1.0)}, {"pitch": (float("nan"), 1.0)}])
def test_an_extent_that_is_none_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=next(iter(change))):
        replace(OF_CARS, **change)


@pytest.mark.parametrize("name", shipped_checkpoints())
@pytest.mark.parametrize("rig", ["nuscenes_rig.yaml", "ddad_rig.yaml"])
def test_the_shipped_students_know_the_rigs_of_cars(name: str, rig: str) -> None:
    card = read_card(find_checkpoint(name))
    assert card.cameras is not None
    assert card.cameras.beyond(read_rig(CONFIG / rig), card.input_size) == {}


def test_checkpoints_for_a_rig() -> None:
    assert set(checkpoints_for(Rig((looking(),)))) == set(shipped_checkpoints())
    assert checkpoints_for(Rig((looking(height=0.3, down=35, fov=120),))) == ("small_any_rig",)
    assert checkpoints_for(Rig((looking(height=40.0),))) == ()


def test_a_file_of_the_package_that_is_damaged_costs_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = find_checkpoint("nano").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:1000])
    (tmp_path / "whole.safetensors").write_bytes(whole)
    monkeypatch.setattr("fsmde_ros.checkpoint.MODELS", tmp_path)
    assert checkpoints_for(Rig((looking(),))) == ("whole",)


def test_advice_names_what_there_is() -> None:
    assert "docs/own_rig.md" in advice(())
    assert "set checkpoint to a or b" in advice(("a", "b"))
