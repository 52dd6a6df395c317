"""The command as a user runs it, on a rig file and a bag written here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from fsmde_ros.check_rig.__main__ import main
from fsmde_ros.checkpoint import find_checkpoint, load_checkpoint, save_checkpoint
from fsmde_ros.geometry import rigid
from fsmde_ros.images import encode_jpeg
from fsmde_ros.rig import Rig
from fsmde_ros.rig_file import write_rig
from fsmde_ros.sources.bag_writer import write_bag
from fsmde_ros.sweep import EncodedImage, LidarScan, Sweep, View

START = 1_600_000_000_000_000_000
LIDAR_TO_VEHICLE = rigid([1, 0, 0, 0], [0.9, 0, 1.8])
IMAGE = encode_jpeg(np.full((90, 160, 3), 128, np.uint8))


@pytest.fixture
def small(ring: Rig) -> Rig:
    return ring.resized((90, 160))


def write_drive(path: Path, rig: Rig, first: Mapping[str, EncodedImage] | None = None) -> Path:
    """Three sweeps of the road; ``first``: other images of the first one."""
    rng = np.random.default_rng(0)
    angle, radius = rng.uniform(-np.pi, np.pi, 2000), rng.uniform(3, 30, 2000)
    road = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.zeros(2000)], axis=-1)
    sweeps = []
    for i in range(3):
        at = START + i * 83_000_000
        scan = LidarScan(road, at, sensor_to_vehicle=LIDAR_TO_VEHICLE, name="lidar_top")
        images = dict.fromkeys(rig.names, IMAGE) | dict(first or {} if i == 0 else {})
        sweeps.append(Sweep(rig, at, {name: View(image, at, np.eye(4)) for name, image in images.items()}, scan))
    write_bag(path, sweeps)
    return path


def test_a_good_rig(small: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rig(small, tmp_path / "rig.yaml", {"lidar_top": LIDAR_TO_VEHICLE})
    bag = write_drive(tmp_path / "bag", small)
    out = tmp_path / "new" / "pictures"
    assert main(["--rig", str(tmp_path / "rig.yaml"), "--bag", str(bag), "--output", str(out)]) == 0
    said = capsys.readouterr().out
    row = next(line for line in said.splitlines() if line.startswith("cam_back_left"))
    assert row.split()[1:11] == ["160x90", "65", "x", "39", "1.00", "0.50", "1.50", "110.0", "0.0", "0.0"]
    assert "cam_front_left 1" in row, "about a sixth of its image overlaps"
    assert "20 m away: no camera 0%" in said
    assert "nothing looks wrong" in said
    for name in ("rig.png", "scan.png"):
        picture = cv2.imread(str(out / name))
        assert picture.shape[1] > 600
        assert len(np.unique(picture)) > 20


def test_the_student_that_is_named_decides_what_it_knows(
    small: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not an error of the rig: the status stays 0."""
    student, card = load_checkpoint(find_checkpoint("nano"))
    assert card.cameras is not None
    wide = replace(card, name="wide", cameras=replace(card.cameras, horizontal_fov=(85.0, 95.0)))
    save_checkpoint(tmp_path / "wide.safetensors", student, wide)
    write_rig(small, tmp_path / "rig.yaml")
    arguments = ["--rig", str(tmp_path / "rig.yaml"), "--output", str(tmp_path)]
    assert main([*arguments, "--checkpoint", str(tmp_path / "wide.safetensors")]) == 0
    said = capsys.readouterr().out
    assert "note: cam_front: model wide knows no such camera: field of view of the network's input 65 degrees " in said
    assert "cam_back: model wide" not in said  # 90 degrees
    assert "set checkpoint to base or" in said
    assert main([*arguments, "--checkpoint", "nano"]) == 0
    assert "nothing looks wrong" in capsys.readouterr().out


