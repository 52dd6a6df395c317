"""Losses of the distillation, each a small pure function.

Letters: B sweeps, V views, N depth bins, H W image size, h w size of the bin maps, P pairs.
All are computed in float32 whatever autocast says (SILog under half precision gives NaN), return
a scalar, and are exactly 0 with a zero gradient where their mask is empty. "Our reading" marks what
is reconstructed in ``method.md`` from the abstract of Hwang et al., RA-L 2026.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_TINY = 1e-6


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``values`` where ``mask`` (same shape, bool); 0, with a gradient of 0, where it is empty.

    Values outside the mask may be NaN or infinite: they reach neither the result nor the gradient,
    provided that they carry none themselves.
    """
    kept = torch.where(mask, values, torch.zeros_like(values))
    return kept.sum() / mask.sum().clamp(min=1)


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
    g = _log_ratio(pred, gt, mask)
    count = mask.sum().clamp(min=1)
    mean = g.sum() / count
    # mean(g^2) - lam mean(g)^2 = var + (1 - lam) mean^2, which cannot become negative by rounding.
    variance = torch.where(mask, g - mean, torch.zeros_like(g)).square().sum() / count
    return (variance + (1 - lam) * mean.square() + _TINY).sqrt() - _TINY**0.5


def soft_bins(depth: Tensor, centers: Tensor, sigma: float = 0.0) -> Tensor:
    """Probabilities [B, V, N, h, w] that stand for a depth [B, V, h, w] (m) on bins [B, N] (m, ascending).

    ``sigma`` 0: the two bins on both sides share the weight linearly in log depth; depths beyond the
    first or last centre go wholly to it. ``sigma`` > 0: a Gaussian of that width in log depth,
    normalised over the bins. Depths that are not finite and above 0 get the last bin: mask them.
    """
    log_centers = centers.float().log()[:, None, :, None, None]  # [B, 1, N, 1, 1]
    usable = torch.isfinite(depth) & (depth > 0)
    far = centers.float()[:, -1, None, None, None]
    log_depth = torch.where(usable, depth.float(), far).log().unsqueeze(2)  # [B, V, 1, h, w]
    log_depth = torch.minimum(torch.maximum(log_depth, log_centers[:, :, :1]), log_centers[:, :, -1:])
    if sigma > 0:
        return torch.softmax(-0.5 * ((log_depth - log_centers) / sigma).square(), dim=2)
    gaps = (log_centers[:, :, 1:] - log_centers[:, :, :-1]).clamp(min=_TINY)
    # A hat function around each centre: it rises over the gap on its left and falls over that on its right.
    rise = F.pad(1 + (log_depth - log_centers[:, :, 1:]) / gaps, (0, 0, 0, 0, 1, 0), value=1.0)
    fall = F.pad(1 - (log_depth - log_centers[:, :, :-1]) / gaps, (0, 0, 0, 0, 0, 1), value=1.0)
    hat = torch.minimum(rise, fall).clamp(min=0)
    return hat / hat.sum(2, keepdim=True)


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
    log_teacher = teacher_probability.detach().float().clamp(min=1e-12).log() / temperature
    log_teacher = torch.log_softmax(log_teacher, dim=2)
    log_student = torch.log_softmax(student_logits.float() / temperature, dim=2)
    divergence = (log_teacher.exp() * (log_teacher - log_student)).sum(2)  # [B, V, h, w]
    return temperature**2 * masked_mean(divergence, mask)


def relation(probability: Tensor, pairs: Tensor, grid: tuple[int, int] = (6, 10), temperature: float = 0.1) -> Tensor:
    """Log relations [P, g, g] between the cells of adjacent views; ``g = grid[0] * grid[1]``.

    The descriptor of a cell is the mean bin probability in it; the relation of a cell of view i to
    the cells of view j is ``log_softmax(cos(a, b) / temperature)`` over the cells of j.

    Args:
        probability: [B, V, N, h, w].
        pairs: [P, 3] int64: sweep, view i, view j.
    """
    batch, views = probability.shape[:2]
    pooled = F.adaptive_avg_pool2d(probability.float().flatten(0, 1), grid)
    cells = F.normalize(pooled.flatten(2), dim=1).reshape(batch, views, -1, grid[0] * grid[1])  # [B, V, N, g]
    with torch.autocast(probability.device.type, enabled=False):
        affinity = cells[pairs[:, 0], pairs[:, 1]].transpose(1, 2) @ cells[pairs[:, 0], pairs[:, 2]]
    return torch.log_softmax(affinity / temperature, dim=2)


def vrkd(
    teacher_probability: Tensor,
    student_probability: Tensor,
    pairs: Tensor,
    grid: tuple[int, int] = (6, 10),
    temperature: float = 0.1,
) -> Tensor:
    """View-relational distillation: mean over pairs and cells of ``KL(R_T || R_S)``; see ``relation``. Our reading.

    Args:
        teacher_probability, student_probability: [B, V, N, h, w]; no gradient into the teacher's.
        pairs: [P, 3] int64: sweep, view, adjacent view. No pairs: 0.
    """
    if not len(pairs):
        return student_probability.float().sum() * 0
    student = relation(student_probability, pairs, grid, temperature)
    teacher = relation(teacher_probability.detach(), pairs, grid, temperature)
    return (teacher.exp() * (teacher - student)).sum(2).mean()


