"""The rows of a teacher, on points whose truth it knows up to scale and shift."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from training.evaluation.alignment import rows_of_sweep
from training.evaluation.points import DepthRange, ImagePoints


def image(camera: str, truth: np.ndarray, teacher: np.ndarray | None) -> ImagePoints:
    none = np.zeros(len(truth), dtype=bool)
    return ImagePoints(camera, np.zeros((len(truth), 2)), truth, 1.1 * truth, truth, truth, none, none, teacher)


def test_a_teacher_that_is_right_up_to_scale_and_shift_is_right_when_aligned() -> None:
    truths = [np.geomspace(2, 60, 50), np.geomspace(3, 40, 40), np.geomspace(5, 20, 30)]
    images = [image(name, g, 5 / g + 0.3) for name, g in zip("abc", truths, strict=True)]
    rows = rows_of_sweep(images, DepthRange())
    assert "teacher_metric" not in rows
    for row in ("teacher_affine", "teacher_sweep"):
        for depth, truth in zip(rows[row], truths, strict=True):
            np.testing.assert_allclose(depth, truth, rtol=1e-4)


def test_views_that_differ_in_scale_are_mended_per_image_only() -> None:
    truths = [np.geomspace(2, 60, 50), np.geomspace(3, 40, 40)]
    images = [image(name, g, s / g) for name, g, s in zip("ab", truths, (5.0, 9.0), strict=True)]
    rows = rows_of_sweep(images, DepthRange())
    np.testing.assert_allclose(rows["teacher_affine"][1], truths[1], rtol=1e-6)
    assert np.abs(rows["teacher_sweep"][1] / truths[1] - 1).max() > 0.1


def test_a_metric_teacher_has_its_own_metres_and_no_value_stays_none() -> None:
    truth = np.geomspace(2, 60, 30)
    disparity = 1 / (1.2 * truth)
    disparity[:2] = [np.nan, 0.0]
    rows = rows_of_sweep([image("a", truth, disparity)], DepthRange(), teacher_is_metric=True)
    depth = rows["teacher_metric"][0]
    assert np.isnan(depth[0])
    assert np.isinf(depth[1])
    np.testing.assert_allclose(depth[2:], 1.2 * truth[2:])
    assert all(np.isnan(rows[row][0][0]) for row in ("teacher_affine", "teacher_sweep"))


def test_what_is_too_far_everywhere_is_right_when_scaled() -> None:
    """Clamped first, the far end of it would stay at the end of the range and then come too near."""
    truth = np.geomspace(2, 75, 51)
    points = image("a", truth, None)
    too_far = 1.6 * truth
    too_far[-3:] = np.inf
    rows = rows_of_sweep([replace(points, predicted=too_far)], DepthRange())
    for row in ("median", "median_sweep"):
        np.testing.assert_allclose(rows[row][0][:-3], truth[:-3])
        assert (rows[row][0][-3:] == 80.0).all()  # out of range stays out of range
    mostly_sky = np.where(np.arange(51) < 30, np.inf, truth)
    assert np.isfinite(rows_of_sweep([replace(points, predicted=mostly_sky)], DepthRange())["median"][0]).all()


def test_the_sky_of_a_teacher_is_sky_whatever_the_shift() -> None:
    truth = np.geomspace(2, 60, 50)
    disparity = 5 / truth - 0.3
    disparity[-2:] = 0.0
    rows = rows_of_sweep([image("a", truth, disparity)], DepthRange())
    assert np.isinf(rows["teacher_sweep"][0][-2:]).all()


def test_without_a_teacher_there_are_no_rows_of_one() -> None:
    rows = rows_of_sweep([image("a", np.geomspace(2, 60, 30), None)], DepthRange())
    assert not [row for row in rows if row.startswith("teacher")]
    assert rows["median"][0] == pytest.approx(np.geomspace(2, 60, 30))


def test_mirrored_is_the_mean_in_disparity_clamped_to_the_range() -> None:
    truth = np.full(6, 10.0)
    points = replace(
        image("a", truth, None),
        predicted=np.array([10.0, 20.0, np.inf, np.inf, np.nan, 5.0]),
        mirrored=np.array([10.0, 5.0, 30.0, np.inf, 10.0, np.nan]),
    )
    rows = rows_of_sweep([points], DepthRange())
    # 2 / (1/20 + 1/5) = 8, 2 / (0 + 1/30) = 60
    np.testing.assert_allclose(rows["mirrored"][0], [10.0, 8.0, 60.0, 80.0, np.nan, np.nan])
    assert "mirrored" not in rows_of_sweep([replace(points, mirrored=None)], DepthRange())


def test_motion_stereo_is_the_corrected_depth_clamped_to_the_range() -> None:
    points = replace(image("a", np.full(4, 10.0), None), corrected=np.array([9.0, 0.01, np.inf, np.nan]))
    rows = rows_of_sweep([points], DepthRange())
    np.testing.assert_array_equal(rows["motion_stereo"][0], [9.0, 0.1, 80.0, np.nan])
    assert "motion_stereo" not in rows_of_sweep([replace(points, corrected=None)], DepthRange())
