"""The stripe measure on ripples of known height, and on errors that are no stripes."""

from __future__ import annotations

import numpy as np
import pytest

from training.stripes import StripeEnergy, stripe_energy, stripes

SIZE = (96, 160)
ROWS = np.arange(SIZE[0])[:, None] * np.ones((1, SIZE[1]))


def _road() -> np.ndarray:
    """A road below row 30, sky above."""
    with np.errstate(divide="ignore"):
        depth = np.where(ROWS > 30, 300 / np.maximum(ROWS - 20, 1), np.inf)
    return depth.astype(np.float32)


def _rings(spacing: int, share: float = 0.5) -> np.ndarray:
    hit = (ROWS % spacing == 0) & (np.random.default_rng(0).random(SIZE) < share)
    # a column is hit by all rings or by none, as that of a spinning LiDAR
    hit = (ROWS % spacing == 0) & hit.any(0)[None]
    return np.where(hit, _road(), np.nan).astype(np.float32)


def _height(error: np.ndarray, lidar: np.ndarray, truth: np.ndarray | None = None) -> float:
    truth = _road() if truth is None else truth
    predicted = np.where(np.isfinite(truth), truth, 80) * np.exp(error)
    return stripes([stripe_energy(predicted.astype(np.float32), truth, lidar)])


@pytest.mark.parametrize("height", [0.01, 0.1])
@pytest.mark.parametrize("spacing", [6, 8, 9])
def test_a_ripple_between_the_rings_is_measured_by_its_height(height: float, spacing: int) -> None:
    ripple = height * 0.5 * (1 - np.cos(2 * np.pi * ROWS / spacing))
    # an odd spacing has no pixel halfway: the mean of the two beside it is a little lower
    assert _height(ripple, _rings(spacing)) == pytest.approx(height, rel=0.02 if spacing % 2 == 0 else 0.1)


def test_smooth_errors_are_no_stripes() -> None:
    lidar = _rings(8)
    bowl = 1e-4 * (ROWS - 60) ** 2
    for error in (0 * ROWS, 0.3 + 0 * ROWS, 0.01 * ROWS, bowl):
        assert _height(error, lidar) == pytest.approx(0, abs=1e-5)
    # rings at uneven distances
    uneven = np.full(SIZE, np.nan, dtype=np.float32)
    uneven[[34, 40, 50, 57, 70, 80]] = 1
    assert _height(0.01 * ROWS, uneven) == pytest.approx(0, abs=1e-5)


def test_noise_is_no_stripes_and_does_not_hide_them() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, SIZE)
    ripple = 0.05 * 0.5 * (1 - np.cos(2 * np.pi * ROWS / 8))
    assert _height(noise, _rings(8)) < 0.012
    assert _height(noise + ripple, _rings(8)) == pytest.approx(0.05, rel=0.25)


def test_a_ripple_out_of_step_with_the_rings_counts_less() -> None:
    ripple = 0.05 * np.cos(2 * np.pi * ROWS / 11)
    assert _height(ripple, _rings(8)) < 0.025


def test_edges_of_the_truth_do_not_count() -> None:
    truth = _road()
    truth[60:, 80:] = 3.0  # an object on the road, blurred away by the student
    error = np.zeros(SIZE)
    error[52:68, 80:] = np.linspace(0, 1, 16)[:, None]
    away = error.copy()
    away[60:, 80:] -= 1
    touched = np.array(_rings(8))
    assert _height(away, touched, truth) < 0.05


def test_nothing_to_measure_gives_nan_and_views_add_up() -> None:
    nothing = np.full(SIZE, np.nan, dtype=np.float32)
    assert np.isnan(_height(0 * ROWS, nothing))
    assert stripe_energy(_road(), _road(), nothing) == StripeEnergy(0.0, 0)
    assert stripes([StripeEnergy(0.04, 100), StripeEnergy(0.0, 300)]) == pytest.approx(0.01)
