"""Drives by name: every kind gives the sweeps that its own reader gives, in any order."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fsmde_ros.errors import ConfigError, FsmdeError, RigError, SourceError
from fsmde_ros.rig_file import write_rig
from fsmde_ros.sources import bag, ddad, nuscenes
from fsmde_ros.sources.bag_writer import write_bag
from fsmde_ros.sweep import Sweep
from training.data_source import LazySweeps, open_data, parse_name
from training.town.drive import TownDrive, nuscenes_drive
from training.town.lidar import SpinningLidar
from training.town.nuscenes_writer import write_nuscenes
from training.town.rigs import nuscenes_rig
from training.town.settings import TownSettings

DDAD = Path(__file__).resolve().parents[3] / "shared" / "data" / "ddad"


def same(a: Sweep, b: Sweep) -> None:
    assert (a.stamp_ns, a.present, a.rig.names) == (b.stamp_ns, b.present, b.rig.names)
    for name in a.present:
        assert a.views[name].image.data == b.views[name].image.data
        assert a.views[name].stamp_ns == b.views[name].stamp_ns
    assert a.lidar is not None
    assert b.lidar is not None
    np.testing.assert_array_equal(a.lidar.points_vehicle, b.lidar.points_vehicle)


@pytest.fixture
def a_bag(nuscenes_folder: Any, tmp_path: Path) -> Path:
    """Seven sweeps, nothing but what the nuScenes folder has."""
    write_bag(tmp_path / "bag", nuscenes.sweeps(nuscenes_folder.root, all_frames=True))
    return tmp_path / "bag"


def test_nuscenes(nuscenes_folder: Any) -> None:
    source = open_data(f"nuscenes:{nuscenes_folder.root}")
    expected = list(nuscenes.sweeps(nuscenes_folder.root))
    assert len(source.sweeps) == 2
    same(source.sweeps[1], expected[1])
    same(source.sweeps[0], expected[0])
    assert (source.min_depth, source.max_depth) == (0.1, 80.0)
    assert nuscenes_folder.root / "v1.0-mini" / "sample.json" in source.files


def test_official_split_of_nuscenes(nuscenes_folder: Any) -> None:
    name = f"nuscenes:{nuscenes_folder.root},version=v1.0-mini"
    assert len(open_data(f"{name},split=train").sweeps) == 2  # scene-0001 is of the split train
    with pytest.raises(SourceError, match="no scene of the split val; it has scene-0001"):
        open_data(f"{name},split=val")
    with pytest.raises(ConfigError, match="no split 'valid', nuScenes has train, val"):
        open_data(f"{name},split=valid")


def test_list_of_tokens_keeps_its_order(nuscenes_folder: Any, tmp_path: Path) -> None:
    """The lists of SurroundDepth have the sample token first in each line."""
    tokens = tmp_path / "val.txt"
    tokens.write_text("sample-1 3\n\nsample-0 0\n")
    source = open_data(f"nuscenes:{nuscenes_folder.root},tokens={tokens}")
    expected = list(nuscenes.sweeps(nuscenes_folder.root))
    same(source.sweeps[0], expected[1])
    same(source.sweeps[1], expected[0])
    assert tokens in source.files
    tokens.write_text("sample-9\n")
    with pytest.raises(SourceError, match="no sample 'sample-9' among 2; is it of another version"):
        open_data(f"nuscenes:{nuscenes_folder.root},tokens={tokens}")
    tokens.write_text("\n")
    with pytest.raises(SourceError, match=r"val\.txt: has no sample tokens"):
        open_data(f"nuscenes:{nuscenes_folder.root},tokens={tokens}")


def test_ddad(ddad_folder: Any) -> None:
    source = open_data(f"ddad:{ddad_folder.root},split=val,scenes=0:1")
    expected = list(ddad.sweeps(ddad_folder.root))
    assert len(source.sweeps) == len(expected) == 2
    for a, b in zip(reversed(source.sweeps), reversed(expected), strict=True):
        same(a, b)
    assert source.max_depth == 200.0
    with pytest.raises(SourceError, match="no scene '000009'; there are 1: 000007"):
        open_data(f"ddad:{ddad_folder.root},scenes=000009")


def test_bag_in_any_order(a_bag: Path) -> None:
    expected = list(bag.sweeps(a_bag))
    source = open_data(f"bag:{a_bag}")
    assert len(source.sweeps) == len(expected) == 7
    for index in (4, 0, 6, 1, 5, 2, 3):
        same(source.sweeps[index], expected[index])
    assert a_bag / "metadata.yaml" in source.files


def test_bag_with_a_rig_file(a_bag: Path, tmp_path: Path) -> None:
    rig, lidars = bag.read_rig_of_bag(a_bag, ground_z=-0.3)
    write_rig(rig, tmp_path / "rig.yaml", lidars)
    source = open_data(f"bag:{a_bag},rig={tmp_path / 'rig.yaml'}")
    assert source.sweeps[0].rig.ground_z == -0.3
    assert tmp_path / "rig.yaml" in source.files


def test_a_damaged_message_spoils_its_own_sweep_only(a_bag: Path) -> None:
    """One cloud claims more points than it has; the other sweeps of the bag stay readable."""
    scan = open_data(f"bag:{a_bag}").sweeps[3].lidar
    assert scan is not None
    (file,) = a_bag.glob("*.mcap")
    data = bytearray(file.read_bytes())
    points = data.index((scan.points_vehicle[0] - [0.9, 0.0, 1.8]).astype("<f4").tobytes())
    frame = data.rindex(b"lidar_top", 0, points)
    width = data.index(np.array([1, 40], "<u4").tobytes(), frame) + 4  # behind the height
    data[width : width + 4] = np.uint32(41).tobytes()
    file.write_bytes(bytes(data))
    damaged = open_data(f"bag:{a_bag}").sweeps
    with pytest.raises(SourceError, match=f"/lidar_top at {scan.stamp_ns} ns"):
        damaged[3]
    assert all(damaged[index].lidar is not None for index in (0, 1, 2, 4, 5, 6))


def test_town_is_the_held_out_one() -> None:
    source = open_data("town:7,seconds=0.3,rate=10,size=36x64")
    drive = nuscenes_drive(7, (36, 64), TownSettings.held_out(), duration_s=0.3, camera_rate_hz=10.0)
    assert len(source.sweeps) == len(drive)
    found, expected = source.sweeps[1], drive.sweep(1)
    np.testing.assert_array_equal(found.views["cam_back"].image, expected.views["cam_back"].image)


def test_town_with_uneven_ground_is_the_same_town_on_other_ground() -> None:
    even, uneven = (
        open_data(f"town:7,seconds=0.3,rate=10,size=36x64{option}").sweeps[1] for option in ("", ",unevenness=0.06")
    )

    def lowest(sweep: Sweep) -> float:
        """z of the lowest 5 % of the points nearer than 15 m, in the vehicle frame."""
        assert sweep.lidar is not None
        points = sweep.lidar.points_vehicle
        return float(np.percentile(points[np.hypot(points[:, 0], points[:, 1]) < 15, 2], 5))

    assert lowest(uneven) < lowest(even) - 0.02  # ground below the plane of the car
    with pytest.raises(ConfigError, match="unevenness must be a number"):
        open_data("town:7,unevenness=steep")


def test_a_rough_town_is_the_same_town_with_other_leaves() -> None:
    plain, rough = (open_data(f"town:3,seconds=0.3,rate=10,size=36x64{end}").sweeps[0] for end in ("", ",rough=1"))
    np.testing.assert_array_equal(rough.rig.camera_to_vehicle(), plain.rig.camera_to_vehicle())
    pairs = [(rough.views[name].image, plain.views[name].image) for name in plain.views]
    changed = [(np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float)) > 8).any(-1).mean() for a, b in pairs]
    assert 0.02 < np.mean(changed) < 0.8
    with pytest.raises(ConfigError, match="rough must be a number"):
        open_data("town:7,rough=very")


def test_a_town_of_another_grain_is_the_same_town_with_other_textures() -> None:
    name = "town:3,seconds=0.3,rate=10,size=36x64"
    plain, same, coarse = (open_data(f"{name}{end}").sweeps[0] for end in ("", ",grain=1", ",grain=4"))
    for camera in plain.views:
        np.testing.assert_array_equal(np.asarray(same.views[camera].image), np.asarray(plain.views[camera].image))
    changed = [np.asarray(coarse.views[name].image) != np.asarray(plain.views[name].image) for name in plain.views]
    assert np.mean(changed) > 0.3
    assert coarse.lidar is not None
    assert plain.lidar is not None
    np.testing.assert_array_equal(coarse.lidar.points_vehicle, plain.lidar.points_vehicle)
    with pytest.raises(ConfigError, match="grain must be"):
        open_data("town:7,grain=0")


def test_a_wide_town_is_another_one_of_its_seed() -> None:
    plain, wide = (open_data(f"town:3,seconds=0.3,rate=10,size=36x64{end}").sweeps[0] for end in ("", ",wide=1"))
    assert plain.lidar is not None
    assert wide.lidar is not None
    assert not np.array_equal(wide.lidar.points_vehicle, plain.lidar.points_vehicle)
    with pytest.raises(ConfigError, match="wide must be"):
        open_data("town:7,wide=very")


def test_selection_of_sweeps(a_bag: Path) -> None:
    whole = [sweep.stamp_ns for sweep in open_data(f"bag:{a_bag}").sweeps]
    some = open_data(f"bag:{a_bag},samples=1:-1,every=2,min_depth=1,max_depth=40")
    assert [sweep.stamp_ns for sweep in some.sweeps] == whole[1:-1:2]
    assert (some.min_depth, some.max_depth) == (1.0, 40.0)
    with pytest.raises(SourceError, match="no sweep is left of 7"):
        open_data(f"bag:{a_bag},samples=7:")


def test_a_slice_reads_nothing() -> None:
    read: list[int] = []

    def reader(item: int) -> Any:
        read.append(item)
        return item

    lazy = LazySweeps(range(10), reader)[2:8][::2]
    assert len(lazy) == 3
    assert read == []
    assert lazy[-1] == 6
    assert read == [6]
    assert list(lazy) == [2, 4, 6]
    with pytest.raises(IndexError):
        lazy[3]


def test_a_place_may_have_commas_and_colons() -> None:
    name = parse_name("bag:/data/a,b:c,rig=x=y.yaml")
    assert (name.kind, name.place, dict(name.options)) == ("bag", "/data/a,b:c", {"rig": "x=y.yaml"})
    assert str(name) == "bag:/data/a,b:c,rig=x=y.yaml"
    assert str(name.without("rig")) == "bag:/data/a,b:c"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("town", ConfigError, "names no data, expected nuscenes:PATH"),
        ("kitti:/data", ConfigError, "names no data"),
        ("bag:", ConfigError, "names no data"),
        ("town:x", ConfigError, "seed"),
        ("town:1,size=36", ConfigError, "size must be HEIGHTxWIDTH"),
        ("town:1,style=mine", ConfigError, "style must be one of painted"),
        ("town:1,split=val", ConfigError, "no option 'split', town has seconds"),
        ("town:1,every=0", ConfigError, "every must be a number of at least 1, got '0'"),
        ("town:1,every=two", ConfigError, "got 'two'"),
        ("town:1,every=1.5", ConfigError, "every must be a whole number, got '1.5'"),
        ("town:1,min_depth=5,max_depth=3", ConfigError, "max_depth must be above min_depth, got 3 and 5 m"),
        ("town:1,samples=3", ConfigError, "samples must be a range such as 0:20, 5: or :8, got '3'"),
        ("bag:no/such/bag", SourceError, "no/such/bag: cannot be opened"),
        ("nuscenes:no/such", SourceError, "no/such: no such folder"),
        ("nuscenes:x,tokens=a,split=val", FsmdeError, "x: no such folder"),
        ("ddad:no/such", SourceError, "no/such: no such file or folder"),
    ],
)
def test_names_that_cannot_be_opened(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        open_data(text)


def test_a_rig_file_that_is_not_there(a_bag: Path) -> None:
    with pytest.raises(RigError, match=r"no\.yaml"):
        open_data(f"bag:{a_bag},rig=no.yaml")


def test_a_town_with_the_sensors_of_ddad_is_seen_as_far_as_ddad() -> None:
    nuscenes, ddad = (open_data(f"town:3,seconds=0.3,rate=10,size=36x64{end}") for end in ("", ",rig=ddad"))
    assert (nuscenes.max_depth, ddad.max_depth) == (80.0, 200.0)
    assert ddad.sweeps[0].rig.names[0] == "camera_01"
    assert nuscenes.sweeps[0].rig.names[0] == "cam_front"
    assert len({view.stamp_ns for view in ddad.sweeps[0].views.values()}) == 1
    with pytest.raises(ConfigError, match=r"rig must be one of nuscenes, ddad, random, unusual, got 'mine'"):
        open_data("town:7,rig=mine")


@pytest.mark.parametrize("kind", ["random", "unusual"])
def test_a_town_of_another_rig_is_the_same_every_time_and_has_square_pixels(kind: str) -> None:
    once, again, other = (
        open_data(f"town:{seed},rig={kind},seconds=0.3,rate=10,size=48x64").sweeps[0].rig for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(once.camera_to_vehicle(), again.camera_to_vehicle())
    np.testing.assert_array_equal(once.intrinsics(), again.intrinsics())
    assert once.cameras[0].size == (48, 64)
    assert all(k[0, 0] == k[1, 1] for k in once.intrinsics())
    assert not np.array_equal(once.cameras[0].camera_to_vehicle, other.cameras[0].camera_to_vehicle)


def test_half_a_turn_of_the_lidar_is_refused(nuscenes_folder: Any) -> None:
    with pytest.raises(ConfigError, match=r"lidar_sweeps must be a whole number, got '2\.5'"):
        open_data(f"nuscenes:{nuscenes_folder.root},lidar_sweeps=2.5")


def stamps_of(sweeps: LazySweeps) -> list[int]:
    return [sweep.stamp_ns for sweep in sweeps]


def test_what_is_before_a_sweep_is_read_one_by_one_and_was_not_only_among_the_chosen() -> None:
    read: list[int] = []

    def reader(item: int) -> Any:
        read.append(item)
        return item

    lazy = LazySweeps(range(10), reader, key=lambda item: f"key {item}", before=lambda item: range(item - 1, -1, -1))
    before = lazy[3:9][::2].before(1)  # of 3, 5, 7
    assert read == []
    assert before.keys == ("key 4", "key 3", "key 2", "key 1", "key 0")
    assert before[0] == 4
    assert read == [4]
    assert list(before) == [4, 3, 2, 1, 0]
    assert list(before.before(1)) == [2, 1, 0]
    assert len(lazy.before(-1)) == 9
    assert not len(LazySweeps(range(10), reader).before(5))


@pytest.mark.parametrize("style", ["", ",style=posterised"])
def test_the_sweeps_before_one_of_a_town(style: str) -> None:
    name = f"town:7,seconds=0.5,rate=10,size=36x64{style}"
    whole = open_data(name).sweeps
    before = open_data(f"{name},samples=2:,every=2").before(1)
    assert stamps_of(before) == [whole[index].stamp_ns for index in (3, 2, 1, 0)]
    np.testing.assert_array_equal(before[0].views["cam_back"].image, whole[3].views["cam_back"].image)
    assert not len(open_data(name).before(0))


def test_the_sweeps_before_one_of_a_bag(a_bag: Path) -> None:
    whole = [sweep.stamp_ns for sweep in open_data(f"bag:{a_bag}").sweeps]
    some = open_data(f"bag:{a_bag},samples=1:,every=3")
    assert stamps_of(some.before(1)) == whole[3::-1]
    assert stamps_of(some.before(0)) == whole[:1]


def test_nobody_knows_what_was_before_sweeps_that_were_put_in_place_of_them(a_bag: Path) -> None:
    source = open_data(f"bag:{a_bag}")
    assert not len(replace(source, sweeps=list(source.sweeps[:2])).before(1))
    assert stamps_of(replace(source, sweeps=source.sweeps[2:]).before(0)) == [s.stamp_ns for s in source.sweeps[1::-1]]


def test_before_the_first_sweep_of_a_scene_of_ddad_there_is_none(ddad_folder: Any) -> None:
    index = ddad_folder.root / "ddad.json"
    shutil.copytree(ddad_folder.root / "000007", ddad_folder.root / "000008")
    content = json.loads(index.read_text())
    content["scene_splits"]["1"]["filenames"].append("000008/scene_abc.json")
    index.write_text(json.dumps(content))
    source = open_data(f"ddad:{ddad_folder.root}")
    assert source.keys == (("000007", 0), ("000007", 1), ("000008", 0), ("000008", 1))
    before = [source.before(index).keys for index in range(4)]
    assert before == [(), (("000007", 0),), (), (("000008", 0),)]
    some = open_data(f"ddad:{ddad_folder.root},samples=3:")
    assert some.before(0).keys == (("000008", 0),)
    same(some.before(0)[0], source.sweeps[2])


@pytest.mark.skipif(not DDAD.is_dir(), reason="no ../shared/data with the real drives")
def test_the_sweeps_before_one_of_the_real_ddad_scene() -> None:
    first, second, _ = open_data(f"ddad:{DDAD}").sweeps
    assert stamps_of(open_data(f"ddad:{DDAD},samples=2:").before(0)) == [second.stamp_ns, first.stamp_ns]
    assert first.stamp_ns < second.stamp_ns


def test_the_keyframes_before_one_are_those_of_its_scene(tmp_path: Path) -> None:
    pytest.importorskip("nuscenes.nuscenes", reason="nuscenes-devkit is not installed")
    drive = TownDrive(3, rig=nuscenes_rig((18, 32)), duration_s=1.6, lidar=SpinningLidar(columns=90, packet=5))
    root = write_nuscenes(drive, tmp_path / "drive")
    whole = open_data(f"nuscenes:{root}")
    assert len(whole.sweeps) == 4
    assert whole.before(3).keys == whole.keys[2::-1]
    assert stamps_of(open_data(f"nuscenes:{root},samples=2:,every=2").before(0)) == [
        whole.sweeps[index].stamp_ns for index in (1, 0)
    ]
    tokens = tmp_path / "val.txt"
    tokens.write_text("\n".join(str(whole.keys[index]) for index in (3, 0, 2)))
    listed = open_data(f"nuscenes:{root},tokens={tokens}")
    assert [listed.before(index).keys for index in range(3)] == [whole.keys[2::-1], (), whole.keys[1::-1]]


def test_keyframes_of_another_scene_or_that_the_tables_lack_are_not_before_one(nuscenes_folder: Any) -> None:
    def before() -> list[tuple[Any, ...]]:
        nuscenes_folder.write()
        source = open_data(f"nuscenes:{nuscenes_folder.root}")
        return [source.before(index).keys for index in range(len(source.sweeps))]

    first, second = (nuscenes_folder.row("sample", token=f"sample-{index}") for index in (0, 1))
    assert before() == [(), ("sample-0",)]
    first["prev"] = "sample-1"  # a circle
    assert before() == [("sample-1",), ("sample-0",)]
    first["prev"] = "sample-9"
    assert before() == [(), ("sample-0",)]
    scenes = nuscenes_folder.tables["scene"]
    scenes[0] |= {"nbr_samples": 1, "last_sample_token": "sample-0"}
    scenes.append({**scenes[0], "token": "other", "name": "scene-0002", "first_sample_token": "sample-1"})
    first["next"] = second["prev"] = ""
    second["scene_token"] = "other"
    assert before() == [(), ()]
