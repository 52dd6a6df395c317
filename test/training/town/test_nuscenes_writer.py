from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from fsmde_ros.errors import ConfigError
from fsmde_ros.geometry import transform
from fsmde_ros.sweep import Sweep, lidar_in_view
from training.town.__main__ import main
from training.town.drive import TownDrive
from training.town.lidar import SpinningLidar
from training.town.nuscenes_writer import write_nuscenes
from training.town.rigs import nuscenes_rig

SIZE = (45, 80)


def small_drive(seed: int = 3) -> TownDrive:
    """0.65 s: 13 turns, 8 sweeps, 2 of them key frames."""
    rig = nuscenes_rig(SIZE).subset(["cam_front", "cam_back", "cam_front_left"])
    return TownDrive(seed, rig=rig, duration_s=0.65, lidar=SpinningLidar(columns=360, packet=5))


@pytest.fixture(scope="module")
def dataroot(tmp_path_factory) -> Path:
    return write_nuscenes(small_drive(), tmp_path_factory.mktemp("town") / "drive")


@pytest.fixture(scope="module")
def devkit(dataroot):
    nuscenes = pytest.importorskip("nuscenes.nuscenes", reason="nuscenes-devkit is not installed")
    return nuscenes.NuScenes(version="v1.0-mini", dataroot=str(dataroot), verbose=False)


def digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows(dataroot: Path, table: str) -> list[dict]:
    return json.loads((dataroot / "v1.0-mini" / f"{table}.json").read_text())


def test_the_devkit_opens_the_drive(devkit):
    assert len(devkit.scene) == 1
    assert len(devkit.sample) == 2
    first = devkit.get("sample", devkit.scene[0]["first_sample_token"])
    assert set(first["data"]) == {"CAM_FRONT", "CAM_BACK", "CAM_FRONT_LEFT", "LIDAR_TOP"}
    assert first["next"] == devkit.scene[0]["last_sample_token"]
    assert devkit.get("sample", first["next"])["timestamp"] - first["timestamp"] == 500_000


def test_frames_are_linked_in_time_and_lie_where_key_frames_lie(devkit, dataroot):
    first = devkit.get("sample", devkit.scene[0]["first_sample_token"])
    for channel, count in (("CAM_BACK", 8), ("LIDAR_TOP", 13)):
        row = devkit.get("sample_data", first["data"][channel])
        assert row["prev"] == ""
        chain = [row]
        while chain[-1]["next"]:
            chain.append(devkit.get("sample_data", chain[-1]["next"]))
            assert chain[-1]["prev"] == chain[-2]["token"]
        assert len(chain) == count
        stamps = [row["timestamp"] for row in chain]
        assert stamps == sorted(set(stamps))
        assert sum(row["is_key_frame"] for row in chain) == 2
        for row in chain:
            assert row["filename"].split("/")[0] == ("samples" if row["is_key_frame"] else "sweeps")
            assert str(row["timestamp"]) in row["filename"]
            assert (dataroot / row["filename"]).is_file()
            assert devkit.get("ego_pose", row["ego_pose_token"])["timestamp"] == row["timestamp"]


def test_every_file_has_a_row(dataroot):
    named = {row["filename"] for row in rows(dataroot, "sample_data")}
    there = {str(p.relative_to(dataroot)) for folder in ("samples", "sweeps") for p in (dataroot / folder).rglob("*.*")}
    assert named == there


def test_projection_by_the_devkit_agrees_with_ours(devkit):
    """nuscenes-devkit reads the written files and tables; ours projects the sweep in memory."""
    drive = small_drive()
    k = drive.scan_index(6)
    views, _ = drive.render(6)
    sweep = Sweep(drive.rig, drive.scan_stamp_ns(k), views, drive.scan(k))
    sample = devkit.get("sample", devkit.scene[0]["last_sample_token"])
    for name in drive.rig.names:
        theirs, depth, image = devkit.explorer.map_pointcloud_to_image(
            sample["data"]["LIDAR_TOP"], sample["data"][name.upper()], min_dist=1.0
        )
        assert image.size == (SIZE[1], SIZE[0])
        pixels, ours = lidar_in_view(sweep, name, min_depth=1.0)
        inner = (pixels > 1).all(1) & (pixels[:, 0] < SIZE[1] - 1) & (pixels[:, 1] < SIZE[0] - 1)
        assert inner.sum() == theirs.shape[1] > 40
        # float32 coordinates in the file, and the devkit moves them through the map frame in float32
        np.testing.assert_allclose(theirs[:2].T, pixels[inner], atol=0.01)
        np.testing.assert_allclose(depth, ours[inner], atol=1e-3)


