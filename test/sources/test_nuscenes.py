from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fsmde_ros.errors import SourceError
from fsmde_ros.sources.nuscenes import NuScenesDrives, sweeps

NAMES = ("cam_front", "cam_back_left", "cam_front_left")
SPEED, SWEEP_US, START_US = 10.0, 83_333, 1_600_000_000_000_000


def test_keyframes(nuscenes_folder: Any) -> None:
    found = list(sweeps(nuscenes_folder.root))
    assert [sweep.stamp_ns for sweep in found] == [START_US * 1000, (START_US + 6 * SWEEP_US) * 1000]
    sweep = found[1]
    assert sweep.rig.names == sweep.present == NAMES
    assert sweep.rig["cam_front"].size == (20, 32)
    assert (sweep.rig.vehicle_frame, sweep.rig.ground_z) == ("base_link", 0.0)
    front = [[0, 0, 1, 1.5], [-1, 0, 0, 0], [0, -1, 0, 1.5]]
    np.testing.assert_allclose(sweep.rig["cam_front"].camera_to_vehicle[:3], front, atol=1e-12)
    view = sweep.views["cam_back_left"]
    assert view.stamp_ns == (START_US + 6 * SWEEP_US + 35_000) * 1000
    assert view.image.data == nuscenes_folder.frame("CAM_BACK_LEFT", 6).read_bytes()
    # its own ego pose, 35 ms further on
    np.testing.assert_allclose(view.vehicle_to_map[:3, 3], [SPEED * (6 * SWEEP_US + 35_000) / 1e6, 2, 0])


def test_lidar_is_in_the_vehicle_frame(nuscenes_folder: Any) -> None:
    row = nuscenes_folder.row("calibrated_sensor", token="cs-LIDAR_TOP")
    row["rotation"] = [np.sqrt(0.5), 0, 0, np.sqrt(0.5)]  # x of the sensor to y of the vehicle
    nuscenes_folder.write()
    scan = next(sweeps(nuscenes_folder.root)).lidar
    assert scan is not None
    raw = np.frombuffer(nuscenes_folder.frame("LIDAR_TOP", 0).read_bytes(), "<f4").reshape(-1, 5)
    expected = np.stack([0.9 - raw[:, 1], raw[:, 0], 1.8 + raw[:, 2]], axis=-1)
    np.testing.assert_allclose(scan.points_vehicle, expected, atol=1e-6)
    np.testing.assert_array_equal(scan.intensity, raw[:, 3])
    np.testing.assert_array_equal(scan.ring, raw[:, 4])
    assert scan.name == "lidar_top"


def test_all_frames_with_the_nearest_scan(nuscenes_folder: Any) -> None:
    found = list(sweeps(nuscenes_folder.root, all_frames=True))
    assert [sweep.stamp_ns for sweep in found] == [(START_US + i * SWEEP_US) * 1000 for i in range(7)]
    assert all(sweep.present == NAMES for sweep in found)
    for i, sweep in enumerate(found):
        assert sweep.views["cam_front"].image.data == nuscenes_folder.frame("CAM_FRONT", i).read_bytes()
        assert sweep.lidar is not None
        assert abs(sweep.lidar.stamp_ns - sweep.stamp_ns) <= 25_000_000  # half a turn at 20 Hz


def test_a_missing_frame_keeps_the_rig(nuscenes_folder: Any) -> None:
    tables = nuscenes_folder.tables
    lost = ("CAM_BACK_LEFT-0", "CAM_BACK_LEFT-3")
    tables["sample_data"] = [row for row in tables["sample_data"] if row["token"] not in lost]
    nuscenes_folder.write()
    first = next(sweeps(nuscenes_folder.root))
    assert first.rig.names == NAMES
    assert first.missing == ("cam_back_left",)
    assert [sweep.missing for sweep in sweeps(nuscenes_folder.root, all_frames=True)] == [
        ("cam_back_left",) if i in (0, 3) else () for i in range(7)
    ]


def test_without_sweeps_the_keyframes_are_all_frames(nuscenes_folder: Any, tmp_path: Path) -> None:
    (nuscenes_folder.root / "sweeps").rename(tmp_path / "elsewhere")
    assert len(list(sweeps(nuscenes_folder.root, all_frames=True))) == 2


def test_selection(nuscenes_folder: Any) -> None:
    drives = NuScenesDrives(nuscenes_folder.root)
    assert drives.scenes == ("scene-0001",)
    assert [row["token"] for row in drives.keyframes("scene-0001", (1, None))] == ["sample-1"]
    with pytest.raises(SourceError, match=r"no scene 'scene-9'; it has scene-0001"):
        drives.keyframes("scene-9")
    with pytest.raises(SourceError, match=r"no samples in the range \(5, 6\); there are 2"):
        drives.keyframes(None, (5, 6))