def test_a_damaged_student_of_the_package_keeps_no_rig_from_being_checked(
    small: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small.safetensors").write_bytes(b"version https://git-lfs")
    monkeypatch.setattr("fsmde_ros.checkpoint.MODELS", tmp_path)
    write_rig(small, tmp_path / "rig.yaml")
    arguments = ["--rig", str(tmp_path / "rig.yaml"), "--output", str(tmp_path)]
    assert main(arguments) == 0
    assert "note: nothing is known of what the student was trained on: " in capsys.readouterr().out
    assert main([*arguments, "--checkpoint", "small"]) == 2
    assert "small.safetensors: cannot be read" in capsys.readouterr().err


def test_the_rig_of_a_bag_alone(small: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = write_drive(tmp_path / "bag", small)
    assert main(["--bag", str(bag), "--output", str(tmp_path)]) == 0
    assert "cam_front_right" in capsys.readouterr().out


def test_the_vehicle_frame_of_a_bag_can_be_another(
    small: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_drive(tmp_path / "bag", replace(small, vehicle_frame="chassis"))
    assert main(["--bag", str(bag), "--output", str(tmp_path)]) == 2
    assert "is not fixed to the vehicle frame 'base_link'" in capsys.readouterr().err
    assert main(["--bag", str(bag), "--output", str(tmp_path), "--vehicle-frame", "chassis"]) == 0
    assert "nothing looks wrong" in capsys.readouterr().out
    write_rig(small, tmp_path / "rig.yaml")
    assert main(["--rig", str(tmp_path / "rig.yaml"), "--vehicle-frame", "chassis"]) == 2
    assert "--vehicle-frame chassis: the rig file has its own" in capsys.readouterr().err


def test_a_truncated_image_costs_its_own_view(small: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = write_drive(tmp_path / "bag", small, {"cam_back": EncodedImage(IMAGE.data[:200])})
    whole = write_drive(tmp_path / "whole", small)
    assert main(["--bag", str(whole), "--output", str(tmp_path / "whole_pictures")]) == 0
    capsys.readouterr()
    assert main(["--bag", str(bag), "--output", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "note: cam_back: its image is left out: the JPEG is truncated" in said
    assert "cam_front_left 1" in said, "the table"
    sizes = [cv2.imread(str(folder / "scan.png")).shape for folder in (tmp_path, tmp_path / "whole_pictures")]
    assert sizes[0] == sizes[1]


def test_a_sweep_without_any_image_that_can_be_read(
    small: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_drive(tmp_path / "bag", small, dict.fromkeys(small.names, EncodedImage(b"\xff\xd8")))
    assert main(["--bag", str(bag), "--output", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert f"no image of the sweep at {START} ns can be decoded (cam_front: the JPEG is truncated" in said
    assert "choose another --sweep" in said


def test_a_picture_that_cannot_be_written_is_not_announced(
    small: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_drive(tmp_path / "bag", small)
    (tmp_path / "scan.png").mkdir()
    assert main(["--bag", str(bag), "--output", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert f"check_rig: {tmp_path / 'scan.png'}: cannot be written: Is a directory" in said.err
    assert "picture:" not in said.out


def test_names_are_drawn_as_they_are(small: Rig, tmp_path: Path) -> None:
    """A macro that was not replaced; between dollars matplotlib would read a formula."""
    names = {"cam_front": "${ns}\\frac_front", "cam_back": "${ns}\\frac_back"}
    cameras = tuple(replace(camera, name=names.get(camera.name, camera.name)) for camera in small.cameras)
    write_rig(replace(small, cameras=cameras), tmp_path / "rig.yaml")
    assert main(["--rig", str(tmp_path / "rig.yaml"), "--output", str(tmp_path)]) == 0
    assert (tmp_path / "rig.png").is_file()


def test_a_wrong_rig_ends_with_1_and_says_why(small: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    turn = rigid([np.sqrt(0.5), 0, 0, np.sqrt(0.5)], [0, 0, 0])
    wrong = replace(small.cameras[0], camera_to_vehicle=turn @ small.cameras[0].camera_to_vehicle)
    write_rig(replace(small, cameras=(wrong, *small.cameras[1:]), ground_z=-0.5), tmp_path / "rig.yaml")
    bag = write_drive(tmp_path / "bag", small)
    assert main(["--rig", str(tmp_path / "rig.yaml"), "--bag", str(bag), "--output", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "warning: cam_front: looks to 90 degrees" in said
    assert "the LiDAR sees the road at z = 0.00 m" in said
    assert "nothing looks wrong" not in said


def test_what_cannot_be_read_ends_with_2(small: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "give --rig FILE" in capsys.readouterr().err
    assert main(["--rig", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml: the rig file cannot be read" in capsys.readouterr().err
    write_rig(small.resized((45, 80)), tmp_path / "rig.yaml")
    bag = write_drive(tmp_path / "bag", small)
    assert main(["--rig", str(tmp_path / "rig.yaml"), "--bag", str(bag), "--output", str(tmp_path)]) == 2
    assert "its images are 160x90 pixels, the rig says 80x45" in capsys.readouterr().err
    assert main(["--rig", str(tmp_path / "rig.yaml"), "--bag", str(bag), "--sweep", "-1"]) == 2
    assert "--sweep must be at least 0, got -1" in capsys.readouterr().err
    for options in (["--sweep", "5"], ["--lidar-topic", "/velodyne"]):
        assert main(["--rig", str(tmp_path / "rig.yaml"), *options]) == 2
        assert "--sweep and --lidar-topic are for the scan of a bag" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main(["--rig", str(tmp_path / "rig.yaml"), "--output", str(tmp_path / "file")]) == 2
    assert "cannot be written" in capsys.readouterr().err
