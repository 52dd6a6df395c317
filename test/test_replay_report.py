from __future__ import annotations

import json

import numpy as np
import pytest

from fsmde_ros.errors import ConfigError
from fsmde_ros.geometry import rigid
from fsmde_ros.replay_report import (
    DepthImage,
    ReplayScores,
    ScoredPoints,
    ScoringConfig,
    SweepReport,
    build_report,
    format_report,
    summarise_sweeps,
)
from fsmde_ros.rig import Camera, Rig

MS = 1_000_000
# x of the vehicle (forward) is z of the camera: the rotation of a forward camera.
FORWARD = [0.5, -0.5, 0.5, -0.5]
CAMERA_TO_VEHICLE = rigid(FORWARD, [1.0, 0.0, 1.5])
INTRINSICS = [[80.0, 0, 47.5], [0, 80.0, 31.5], [0, 0, 1]]


@pytest.fixture
def rig() -> Rig:
    front = Camera("front", (64, 96), INTRINSICS, CAMERA_TO_VEHICLE)
    back = Camera("back", (64, 96), INTRINSICS, rigid([0, 0, 0, 1], [0, 0, 0]) @ CAMERA_TO_VEHICLE)
    return Rig((front, back))


def wall(distance: float, count: int = 50) -> np.ndarray:
    """Points of a wall ``distance`` metres before the front camera, in the vehicle frame."""
    across = np.linspace(-2, 2, count)
    return np.stack([np.full(count, 1.0 + distance), across, np.full(count, 1.5)], axis=-1)


def image(rig: Rig, depth: float, stamp_ns: int, name: str = "front", size: tuple[int, int] = (16, 24)) -> DepthImage:
    return DepthImage(rig[name].resized(size), stamp_ns, np.full(size, depth, np.float32))


def test_scores_a_wall_and_the_flat_ground_beside_it(rig: Rig) -> None:
    scores = ReplayScores()
    for stamp in (0, 100 * MS):
        scores.add_pose(stamp, np.eye(4))
    scores.add_depth(image(rig, 12.0, 10 * MS))
    scores.add_scan(30 * MS, wall(10.0))
    assert not scores.metric.images, "a nearer scan may still come"
    scores.add_scan(90 * MS, wall(11.0))
    report = build_report(scores, [], {})
    assert report["views"]["front"]["abs_rel"] == pytest.approx(0.2)
    assert report["overall"]["n"] == 50
    assert report["aligned"]["median"]["abs_rel"] == pytest.approx(0.0, abs=1e-9)
    # At eye level the ground is never met: the baseline says its cap, 20 m, for the wall at 10 m.
    assert report["baseline"]["ground_plane"]["abs_rel"] == pytest.approx(1.0)
    assert list(report["baseline"]["views"]) == ["front"]


def test_the_baseline_knows_the_ground(rig: Rig) -> None:
    scores = ReplayScores()
    x = np.linspace(5, 18, 40)
    scores.add_scan(0, np.stack([x, np.zeros(40), np.zeros(40)], axis=-1))
    scores.add_depth(image(rig, 9.0, 0))
    scores.finish()
    assert scores.baseline.overall().abs_rel < 0.01
    assert scores.metric.overall().abs_rel > 0.1


@pytest.mark.parametrize("order", ["scan first", "depth first"])
def test_the_nearest_scan_counts_whatever_the_order(rig: Rig, order: str) -> None:
    scores = ReplayScores()
    steps = [lambda: scores.add_scan(0, wall(20.0)), lambda: scores.add_scan(45 * MS, wall(10.0))]
    steps.insert(0 if order == "depth first" else 2, lambda: scores.add_depth(image(rig, 10.0, 40 * MS)))
    for step in steps:
        step()
    scores.finish()
    assert scores.metric.overall().abs_rel == pytest.approx(0.0, abs=1e-6)


def test_the_scan_moves_with_the_vehicle(rig: Rig) -> None:
    scores = ReplayScores()
    for stamp, x in ((0, 0.0), (100 * MS, 1.5)):  # 15 m/s
        scores.add_pose(stamp, rigid([1, 0, 0, 0], [x, 0, 0]))
    scores.add_scan(0, wall(10.0))
    scores.add_depth(image(rig, 9.4, 40 * MS))  # 0.6 m closer by then
    scores.finish()
    assert scores.metric.overall().abs_rel == pytest.approx(0.0, abs=1e-6)
    assert scores.counts["without_pose"] == 0


