"""All rows and scopes against a plain-Python reference in float64, and what happens to views that are missing."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from fsmde_ros.geometry import ground_plane_depth_at
from fsmde_ros.rig import Camera
from fsmde_ros.sweep import SurroundDepth, Sweep
from training.evaluation.points import DepthRange
from training.evaluation.report import table, verdict
from training.evaluation.tally import Tally

LOW, HIGH = 0.1, 80.0
BANDS = {"0-20": (0, 20), "20-40": (20, 40), "40-80": (40, 80.001)}
Points = list[tuple[float, float, float, bool]]  # prediction, truth, ground plane, seen by another view


def estimate_for(sweep: Sweep, rng: np.random.Generator) -> SurroundDepth:
    rig = sweep.rig.subset(sweep.present)
    shape = (len(rig), *rig.cameras[0].size)
    depth = np.exp(rng.uniform(np.log(0.3), np.log(150), shape)).astype(np.float32)
    depth[:, :4] = np.inf
    depth[0, 20:24, 10:20] = np.nan
    stddev = np.where(np.isfinite(depth), 0.1 * depth, np.nan).astype(np.float32)
    return SurroundDepth(rig, sweep.stamp_ns, depth, stddev)


def pixel_of(camera: Camera, point: list[float]) -> tuple[float, float, float] | None:
    """Column, row and depth of a point of the vehicle frame; None outside the image."""
    t = camera.camera_to_vehicle
    offset = [point[i] - t[i, 3] for i in range(3)]
    x, y, z = (sum(t[i, j] * offset[i] for i in range(3)) for j in range(3))
    if z <= LOW:
        return None
    k = camera.intrinsics
    column, row = k[0, 0] * x / z + k[0, 2], k[1, 1] * y / z + k[1, 2]
    height, width = camera.size
    return (column, row, z) if -0.5 < column < width - 0.5 and -0.5 < row < height - 0.5 else None


def sampled(image: np.ndarray, column: float, row: float) -> float:
    height, width = image.shape
    column, row = min(max(column, 0.0), width - 1.0), min(max(row, 0.0), height - 1.0)
    x, y = min(int(column), width - 2), min(int(row), height - 2)
    corners = [float(image[y + j, x + i]) for j in (0, 1) for i in (0, 1)]
    if not all(map(math.isfinite, corners)):
        return float(image[round(row), round(column)])
    fx, fy = column - x, row - y
    weights = [(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx]
    return sum(w * c for w, c in zip(weights, corners, strict=True))


def points_of(sweep: Sweep, estimate: SurroundDepth) -> dict[str, Points]:
    assert sweep.lidar is not None
    found: dict[str, Points] = {name: [] for name in sweep.present}
    for point in sweep.lidar.points_vehicle.tolist():
        pixels = {name: pixel_of(sweep.rig[name], point) for name in sweep.present}
        for name, pixel in pixels.items():
            if pixel is None or pixel[2] > HIGH:
                continue
            camera = sweep.rig[name]
            plane = ground_plane_depth_at(camera.intrinsics, camera.camera_to_vehicle, [pixel[:2]])[0]
            said = sampled(estimate.view(name)[0], pixel[0], pixel[1])
            others = [  # the point may lie nearer to the other camera than the nearest depth that counts
                other for other in sweep.present if other != name and pixels[other] is not None
            ]
            found[name].append((said, pixel[2], float(plane), bool(others)))
    return {name: points for name, points in found.items() if points}


def hidden_of(sweep: Sweep) -> dict[str, list[bool]]:
    """Whether each of ``points_of`` has, within reach, a far nearer one above, below, to the left and to the right."""
    assert sweep.lidar is not None
    places: dict[str, list[tuple[int, int, float]]] = {}
    for name in sweep.present:
        pixels = [pixel_of(sweep.rig[name], point) for point in sweep.lidar.points_vehicle.tolist()]
        places[name] = [(round(p[0]), round(p[1]), p[2]) for p in pixels if p is not None and p[2] <= HIGH]
    height, width = sweep.rig.cameras[0].size
    count = sum(map(len, places.values()))
    reach = min(max(round(1.7 * math.sqrt(len(places) * height * width / count)), 1), width // 20)

    def is_hidden(place: tuple[int, int, float], others: list[tuple[int, int, float]]) -> bool:
        x, y, depth = place
        near = [(i - x, j - y) for i, j, other in others if depth > 1.25 * other and abs(i - x) <= reach >= abs(j - y)]
        sides = (lambda i, _: i <= 0, lambda i, _: i >= 0, lambda _, j: j <= 0, lambda _, j: j >= 0)
        return all(any(side(i, j) for i, j in near) for side in sides)

    return {name: [is_hidden(place, own) for place in own] for name, own in places.items() if own}


def clamp(value: float) -> float:
    return value if math.isnan(value) else min(max(value, LOW), HIGH)


def median_ratio(points: Points) -> float:
    known = [(HIGH if math.isinf(p) else p, g) for p, g, _, _ in points if not math.isnan(p)]
    return statistics.median(g for _, g in known) / statistics.median(p for p, _ in known)


def line_fit(points: Points) -> Callable[[float], float]:
    """Depth from least-squares disparity, by the normal equations."""
    pairs = [(1 / clamp(p), 1 / g) for p, g, _, _ in points if not math.isnan(p)]
    n, sx, sy = len(pairs), sum(x for x, _ in pairs), sum(y for _, y in pairs)
    sxx, sxy = sum(x * x for x, _ in pairs), sum(x * y for x, y in pairs)
    slope = (n * sxy - sx * sy) / (n * sxx - sx * sx)
    shift = (sy - slope * sx) / n
    return lambda p: p if math.isnan(p) else (1 / d if (d := slope / clamp(p) + shift) > 0 else math.inf)


def depths_by_row(images: dict[str, Points]) -> dict[str, dict[str, list[float]]]:
    together = [point for points in images.values() for point in points]
    sweep_ratio = median_ratio(together)
    rows: dict[str, dict[str, list[float]]] = {}
    for name, points in images.items():
        ratio, fitted = median_ratio(points), line_fit(points)
        rows.setdefault("metric", {})[name] = [p for p, _, _, _ in points]
        rows.setdefault("median", {})[name] = [p * ratio for p, _, _, _ in points]
        rows.setdefault("median_sweep", {})[name] = [p * sweep_ratio for p, _, _, _ in points]
        rows.setdefault("affine", {})[name] = [fitted(p) for p, _, _, _ in points]
        rows.setdefault("ground_plane", {})[name] = [plane for _, _, plane, _ in points]
    return rows


def errors(pairs: list[tuple[float, float]]) -> dict[str, float]:
    pairs = [(clamp(p), g) for p, g in pairs if not math.isnan(p)]
    n = len(pairs)
    ratios = [max(p / g, g / p) for p, g in pairs]
    return {
        "abs_rel": sum(abs(p - g) / g for p, g in pairs) / n,
        "sq_rel": sum((p - g) ** 2 / g for p, g in pairs) / n,
        "rmse": math.sqrt(sum((p - g) ** 2 for p, g in pairs) / n),
        "rmse_log": math.sqrt(sum(math.log(p / g) ** 2 for p, g in pairs) / n),
        **{f"d{i}": sum(r < 1.25**i for r in ratios) / n for i in (1, 2, 3)},
    }


def protocol(images: list[tuple[str, list[tuple[float, float]]]]) -> dict[str, float]:
    """Per image, then per camera, then over the cameras."""
    cameras: dict[str, list[dict[str, float]]] = {}
    for name, pairs in images:
        if any(not math.isnan(p) for p, _ in pairs):
            cameras.setdefault(name, []).append(errors(pairs))
    means = [{key: statistics.fmean(s[key] for s in scores) for key in scores[0]} for scores in cameras.values()]
    return {key: statistics.fmean(mean[key] for mean in means) for key in means[0]}


@pytest.mark.parametrize("seed", [0, 1])
def test_every_row_and_scope_equals_the_reference(make_sweep: Callable[..., Sweep], seed: int) -> None:
    rng = np.random.default_rng(seed)
    tally = Tally(DepthRange(LOW, HIGH))
    expected: dict[tuple[str, str], list[tuple[str, list[tuple[float, float]]]]] = {}
    for absent in ((), ("cam_1",), ("cam_0", "cam_3")):  # cameras with different numbers of images
        sweep = make_sweep(rng, absent=absent)
        estimate = estimate_for(sweep, rng)
        tally.add(sweep, estimate)
        images = points_of(sweep, estimate)
        hidden = hidden_of(sweep)
        assert any(map(any, hidden.values()))
        for row, by_camera in depths_by_row(images).items():
            for name, depths in by_camera.items():
                truth = [(g, shared) for _, g, _, shared in images[name]]
                both = list(zip(depths, truth, strict=True))
                expected.setdefault((row, "all"), []).append((name, [(p, g) for p, (g, _) in both]))
                expected.setdefault((row, "overlap"), []).append((name, [(p, g) for p, (g, s) in both if s]))
                visible = [pair for (pair, is_hidden) in zip(both, hidden[name], strict=True) if not is_hidden]
                expected.setdefault((row, "visible"), []).append((name, [(p, g) for p, (g, _) in visible]))
                for band, (low, high) in BANDS.items():
                    within = [(p, g) for p, (g, _) in both if low <= g < high]
                    expected.setdefault((row, band), []).append((name, within))
    report = tally.report()
    assert set(report["rows"]) == {"metric", "median", "median_sweep", "affine", "ground_plane"}
    for (row, scope), single in expected.items():
        found = report["rows"][row]
        means = found if scope == "all" else found[scope] if scope in found else found["ranges"][scope]
        for error, value in protocol(single).items():
            assert means["overall"][error] == pytest.approx(value, abs=1e-5, rel=1e-5), (row, scope, error)
    assert report["sweeps"] == 3
    assert report["images"] == 12
    assert report["missing_views"] == {"cam_0": 1, "cam_1": 1, "cam_3": 1}


def test_spread_is_the_standard_deviation_over_the_cameras(make_sweep: Callable[..., Sweep]) -> None:
    rng = np.random.default_rng(3)
    tally = Tally(DepthRange())
    for _ in range(3):
        sweep = make_sweep(rng)
        tally.add(sweep, estimate_for(sweep, rng))
    metric = tally.report()["rows"]["metric"]
    views = [score["abs_rel"] for score in metric["views"].values()]
    assert metric["spread"]["abs_rel"] == pytest.approx(statistics.stdev(views))
    assert metric["interval"]["abs_rel"][0] < metric["overall"]["abs_rel"] < metric["interval"]["abs_rel"][1]


def test_bands_end_with_the_range_that_counts() -> None:
    assert Tally(DepthRange(0.1, 200.0)).bands[-1] == (80.0, 200.0)
    assert Tally(DepthRange(0.1, 60.0)).bands == ((0.0, 20.0), (20.0, 40.0), (40.0, 60.0))


def test_sweeps_without_points_do_not_count_as_scored(make_sweep: Callable[..., Sweep]) -> None:
    """Nor do they decide what the bootstrap draws: of twelve sweeps one has LiDAR."""
    rng = np.random.default_rng(4)
    sweep = make_sweep(rng, absent=("cam_1",))
    tally = Tally(DepthRange())
    without = Sweep(sweep.rig, 0, sweep.views)
    assert [tally.add(without, estimate_for(sweep, rng)) for _ in range(11)] == [()] * 11
    tally.add(sweep, estimate_for(sweep, rng))
    report = tally.report()
    assert (report["sweeps"], report["sweeps_without_lidar"], report["images"]) == (1, 11, 4)
    assert report["interval_of"]["unit"] == "images of one sweep"
    assert report["missing_views"] == {"cam_1": 1}
    assert report["view_disagreement"]["dense"]["overall"]["n"] > 0
    said = verdict(report, "bag:drive")
    assert "on 1 sweep of bag:drive" in said
    assert said.endswith("Of 12 sweeps 11 are without LiDAR points in any view, and not scored.")
    assert table(report).endswith("Of 12 sweeps 11 are without LiDAR points in any view, and not scored")


@pytest.mark.parametrize(
    ("poses", "stamps", "expected"),
    [
        ((True, True), (60, 100), 0),
        ((False, True), (60, 100), 5),
        ((True, False), (60, 100), 5),
        ((False, False), (100, 100), 0),  # there is nothing to move
    ],
)
def test_points_that_could_not_be_moved_to_their_image_are_told(
    make_sweep: Callable[..., Sweep], poses: tuple[bool, bool], stamps: tuple[int, int], expected: int
) -> None:
    rng = np.random.default_rng(5)
    sweep = make_sweep(rng)
    assert sweep.lidar is not None
    view_pose, scan_pose = (np.eye(4) if known else None for known in poses)
    views = {name: replace(view, stamp_ns=stamps[0], vehicle_to_map=view_pose) for name, view in sweep.views.items()}
    moved = Sweep(sweep.rig, 0, views, replace(sweep.lidar, stamp_ns=stamps[1], vehicle_to_map=scan_pose))
    tally = Tally(DepthRange())
    tally.add(moved, estimate_for(sweep, rng))
    report = tally.report()
    assert report["images_without_pose"] == expected
    words = "Of 5 of 5 images the LiDAR's points were not moved to the image's stamp"
    assert (words in verdict(report, "bag:drive")) == (words in table(report)) == bool(expected)
