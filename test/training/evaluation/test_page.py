"""The report as a person gets it: a page that stands alone, and the numbers of the JSON in it."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from fsmde_ros.errors import SourceError
from fsmde_ros.estimator import Estimator, PreparedSweep
from fsmde_ros.sweep import EncodedImage, SurroundDepth, Sweep, View
from training.data_source import DataName, DataSource, open_data
from training.evaluate import Evaluation, NamedTeacher, evaluate, write_report
from training.evaluation.confidence import COVERAGE
from training.evaluation.page import render_page
from training.teachers.teacher import TeacherOutput

TOWN = "town:7,seconds=1,rate=2,size=72x128"


class Page(HTMLParser):
    """What a browser would fetch, and whether tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.images: list[str] = []
        self.references: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if tag == "img" and name == "src":
                self.images.append(value or "")
            elif name in ("src", "href", "srcset", "data", "action", "poster"):
                self.references.append(value or "")
        if tag not in ("meta", "img", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def town() -> DataSource:
    """Two sweeps, rendered once."""
    source = open_data(TOWN)
    return replace(source, sweeps=list(source.sweeps))


@pytest.fixture(scope="module")
def evaluation(small_student: Path, town: DataSource) -> Evaluation:
    return evaluate(small_student, town, device="cpu", pictures=1)


@pytest.fixture(scope="module")
def folder(evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("evaluation") / "report"
    write_report(evaluation, path)
    return path


def test_the_page_needs_nothing_but_itself(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    page = Page(text)
    assert not page.references
    assert "url(" not in text
    assert "<script" not in text
    assert len(page.images) >= 5  # three figures, the legend, a chosen sweep, and the worst where it is another
    for source in page.images:
        kind, _, data = source.partition(";base64,")
        assert kind == "data:image/png"
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(data, validate=True), np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        assert picture.std() > 1


def test_the_verdict_and_the_numbers_of_the_json_are_on_the_page(folder: Path) -> None:
    report = json.loads((folder / "report.json").read_text())
    page = Page((folder / "report.html").read_text())
    assert report["verdict"] in page.text
    assert page.text.index(report["verdict"]) < page.text.index("Summary")
    for row, scores in report["rows"].items():
        assert row in page.text
        assert f"{scores['overall']['abs_rel']:.3f}" in page.text
    for digest in (report["made"]["checkpoint"]["sha256"], report["made"]["data"]["sha256"]):
        assert len(digest) == 64
        assert digest in page.text


def metric_interval(report: dict[str, Any]) -> list[float] | None:
    limits: list[float] | None = report["rows"]["metric"]["interval"]["abs_rel"]
    return limits


def test_the_page_tells_what_stands_behind_an_interval_and_what_is_not_scored(
    small_student: Path, town: DataSource, evaluation: Evaluation
) -> None:
    def without_poses(sweep: Sweep) -> Sweep:
        assert sweep.lidar is not None
        views = {name: replace(view, vehicle_to_map=None) for name, view in sweep.views.items()}
        return Sweep(sweep.rig, sweep.stamp_ns, views, replace(sweep.lidar, vehicle_to_map=None))

    unlit = Sweep(town.sweeps[1].rig, 0, town.sweeps[1].views)
    source = replace(town, sweeps=[unlit, without_poses(town.sweeps[0]), unlit])
    done = evaluate(small_student, source, device="cpu")
    assert (done.report["sweeps"], done.report["sweeps_without_lidar"]) == (1, 2)
    assert 0 < done.report["images_without_pose"] <= done.report["images"] == 6
    assert metric_interval(done.report) is not None
    assert [picture.index for _, picture in done.pictures] == [1]
    text = Page(render_page(done.report, done.pictures)).text
    assert "0 sweeps without a readable image, 2 without LiDAR points" in text
    assert "not moved" in text
    assert "over images of one sweep, taken as independent" in text
    assert COVERAGE in text
    alone = evaluate(small_student, replace(town, sweeps=town.sweeps[:1]), device="cpu").report["made"]["data"]
    assert alone["sha256"] != done.report["made"]["data"]["sha256"]  # the poses count
    whole = Page(render_page(evaluation.report, evaluation.pictures)).text
    assert "Two sweeps are too few for an interval." in whole
    assert "not moved" not in whole


def test_a_depth_without_any_value_is_refused(
    small_student: Path, town: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    infer = Estimator.infer

    def broken(estimator: Estimator, prepared: PreparedSweep) -> SurroundDepth:
        estimate = infer(estimator, prepared)
        nothing = np.full_like(estimate.depth, np.nan)
        return replace(estimate, depth=nothing, stddev=nothing)

    monkeypatch.setattr(Estimator, "infer", broken)
    with pytest.raises(
        SourceError, match=r"nothing could be scored: the depth has no value \(NaN\) at any LiDAR point"
    ):
        evaluate(small_student, replace(town, sweeps=town.sweeps[:1]), device="cpu")


def test_the_json_has_every_figure_under_its_name(evaluation: Evaluation) -> None:
    report = json.loads(json.dumps(evaluation.report, allow_nan=False))
    assert set(report["rows"]) == {"metric", "median", "median_sweep", "affine", "ground_plane"}
    assert report["sweeps"] == 2
    assert report["interval_of"] == {"unit": None, "level": 0.95}
    assert metric_interval(report) is None
    metric = report["rows"]["metric"]
    assert set(metric) == {"overall", "spread", "views", "interval", "ranges", "overlap", "visible"}
    assert set(metric["ranges"]) == {"0-20", "20-40", "40-80"}
    assert len(metric["views"]) == 6
    assert report["view_disagreement"]["at_lidar"]["overall"]["n"] > 0
    assert report["view_disagreement"]["dense"]["overall"]["n"] > 0
    assert set(report["sigma"]["inside"]) == {"0.5", "1", "2", "3"}
    assert report["made"]["data"]["name"] == TOWN
    assert report["rows"]["ground_plane"]["overall"]["d1"] > 0.3
    assert "flat ground plane" in report["verdict"]


def test_a_sweep_that_cannot_be_read_is_left_out_and_counted(small_student: Path, town: DataSource) -> None:
    good = town.sweeps[0]
    broken = {name: View(EncodedImage(b"no image"), view.stamp_ns) for name, view in good.views.items()}
    partly = {**good.views, "cam_front": broken["cam_front"]}
    sweeps = [Sweep(good.rig, 0, views, good.lidar) for views in (good.views, broken, partly)]
    source = DataSource(DataName("bag", "made_up"), sweeps, 0.1, 80.0)
    report = evaluate(small_student, source, device="cpu").report
    assert (report["sweeps"], report["skipped_sweeps"]) == (2, 1)
    assert "sweep 1: " in report["skipped_because"][0]
    assert report["missing_views"] == {"cam_front": 1}
    assert report["images"] == 11


def test_a_drive_without_lidar_is_refused(small_student: Path, town: DataSource) -> None:
    good = town.sweeps[0]
    source = DataSource(DataName("bag", "made_up"), [Sweep(good.rig, 0, good.views)], 0.1, 80.0)
    with pytest.raises(SourceError, match=r"bag:made_up: nothing could be scored: no LiDAR point between 0\.1"):
        evaluate(small_student, source, device="cpu")


class TiltedTeacher:
    """Says that every image shows the same slope, up to its own scale."""

    identity, kind, batch = "slope", "depth", 6

    def predict(self, images: torch.Tensor, with_features: bool = False) -> TeacherOutput:
        assert images.dtype == torch.uint8
        count, _, height, width = images.shape
        rows = torch.linspace(0.02, 0.3, height)[:, None].expand(height, width)
        return TeacherOutput(rows.expand(count, height, width), None)


def test_a_teacher_gets_rows_of_its_own(small_student: Path, town: DataSource) -> None:
    one = replace(town, sweeps=town.sweeps[:1])
    done = evaluate(small_student, one, device="cpu", teacher=NamedTeacher("slope", TiltedTeacher()))
    rows = done.report["rows"]
    assert {"teacher_affine", "teacher_sweep", "teacher_metric"} < set(rows)
    assert rows["teacher_affine"]["overall"]["rmse_log"] < rows["teacher_metric"]["overall"]["rmse_log"]
    page = Page(render_page(done.report, done.pictures))
    assert "teacher_sweep" in page.text
    assert "slope (depth)" in page.text
