"""Losses on metric depth: against the LiDAR, against the teacher's edges, and smoothness."""

from __future__ import annotations

import torch
from torch import Tensor

from training.losses.masked import TINY, log_ratio, masked_mean


def silog(pred: Tensor, gt: Tensor, mask: Tensor, lam: float = 0.85) -> Tensor:
    """Scale-invariant log error: ``sqrt(mean(g^2) - lam * mean(g)^2)``, ``g = ln pred - ln gt``.

    Eigen et al., NeurIPS 2014, with the root of BTS (Lee et al., 2019) and without its factor 10.
    The root is shifted by 1e-3 so that its gradient stays finite at 0.

    Args:
        pred: [...] metres, above 0 where ``mask``.
        gt: [...] metres, above 0 where ``mask``; anything, NaN too, elsewhere.
        mask: [...] bool.
        lam: 1 ignores the overall scale, 0 is the RMSE in log depth.
    """
    g = log_ratio(pred, gt, mask)
    count = mask.sum().clamp(min=1)
    mean = g.sum() / count
    # mean(g^2) - lam mean(g)^2 = var + (1 - lam) mean^2, which cannot become negative by rounding.
    variance = torch.where(mask, g - mean, torch.zeros_like(g)).square().sum() / count
    return (variance + (1 - lam) * mean.square() + TINY).sqrt() - TINY**0.5


def gradient_matching(pred: Tensor, target: Tensor, mask: Tensor, scales: int = 4) -> Tensor:
    """Multi-scale gradient matching in log depth, which keeps edges sharp (Ranftl et al., MiDaS, 2020).

    ``sum_k mean(|dx R_k| + |dy R_k|)``, ``R = ln pred - ln target`` taken at every 2^k-th pixel; a
    common factor of ``target`` cancels.

    Args:
        pred, target: [B, V, H, W] metres. mask: bool; differences count where both ends are masked.
    """
    residual = log_ratio(pred, target, mask)
    total = residual.sum() * 0
    for scale in range(scales):
        r, m = residual[..., :: 2**scale, :: 2**scale], mask[..., :: 2**scale, :: 2**scale]
        total = total + masked_mean((r[..., 1:] - r[..., :-1]).abs(), m[..., 1:] & m[..., :-1])
        total = total + masked_mean((r[..., 1:, :] - r[..., :-1, :]).abs(), m[..., 1:, :] & m[..., :-1, :])
    return total


def edge_aware_smoothness(depth: Tensor, images: Tensor, mask: Tensor) -> Tensor:
    """``mean |dx d*| e^-|dx I| + |dy d*| e^-|dy I|``, d* disparity over its mean (Godard et al., 2019).

    Args:
        depth: [B, V, H, W] metres, above 0. images: [B, V, 3, H, W], 0 to 255; |dI| is the mean over
            the channels of images scaled to 0..1, times 10 so that a step of 10 % counts as an edge.
        mask: [B, V, H, W] bool.
    """
    disparity = 1.0 / depth.float()
    mean = torch.where(mask, disparity, torch.zeros_like(disparity)).sum((-1, -2), keepdim=True)
    d = disparity / (mean / mask.sum((-1, -2), keepdim=True).clamp(min=1)).clamp(min=TINY)
    shade = images.float() / 25.5
    x_weight = torch.exp(-(shade[..., 1:] - shade[..., :-1]).abs().mean(2))
    y_weight = torch.exp(-(shade[..., 1:, :] - shade[..., :-1, :]).abs().mean(2))
    x_term = masked_mean((d[..., 1:] - d[..., :-1]).abs() * x_weight, mask[..., 1:] & mask[..., :-1])
    y_term = masked_mean((d[..., 1:, :] - d[..., :-1, :]).abs() * y_weight, mask[..., 1:, :] & mask[..., :-1, :])
    return x_term + y_term
