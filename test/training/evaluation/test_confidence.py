"""Intervals on cases whose width is known."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluation.confidence import SWEEPS_ENOUGH, bootstrap_unit, interval, score_table


def test_few_sweeps_are_drawn_by_image() -> None:
    assert bootstrap_unit(SWEEPS_ENOUGH) == "sweeps"
    assert bootstrap_unit(SWEEPS_ENOUGH - 1) == "images"


@pytest.mark.parametrize("unit", ["sweeps", "images"])
def test_equal_scores_leave_no_doubt(unit: str) -> None:
    assert interval(np.full((12, 3), 0.25), unit) == pytest.approx((0.25, 0.25))


def test_the_width_is_that_of_a_binomial_mean() -> None:
    table = (np.arange(100) % 2).astype(float)[:, None]
    low, high = interval(table, "sweeps", resamples=4000) or (0, 0)
    assert (low, high) == pytest.approx((0.5 - 1.96 * 0.05, 0.5 + 1.96 * 0.05), abs=0.012)


def test_drawing_sweeps_keeps_what_their_cameras_share() -> None:
    rng = np.random.default_rng(0)
    table = np.repeat(rng.normal(0, 1, (64, 1)), 4, axis=1)  # all four cameras say the same
    by_sweep, by_image = (np.ptp(interval(table, unit) or (0, 0)) for unit in ("sweeps", "images"))
    assert by_sweep / by_image == pytest.approx(2, rel=0.15)  # a quarter as many independent scores


def test_cameras_count_alike_however_many_images_they_have() -> None:
    table = np.full((20, 2), np.nan)
    table[:, 0], table[:4, 1] = 1.0, 3.0
    assert interval(table, "sweeps") == pytest.approx((2.0, 2.0), abs=1.0)
    middle = np.mean(interval(table[:4], "sweeps") or (0, 0))
    assert middle == pytest.approx(2.0)


def test_one_score_has_no_interval() -> None:
    assert interval(np.array([[0.2, 0.3]]), "sweeps") is None
    assert interval(np.array([[0.2], [np.nan]]), "images") is None


def test_scores_find_their_sweep() -> None:
    table = score_table({"a": [1.0, 2.0], "b": [3.0]}, {"a": [0, 5], "b": [5]})
    np.testing.assert_array_equal(table, [[1.0, np.nan], [2.0, 3.0]])