def out_of_range_loss(logits: Tensor, out_of_range: Tensor, mask: Tensor) -> Tensor:
    """Binary cross entropy of the last bin, "beyond d_max or sky".

    Computed from the logits, ``ln p = z_last - logsumexp(z)`` and ``ln (1 - p)`` likewise, so that it
    stays finite where p is 0 or 1.

    Args:
        logits: [B, V, N + 1, h, w].
        out_of_range: [B, V, h, w] bool, the truth.
        mask: [B, V, h, w] bool, where the truth is known.
    """
    z = logits.float()
    # sigmoid(margin) equals the softmax probability of the last bin against all others together.
    margin = z[:, :, -1] - torch.logsumexp(z[:, :, :-1], dim=2)
    return masked_mean(F.binary_cross_entropy_with_logits(margin, out_of_range.float(), reduction="none"), mask)


def gradient_matching(pred: Tensor, target: Tensor, mask: Tensor, scales: int = 4) -> Tensor:
    """Multi-scale gradient matching in log depth, which keeps edges sharp (Ranftl et al., MiDaS, 2020).

    ``sum_k mean(|dx R_k| + |dy R_k|)``, ``R = ln pred - ln target`` taken at every 2^k-th pixel; a
    common factor of ``target`` cancels.

    Args:
        pred, target: [B, V, H, W] metres. mask: bool; differences count where both ends are masked.
    """
    residual = _log_ratio(pred, target, mask)
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
    d = disparity / (mean / mask.sum((-1, -2), keepdim=True).clamp(min=1)).clamp(min=_TINY)
    shade = images.float() / 25.5
    x_weight = torch.exp(-(shade[..., 1:] - shade[..., :-1]).abs().mean(2))
    y_weight = torch.exp(-(shade[..., 1:, :] - shade[..., :-1, :]).abs().mean(2))
    x_term = masked_mean((d[..., 1:] - d[..., :-1]).abs() * x_weight, mask[..., 1:] & mask[..., :-1])
    y_term = masked_mean((d[..., 1:, :] - d[..., :-1, :]).abs() * y_weight, mask[..., 1:, :] & mask[..., :-1, :])
    return x_term + y_term


def overlap_consistency(
    depth: Tensor, intrinsics: Tensor, camera_to_vehicle: Tensor, pairs: Tensor, tolerance: float = 0.25
) -> Tensor:
    """Mean ``|ln z - ln d_j|`` of points that view i sees, moved to view j: depth z there against d_j.

    Points whose two depths differ by more than ``tolerance`` in log depth are taken to be hidden from
    one of the views and do not count.

    Args:
        depth: [B, V, h, w] metres, above 0. intrinsics: [B, V, 3, 3] at (h, w).
        camera_to_vehicle: [B, V, 4, 4]. pairs: [P, 3] int64: sweep, view i, view j. No pairs: 0.
    """
    depth = depth.float()
    if not len(pairs):
        return depth.sum() * 0
    height, width = depth.shape[-2:]
    b, i, j = pairs.unbind(1)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)]).reshape(3, -1).to(depth)  # [3, h w]
    with torch.autocast(depth.device.type, enabled=False):
        rays = torch.linalg.inv(intrinsics[b, i].float()) @ pixels  # [P, 3, h w]
        points = rays * depth[b, i].flatten(1).unsqueeze(1)
        i_to_j = torch.linalg.inv(camera_to_vehicle[b, j].float()) @ camera_to_vehicle[b, i].float()
        points = i_to_j[:, :3, :3] @ points + i_to_j[:, :3, 3:]
        z = points[:, 2]
        projected = intrinsics[b, j].float() @ points
    in_front = z > 0.1
    xy = projected[:, :2] / torch.where(in_front, z, torch.ones_like(z)).unsqueeze(1)
    # grid_sample: -1 and 1 are the outer borders of the first and last pixel (align_corners False).
    grid = torch.stack([(xy[:, 0] * 2 + 1) / width - 1, (xy[:, 1] * 2 + 1) / height - 1], dim=-1)
    inside = in_front & (grid.abs() < 1).all(-1)
    seen = F.grid_sample(
        depth[b, j].unsqueeze(1),
        torch.where(inside.unsqueeze(-1), grid, torch.zeros_like(grid)).unsqueeze(2),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )[:, 0, :, 0]
    difference = _log_ratio(z, seen, inside).abs()
    return masked_mean(difference, inside & (difference < tolerance))


def _log_ratio(pred: Tensor, gt: Tensor, mask: Tensor) -> Tensor:
    """``ln pred - ln gt`` in float32 where ``mask``; 0, without gradient, elsewhere."""
    pred, gt = pred.float(), gt.float()
    one = torch.ones_like(pred)
    return torch.where(mask, pred, one).log() - torch.where(mask, gt, one).log()
