"""Losses on depth bins: where they lie, and how probable each is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from training.losses.masked import TINY, masked_mean


def soft_bins(depth: Tensor, centers: Tensor, sigma: float = 0.0) -> Tensor:
    """Probabilities [B, V, N, h, w] that stand for a depth [B, V, h, w] (m) on bins [B, N] (m, ascending).

    ``sigma`` 0: the two bins on both sides share the weight linearly in log depth; depths beyond the
    first or last centre go wholly to it. ``sigma`` > 0: a Gaussian of that width in log depth,
    normalised over the bins. Depths that are not finite and above 0 get the last bin: mask them.
    """
    log_centers = centers.float().log()  # [B, N]
    usable = torch.isfinite(depth) & (depth > 0)
    far = centers.float()[:, -1, None, None, None]
    log_depth = torch.where(usable, depth.float(), far).log()  # [B, V, h, w]
    if sigma > 0:
        clamped = log_depth.clamp(log_centers[:, :1, None, None], log_centers[:, -1:, None, None]).unsqueeze(2)
        return torch.softmax(-0.5 * ((clamped - log_centers[:, None, :, None, None]) / sigma).square(), dim=2)
    flat = log_depth.flatten(1)  # [B, V h w]
    upper = torch.searchsorted(log_centers.detach(), flat.detach()).clamp(1, log_centers.shape[1] - 1)
    left, right = log_centers.gather(1, upper - 1), log_centers.gather(1, upper)
    share = ((flat - left) / (right - left).clamp(min=TINY)).clamp(0, 1).reshape(log_depth.shape).unsqueeze(2)
    index = upper.reshape(log_depth.shape).unsqueeze(2)
    bins = share.new_zeros(*depth.shape[:2], centers.shape[1], *depth.shape[2:])
    return bins.scatter(2, index, share).scatter(2, index - 1, 1 - share)


def bin_coverage(centers: Tensor, depth: Tensor, mask: Tensor) -> Tensor:
    """Mean over the true depths of the distance to the nearest bin centre, ``min_k |ln d - ln c_k|``.

    The half of AdaBins' Chamfer loss (Bhat et al., CVPR 2021), here in log depth, that gives every
    depth a bin. The other half is left out: it would draw in the bins beyond the reach of the LiDAR.
    Without it the centres can flee to where every depth falls into one bin, which makes CKD easy.

    Args:
        centers: [B, N] metres. depth: [B, V, H, W] metres, above 0 where ``mask``. mask: bool.
    """
    sweep = mask.nonzero()[:, 0]
    truth = depth[mask].float().log()  # [M]
    if not len(truth):
        return centers.float().sum() * 0
    log_centers = centers.float().log()
    # centres ascend: the nearest is one of the two around the depth
    above = torch.empty_like(sweep)
    for b in range(len(centers)):
        own = sweep == b
        above[own] = torch.searchsorted(log_centers[b].detach(), truth[own])
    last = centers.shape[1] - 1
    right = (log_centers[sweep, above.clamp(max=last)] - truth).abs()
    left = (log_centers[sweep, (above - 1).clamp(min=0)] - truth).abs()
    return torch.minimum(left, right).mean()


def ckd(teacher_probability: Tensor, student_logits: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """Cross-interaction knowledge distillation: ``tau^2 * mean KL(p_T || p_S)`` over masked pixels. Our reading.

    Both distributions are taken at temperature tau (Hinton et al., 2015):
    ``p_S = softmax(z / tau)``, ``p_T ~ p_T^(1 / tau)``.

    Args:
        teacher_probability: [B, V, N, h, w], sums to 1 over N; no gradient flows into it.
        student_logits: [B, V, N, h, w], of the depth bins only.
        mask: [B, V, h, w] bool.
    """
    teacher = teacher_probability.detach().float()
    if temperature != 1:
        teacher = torch.softmax(teacher.clamp(min=1e-12).log() / temperature, dim=2)
    log_student = torch.log_softmax(student_logits.float() / temperature, dim=2)
    divergence = (torch.xlogy(teacher, teacher) - teacher * log_student).sum(2)  # [B, V, h, w]
    return temperature**2 * masked_mean(divergence, mask)


def out_of_range_loss(logits: Tensor, out_of_range: Tensor, mask: Tensor) -> Tensor:
    """Binary cross entropy of the last bin, "beyond d_max or sky".

    Computed from the logits, ``ln p = z_last - logsumexp(z)`` and ``ln (1 - p)`` likewise, so that it
    stays finite where p is 0 or 1.

    Args:
        logits: [B, V, N + 1, h, w].
        out_of_range: [B, V, h, w], the truth: 0, 1, or the share of a cell that is.
        mask: [B, V, h, w] bool, where the truth is known.
    """
    z = logits.float()
    # sigmoid(margin) equals the softmax probability of the last bin against all others together.
    margin = z[:, :, -1] - torch.logsumexp(z[:, :, :-1], dim=2)
    return masked_mean(F.binary_cross_entropy_with_logits(margin, out_of_range.float(), reduction="none"), mask)