def test_images_are_those_of_the_drive(devkit, dataroot):
    cv2 = pytest.importorskip("cv2")
    sample = devkit.get("sample", devkit.scene[0]["first_sample_token"])
    row = devkit.get("sample_data", sample["data"]["CAM_BACK"])
    stored = cv2.imread(str(dataroot / row["filename"]))[..., ::-1]
    rendered = np.asarray(small_drive().render(0)[0]["cam_back"].image)
    assert stored.shape == rendered.shape == (*SIZE, 3)
    assert np.abs(stored.astype(float) - rendered).mean() < 6  # JPEG; swapped channels would differ by more


def test_points_are_stored_in_the_frame_of_the_sensor(devkit, dataroot):
    """Sensor of the nuScenes cars: x to the right, y forward, so forward points have y > 0."""
    drive = small_drive()
    scan = drive.scan(0)
    sample = devkit.get("sample", devkit.scene[0]["first_sample_token"])
    row = devkit.get("sample_data", sample["data"]["LIDAR_TOP"])
    stored = np.fromfile(dataroot / row["filename"], "<f4").reshape(-1, 5)
    expected_x = 0.0 - scan.points_vehicle[:, 1]
    expected_y = scan.points_vehicle[:, 0] - 0.94
    expected_z = scan.points_vehicle[:, 2] - 1.84
    np.testing.assert_allclose(stored[:, :3], np.stack([expected_x, expected_y, expected_z], 1), atol=1e-4)
    np.testing.assert_array_equal(stored[:, 4], scan.ring)
    pose = devkit.get("ego_pose", row["ego_pose_token"])
    np.testing.assert_allclose(pose["translation"], transform(drive.vehicle_to_map(scan.stamp_ns), np.zeros(3)))


def test_two_writes_give_the_same_bytes_whatever_the_workers(dataroot, tmp_path):
    again = write_nuscenes(small_drive(), tmp_path / "again", workers=2)
    assert digest(again) == digest(dataroot)


def test_another_seed_gives_other_tokens(dataroot, tmp_path):
    rig = nuscenes_rig((18, 32)).subset(["cam_back"])
    drive = TownDrive(4, rig=rig, duration_s=0.05, lidar=SpinningLidar(columns=40))
    other = write_nuscenes(drive, tmp_path / "other")
    ours, theirs = ({row["token"] for row in rows(root, "sample_data")} for root in (dataroot, other))
    assert not ours & theirs


def test_a_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(ConfigError, match="not an empty folder"):
        write_nuscenes(small_drive(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_interrupted_write_leaves_nothing(tmp_path):
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_nuscenes(small_drive(), tmp_path / "drive", progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_a_drive_and_a_preview(tmp_path, capsys):
    cv2 = pytest.importorskip("cv2")
    out, preview = tmp_path / "drive", tmp_path / "preview.png"
    options = ["--seed", "5", "--size", "18x32", "--duration", "0.1", "--held-out"]
    assert main([*options, "--out", str(out), "--preview", str(preview)]) == 0
    assert cv2.imread(str(preview)).shape == (4 * 18, 3 * 32, 3)
    assert len(list((out / "samples").glob("CAM_*/*.jpg"))) == 6
    assert main([*options, "--out", str(out)]) == 1
    assert "not an empty folder" in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--size", "360"], ["--seed", "-1"], ["--rig", "kitti"]])
def test_the_command_explains_bad_options(options, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([*options, "--out", str(tmp_path / "drive")])
    assert options[0] in capsys.readouterr().err
