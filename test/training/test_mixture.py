"""Recorded drives as cached samples: what is kept, what is left out, what a kill leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Hashable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fsmde_ros.errors import ConfigError, SourceError
from fsmde_ros.rig import Rig
from fsmde_ros.sources.bag_writer import write_bag
from fsmde_ros.sweep import EncodedImage, Sweep
from training.data_source import open_data
from training.datasets import TownData
from training.mixture import describe, gather, licences, parse_mixture, read_source, source_folder
from training.sample_file import has_dense_depth, load_sample

ROOT = Path(__file__).parents[2]
SIZE = (64, 96)


def with_view(sweep: Sweep, image: EncodedImage) -> Sweep:
    name = sweep.rig.names[1]
    return replace(sweep, views={**sweep.views, name: replace(sweep.views[name], image=image)})


@pytest.fixture
def sweeps(made_up_rig: Rig, standing_drive: Callable[..., list[Sweep]]) -> list[Sweep]:
    return standing_drive(made_up_rig)


def spoilt(sweep: Sweep) -> Sweep:
    """With a JPEG that has its markers but nothing to decode between them."""
    image = sweep.views[sweep.rig.names[1]].image
    assert isinstance(image, EncodedImage)
    return with_view(sweep, EncodedImage(image.data[:20] + b"\x00" * 200 + image.data[-2:]))


def test_samples_of_a_bag(tmp_path: Path, sweeps: list[Sweep]) -> None:
    write_bag(tmp_path / "bag", sweeps)
    source = open_data(f"bag:{tmp_path / 'bag'}")
    files, left_out = read_source(source, SIZE, tmp_path / "cache", workers=2)
    assert (len(files), left_out) == (6, [])
    sample = load_sample(files[4])
    assert sample.images.shape == (5, *SIZE, 3)
    assert sample.images[0, 32, 48].mean() == pytest.approx(150, abs=5)
    assert np.isfinite(sample.lidar_depth()).sum() > 300
    assert not has_dense_depth(sample)
    before = {file: file.stat().st_mtime_ns for file in files}
    files[2].unlink()
    again, _ = read_source(source, SIZE, tmp_path / "cache", workers=2)
    assert again == files
    assert {file: file.stat().st_mtime_ns for file in files if file != files[2]} == {
        file: stamp for file, stamp in before.items() if file != files[2]
    }


def test_another_drive_of_the_same_name_is_read_anew(tmp_path: Path, sweeps: list[Sweep]) -> None:
    write_bag(tmp_path / "bag", sweeps)
    first, _ = read_source(open_data(f"bag:{tmp_path / 'bag'}"), SIZE, tmp_path / "cache", workers=1)
    write_bag(tmp_path / "bag", sweeps[:5], overwrite=True)
    second, _ = read_source(open_data(f"bag:{tmp_path / 'bag'}"), SIZE, tmp_path / "cache", workers=1)
    assert (len(first), len(second)) == (6, 5)
    assert first[0].parent != second[0].parent


def test_a_drive_whose_sensors_were_calibrated_anew_is_read_anew(
    tmp_path: Path, nuscenes_folder: Any, ddad_folder: Any
) -> None:
    tables, root = nuscenes_folder.root / "v1.0-mini", ddad_folder.root
    by_table = [tables / f"{table}.json" for table in ("calibrated_sensor", "ego_pose", "sensor", "scene")]
    drives = {
        f"nuscenes:{nuscenes_folder.root}": by_table,
        f"ddad:{root}": [ddad_folder.calibration_path, ddad_folder.scene_path, root / "ddad.json"],
        f"ddad:{ddad_folder.scene_path}": [ddad_folder.calibration_path, ddad_folder.scene_path],
        f"nuscenes:{nuscenes_folder.root},lidar_sweeps=2": [*by_table, tables / "sample_annotation.json"],
    }
    for drive, files in drives.items():
        for file in files:
            before = source_folder(open_data(drive), SIZE, tmp_path)
            assert source_folder(open_data(drive), SIZE, tmp_path) == before
            file.write_text(file.read_text() + "\n")
            assert source_folder(open_data(drive), SIZE, tmp_path) != before, file


def test_a_town_drive_is_rendered_anew_by_another_renderer_but_not_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_data("town:5,seconds=0.1,size=48x80")
    before = source_folder(source, SIZE, tmp_path)
    assert source_folder(open_data("town:6,seconds=0.1,size=48x80"), SIZE, tmp_path) != before
    monkeypatch.chdir(tmp_path)
    assert source_folder(source, SIZE, tmp_path) == before
    monkeypatch.setattr("training.mixture.renderer_hash", lambda: "of another version")
    of_another = source_folder(source, SIZE, tmp_path)
    (tmp_path / "styles.py").write_text("# of another version")
    monkeypatch.setattr("training.styles.__file__", str(tmp_path / "styles.py"))
    assert len({before, of_another, source_folder(source, SIZE, tmp_path)}) == 3


def test_sweeps_that_cannot_be_used_are_named_and_left_out(
    tmp_path: Path,
    sweeps: list[Sweep],
    standing_drive: Callable[..., list[Sweep]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    far = replace(sweeps[3], lidar=replace(sweeps[3].lidar, points_vehicle=np.zeros((0, 3))))  # type: ignore[type-var]
    more = standing_drive(sweeps[0].rig, 12)
    write_bag(tmp_path / "bag", [*sweeps[:1], spoilt(sweeps[1]), sweeps[2], far, *more[4:]])
    found = gather(parse_mixture(f"bag:{tmp_path / 'bag'}"), TownData(size=SIZE), tmp_path / "cache", workers=1)
    assert found.lengths == [10]
    assert len(found.left_out) == 2
    assert "sweep 1: the JPEG is truncated or corrupt" in found.left_out[0]
    assert "sweep 3: no LiDAR point falls into any view" in found.left_out[1]
    errors = capsys.readouterr().err
    assert all(reason in errors for reason in found.left_out)


def test_a_drive_of_which_too_much_is_spoilt_is_an_error(tmp_path: Path, sweeps: list[Sweep]) -> None:
    write_bag(tmp_path / "bag", [spoilt(sweeps[0]), spoilt(sweeps[1]), *sweeps[2:]])
    with pytest.raises(SourceError, match=r"2 of 6 sweeps cannot be used, .* the first: bag:.*, sweep 0"):
        gather(parse_mixture(f"bag:{tmp_path / 'bag'}"), TownData(size=SIZE), tmp_path / "cache", workers=1, tell=False)


def test_a_picture_that_is_gone_is_named(nuscenes_folder: Any, tmp_path: Path) -> None:
    gone = nuscenes_folder.frame("CAM_FRONT", 0)
    gone.unlink()
    source = open_data(f"nuscenes:{nuscenes_folder.root}")
    with pytest.raises(SourceError, match=f"1 of 2 sweeps cannot be used.*sweep 0: {gone}"):
        read_source(source, SIZE, tmp_path / "cache", workers=1, tell=False)


def test_pictures_of_a_lens_with_distortion_are_straightened(tmp_path: Path, sweeps: list[Sweep]) -> None:
    camera = sweeps[0].rig.cameras[0]
    bent = replace(camera, distortion=np.array([-0.3, 0.1, 0, 0, 0]), distortion_model="plumb_bob")
    rig = replace(sweeps[0].rig, cameras=(bent, *sweeps[0].rig.cameras[1:]))
    write_bag(tmp_path / "bag", [replace(sweep, rig=rig) for sweep in sweeps])
    files, _ = read_source(open_data(f"bag:{tmp_path / 'bag'}"), SIZE, tmp_path / "cache", workers=1)
    sample = load_sample(files[0])
    raw, straight = sample.images[1, 32].mean(-1), sample.images[0, 32].mean(-1)
    # barrel distortion: a pixel near the border shows what lies further in on the raw image
    assert straight[84] < raw[84] - 1
    assert straight[12] > raw[12] + 1
    assert all(camera.is_rectified for camera in sample.rig.cameras)


def test_a_kill_while_the_cache_is_filled_leaves_whole_samples(tmp_path: Path, sweeps: list[Sweep]) -> None:
    """The process is killed between a sample's scratch file and its name, in the middle of the drive."""
    write_bag(tmp_path / "bag", sweeps)
    program = f"""
import os, signal
from pathlib import Path
import training.sample_file as sample_file
from training.data_source import open_data
from training.mixture import read_source
count, replace = 0, os.replace
def killed(*paths):
    global count
    count += 1
    if count == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*paths)
sample_file.os.replace = killed
read_source(open_data("bag:{tmp_path / "bag"}"), {SIZE}, Path("{tmp_path / "cache"}"), workers=1)
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "cache").rglob("[0-9]*.npz"))) == 3
    files, left_out = read_source(open_data(f"bag:{tmp_path / 'bag'}"), SIZE, tmp_path / "cache", workers=2)
    assert left_out == []
    assert [load_sample(file).images[0, 32, 48].mean() for file in files] == pytest.approx(
        [70 + 20 * i for i in range(6)], abs=5
    )


def test_mixtures_by_name() -> None:
    parts = parse_mixture(["bag:/data/a,weight=3,every=2", "town", "town:5,weight=0.5"])
    assert [part.weight for part in parts] == [3.0, 1.0, 0.5]
    assert [str(part.name) for part in parts] == ["bag:/data/a,every=2", "None", "town:5"]
    assert "recorded bag (67% of the draws)" in describe(parts, TownData())
    assert "town drives" in describe(parts[1:2], TownData())
    assert licences(parse_mixture(["ddad:/x", "nuscenes:/y"])).count("CC BY-NC-SA 4.0") == 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "names nothing"),
        ("town,drives=5", "its settings stand under train and val"),
        ("bag:/x,weight=0", "weight must be above 0"),
        ("bag:/x,weight=heavy", "got 'heavy'"),
        ("townhouse", "names no data"),
    ],
)
def test_names_that_make_no_mixture(data: str | list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_mixture(data)


def test_a_range_of_depth_holds_for_labels_too(tmp_path: Path, sweeps: list[Sweep]) -> None:
    write_bag(tmp_path / "bag", sweeps)
    name, cache = f"bag:{tmp_path / 'bag'}", tmp_path / "cache"
    whole, near = (read_source(open_data(name + end), SIZE, cache, 1)[0] for end in ("", ",min_depth=5,max_depth=12"))
    depth, expected = load_sample(near[0]).lidar[:, 3], load_sample(whole[0]).lidar[:, 3]
    assert expected.min() < 5
    assert expected.max() > 12
    np.testing.assert_array_equal(depth, expected[(expected >= 5) & (expected <= 12)])


def test_sweeps_of_two_mixtures_are_known_as_the_same(tmp_path: Path, sweeps: list[Sweep]) -> None:
    write_bag(tmp_path / "bag", sweeps)

    def origins(end: str) -> frozenset[Hashable]:
        return gather(parse_mixture(f"bag:{tmp_path / 'bag'}{end}"), TownData(size=SIZE), tmp_path / "cache", 1).origins

    assert len(origins(",samples=:-2") & origins(",samples=-3:")) == 1
    assert not origins(",samples=:-2") & origins(",samples=-2:")


@pytest.mark.parametrize("kind", ["nuscenes", "ddad"])
def test_sweeps_of_a_dataset_are_known_whichever_are_chosen(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(f"{kind}_folder").root
    all_keys, some = (open_data(f"{kind}:{folder}{end}").keys for end in ("", ",samples=1:"))
    assert len(set(all_keys)) == len(all_keys)
    assert some == all_keys[1:]
