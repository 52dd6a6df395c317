"""``python -m training.evaluate`` as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fsmde_ros.checkpoint import default_checkpoint, find_checkpoint
from fsmde_ros.estimator import Estimator, PreparedSweep
from fsmde_ros.motion_stereo import Keyframe, MotionStereo, keyframe
from fsmde_ros.sources.convert import nuscenes_to_bag
from fsmde_ros.sweep import Sweep
from training.data_source import DataSource, open_data
from training.evaluate import evaluate, main, teacher_disparity
from training.evaluation.points import DepthRange
from training.evaluation.report import table, verdict, without_folders
from training.evaluation.tally import Tally
from training.mounting_error import MountingError
from training.town.drive import TownDrive
from training.town.lidar import SpinningLidar
from training.town.nuscenes_writer import write_nuscenes
from training.town.rigs import nuscenes_rig

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_shipped_student_beats_the_ground_plane_on_a_held_out_sweep(tmp_path: Path) -> None:
    data = "town:7,seconds=0.5,rate=2,size=192x320"
    given = ("--checkpoint", default_checkpoint(), "--data", data, "--device", "cpu", "--output", tmp_path / "out")
    command = [sys.executable, "-m", "training.evaluate", *map(str, given)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.json", "report.html"}
    assert "better than a flat ground plane (" in done.stdout
    assert str(tmp_path / "out" / "report.html") in done.stdout


@pytest.fixture(scope="module")
def held_out_drives() -> list[DataSource]:
    """The towns of eight seeds, rendered once for all students: a sweep of the town is made when it is asked for."""
    drives = [open_data(f"town:{seed},rate=0.3,size=192x320") for seed in range(1, 9)]
    return [replace(drive, sweeps=[drive.sweeps[i] for i in range(len(drive.sweeps))]) for drive in drives]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "abs_rel", "d1"), [("small", 0.12, 0.87), ("nano", 0.14, 0.83)])
def test_the_shipped_students_on_whole_drives_that_they_have_never_seen(
    held_out_drives: list[DataSource], name: str, abs_rel: float, d1: float
) -> None:
    """What they must show, over the towns of eight seeds: a single moment may stand before a wall."""
    rows = [evaluate(find_checkpoint(name), drive, device="cpu").report["rows"] for drive in held_out_drives]

    def mean(row: str, metric: str, view: str | None = None) -> float:
        scores = [report[row]["views"][view] if view else report[row]["overall"] for report in rows]
        return float(np.mean([score[metric] for score in scores]))

    assert mean("metric", "abs_rel") < abs_rel
    assert mean("metric", "d1") > d1
    for view in rows[0]["metric"]["views"]:
        assert mean("metric", "abs_rel", view) < mean("ground_plane", "abs_rel", view), view
        assert mean("metric", "d1", view) > mean("ground_plane", "d1", view), view


@pytest.mark.slow
def test_the_student_for_any_rig_knows_rigs_as_no_car_has_them() -> None:
    """The towns of four seeds, a moment each; what it is worth beside ``small``: docs/evaluation.md."""
    drives = [open_data(f"town:{seed},rate=0.3,size=192x320,rig=unusual,samples=:1") for seed in range(1, 5)]
    drives = [replace(drive, sweeps=list(drive.sweeps)) for drive in drives]

    def abs_rel(name: str) -> float:
        reports = [evaluate(find_checkpoint(name), drive, device="cpu").report["rows"] for drive in drives]
        return float(np.mean([rows["metric"]["overall"]["abs_rel"] for rows in reports]))

    assert abs_rel("small_any_rig") < min(0.15, 0.85 * abs_rel("small"))


def test_another_backend_by_name(tmp_path: Path) -> None:
    pytest.importorskip("openvino")

    def report(backend: str) -> Any:
        data = "town:7,seconds=0.5,rate=2,size=192x320"
        given = ["--checkpoint", "small", "--backend", backend, "--data", data, "--output", str(tmp_path / backend)]
        assert main([*given, "--device", "cpu"]) == 0
        return json.loads((tmp_path / backend / "report.json").read_text())

    plain, lower = report("torch"), report("openvino_bf16")
    names = [report["made"]["software"]["backend"] for report in (plain, lower)]
    assert names == ["torch cpu", "openvino_bf16 cpu"]
    first, second = (report["rows"]["metric"]["overall"]["abs_rel"] for report in (plain, lower))
    assert second != first
    assert second == pytest.approx(first, rel=0.05)


def test_a_rig_that_is_told_wrong_costs_accuracy_and_is_named(tmp_path: Path) -> None:
    def report(folder: str, *wrong: str) -> Any:
        data = "town:7,seconds=0.5,rate=2,size=192x320"
        given = ["--checkpoint", "small", "--data", data, "--output", str(tmp_path / folder), "--device", "cpu"]
        assert main([*given, *wrong]) == 0
        return json.loads((tmp_path / folder / "report.json").read_text())

    right, wrong = report("right"), report("wrong", "--pitch-error", "2", "--roll-error", "-1", "--road-error", "0.3")
    assert "mounting_error" not in right["made"]
    assert wrong["made"]["mounting_error"] == pytest.approx(
        {"pitch": np.radians(2), "roll": np.radians(-1), "lift": 0.3}
    )
    assert "told to the network" in (tmp_path / "wrong" / "report.html").read_text()
    assert wrong["rows"]["metric"]["overall"]["abs_rel"] > 1.1 * right["rows"]["metric"]["overall"]["abs_rel"]
    assert wrong["rows"]["ground_plane"] == right["rows"]["ground_plane"]  # the truth is not moved


def test_the_mean_with_the_mirrored_images_is_a_row_of_its_own(tmp_path: Path) -> None:
    def rows(folder: str, *more: str) -> Any:
        data = "town:7,seconds=0.5,rate=2,size=192x320"
        given = ["--checkpoint", "small", "--data", data, "--output", str(tmp_path / folder), "--device", "cpu"]
        assert main([*given, *more]) == 0
        return json.loads((tmp_path / folder / "report.json").read_text())["rows"]

    plain, both = rows("plain"), rows("both", "--mirror")
    mirrored = both.pop("mirrored")
    assert both == plain
    # a network that is told the mirrored rig wrongly says something else altogether
    assert mirrored["overall"]["abs_rel"] == pytest.approx(plain["metric"]["overall"]["abs_rel"], rel=0.1)
    assert mirrored["overall"] != plain["metric"]["overall"]
    assert mirrored["overall"]["n"] == plain["metric"]["overall"]["n"]


def test_sweeps_before_it_make_a_sweep_better_in_a_row_of_its_own(tmp_path: Path) -> None:
    """A student that sees little of pictures of this size."""

    def report(folder: str, *more: str) -> Any:
        data = "town:5,seconds=1.5,rate=8,samples=4:,every=4,size=192x320"
        given = ["--checkpoint", "nano", "--data", data, "--output", str(tmp_path / folder), "--device", "cpu"]
        assert main([*given, *more]) == 0
        return json.loads((tmp_path / folder / "report.json").read_text())

    plain, both = report("plain"), report("both", "--motion-stereo")
    assert "motion_stereo" not in plain
    corrected, figures = both["rows"].pop("motion_stereo"), both.pop("motion_stereo")
    assert {name: both[name] for name in ("rows", "sigma", "view_disagreement")} == {
        name: plain[name] for name in ("rows", "sigma", "view_disagreement")
    }
    metric = plain["rows"]["metric"]
    assert corrected["overall"]["abs_rel"] < 0.9 * metric["overall"]["abs_rel"]
    assert corrected["overall"]["d1"] > metric["overall"]["d1"]
    assert corrected["overall"]["n"] == metric["overall"]["n"]
    assert figures["images"] == both["images"] == 12
    assert figures["sigma"]["n"] == plain["sigma"]["n"]
    assert figures["view_disagreement"].keys() == plain["view_disagreement"].keys()


def all_at_once(
    data: DataSource, index: int, told: MountingError, estimator: Estimator, tally: Tally, every: DataSource
) -> None:
    """What the row must be: every sweep of the drive is read first, and the corrected estimate is scored alone."""

    def seen(sweep: Sweep) -> tuple[PreparedSweep, Keyframe]:
        prepared = estimator.prepare(sweep)
        prepared = replace(prepared, rig=told.told(prepared.rig))
        poses = {name: view.vehicle_to_map for name, view in sweep.views.items()}
        return prepared, keyframe(prepared.rig, sweep.stamp_ns, prepared.colors(), poses)

    sweep = data.sweeps[index]
    prepared, now = seen(sweep)
    earlier = [seen(other)[1] for other in every.sweeps if other.stamp_ns < sweep.stamp_ns]
    with closing(MotionStereo()) as stereo:
        estimate = stereo.correct(estimator.infer(prepared), now, earlier[::-1])
    tally.add(sweep, replace(estimate, rig=estimator.prepare(sweep).rig))


def test_motion_stereo_is_told_the_rig_that_the_network_is_told() -> None:
    name = "town:5,seconds=1.3,rate=8,size=96x160"
    data, wrong = open_data(f"{name},samples=5:,every=3"), MountingError(pitch=0.05, roll=-0.03, lift=0.1)
    found = evaluate(find_checkpoint("nano"), data, "cpu", mounting_error=wrong, motion_stereo=True).report
    estimator = Estimator.from_checkpoint("nano", "cpu", "torch")
    tally = Tally(DepthRange(data.min_depth, data.max_depth))
    for index in range(len(data.sweeps)):
        all_at_once(data, index, wrong, estimator, tally, open_data(name))
    expected = tally.report()
    assert found["sweeps"] == expected["sweeps"] == 2
    assert found["rows"]["motion_stereo"] == expected["rows"]["metric"]
    for figure in ("sigma", "view_disagreement"):
        assert found["motion_stereo"][figure] == expected[figure]
    assert found["rows"]["motion_stereo"]["overall"] != found["rows"]["metric"]["overall"]


def test_a_sweep_that_has_none_before_it_stays_as_it_is(tmp_path: Path) -> None:
    data = "town:7,seconds=0.5,rate=2,size=192x320"
    given = ["--checkpoint", "small", "--data", data, "--output", str(tmp_path), "--device", "cpu"]
    assert main([*given, "--motion-stereo"]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["rows"]["motion_stereo"] == report["rows"]["metric"]
    figures = report["motion_stereo"]
    assert figures == {"images": 0, "sigma": report["sigma"], "view_disagreement": report["view_disagreement"]}
    lines = [line for line in table(report).splitlines() if line.startswith("motion_stereo ")]
    assert len(lines) == 6 + 5  # cameras; all, ranges and overlap
    assert len({len(line) for line in lines}) == 1
    text = (tmp_path / "report.html").read_text()
    assert "corrected by the sweeps before it, no scaling" in text
    assert "Row motion_stereo: 0 of 6 images were compared with an earlier one." in text


def test_a_sweep_before_it_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    pytest.importorskip("nuscenes.nuscenes", reason="nuscenes-devkit is not installed")
    drive = TownDrive(3, rig=nuscenes_rig((45, 80)), duration_s=1.1, lidar=SpinningLidar(columns=180, packet=5))
    write_nuscenes(drive, tmp_path)
    data = open_data(f"nuscenes:{tmp_path},samples=2:")
    assert len(data.sweeps) == 1

    def report() -> Any:
        return evaluate(find_checkpoint("nano"), data, device="cpu", motion_stereo=True).report

    whole = report()
    for channel in tmp_path.glob("samples/CAM_*"):
        sorted(channel.iterdir())[1].write_bytes(b"no image")
    without_the_last = report()
    min(tmp_path.glob("samples/LIDAR_TOP/*")).unlink()
    alone = report()
    assert [each["motion_stereo"]["images"] for each in (whole, without_the_last, alone)] == [6, 6, 0]
    assert without_the_last["rows"]["motion_stereo"] != whole["rows"]["motion_stereo"]
    assert alone["rows"]["motion_stereo"] == alone["rows"]["metric"] == whole["rows"]["metric"]
    assert {each["skipped_sweeps"] for each in (whole, without_the_last, alone)} == {0}


def test_a_dataset_and_its_bag_have_the_same_figures(tmp_path: Path) -> None:
    pytest.importorskip("nuscenes.nuscenes", reason="nuscenes-devkit is not installed")
    drive = TownDrive(3, rig=nuscenes_rig((45, 80)), duration_s=0.1, lidar=SpinningLidar(columns=360, packet=5))
    write_nuscenes(drive, tmp_path / "drive")
    assert nuscenes_to_bag([str(tmp_path / "drive"), str(tmp_path / "bag")]) == 0
    reports = [
        evaluate(default_checkpoint(), open_data(f"{name},samples=0:1"), device="cpu").report
        for name in (f"nuscenes:{tmp_path / 'drive'}", f"bag:{tmp_path / 'bag'}")
    ]
    of_dataset, of_bag = reports
    assert of_dataset["images"] == of_bag["images"] == 6
    for row, scores in of_dataset["rows"].items():
        assert of_bag["rows"][row]["overall"] == pytest.approx(scores["overall"], rel=2e-3), row
    assert str(tmp_path) not in str(reports)


def test_a_sweep_that_cannot_be_read_is_counted_and_the_others_are_scored(tmp_path: Path) -> None:
    pytest.importorskip("nuscenes.nuscenes", reason="nuscenes-devkit is not installed")
    drive = TownDrive(3, rig=nuscenes_rig((45, 80)), duration_s=0.6, lidar=SpinningLidar(columns=180, packet=5))
    write_nuscenes(drive, tmp_path)
    data = open_data(f"nuscenes:{tmp_path},samples=0:2")
    assert len(data.sweeps) == 2
    min(tmp_path.glob("samples/LIDAR_TOP/*")).unlink()
    report = evaluate(default_checkpoint(), data, device="cpu").report
    assert (report["sweeps"], report["images"], report["skipped_sweeps"]) == (1, 6, 1)
    assert "LIDAR_TOP" in report["skipped_because"][0]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"--data": "kitti:place"}, "names no data, expected nuscenes:PATH, ddad:PATH, bag:PATH or town:SEED"),
        ({"--data": "nuscenes:no/such/folder"}, "no/such/folder"),
        ({"--checkpoint": "no/such.safetensors"}, "no/such.safetensors"),
        ({"--backend": "openvinno"}, "backend must be auto or one of"),
        ({"--output": f"{__file__}/out"}, "--output: nothing can be written into"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    changed: dict[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"--checkpoint": str(default_checkpoint()), "--data": "town:7,seconds=0.1", "--device": "cpu", **changed}
    assert main([word for pair in given.items() for word in pair]) == 1
    said = capsys.readouterr().err.strip()
    assert message in said
    assert said.startswith("evaluate: ")
    assert "\n" not in said


def test_figures_are_not_lost_with_a_report_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report.json").mkdir()
    given = ("--data", "town:7,seconds=0.5,rate=2,size=48x80", "--device", "cpu", "--output", str(tmp_path))
    assert main(["--checkpoint", "small", *given]) == 1
    said = capsys.readouterr()
    assert "ground plane" in said.out
    assert said.err.splitlines()[-1].startswith(f"evaluate: --output {tmp_path}: cannot be written")


def test_a_teacher_sees_what_the_student_sees_and_its_disparity_is_turned_back() -> None:
    """A stand-in for a network: the rows of an image are its disparity."""
    rows = np.indices((12, 20), dtype=np.float32)[0]
    asked: list[Any] = []

    def predict(images: Any) -> Any:
        asked.append(images)
        return SimpleNamespace(disparity=torch.from_numpy(np.tile(rows, (len(images), 1, 1))))

    upright = nuscenes_rig((12, 20)).subset(["cam_front", "cam_back"])
    images = np.random.default_rng(0).integers(0, 255, (2, 3, 12, 20), dtype=np.uint8)
    back = upright.cameras[1]
    hung = replace(back, camera_to_vehicle=back.camera_to_vehicle @ np.diag([-1.0, -1.0, 1.0, 1.0]))
    prepared = PreparedSweep(replace(upright, cameras=(upright.cameras[0], hung)), 0, images, {})
    said = teacher_disparity(SimpleNamespace(kind="disparity", predict=predict), prepared)
    np.testing.assert_array_equal(asked[0].numpy(), images)
    np.testing.assert_array_equal(said[0], rows)
    np.testing.assert_array_equal(said[1], rows[::-1])


def test_names_of_folders_do_not_leave_the_machine(tmp_path: Path) -> None:
    assert without_folders(f"nuscenes:{tmp_path}/full/,tokens={tmp_path}/val.txt,samples=0:3") == (
        "nuscenes:full,tokens=val.txt,samples=0:3"
    )
    assert without_folders("town:7") == "town:7"


@pytest.mark.parametrize(
    ("student", "words"),
    [
        ((0.1, 0.9), "better than a flat ground plane (0.300, 0.500)"),
        ((0.4, 0.4), "worse than a flat ground plane (0.300, 0.500)"),
        ((0.2, 0.4), "better than a flat ground plane in AbsRel, worse in delta1"),
        ((0.4, 0.9), "worse than a flat ground plane in AbsRel, better in delta1"),
    ],
)
def test_the_verdict_says_who_is_better(student: tuple[float, float], words: str) -> None:
    rows = {
        name: {
            "overall": {"abs_rel": abs_rel, "d1": d1},
            "interval": {"abs_rel": [abs_rel - 0.01, abs_rel + 0.01], "d1": None},
        }
        for name, (abs_rel, d1) in (("metric", student), ("ground_plane", (0.3, 0.5)))
    }
    counts = {"sweeps": 1, "images": 6, "sweeps_without_lidar": 0, "images_without_pose": 0}
    said = verdict({"rows": rows, **counts}, "town:7")
    assert words in said
    assert f"({student[0] - 0.01:.3f} to {student[0] + 0.01:.3f})" in said
    assert "on 1 sweep of town:7" in said
    assert said.count(". ") == 0
