"""``python -m training.scorecard``: the card, its merge with what is there, and the log of looks at real frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import pytest

from training.data_source import open_data
from training.evaluation.confidence import COVERAGE
from training.evaluation.report import DataHash
from training.scorecard import HELD_OUT_SWEEPS, ROOT, drives_of, log_look, main, render_scorecard

TOWN = "7,seconds=0.5,rate=2,size=48x80"


def card_of(docs: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((docs / "results" / "scorecard.json").read_text())
    return card


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("card")
    given = ["--town", TOWN, "--docs", path / "docs", "--output", path / "out", "--device", "cpu"]
    assert main([str(word) for word in given]) == 0
    return path


def test_the_card_has_rows_cameras_ranges_and_the_baseline(folder: Path) -> None:
    town = card_of(folder / "docs")["checkpoints"]["small"]["drives"]["town"]
    rows = {"metric", "mirrored", "motion_stereo", "median", "median_sweep", "affine", "ground_plane"}
    assert set(town["rows"]) == rows
    assert len(town["rows"]["metric"]["views"]) == 6
    assert set(town["rows"]["metric"]["ranges"]) == {"0-20", "20-40", "40-80"}
    assert town["rows"]["metric"]["spread"]["abs_rel"] > 0
    assert town["sigma"]["n"] > 0
    text = (folder / "docs" / "scorecard.md").read_text()
    assert town["verdict"] in text
    for row in town["rows"].values():
        assert f"{row['overall']['abs_rel']:.3f}" in text
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.endswith("|"), line


def test_the_card_tells_what_each_student_was_trained_on_and_what_was_left_out(folder: Path) -> None:
    card = card_of(folder / "docs")
    assert "town alone" not in render_scorecard(card, [])
    town = card["checkpoints"]["small"]["drives"]["town"]
    assert (town["sweeps_without_lidar"], town["images_without_pose"]) == (0, 0)
    town["made"]["checkpoint"]["training_data"] = "28130 sweeps of nuscenes:train"
    town |= {"skipped_sweeps": 500, "missing_views": {"cam_front": 3000}, "sweeps_without_lidar": 70}
    town |= {"images_without_pose": 40}
    text = render_scorecard(card, [])
    assert "trained on: 28130 sweeps of nuscenes:train.\n" in text
    assert (
        "Left out: 500 sweeps without a readable image, 70 without LiDAR points; missing views: cam_front 3000.\n"
    ) in text
    assert "Of 40 images the LiDAR's points were not moved" in text
    assert COVERAGE in text


def test_figures_of_an_earlier_version_are_still_shown(folder: Path) -> None:
    card = card_of(folder / "docs")
    town = card["checkpoints"]["small"]["drives"]["town"]
    del town["sweeps_without_lidar"], town["images_without_pose"]
    town["interval_of"]["unit"] = "images"
    text = render_scorecard(card, [])
    assert "Left out: 0 sweeps without a readable image; missing views: none.\n" in text
    assert "intervals over images, of an earlier version and too narrow.\n" in text


def test_motion_stereo_is_explained_and_told_where_it_had_something_to_compare(folder: Path) -> None:
    card = card_of(folder / "docs")
    figures = card["checkpoints"]["small"]["drives"]["town"]["motion_stereo"]
    explained, told = "`motion_stereo` is `metric` corrected", "images were compared with an earlier one"
    assert figures["images"] == 0
    text = render_scorecard(card, [])
    assert explained in text
    assert told not in text
    figures["images"] = 5
    figures["sigma"]["inside"]["1"]["observed"] = 0.654
    figures["view_disagreement"]["at_lidar"]["overall"] |= {"mean": 0.101, "median": 0.054}
    assert (
        f"\n`motion_stereo`: 5 of 6 {told}; 0.654 of its errors lie inside 1 σ, "
        f"{figures['sigma']['inside']['2']['observed']:.3f} inside 2 σ; two views of the same LiDAR point disagree by "
        "0.101 of the distance (median 0.054).\n"
    ) in render_scorecard(card, [])


def test_a_card_from_before_motion_stereo_is_still_shown(folder: Path) -> None:
    card = card_of(folder / "docs")
    town = card["checkpoints"]["small"]["drives"]["town"]
    del town["motion_stereo"], town["rows"]["motion_stereo"]
    assert "motion_stereo" not in render_scorecard(card, [])


@pytest.mark.parametrize(
    ("given", "place"),
    [
        (["--town"], "town:7,rate=8,every=4"),
        (["--town", "3"], "town:3,rate=8,every=4"),
        (["--town", TOWN], f"town:{TOWN}"),
    ],
)
def test_a_seed_alone_is_a_town_with_more_sweeps_than_are_scored(
    given: list[str], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    named: list[dict[str, str]] = []
    monkeypatch.setattr("training.scorecard.make_scorecard", lambda _, drives, *__: named.append(drives))
    assert main(given) == 0
    assert named == [{"town": place}]


def test_the_sweeps_that_are_scored_are_those_of_two_a_second() -> None:
    few, many = (open_data(f"town:7{options},size=18x32").sweeps for options in ("", HELD_OUT_SWEEPS))
    assert len(few) == len(many) == 20
    hashes = []
    for sweeps in (few, many):
        digest = DataHash()
        for index in (0, 1, 10, 19):
            digest.add(sweeps[index])
        hashes.append(digest.hex())
    assert hashes[0] == hashes[1]


def test_pictures_of_the_town_stand_in_the_card_and_are_small(folder: Path) -> None:
    text = (folder / "docs" / "scorecard.md").read_text()
    for picture in card_of(folder / "docs")["checkpoints"]["small"]["drives"]["town"]["pictures"]:
        assert f"]({picture['file']})" in text
        assert (folder / "docs" / picture["file"]).stat().st_size < 300_000
        assert cv2.imread(str(folder / "docs" / picture["file"])).shape[1] <= 640
    assert (folder / "out" / "town" / "report.html").exists()


def test_a_town_is_no_look_at_real_frames(folder: Path) -> None:
    assert not (folder / "docs" / "results" / "real_looks.json").exists()


def test_a_look_is_entered_behind_those_before(tmp_path: Path) -> None:
    path = tmp_path / "results" / "looks.json"
    log_look(path, "nuscenes", "small")
    log_look(path, "ddad", "small")
    assert [(look["data"], look["student"]) for look in json.loads(path.read_text())] == [
        ("nuscenes", "small"),
        ("ddad", "small"),
    ]
    assert "| ddad | small | scored by python -m training.scorecard |" in render_scorecard(
        {"checkpoints": {}}, json.loads(path.read_text())
    )


@pytest.mark.parametrize(("is_same", "expected"), [(True, {"nuscenes", "town"}), (False, {"town"})])
def test_figures_of_the_same_weights_stay_and_those_of_others_go(
    folder: Path, is_same: bool, expected: set[str]
) -> None:
    known = card_of(folder / "docs")["checkpoints"]["small"]
    weights, drives = known["weights_sha256"], {"nuscenes": known["drives"]["town"]}
    cards = {"small": {"weights_sha256": weights if is_same else "other", "drives": drives}}
    found = drives_of(cards, "small", weights)
    found["town"] = known["drives"]["town"]
    assert set(cards["small"]["drives"]) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to score: give --nuscenes PATH, --ddad PATH or --town"),
        (["--nuscenes", "no/such"], "no/such"),
        (["--town", "--checkpoint", "no/such.safetensors"], "no/such.safetensors"),
    ],
)
def test_a_mistake_is_told_and_logs_no_look(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--docs", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--docs", "--output"])
def test_a_place_that_cannot_be_written_is_told_before_a_look(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("training.scorecard.REAL", ("town",))
    monkeypatch.setattr("training.scorecard.evaluate", lambda *_: pytest.fail("was scored"))
    (tmp_path / "file").touch()
    given = {"--docs": tmp_path / "docs", "--output": tmp_path / "out", option: tmp_path / "file" / "below"}
    assert main(["--town", TOWN, *(str(word) for pair in given.items() for word in pair)]) == 1
    assert f"scorecard: {option}: nothing can be written into" in capsys.readouterr().err
    assert not (tmp_path / "docs" / "results" / "real_looks.json").exists()


def test_figures_are_not_lost_with_a_report_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / "town" / "report.json").mkdir(parents=True)
    given = ("--docs", str(tmp_path / "docs"), "--output", str(tmp_path / "out"), "--device", "cpu")
    assert main(["--town", TOWN, *given]) == 1
    said = capsys.readouterr()
    assert "cannot be written" in said.err
    assert "ground_plane" in said.out


def test_the_card_in_the_repository_is_that_of_its_figures() -> None:
    docs = ROOT / "docs"
    looks = json.loads((docs / "results" / "real_looks.json").read_text())
    assert all(set(look) == {"date", "data", "student", "what"} for look in looks)
    if not (docs / "results" / "scorecard.json").exists():
        pytest.skip("no score card yet")
    assert (docs / "scorecard.md").read_text() == render_scorecard(card_of(docs), looks)
