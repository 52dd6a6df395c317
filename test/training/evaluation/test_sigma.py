"""Calibration of the standard deviation, on errors whose distribution is known."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluation.points import ImagePoints
from training.evaluation.sigma import SigmaCalibration, SigmaCounts, expected_inside


def image(truth: np.ndarray, predicted: np.ndarray, stddev: np.ndarray, camera: str = "front") -> ImagePoints:
    n = len(truth)
    return ImagePoints(
        camera, np.zeros((n, 2)), truth, predicted, stddev, truth, np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    )


def test_shares_of_the_normal_distribution() -> None:
    assert [expected_inside(k) for k in (0.5, 1, 2, 3)] == pytest.approx([0.3829, 0.6827, 0.9545, 0.9973], abs=1e-4)


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_a_sigma_that_is_wrong_by_a_factor(factor: float) -> None:
    rng = np.random.default_rng(0)
    stddev = rng.uniform(0.1, 5, 40_000)
    truth = rng.uniform(1, 80, 40_000)
    calibration = SigmaCalibration(((0, 20), (20, 80)))
    calibration.add(image(truth, truth + rng.normal(0, stddev), stddev / factor))
    found = calibration.as_dict()
    assert found["scale_for_68"] == pytest.approx(factor, rel=0.02)
    assert found["n"] == 40_000
    for k in ("0.5", "1", "2", "3"):
        assert found["inside"][k]["observed"] == pytest.approx(expected_inside(float(k) / factor), abs=0.01)
    assert found["inside_1_by_range"]["0-20"] == pytest.approx(expected_inside(1 / factor), abs=0.02)
    if factor == 1:
        for nominal, observed in found["reliability"]:
            assert observed == pytest.approx(nominal, abs=0.01)
        for cell in found["by_stddev"]:
            assert cell["rmse_m"] == pytest.approx(cell["stddev_m"], rel=0.15)


def test_an_error_of_just_one_sigma_is_inside() -> None:
    counts = SigmaCounts()
    counts.add(np.array([1.0, -1.0, 1.0001, 0.0]), np.ones(4))
    assert counts.inside(1.0) == 0.75
    assert counts.inside(3.0) == 1.0


def test_no_error_is_inside_of_nothing() -> None:
    counts = SigmaCounts()
    counts.add(np.zeros(9), np.ones(9))
    assert counts.inside(0.0) == 0
    assert counts.inside(0.5) == 1
    assert 0 < counts.scale() <= 1e-3


def test_cameras_ranges_and_sizes_of_sigma_are_told_apart() -> None:
    """Errors of half a sigma up to 20 m, of one and a half beyond; a sigma below and one above all limits of cells."""
    calibration = SigmaCalibration(((0, 20), (20, 80)))
    truth, stddev = np.array([5.0, 19.9, 20.0, 79.0, 80.0]), np.array([0.01, 0.1, 0.1, 10.0, 100.0])
    inside = truth <= 20
    error = stddev * np.where(inside, 0.5, 1.5)
    for camera, chosen in (("front", inside), ("back", ~inside), ("side", truth > 0)):
        calibration.add(image(truth[chosen], (truth + error)[chosen], stddev[chosen], camera))
    found = calibration.as_dict()
    assert (found["n"], found["points_without_sigma"]) == (10, 0)
    assert found["inside_1_by_view"] == {"front": 1.0, "back": 0.0, "side": 0.6}
    assert found["inside_1_by_range"] == {"0-20": 1.0, "20-80": 0.5}
    cells = [(cell["stddev_m"], cell["rmse_m"], cell["n"]) for cell in found["by_stddev"]]
    np.testing.assert_allclose(cells, [(0.01, 0.005, 2), (0.1, 0.05, 4), (10, 15, 2), (100, 150, 2)])
    assert [nominal for nominal, _ in found["reliability"]] == [round(5 * i / 100, 2) for i in range(1, 20)]


@pytest.mark.parametrize(
    ("predicted", "stddev"), [(np.inf, 1.0), (np.nan, 1.0), (6.0, np.nan), (6.0, 0.0), (6.0, np.inf)]
)
def test_a_point_needs_both_a_depth_and_a_sigma(predicted: float, stddev: float) -> None:
    calibration = SigmaCalibration(((0, 80),))
    calibration.add(image(np.array([5.0, 5.0]), np.array([5.5, predicted]), np.array([1.0, stddev])))
    found = calibration.as_dict()
    assert (found["n"], found["points_without_sigma"]) == (1, 1)
    assert found["by_stddev"] == [{"stddev_m": 1.0, "rmse_m": 0.5, "n": 1}]


def test_points_without_sigma_are_counted_apart() -> None:
    calibration = SigmaCalibration(((0, 80),))
    truth = np.array([5.0, 6.0, 7.0])
    calibration.add(image(truth, np.array([5.0, np.inf, np.nan]), np.array([1.0, np.nan, 1.0])))
    found = calibration.as_dict()
    assert (found["n"], found["points_without_sigma"]) == (1, 2)
    assert found["inside"]["1"]["observed"] == 1.0


def test_nothing_is_null() -> None:
    found = SigmaCalibration(((0, 80),)).as_dict()
    assert found["inside"]["1"]["observed"] is None
    assert found["scale_for_68"] is None
