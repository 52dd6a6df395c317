"""Intervals on cases whose width is known."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluation.confidence import LEVEL, Unit, bootstrap_unit, interval, score_table


@pytest.mark.parametrize(
    ("sweeps", "unit"), [(0, None), (1, "images of one sweep"), (2, None), (3, "sweeps"), (9, "sweeps"), (40, "sweeps")]
)
def test_sweeps_are_drawn_and_of_a_single_one_its_images(sweeps: int, unit: Unit | None) -> None:
    assert bootstrap_unit(sweeps) == unit


@pytest.mark.parametrize(("sweeps", "unit"), [(12, "sweeps"), (3, "sweeps"), (1, "images of one sweep")])
def test_equal_scores_leave_no_doubt(sweeps: int, unit: Unit) -> None:
    assert interval(np.full((sweeps, 3), 0.25), unit) == pytest.approx((0.25, 0.25))


@pytest.mark.parametrize(
    ("sweeps", "share_in_common", "least"), [(1, 0.0, 0.80), (3, 0.5, 0.68), (5, 0.5, 0.76), (9, 0.5, 0.84)]
)
def test_an_interval_holds_the_truth_about_as_often_as_is_said(
    sweeps: int, share_in_common: float, least: float
) -> None:
    """Drawn by single images, whatever the number of sweeps, they held it in 0.56 to 0.75 of such drives."""
    rng = np.random.default_rng(sweeps)
    unit, held, drives = bootstrap_unit(sweeps), 0, 400
    for _ in range(drives):
        in_common, own = rng.normal(0, 1, (sweeps, 1)), rng.normal(0, 1, (sweeps, 6))
        low, high = interval(in_common * share_in_common + own * 0.5, unit, resamples=300) or (0, 0)
        held += low <= 0 <= high
    assert least < held / drives < LEVEL + 0.01


def test_the_width_is_that_of_a_binomial_mean() -> None:
    table = (np.arange(100) % 2).astype(float)[:, None]
    low, high = interval(table, "sweeps", resamples=4000) or (0, 0)
    assert (low, high) == pytest.approx((0.5 - 1.96 * 0.05, 0.5 + 1.96 * 0.05), abs=0.012)


def test_drawing_sweeps_keeps_what_their_cameras_share() -> None:
    rng = np.random.default_rng(0)
    table = np.repeat(rng.normal(0, 1, (64, 1)), 4, axis=1)  # all four cameras say the same
    every_image_by_itself = table.reshape(-1, 1)
    by_sweep, by_image = (np.ptp(interval(one, "sweeps") or (0, 0)) for one in (table, every_image_by_itself))
    assert by_sweep / by_image == pytest.approx(2, rel=0.15)  # a quarter as many independent scores


def test_cameras_count_alike_however_many_images_they_have() -> None:
    table = np.full((20, 2), np.nan)
    table[:, 0], table[:4, 1] = 1.0, 3.0
    assert interval(table, "sweeps") == pytest.approx((2.0, 2.0), abs=1.0)
    middle = np.mean(interval(table[:4], "sweeps") or (0, 0))
    assert middle == pytest.approx(2.0)


def test_two_have_no_interval() -> None:
    assert interval(np.array([[0.2, 0.3, 0.1], [0.2, 0.3, 0.1]]), "sweeps") is None
    assert interval(np.array([[0.2, 0.3], [np.nan, 0.1], [np.nan, np.nan]]), "sweeps") is None
    assert interval(np.array([[0.2, np.nan, 0.3]]), "images of one sweep") is None
    assert interval(np.full((9, 3), 0.2), None) is None


def test_the_images_of_one_sweep_are_drawn_as_often_as_they_come() -> None:
    """An image that is drawn twice counts twice: else the mean of a draw is that of its different images."""
    scores = np.array([0.1, 0.2, 0.3, 0.2, 0.4, 0.9])
    drawn = np.random.default_rng(1).choice(scores, (20_000, 6)).mean(axis=1)
    plain = np.quantile(drawn, [0.025, 0.975])
    assert interval(scores[None], "images of one sweep", resamples=20_000) == pytest.approx(plain, abs=0.01)


def test_scores_find_their_sweep() -> None:
    table = score_table({"a": [1.0, 2.0], "b": [3.0]}, {"a": [0, 5], "b": [5]})
    np.testing.assert_array_equal(table, [[1.0, np.nan], [2.0, 3.0]])
