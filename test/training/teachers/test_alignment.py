"""Alignment of a relative teacher to the LiDAR, and the town's stand-in teacher."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.losses import soft_bins
from training.teachers.alignment import align_to_lidar, teacher_depth
from training.teachers.town import town_teacher


def _sweep(views: int = 5, height: int = 24, width: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    depth = torch.rand(2, views, height, width) * 60 + 2
    lidar = torch.where(torch.rand(depth.shape) < 0.1, depth, torch.nan)
    return depth, lidar


def test_alignment_finds_the_scale_and_shift_of_each_sweep() -> None:
    depth, lidar = _sweep()
    s, t = torch.tensor([2.0, 0.3]), torch.tensor([-0.5, 4.0])
    disparity = s[:, None, None, None] / depth + t[:, None, None, None]
    scale, shift = align_to_lidar(disparity, lidar)
    torch.testing.assert_close(scale, 1 / s, rtol=1e-4, atol=0)
    torch.testing.assert_close(shift, -t / s, rtol=1e-4, atol=0)
    back, known = teacher_depth(disparity, scale, shift, 80.0)
    torch.testing.assert_close(back, depth, rtol=1e-3, atol=0)
    assert known.all()


def test_teacher_bins_do_not_depend_on_scale_and_shift_of_the_teacher() -> None:
    depth, lidar = _sweep()
    centers = torch.logspace(0, 2, 32).expand(2, 32)
    bins = []
    for s, t in ((1.0, 0.0), (7.0, -3.0)):
        aligned, _ = teacher_depth(s / depth + t, *align_to_lidar(s / depth + t, lidar), 80.0)
        bins.append(soft_bins(aligned, centers))
    torch.testing.assert_close(bins[0], bins[1], atol=2e-3, rtol=0)


def test_alignment_withstands_a_fifth_of_wild_points() -> None:
    depth, lidar = _sweep()
    wild = torch.rand(lidar.shape) < 0.2
    lidar = torch.where(wild & ~torch.isnan(lidar), torch.full_like(lidar, 1.0), lidar)
    scale, shift = align_to_lidar(1 / depth, lidar)
    torch.testing.assert_close(scale, torch.ones(2), rtol=0.02, atol=0)
    torch.testing.assert_close(shift, torch.zeros(2), rtol=0, atol=2e-3)


def test_a_sweep_without_enough_lidar_or_upside_down_has_no_teacher() -> None:
    depth, lidar = _sweep()
    lidar[0] = torch.nan
    disparity = 1 / depth
    disparity[1] *= -1
    scale, shift = align_to_lidar(disparity, lidar)
    assert torch.isnan(scale).all()
    aligned, known = teacher_depth(disparity, scale, shift, 80.0)
    assert not known.any()
    assert torch.isnan(aligned).all()


def test_sky_and_missing_views_keep_their_meaning() -> None:
    depth = np.full((3, 20, 32), 10.0, dtype=np.float32)
    depth[:, 10:] = np.linspace(9, 3, 10)[:, None]
    depth[0, :8] = np.inf
    depth[2] = np.nan
    disparity = town_teacher(depth, np.random.default_rng(3), blur_px=0)
    truth, relative = torch.from_numpy(depth)[None], torch.from_numpy(disparity)[None]
    lidar = torch.where(torch.isfinite(truth), truth, torch.nan)
    aligned, known = teacher_depth(relative, *align_to_lidar(relative, lidar), torch.tensor([80.0]))
    assert torch.isinf(aligned[0, 0, :8]).all()
    assert not known[0, 2].any()
    torch.testing.assert_close(aligned[0, 1], truth[0, 1], rtol=1e-3, atol=0)


def test_a_disparity_of_zero_is_sky_whatever_the_shift() -> None:
    depth, lidar = _sweep()
    disparity = 1 / depth - 0.02  # a shift of 0.02: taken as any other number, 0 would be 50 m away
    disparity[..., :8, :], lidar[..., :8, :] = 0.0, torch.nan
    disparity[0, 0, 0, 0] = torch.nan
    scale, shift = align_to_lidar(disparity, lidar)
    torch.testing.assert_close(shift, torch.full((2,), 0.02), rtol=1e-3, atol=0)
    aligned, known = teacher_depth(disparity, scale, shift, 200.0)
    assert torch.isinf(aligned[..., :8, :][known[..., :8, :]]).all()
    assert not known[0, 0, 0, 0]
    assert known.sum() == known.numel() - 1
    torch.testing.assert_close(aligned[..., 8:, :], depth[..., 8:, :], rtol=1e-3, atol=0)


def test_town_teacher_is_repeatable_blurred_and_relative() -> None:
    depth = np.full((1, 16, 24), 4.0, dtype=np.float32)
    depth[..., 12:] = 40.0
    a = town_teacher(depth, np.random.default_rng(1), blur_px=1.0)
    np.testing.assert_array_equal(a, town_teacher(depth, np.random.default_rng(1), blur_px=1.0))
    assert a[0, 8, 0] > a[0, 8, 11] > a[0, 8, 12] > a[0, 8, 23]
    assert a[0, 8, 0] != pytest.approx(0.25)


def test_what_has_no_value_does_not_spread_when_the_town_teacher_is_blurred() -> None:
    depth = np.full((1, 16, 24), 4.0, dtype=np.float32)
    depth[..., :6] = np.nan
    blurred = town_teacher(depth, np.random.default_rng(1), blur_px=1.0)
    np.testing.assert_array_equal(np.isnan(blurred), np.isnan(depth))
    np.testing.assert_allclose(blurred[..., 6:], blurred[0, 8, 20], rtol=1e-5)
