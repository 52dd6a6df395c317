"""View-relational distillation: how cells of adjacent views resemble each other."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


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


def centred(features: Tensor, usable: Tensor) -> Tensor:
    """Features [B, V, C, h, w] without their mean over the usable cells of a sweep; 0 in the others.

    Features of a network share a large common part, beside which all cells look alike to the cosine. With it gone,
    ``vrkd`` works on features of teacher and student, which may differ in channels and size.

    ``usable``: [B, V, H, W] bool, of pixels; a cell is where all of its pixels are.
    """
    features = features.float()
    cells = F.adaptive_avg_pool2d(usable.float(), (features.shape[-2], features.shape[-1])) > 0.999
    kept = cells.unsqueeze(2)
    total = torch.where(kept, features, 0.0).sum((1, 3, 4), keepdim=True)
    mean = total / kept.sum((1, 2, 3, 4)).clamp(min=1)[:, None, None, None, None]
    return torch.where(kept, features - mean, 0.0)
