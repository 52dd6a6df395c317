"""The fit of sigma on errors of a known law, and the command on a town."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fsmde_ros.checkpoint import default_checkpoint, load_checkpoint, save_checkpoint
from fsmde_ros.errors import SourceError
from fsmde_ros.estimator import Estimator
from fsmde_ros.rig import Rig
from fsmde_ros.sources.bag_writer import write_bag
from fsmde_ros.sweep import EncodedImage, Sweep
from test.conftest import NuScenesFolder
from training.calibrate import (
    MIN_POINTS,
    SigmaPower,
    batches_of,
    calibrate,
    errors_of,
    fit_power,
    main,
    shares_inside,
)


@pytest.mark.parametrize(("scale", "exponent"), [(0.3, 1.0), (0.2, 1.4), (2.0, 0.8)])
def test_a_power_law_is_found(scale: float, exponent: float) -> None:
    rng = np.random.default_rng(0)
    stddev = np.exp(rng.uniform(np.log(0.1), np.log(30), 60_000))
    error = rng.normal(0, scale * stddev**exponent)
    power = fit_power(error, stddev)
    assert power.exponent == pytest.approx(exponent, abs=0.03)
    assert power.scale == pytest.approx(scale, rel=0.06)
    after = shares_inside(error, power(stddev))
    assert after == pytest.approx({"0.5": 0.383, "1": 0.683, "2": 0.954, "3": 0.997}, abs=0.01)


def test_one_sigma_for_all_points_is_scaled_only() -> None:
    error = np.random.default_rng(1).normal(0, 2.0, 20_000)
    power = fit_power(error, np.full(20_000, 5.0))
    assert power.exponent == 1.0
    assert power.scale == pytest.approx(0.4, rel=0.03)


def test_a_sigma_that_falls_where_errors_rise_is_scaled_only() -> None:
    rng = np.random.default_rng(2)
    stddev = np.exp(rng.uniform(np.log(0.1), np.log(30), 60_000))
    power = fit_power(rng.normal(0, 2.0 / stddev**0.3), stddev)
    assert power.exponent == 1.0
    assert 0 < power.scale < 100


def test_too_few_points_are_refused() -> None:
    with pytest.raises(SourceError, match=f"cannot be fitted to 10 points, at least {MIN_POINTS}"):
        fit_power(np.ones(10), np.ones(10))


def test_a_power_is_undone() -> None:
    spread = np.geomspace(0.1, 30, 7)
    power = SigmaPower(0.3, 1.4)
    np.testing.assert_allclose(power.undo(power(spread)), spread)


def test_the_command_tells_the_shares_and_writes_the_calibrated_student(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drives = ("town:101,seconds=0.1,rate=10,size=48x80", "town:7,seconds=0.1,rate=10,size=48x80")
    given = ["--checkpoint", str(default_checkpoint()), "--fit", drives[0], "--check", drives[1], "--device", "cpu"]
    given += ["--power", "best"]
    assert main([*given, "--output", str(tmp_path / "calibrated.safetensors")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["fit"]["after"]["1"] == pytest.approx(report["expected"]["1"], abs=0.001)
    assert report["check"]["n"] > MIN_POINTS
    assert (report["skipped_sweeps"], report["skipped_because"]) == (0, [])
    assert set(report["check"]["before"]) == {"0.5", "1", "2", "3"}
    before, _ = load_checkpoint(default_checkpoint())
    after, card = load_checkpoint(tmp_path / "calibrated.safetensors")
    assert card.student.stddev_power == after.config.stddev_power == (report["scale"], report["exponent"])
    assert before.config.expectation_power < 1
    assert after.config.expectation_power == report["power"]
    errors = {power: score["abs_rel"] + score["rmse_log"] - score["d1"] for power, score in report["powers"].items()}
    assert float(min(errors, key=errors.__getitem__)) == report["power"]
    for name, weight in before.state_dict().items():
        assert torch.equal(weight, after.state_dict()[name]), name


def _checkpoint_with_metrics(folder: Path) -> Path:
    student, card = load_checkpoint(default_checkpoint())
    save_checkpoint(folder / "given.safetensors", student, replace(card, metrics={"held_out_town/abs_rel": 0.1}))
    return folder / "given.safetensors"


@pytest.mark.parametrize("changes", [True, False])
def test_metrics_of_another_power_do_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: bool) -> None:
    rng = np.random.default_rng(3)
    monkeypatch.setattr("training.calibrate.errors_of", lambda *_: (rng.normal(0, 1, 2000), rng.uniform(1, 2, 2000)))
    given = _checkpoint_with_metrics(tmp_path)
    power = load_checkpoint(given)[1].student.expectation_power
    card = calibrate(given, ["a"], "b", "cpu", power=1.0 if changes else power).card
    assert power < 1
    assert card.metrics == ({} if changes else {"held_out_town/abs_rel": 0.1})


def test_a_drive_to_check_on_without_points_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = {"a": np.random.default_rng(3).normal(0, 1, 2000), "bag:dark": np.zeros(0)}
    monkeypatch.setattr(
        "training.calibrate.errors_of", lambda _, names, __: (errors[names[0]], errors[names[0]] ** 2 + 1)
    )
    given = ["--checkpoint", "small", "--fit", "a", "--check", "bag:dark", "--device", "cpu"]
    assert main([*given, "--output", str(tmp_path / "out.safetensors")]) == 1
    assert "bag:dark: has no LiDAR point in any view to check the fit on" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("calibrated", "a checkpoint must end in .safetensors, got ''"),
        ("file/calibrated.safetensors", "--output: nothing can be written into"),
    ],
)
def test_a_place_that_cannot_be_written_is_told_before_a_sweep_is_scored(
    output: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("training.calibrate.errors_of", lambda *_: pytest.fail("was scored"))
    (tmp_path / "file").touch()
    given = ["--checkpoint", "small", "--fit", "a", "--check", "b", "--device", "cpu"]
    assert main([*given, "--output", str(tmp_path / output)]) == 1
    assert message in capsys.readouterr().err


def test_a_fit_is_not_lost_with_a_file_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(3)
    monkeypatch.setattr("training.calibrate.errors_of", lambda *_: (rng.normal(0, 1, 2000), rng.uniform(1, 2, 2000)))
    (tmp_path / "out.safetensors").mkdir()
    given = ["--checkpoint", "small", "--fit", "a", "--check", "b", "--device", "cpu"]
    assert main([*given, "--output", str(tmp_path / "out.safetensors")]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["check"]["n"] == 2000
    assert "out.safetensors: cannot be written" in said.err


def _with_spoilt(sweep: Sweep, names: Sequence[str]) -> Sweep:
    """With JPEGs that have their markers but nothing to decode between them."""
    views = dict(sweep.views)
    for name in names:
        image = views[name].image
        assert isinstance(image, EncodedImage)
        spoilt = EncodedImage(image.data[:20] + b"\x00" * 200 + image.data[-2:])
        views[name] = replace(views[name], image=spoilt)
    return replace(sweep, views=views)


def test_sweeps_that_cannot_be_read_are_left_out_and_named(
    tmp_path: Path,
    nuscenes_folder: NuScenesFolder,
    made_up_rig: Rig,
    standing_drive: Callable[..., list[Sweep]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without one of its views a sweep has an error, but no sample, and without any, or a scan that is named, none."""
    whole, one_spoilt, all_spoilt = standing_drive(made_up_rig, 3)
    one_spoilt, all_spoilt = _with_spoilt(one_spoilt, ["cam_1"]), _with_spoilt(all_spoilt, made_up_rig.names)
    write_bag(tmp_path / "bag", [whole, one_spoilt, all_spoilt])
    scans = [row for row in nuscenes_folder.tables["sample_data"] if row["is_key_frame"] and row["fileformat"] == "pcd"]
    (nuscenes_folder.root / scans[-1]["filename"]).unlink()
    names = [f"bag:{tmp_path / 'bag'}", f"nuscenes:{nuscenes_folder.root}"]
    estimator = Estimator.from_checkpoint(default_checkpoint(), device="cpu")
    left_out: dict[str, str] = {}
    error, stddev = errors_of(estimator, names, left_out)
    assert len(error) == len(stddev) > 0
    assert list(left_out) == [f"{names[0]}, sweep 2", f"{names[1]}, sweep 1"]
    assert len(list(batches_of(names, (64, 96), left_out))) == 2
    assert set(left_out) == {f"{names[0]}, sweep 1", f"{names[0]}, sweep 2", f"{names[1]}, sweep 1"}
    said = capsys.readouterr().err
    assert all(said.count(f"left out: {sweep}: ") == 1 for sweep in left_out)
    assert scans[-1]["filename"] in said


