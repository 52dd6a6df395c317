from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fsmde_ros.errors import FsmdeError, SourceError
from fsmde_ros.sources.ddad import scene_names, sweeps


def test_sweeps(ddad_folder: Any) -> None:
    found = list(sweeps(ddad_folder.root))
    assert [sweep.stamp_ns for sweep in found] == [1_600_000_000_091_500_000, 1_600_000_001_091_500_000]
    sweep = found[1]
    assert sweep.rig.names == sweep.present == ("camera_01", "camera_05")
    camera = sweep.rig["camera_01"]
    assert camera.size == (20, 32)
    np.testing.assert_array_equal(camera.intrinsics, [[16, 0, 15.5], [0, 17, 9.5], [0, 0, 1]])
    assert sweep.views["camera_05"].image.data == (ddad_folder.root / "000007/rgb/CAMERA_05/1.jpg").read_bytes()
    for view in sweep.views.values():  # the poses of both sensors lead to one and the same vehicle
        expected = [[1, 0, 0, 10], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
        np.testing.assert_allclose(view.vehicle_to_map, expected, atol=1e-12)


def test_lidar(ddad_folder: Any) -> None:
    ddad_folder.calibration["extrinsics"][0]["translation"]["z"] = 2.0
    ddad_folder.write()
    scan = next(sweeps(ddad_folder.root)).lidar
    assert scan is not None
    raw = np.load(ddad_folder.root / "000007/point_cloud/LIDAR/0.npz")["data"]
    np.testing.assert_allclose(scan.points_vehicle, raw[:, :3] + [0, 0, 2])
    np.testing.assert_allclose(scan.intensity, raw[:, 3] * 255, rtol=1e-6)
    assert (scan.name, scan.stamp_ns, scan.ring) == ("lidar", 1_600_000_000_100_000_000, None)
    assert scan.vehicle_to_map is not None
    np.testing.assert_allclose(scan.vehicle_to_map[:3, 3], [0, 0, -2])


def test_any_of_the_three_ways_in(ddad_folder: Any) -> None:
    for root in (
        ddad_folder.root,
        ddad_folder.root / "ddad.json",
        ddad_folder.scene_path,
        ddad_folder.scene_path.parent,
    ):
        assert len(list(sweeps(root))) == 2
        assert scene_names(root) == ("000007",)


def test_selection(ddad_folder: Any) -> None:
    root = ddad_folder.root
    assert len(list(sweeps(root, split="val", scene="000007", samples=(1, None)))) == 1
    with pytest.raises(SourceError, match="scene_splits has no scenes in train"):
        list(sweeps(root, split="train"))
    with pytest.raises(SourceError, match="no split 'all', expected one of train, val"):
        list(sweeps(root, split="all"))
    with pytest.raises(SourceError, match="no scene '000008'; it has 000007"):
        list(sweeps(root, scene="000008"))
    with pytest.raises(SourceError, match=r"no samples in the range \(2, 9\)"):
        list(sweeps(root, samples=(2, 9)))


def test_stamps_of_a_clock_of_100_ns_are_mended(ddad_folder: Any) -> None:
    for i, row in enumerate(ddad_folder.scene["data"]):
        row["id"]["timestamp"] = f"2464-11-12T01:04:{9 + i // 3:02d}.93653Z"
    ddad_folder.write()
    stamps = [sweep.stamp_ns for sweep in sweeps(ddad_folder.root)]
    assert stamps == [1_561_645_824_993_653_000, 1_561_645_825_093_653_000]


def test_a_sample_without_a_camera_keeps_the_rig(ddad_folder: Any) -> None:
    ddad_folder.scene["samples"][0]["datum_keys"].remove("CAMERA_01-0")
    ddad_folder.write()
    sweep = next(sweeps(ddad_folder.root))
    assert sweep.rig.names == ("camera_01", "camera_05")
    assert sweep.missing == ("camera_01",)


def datum(folder: Any, key: str) -> dict[str, Any]:
    return next(row for row in folder.scene["data"] if row["key"] == key)


@pytest.mark.parametrize("name", ["../../secret.jpg", "/etc/passwd", "", None])
def test_no_file_outside_the_scene(ddad_folder: Any, name: str | None) -> None:
    datum(ddad_folder, "CAMERA_01-0")["datum"]["image"]["filename"] = name
    ddad_folder.write()
    with pytest.raises(SourceError, match="leads out of the dataset"):
        list(sweeps(ddad_folder.root))
    ddad_folder.scene["samples"][0]["calibration_key"] = "../../x"
    ddad_folder.write()
    with pytest.raises(SourceError, match="leads out of the dataset"):
        list(sweeps(ddad_folder.root))


def test_missing_and_wrong_fields(ddad_folder: Any) -> None:
    def message() -> str:
        ddad_folder.write()
        with pytest.raises(FsmdeError) as caught:
            list(sweeps(ddad_folder.root))
        return str(caught.value)

    camera = datum(ddad_folder, "CAMERA_01-0")
    stamp = camera["id"]["timestamp"]
    camera["id"]["timestamp"] = "yesterday"
    assert "timestamp 'yesterday' of a datum" in message()
    camera["id"]["timestamp"] = stamp
    pose = camera["datum"]["image"].pop("pose")
    assert "scene_abc.json: a field is missing or wrong: KeyError('pose')" in message()
    camera["datum"]["image"]["pose"] = {**pose, "rotation": dict.fromkeys(pose["rotation"], 0.0)}
    assert "pose of CAMERA_01: not a pose" in message()
    camera["datum"]["image"]["pose"] = pose
    height = camera["datum"]["image"]["height"]
    rows = [row["datum"]["image"] for row in ddad_folder.scene["data"] if "image" in row["datum"]]
    for row in rows:
        row["height"] = "high"
    assert "scene_abc.json: a field is missing or wrong: ValueError" in message()
    for row in rows:
        row["height"] = height
    ddad_folder.scene["samples"][0]["datum_keys"].append("nothing")
    assert "KeyError('nothing')" in message()
    ddad_folder.scene["samples"][0]["datum_keys"] = ["LIDAR-0"]
    assert "a sample has no image" in message()
    ddad_folder.scene["samples"] = None
    assert "a field is missing or wrong" in message()


def test_missing_and_wrong_calibration(ddad_folder: Any) -> None:
    k = ddad_folder.calibration["intrinsics"][1].pop("fx")
    ddad_folder.write()
    with pytest.raises(SourceError, match=r"cal.json: a field is missing or wrong: KeyError\('fx'\)"):
        list(sweeps(ddad_folder.root))
    ddad_folder.calibration["intrinsics"][1]["fx"] = k
    ddad_folder.calibration["intrinsics"][1]["cx"] = 10**400
    ddad_folder.write()
    with pytest.raises(SourceError, match=r"cal.json: not a JSON file: 10+ is no number of 64 bits"):
        list(sweeps(ddad_folder.root))
    ddad_folder.calibration["intrinsics"][1]["cx"] = 10
    ddad_folder.calibration["extrinsics"].pop()
    ddad_folder.write()
    with pytest.raises(SourceError, match=r"cal.json: a field is missing or wrong"):
        list(sweeps(ddad_folder.root))
    ddad_folder.calibration_path.unlink()
    with pytest.raises(SourceError, match=r"cal.json: cannot be read"):
        list(sweeps(ddad_folder.root))


def test_damaged_files_are_named(ddad_folder: Any) -> None:
    cloud = ddad_folder.root / "000007/point_cloud/LIDAR/0.npz"
    whole = cloud.read_bytes()
    np.savez(cloud, data=np.zeros((3, 5)))
    with pytest.raises(SourceError, match=r"0.npz: an array of shape \(3, 5\), expected a column for each of"):
        list(sweeps(ddad_folder.root))
    np.savez(cloud, points=np.zeros((3, 4)))
    for data in (whole[:200], b"abc", cloud.read_bytes(), b""):
        cloud.write_bytes(data)
        with pytest.raises(SourceError, match=f"{cloud}: "):
            list(sweeps(ddad_folder.root))
    cloud.write_bytes(whole)
    image = ddad_folder.root / "000007/rgb/CAMERA_05/1.jpg"
    image.write_bytes(image.read_bytes()[:60])
    with pytest.raises(SourceError, match=f"{image}: the JPEG is truncated"):
        list(sweeps(ddad_folder.root))


class Bomb:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("went-off"),))


def test_a_pickle_is_not_opened(ddad_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cloud = ddad_folder.root / "000007/point_cloud/LIDAR/0.npz"
    np.savez(cloud, data=np.array([Bomb()], dtype=object))
    with pytest.raises(SourceError, match="not a point cloud"):
        list(sweeps(ddad_folder.root))
    cloud.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(SourceError, match="not a point cloud"):
        list(sweeps(ddad_folder.root))
    assert not (tmp_path / "went-off").exists()


def test_roots_that_are_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file or folder"):
        list(sweeps(tmp_path / "none"))
    with pytest.raises(SourceError, match="has 0 JSON files"):
        list(sweeps(tmp_path))
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(SourceError, match=r"a.json: has no scene_splits"):
        list(sweeps(tmp_path))
    (tmp_path / "a.json").write_text('{"scene_splits": {"0": {"filenames": ["../x.json"]}}}')
    with pytest.raises(SourceError, match="leads out of the dataset"):
        list(sweeps(tmp_path))
    (tmp_path / "a.json").write_text('{"scene_splits": {"0": 5}}')
    with pytest.raises(SourceError, match="scene_splits: a field is wrong"):
        list(sweeps(tmp_path))
