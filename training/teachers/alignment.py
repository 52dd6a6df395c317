"""From affine-invariant disparity to metric depth for the student's bins (method B).

A foundation model gives disparity up to scale and shift. One scale and one shift for the whole
sweep, fitted robustly to its LiDAR, make metric depth of it; ``losses.soft_bins`` then turns that
into the teacher's probabilities on the student's current bins.
"""

from __future__ import annotations

import torch
from torch import Tensor

MIN_POINTS = 20  # below this a fit of two numbers to noisy points says nothing


def align_to_lidar(disparity: Tensor, lidar_depth: Tensor, iterations: int = 10) -> tuple[Tensor, Tensor]:
    """Scale and shift of each sweep that take teacher disparity to 1 / metres.

    Iteratively reweighted least squares of ``s * disparity + t = 1 / lidar`` with Cauchy weights
    ``1 / (1 + (r / c)^2)``, where c is 2.385 robust standard deviations (1.4826 MAD) of the residuals
    r: points that the LiDAR sees past an edge, or through glass, lose their say (Holland and Welsch, 1977).

    Args:
        disparity: [B, V, H, W], higher is nearer, up to scale and shift; NaN = no value.
        lidar_depth: [B, V, H, W] metres, NaN = no value.

    Returns:
        scale [B], shift [B], float32, 1 / metres. NaN where fewer than ``MIN_POINTS`` points or a fit
        without a positive scale leave the teacher of that sweep without a meaning.
    """
    scales, shifts = [], []
    for x_map, depth in zip(disparity.double(), lidar_depth.double(), strict=True):
        known = torch.isfinite(x_map) & torch.isfinite(depth) & (depth > 0)
        scale, shift = _fit(x_map[known], 1.0 / depth[known], iterations)
        scales.append(scale)
        shifts.append(shift)
    return torch.stack(scales).float(), torch.stack(shifts).float()


def teacher_depth(disparity: Tensor, scale: Tensor, shift: Tensor, max_depth: Tensor | float) -> tuple[Tensor, Tensor]:
    """Metric depth of an aligned teacher.

    A disparity of exactly 0 is beyond any range, whatever the shift: so a checkpoint and the last ReLU of a relative
    teacher say "sky", and a shift above 1 / ``max_depth`` would make a wall of it. To a teacher whose disparity has
    a shift of its own 0 means nothing, but it says it nowhere.

    Args:
        disparity: [B, V, H, W], NaN = no value. scale, shift: [B], from ``align_to_lidar``.
        max_depth: metres, [B] or one for all.

    Returns:
        depth [B, V, H, W] metres: +inf where the teacher says beyond ``max_depth``, NaN = no value;
        known [B, V, H, W] bool: where the teacher says anything.
    """
    aligned = disparity.float() * scale[:, None, None, None] + shift[:, None, None, None]
    limit = torch.as_tensor(max_depth, dtype=torch.float32, device=disparity.device).reshape(-1, 1, 1, 1)
    known = torch.isfinite(aligned)
    beyond = (aligned * limit < 1) | (disparity == 0)
    depth = torch.where(beyond, torch.inf, 1.0 / torch.where(beyond | ~known, 1.0, aligned))
    return torch.where(known, depth, torch.nan), known


def _fit(x: Tensor, y: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Robust ``y = s x + t`` of points [M] in float64: s and t as scalars, NaN where it cannot be told."""
    nan = torch.full((), torch.nan, dtype=torch.float64, device=x.device)
    if x.numel() < MIN_POINTS or float(x.std()) < 1e-9:
        return nan, nan
    weights = torch.ones_like(x)
    scale, shift = nan, nan
    for _ in range(iterations):
        total = weights.sum()
        x_mean, y_mean = (weights * x).sum() / total, (weights * y).sum() / total
        scale = (weights * (x - x_mean) * (y - y_mean)).sum() / (weights * (x - x_mean) ** 2).sum()
        shift = y_mean - scale * x_mean
        residual = scale * x + shift - y
        spread = 2.385 * 1.4826 * residual.abs().median() + 1e-9
        weights = 1.0 / (1.0 + (residual / spread) ** 2)
    return (scale, shift) if float(scale) > 0 else (nan, nan)
