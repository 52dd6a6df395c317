"""``python -m training.evaluate --teacher``: a model of transformers, from its directory to the rows of the report."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fsmde_ros.checkpoint import default_checkpoint
from training.evaluate import main
from training.teachers.hub import load_teacher
from training.teachers.teacher import TeacherSettings

TOWN = "town:7,seconds=0.1,rate=10,size=48x80"
ROWS = {"teacher_affine", "teacher_sweep"}


@pytest.mark.parametrize(
    ("family", "kind", "rows"),
    [("depth_anything", "disparity", ROWS), ("zoedepth", "depth", {*ROWS, "teacher_metric"})],
)
def test_a_teacher_stands_beside_the_student_in_every_form_of_the_report(
    family: str,
    kind: str,
    rows: set[str],
    save: dict[str, Callable[..., Path]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, output = save[family](tmp_path / "a_teacher"), tmp_path / "out"
    given = ["--checkpoint", str(default_checkpoint()), "--data", TOWN, "--teacher", str(folder), "--device", "cpu"]
    assert main([*given, "--output", str(output)]) == 0
    report = json.loads((output / "report.json").read_text())
    assert {row for row in report["rows"] if row.startswith("teacher")} == rows
    page = re.sub(r"<style.*?</style>|<[^>]+>", " ", (output / "report.html").read_text(), flags=re.DOTALL)
    table = capsys.readouterr().out
    for row in rows:
        assert row in page
        assert row in table
    affine = report["rows"]["teacher_affine"]
    assert set(affine["views"]) == set(report["rows"]["metric"]["views"])
    assert affine["overall"]["n"] == report["rows"]["metric"]["overall"]["n"] > 1000
    assert 0 < affine["overall"]["abs_rel"] < 10
    assert f"{affine['overall']['abs_rel']:.3f}" in page
    identity = load_teacher(TeacherSettings(str(folder), device="cpu")).identity
    assert report["made"]["teacher"] == {"name": "a_teacher", "kind": kind, "identity": identity}
    assert f"a_teacher ({kind})" in page
    assert str(tmp_path) not in json.dumps(report)


def test_a_teacher_is_told_what_its_numbers_mean_and_what_it_sees(
    save: dict[str, Callable[..., Path]], tmp_path: Path
) -> None:
    """As teacher.kind and teacher.input_size of a training: a DPT in metres does not say so itself."""
    folder, output = save["dpt"](tmp_path / "a_teacher"), tmp_path / "out"
    given = ["--checkpoint", str(default_checkpoint()), "--data", TOWN, "--teacher", str(folder), "--device", "cpu"]
    assert main([*given, "--teacher-kind", "depth", "--teacher-size", "48x48", "--output", str(output)]) == 0
    report = json.loads((output / "report.json").read_text())
    settings = TeacherSettings(str(folder), kind="depth", input_size=(48, 48), device="cpu")
    identity = load_teacher(settings).identity
    assert report["made"]["teacher"] == {"name": "a_teacher", "kind": "depth", "identity": identity}
    assert "teacher_metric" in report["rows"]
    assert identity != load_teacher(replace(settings, input_size=None)).identity


@pytest.mark.parametrize("option", [["--teacher-kind", "depth"], ["--teacher-size", "48x48"]])
def test_what_is_told_of_no_teacher_is_refused(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--checkpoint", str(default_checkpoint()), "--data", TOWN, *option]) == 1
    assert "there is none; give --teacher" in capsys.readouterr().err


def test_a_directory_that_is_no_teacher_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    given = ["--checkpoint", str(default_checkpoint()), "--data", TOWN, "--device", "cpu"]
    assert main([*given, "--teacher", str(tmp_path), "--output", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err.strip()
    assert "'bert'" in said
    assert "does not estimate depth" in said
    assert not (tmp_path / "out").exists()