def test_every_lidar_has_its_own_nearest_scan(rig: Rig) -> None:
    """That of the LiDAR at the back is nearer in time, and sees nothing of what is in front."""
    scores = ReplayScores()
    for stamp in range(0, 1000, 50):
        scores.add_pose(stamp * MS, rigid([1, 0, 0, 0], [stamp / 100, 0, 0]))  # 10 m/s
    for stamp in range(100, 900, 100):
        scores.add_scan(stamp * MS, wall(10.0, 40), "front")
        scores.add_scan((stamp + 5) * MS, wall(10.0, 30) * [-1, -1, 1], "back")
        for name, depth in (("front", 10 - 0.04), ("back", 12 - 0.01)):  # each is moved from its own stamp
            scores.add_depth(image(rig, depth, (stamp + 4) * MS, name))
    scores.finish()
    assert scores.counts["without_scan"] == scores.counts["without_pose"] == 0
    views = build_report(scores, [], {})["views"]
    assert (views["front"]["n"], views["back"]["n"]) == (8 * 40, 8 * 30)
    assert views["front"]["abs_rel"] == pytest.approx(0.0, abs=1e-6)


def test_a_lidar_that_went_silent_holds_no_image_back_for_ever(rig: Rig) -> None:
    scores = ReplayScores()
    scores.add_scan(0, wall(10.0), "back")
    for i in range(100):
        scores.add_pose(i * 100 * MS, np.eye(4))
        scores.add_scan(i * 100 * MS, wall(10.0), "front")
        scores.add_depth(image(rig, 10.0, i * 100 * MS))
    assert scores.counts["images"] == 40
    scores.finish()
    assert scores.counts["without_scan"] == 0
    assert scores.metric.overall().n == 101 * 50  # both LiDARs of the first


def test_what_was_not_moved_for_want_of_poses_is_told(rig: Rig) -> None:
    def said(with_poses: bool, scan_stamp_ns: int = 0) -> str:
        scores = ReplayScores()
        for stamp in (0, 100 * MS) if with_poses else ():
            scores.add_pose(stamp, np.eye(4))
        scores.add_scan(scan_stamp_ns, wall(10.0))
        scores.add_depth(image(rig, 10.0, 40 * MS))
        scores.finish()
        return format_report(build_report(scores, [], {}))

    assert "of 1 of 1 images the LiDAR's points were not moved to the image's stamp: no pose" in said(False)
    assert "pose" not in said(True)
    assert "pose" not in said(False, scan_stamp_ns=40 * MS), "at one stamp there is nothing to move"


def test_an_image_waits_for_the_poses_that_are_behind(rig: Rig) -> None:
    scores = ReplayScores()
    scores.add_pose(-200 * MS, rigid([1, 0, 0, 0], [-3, 0, 0]))
    scores.add_scan(0, wall(10.0))
    scores.add_depth(image(rig, 9.4, 40 * MS))
    scores.add_scan(200 * MS, wall(5.0))
    for stamp, x in ((0, 0.0), (100 * MS, 1.5)):
        assert not scores.metric.images
        scores.add_pose(stamp, rigid([1, 0, 0, 0], [x, 0, 0]))
    assert scores.metric.overall().abs_rel == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("late", ["poses", "scans", "poses but the first"])
def test_what_comes_late_changes_no_score(rig: Rig, late: str) -> None:
    def drive(poses_late: int, scans_late: int) -> ReplayScores:
        """Ten sweeps at 10 m/s; poses and scans come so many sweeps after their images."""
        scores = ReplayScores()
        for i in range(20):
            if 0 <= i - poses_late < 10 or (i == 0 and late == "poses but the first"):
                x = float(max(0, i - poses_late))
                scores.add_pose(max(0, i - poses_late) * 100 * MS, rigid([1, 0, 0, 0], [x, 0, 0]))
            if 0 <= i - scans_late < 10:
                scores.add_scan((i - scans_late) * 100 * MS, wall(10.0))
            if i < 10:
                scores.add_depth(image(rig, 10.0, i * 100 * MS + 20 * MS))
        scores.finish()
        return scores

    prompt = drive(0, 0)
    assert prompt.counts["without_pose"] == 0
    behind = drive(*{"poses": (10, 0), "scans": (0, 10), "poses but the first": (7, 0)}[late])
    assert behind.metric.overall() == prompt.metric.overall()
    assert behind.counts | {"poses": 10} == prompt.counts


def test_a_drive_without_poses_is_scored_while_it_runs(rig: Rig) -> None:
    scores = ReplayScores()
    for i in range(100):
        scores.add_scan(i * 100 * MS, wall(10.0))
        scores.add_depth(image(rig, 10.0, (i * 100 + 10) * MS))
    assert scores.counts["images"] == scores.counts["without_pose"] == 40
    scores.finish()
    assert scores.metric.overall().abs_rel == pytest.approx(0.0, abs=1e-6)
    assert scores.counts["without_scan"] == 0


def test_what_could_not_be_scored_is_counted(rig: Rig) -> None:
    scores = ReplayScores()
    scores.add_scan(0, wall(10.0))
    hole = image(rig, 10.0, 10 * MS)
    hole.depth[:, :12] = np.nan
    scores.add_depth(hole)
    scores.add_depth(image(rig, 10.0, 70 * MS))
    scores.finish()
    assert scores.counts["images"] == 2
    assert scores.counts["without_scan"] == 1
    assert scores.counts["without_pose"] == 1
    assert 15 < scores.counts["pixels_without_prediction"] < 30
    assert scores.metric.overall().n == 50 - scores.counts["pixels_without_prediction"]