def test_the_power_of_long_drives_is_chosen_on_sweeps_of_all_of_them(
    tmp_path: Path,
    made_up_rig: Rig,
    standing_drive: Callable[..., list[Sweep]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("training.calibrate.MAX_BATCHES", 3)
    for name, sweeps in (("a", 2), ("b", 4)):
        write_bag(tmp_path / name, standing_drive(made_up_rig, 6)[-sweeps:])
    batches = list(batches_of([f"bag:{tmp_path / name}" for name in "ab"], (64, 96), {}))
    shades = [float(batch.images[0, 0, 0, 32, 48]) for batch in batches]
    assert shades == pytest.approx([150, 110, 150], abs=5)  # 4 of a; 2 and 4 of b
    assert "the power is chosen on 3 of 6 sweeps" in capsys.readouterr().err
    assert len(list(batches_of([f"bag:{tmp_path / 'a'}"], (64, 96), {}))) == 2
    assert "the power is chosen" not in capsys.readouterr().err


def test_the_power_is_chosen_by_the_points_that_count_in_an_evaluation() -> None:
    name = "town:101,seconds=0.1,rate=10,size=48x80"
    whole = next(iter(batches_of([f"{name},min_depth=0,max_depth=1000"], (48, 80), {}))).lidar_depth
    town = next(iter(batches_of([name], (48, 80), {}))).lidar_depth
    cut = next(iter(batches_of([f"{name},min_depth=5,max_depth=30"], (48, 80), {}))).lidar_depth
    assert (whole > 80).any()
    assert torch.equal(town.nan_to_num(-1), whole.where(whole <= 80, -1).nan_to_num(-1))
    assert 5 <= cut[cut.isfinite()].min() < 6
    assert 25 < cut[cut.isfinite()].max() <= 30


def test_a_drive_that_is_fitted_on_confirms_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--checkpoint", "small", "--fit", "town:101", "town:7"]) == 1
    assert "--check town:7 is fitted on, too" in capsys.readouterr().err


def test_a_mistake_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--checkpoint", "no/such.safetensors", "--fit", "town:101"]) == 1
    assert "no/such.safetensors" in capsys.readouterr().err
