"""Metrics against hand-worked figures and an independent plain-Python reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmde_ros.metrics import (
    ScoreBoard,
    align_affine,
    mean_score,
    median_scale,
    median_scale_of_sweep,
    sample_bilinear,
    score_depth,
)


def reference(predicted: list[float], truth: list[float], low: float, high: float) -> dict[str, float]:
    """The same metrics, pixel by pixel, in plain Python."""
    rows = [
        (min(max(p, low), high), g)
        for p, g in zip(predicted, truth, strict=True)
        if low <= g <= high and not math.isnan(p)
    ]
    n = len(rows)
    ratios = [max(p / g, g / p) for p, g in rows]
    return {
        "abs_rel": sum(abs(p - g) / g for p, g in rows) / n,
        "sq_rel": sum((p - g) ** 2 / g for p, g in rows) / n,
        "rmse": math.sqrt(sum((p - g) ** 2 for p, g in rows) / n),
        "rmse_log": math.sqrt(sum((math.log(p) - math.log(g)) ** 2 for p, g in rows) / n),
        "d1": sum(r < 1.25 for r in ratios) / n,
        "d2": sum(r < 1.5625 for r in ratios) / n,
        "d3": sum(r < 1.953125 for r in ratios) / n,
        "n": n,
    }


def test_hand_worked_pair() -> None:
    score = score_depth([12.0, 20.0], [10.0, 10.0])
    assert score.abs_rel == pytest.approx((0.2 + 1.0) / 2)
    assert score.sq_rel == pytest.approx((0.4 + 10.0) / 2)
    assert score.rmse == pytest.approx(math.sqrt((4 + 100) / 2))
    assert (score.d1, score.d2, score.d3, score.n) == (0.5, 0.5, 0.5, 2)


@given(st.integers(0, 2**32 - 1))
def test_equals_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.05, 120, 50)
    predicted = truth * np.exp(rng.normal(0, 0.4, 50))
    predicted[:3] = [np.nan, np.inf, 0.0]
    truth[:3] = 10.0
    expected = reference(predicted.tolist(), truth.tolist(), 0.1, 80.0)
    for name, value in score_depth(predicted, truth).as_dict().items():
        assert value == pytest.approx(expected[name], abs=1e-5, rel=1e-9)


def test_the_limits_of_the_range_count_and_those_of_a_ratio_do_not() -> None:
    assert score_depth([0.1, 80.0], [0.1, 80.0]).n == 2
    shares = [score_depth([ratio], [1.0]) for ratio in (1.25, 1.25**2, 1.25**3)]
    assert [(s.d1, s.d2, s.d3) for s in shares] == [(0, 1, 1), (0, 0, 1), (0, 0, 0)]


def test_as_many_predictions_as_truths_are_needed() -> None:
    with pytest.raises(ValueError, match="same number of values, got 1 and 2"):
        score_depth([10.0], [10.0, 20.0])


def test_out_of_range_prediction_counts_as_the_cap_and_truth_beyond_it_not_at_all() -> None:
    assert score_depth([np.inf, 5.0], [40.0, 100.0]) == score_depth([80.0], [40.0])


def test_nothing_to_compare_is_nan_and_null_in_json() -> None:
    score = score_depth([np.nan], [10.0])
    assert score.n == 0
    assert math.isnan(score.abs_rel)
    assert score.as_dict()["abs_rel"] is None


def test_mean_is_taken_per_image_then_camera_then_cameras() -> None:
    """Weights differ from a mean over pixels and from a mean over images."""
    board = ScoreBoard()
    board.add("left", score_depth([11.0], [10.0]))
    board.add("left", score_depth([13.0] * 5, [10.0] * 5))
    board.add("right", score_depth([15.0], [10.0]))
    board.add("right", score_depth([], []))
    assert board.per_camera()["left"].abs_rel == pytest.approx(0.2)
    assert board.overall().abs_rel == pytest.approx((0.2 + 0.5) / 2)
    assert board.overall().n == 7


def test_mean_of_nothing_has_no_pixels() -> None:
    assert mean_score([]).n == 0


def test_median_scales() -> None:
    assert median_scale([1.0, 2.0, 9.0], [2.0, 4.0, 60.0]) == pytest.approx(2.0)
    predicted = {"a": [1.0], "b": [2.0, 3.0]}
    truth = {"a": [30.0], "b": [20.0, 10.0]}
    assert median_scale_of_sweep(predicted, truth) == pytest.approx(10.0)


@given(st.floats(0.1, 10), st.floats(-0.5, 0.5))
def test_affine_alignment_undoes_scale_and_shift(scale: float, shift: float) -> None:
    truth = np.linspace(1, 60, 40)
    np.testing.assert_allclose(align_affine((1 / truth) * scale + shift, truth), truth, rtol=1e-6)


def test_affine_alignment_puts_negative_disparity_at_infinity() -> None:
    aligned = align_affine([1.0, 0.5, -5.0], [1.0, 2.0, 1000.0])
    assert np.isfinite(aligned[:2]).all() or np.isinf(aligned).any()
    fitted = np.polyfit([1.0, 0.5, -5.0], [1.0, 0.5, 0.001], 1)
    disparity = np.polyval(fitted, [1.0, 0.5, -5.0])
    np.testing.assert_array_equal(np.isinf(aligned), disparity <= 0)


def test_bilinear_sampling_of_a_plane_is_exact_and_clamps() -> None:
    ys, xs = np.mgrid[0:3, 0:5]
    plane = 2.0 * xs + 10.0 * ys
    np.testing.assert_allclose(sample_bilinear(plane, [[0.25, 1.5], [3.5, 0.5], [4.4, 2.2]]), [15.5, 12.0, 28.0])
    np.testing.assert_allclose(sample_bilinear(plane, [[-0.4, 0.0]]), [0.0])


def test_bilinear_sampling_does_not_spread_the_sky() -> None:
    image = np.array([[1.0, np.inf], [3.0, np.inf]])
    np.testing.assert_array_equal(sample_bilinear(image, [[0.4, 0.0], [0.6, 1.0]]), [1.0, np.inf])


@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_one_neighbour_without_a_value_is_enough_for_the_nearest(corner: tuple[int, int], value: float) -> None:
    image = np.array([[1.0, 2.0], [3.0, 4.0]])
    image[corner] = value
    np.testing.assert_array_equal(sample_bilinear(image, [[0.4, 0.4], [0.6, 0.6]]), [image[0, 0], image[1, 1]])
    np.testing.assert_array_equal(sample_bilinear(image, [[0.0, 0.0], [1.0, 1.0]]), [image[0, 0], image[1, 1]])


@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (1, 1)])
def test_an_image_of_one_row_or_column_can_be_sampled(shape: tuple[int, int]) -> None:
    image = np.arange(3.0)[: shape[0] * shape[1]].reshape(shape)
    middle = [(shape[1] - 1) / 2, (shape[0] - 1) / 2]
    np.testing.assert_allclose(sample_bilinear(image, [middle, [9.0, 9.0]]), [image.mean(), image.max()])
