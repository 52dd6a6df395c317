"""Means and log ratios of the pixels that count."""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-6


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``values`` where ``mask`` (same shape, bool); 0, with a gradient of 0, where it is empty.

    Values outside the mask may be NaN or infinite: they reach neither the result nor the gradient,
    provided that they carry none themselves.
    """
    kept = torch.where(mask, values, torch.zeros_like(values))
    return kept.sum() / mask.sum().clamp(min=1)


def log_ratio(pred: Tensor, gt: Tensor, mask: Tensor) -> Tensor:
    """``ln pred - ln gt`` in float32 where ``mask``; 0, without gradient, elsewhere."""
    pred, gt = pred.float(), gt.float()
    one = torch.ones_like(pred)
    return torch.where(mask, pred, one).log() - torch.where(mask, gt, one).log()