def test_several_versions_must_be_chosen(nuscenes_folder: Any) -> None:
    nuscenes_folder.version = "v1.0-test"
    nuscenes_folder.write()
    with pytest.raises(SourceError, match=r"v1.0-mini, v1.0-test; choose one with --version"):
        sweeps(nuscenes_folder.root)
    assert next(sweeps(nuscenes_folder.root, version="v1.0-test")).rig.names == NAMES
    with pytest.raises(SourceError, match="no version 'v2'"):
        sweeps(nuscenes_folder.root, version="v2")


def test_roots_that_are_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such folder"):
        sweeps(tmp_path / "none")
    with pytest.raises(SourceError, match=r"no folder v1.0-\*"):
        sweeps(tmp_path)


def test_without_the_devkit(nuscenes_folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nuscenes.nuscenes", None)
    with pytest.raises(SourceError, match="pip install nuscenes-devkit"):
        sweeps(nuscenes_folder.root)


@pytest.mark.parametrize(
    ("table", "text", "message"),
    [
        ("ego_pose", None, r"ego_pose.json: missing"),
        ("scene", "{", r"scene.json: not a JSON file"),
        ("sample", '{"a": 1}', r"sample.json: expected a list of rows"),
        ("map", "[]", r"map.json: expected rows with log_tokens"),
        ("map", '[{"token": "m", "filename": "f"}]', r"map.json: expected rows with log_tokens"),
        ("sensor", "[]", "they contradict each other"),
        ("calibrated_sensor", b"\xff\xfe", r"calibrated_sensor.json: not a JSON file"),
    ],
)
def test_damaged_tables(nuscenes_folder: Any, table: str, text: str | bytes | None, message: str) -> None:
    path = nuscenes_folder.root / "v1.0-mini" / f"{table}.json"
    if text is None:
        path.unlink()
    else:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SourceError, match=message):
        sweeps(nuscenes_folder.root)


@pytest.mark.parametrize(
    ("table", "token", "field", "value", "message"),
    [
        ("sample_data", "CAM_FRONT-0", "filename", "../secret.jpg", "leads out of the dataset"),
        ("sample_data", "CAM_FRONT-0", "filename", "/etc/passwd", "leads out of the dataset"),
        ("sample_data", "CAM_FRONT-0", "filename", 5, "leads out of the dataset"),
        ("sample_data", "CAM_FRONT-0", "filename", "samples/none.jpg", "none.jpg: cannot be read"),
        ("sample_data", "CAM_FRONT-0", "width", 33, "is 32x20 pixels, expected 33x20 as the tables say"),
        ("sample_data", "CAM_FRONT-0", "timestamp", "now", "timestamp 'now', expected whole microseconds"),
        ("sample_data", "CAM_FRONT-0", "ego_pose_token", "none", "table ego_pose has no 'none'"),
        ("sample_data", "LIDAR_TOP-0", "filename", "maps/blank.png", "no whole number of points"),
        ("ego_pose", "CAM_FRONT-0", "rotation", [0, 0, 0, 0], "ego_pose, row CAM_FRONT-0: not a pose"),
        ("ego_pose", "CAM_FRONT-0", "translation", [0, None, 0], "ego_pose, row CAM_FRONT-0: not a pose"),
        ("ego_pose", "CAM_FRONT-0", "translation", [0, 0], "ego_pose, row CAM_FRONT-0: not a pose"),
        ("sample", "sample-1", "next", "sample-0", "runs in a circle"),
    ],
)
def test_wrong_rows(nuscenes_folder: Any, table: str, token: str, field: str, value: Any, message: str) -> None:
    nuscenes_folder.row(table, token=token)[field] = value
    nuscenes_folder.write()
    with pytest.raises(SourceError, match=message):
        list(sweeps(nuscenes_folder.root))


def test_damaged_files_are_named(nuscenes_folder: Any) -> None:
    image, cloud = nuscenes_folder.frame("CAM_FRONT", 0), nuscenes_folder.frame("LIDAR_TOP", 0)
    whole = image.read_bytes()
    for data in (whole[:-40], b"", b"no picture"):
        image.write_bytes(data)
        with pytest.raises(SourceError, match=f"{image}: "):
            list(sweeps(nuscenes_folder.root))
    image.write_bytes(whole)
    cloud.write_bytes(cloud.read_bytes()[:-3])
    with pytest.raises(SourceError, match=f"{cloud}: 797 bytes are no whole number of points of 5 float32"):
        list(sweeps(nuscenes_folder.root))


def test_tables_stay_as_they_are(nuscenes_folder: Any) -> None:
    before = {p.name: p.read_bytes() for p in (nuscenes_folder.root / "v1.0-mini").iterdir()}
    list(sweeps(nuscenes_folder.root, all_frames=True))
    assert {p.name: p.read_bytes() for p in (nuscenes_folder.root / "v1.0-mini").iterdir()} == before
    assert json.loads(before["map.json"])[0]["token"] == "map"