def test_out_of_range_counts_as_the_end_of_the_range(rig: Rig) -> None:
    scores = ReplayScores(config=ScoringConfig(max_depth=40.0))
    scores.add_scan(0, np.concatenate([wall(10.0), wall(41.0)]))
    scores.add_depth(image(rig, np.inf, 0))
    scores.finish()
    assert scores.metric.overall().n == 50
    assert scores.metric.overall().abs_rel == pytest.approx(3.0)


def test_a_listener_is_given_the_points_in_the_vehicle_frame(rig: Rig) -> None:
    heard: list[ScoredPoints] = []
    scores = ReplayScores(listener=heard.append)
    scan = wall(10.0)
    scores.add_scan(0, scan)
    scores.add_depth(image(rig, 8.0, 0))
    scores.finish()
    [scored] = heard
    assert len(scored.truth) == scores.metric.overall().n > 0
    np.testing.assert_allclose(scored.predicted, 8.0)
    nearest = np.linalg.norm(scan[None] - scored.points_vehicle[:, None], axis=-1).min(1)
    assert nearest.max() < 1e-9, "they are points of the scan"


def test_cameras_count_alike_however_many_points_they_have(rig: Rig) -> None:
    scores = ReplayScores()
    behind = wall(10.0, 10) * [-1, -1, 1]
    scores.add_scan(0, np.concatenate([wall(10.0, 90), behind]))
    scores.add_depth(image(rig, 10.0, 0))
    scores.add_depth(image(rig, 14.0, 0, "back"))
    scores.finish()
    report = build_report(scores, [], {})
    assert report["views"]["back"]["abs_rel"] == pytest.approx(0.4)
    assert report["overall"]["abs_rel"] == pytest.approx(0.2)


def sweep(state: str, total_ms: float | None, arrived: float, missing: tuple[str, ...] = ()) -> SweepReport:
    return SweepReport(0, state, missing, total_ms, arrived)


def test_sweeps_that_never_reached_the_node_are_lost() -> None:
    reports = [
        sweep("complete", 40.0, 1.0),
        sweep("partial", 60.0, 1.5, ("back",)),
        sweep("dropped", None, 1.6),
        sweep("skipped", None, 1.7, ("front", "back")),
        sweep("complete", 50.0, 2.0),
        sweep("skipped", None, 9.0, ("front", "back")),
    ]
    summary = summarise_sweeps(reports, {"front": 8, "back": 5})
    counts = {"complete": 2, "partial": 1, "skipped": 2, "lost": 3}
    assert summary["sweeps"] == {"in": 8, **counts, "missing_views": {"back": 1}}
    assert summary["rate_hz"] == pytest.approx(2.0)
    assert summary["latency_ms"]["p50"] == pytest.approx(50.0)


def test_how_many_were_lost_is_not_known_where_camera_info_is_rare() -> None:
    summary = summarise_sweeps([sweep("complete", 40.0, i / 10) for i in range(5)], {"front": 1, "back": 1})
    assert (summary["sweeps"]["in"], summary["sweeps"]["lost"]) == (5, None)
    report = build_report(ReplayScores(), [sweep("complete", 40.0, i / 10) for i in range(5)], {"front": 1})
    assert "5 in, 5 complete, 0 partial, - lost" in format_report(report)
    report = build_report(ReplayScores(), [sweep("skipped", None, 1.0)], {"front": 1})
    assert "1 in, 0 complete, 0 partial, 1 skipped, 0 lost" in format_report(report)


def test_an_empty_report_is_json_and_prints() -> None:
    report = build_report(ReplayScores(), [], {})
    assert json.loads(json.dumps(report, allow_nan=False))["overall"]["n"] == 0
    assert report["rate_hz"] is None
    assert "ground plane" in format_report(report)


def test_the_name_of_a_camera_is_told_whole(rig: Rig) -> None:
    """It was cut at its front, together with what the row is of."""
    report = build_report(ReplayScores(), [], {})
    name = "sensors/front/left/wide_angle_camera"
    report["views"][name] = report["baseline"]["views"][name] = report["overall"]
    header, *rows = format_report(report).splitlines()
    assert rows[0].startswith(f"{name} ")
    assert f"ground plane {name} " in "\n".join(rows)
    assert {len(row) for row in rows[:-1]} == {len(header)}


@pytest.mark.parametrize("limits", [(0.0, 80.0), (5.0, 5.0), (9.0, 1.0)])
def test_an_empty_range_is_refused(limits: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="0 < min < max"):
        ScoringConfig(*limits)


@pytest.mark.parametrize("name", ["min_depth", "max_depth", "tolerance_s", "baseline_cap"])
@pytest.mark.parametrize("value", [float("inf"), float("nan"), -1.0])
def test_limits_are_finite(name: str, value: float) -> None:
    """They go into the report, as JSON, and a tolerance into whole nanoseconds."""
    with pytest.raises(ConfigError, match="finite"):
        ScoringConfig(**{name: value})
