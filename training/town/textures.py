"""Noise that materials are drawn from: a small atlas of periodic textures and a lattice hash."""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

SIZE = 512  # texels; a lookup in 1 MiB stays in the cache of a CPU core
ATLASES = 24  # different atlases; a drive takes one of them


class Channel(IntEnum):
    """Channels of the atlas; all have values in [0, 1]."""

    CLOUDY = 0  # many octaves, from the whole period down
    GRAINY = 1  # only the finest octaves
    LEAVES = 2  # clumps with dark gaps
    CRACKS = 3  # 1 along thin winding lines, else 0


@lru_cache(maxsize=4)
def atlas(seed: int, device: str) -> Tensor:
    """Periodic textures [C, SIZE + 1, SIZE + 1]; the last row and column repeat the first."""
    generator = torch.Generator().manual_seed(seed % ATLASES)
    layers = [_fractal(generator, (4, 8, 16, 32, 64, 128), 0.6), _fractal(generator, (128, 256, 512), 0.9)]
    clumps = _fractal(generator, (16, 32, 64, 128, 256), 0.9)
    layers.append((clumps * 1.5 - 0.25).clamp(0, 1) ** 1.5)
    ridge = (_fractal(generator, (6, 12, 24, 48), 0.55) - 0.5).abs()
    layers.append((1 - ridge / 0.012).clamp(0, 1))
    result = torch.stack(layers)
    result = torch.cat([result, result[:, :1]], dim=1)
    return torch.cat([result, result[:, :, :1]], dim=2).contiguous().to(device)


def _fractal(generator: torch.Generator, cells: tuple[int, ...], gain: float) -> Tensor:
    """Periodic value noise [SIZE, SIZE] in [0, 1] of octaves with so many cells a period."""
    total = torch.zeros(SIZE, SIZE)
    for octave, count in enumerate(cells):
        lattice = torch.rand(count, count, generator=generator)
        lattice = lattice.roll((1, 1), (0, 1))
        wrapped = torch.cat([lattice[-2:], lattice, lattice[:2]], dim=0)
        wrapped = torch.cat([wrapped[:, -2:], wrapped, wrapped[:, :2]], dim=1)
        step = SIZE // count
        smooth = (
            interpolate(wrapped[None, None], scale_factor=step, mode="bicubic") if step > 1 else wrapped[None, None]
        )
        edge = 2 * step
        total += (
            gain**octave * smooth[0, 0, edge : edge + count * step, edge : edge + count * step][:SIZE, :SIZE]
            if count * step == SIZE
            else gain**octave * interpolate(smooth[:, :, edge:-edge, edge:-edge], (SIZE, SIZE))[0, 0]
        )
    low, high = (
        total.quantile(0.01) if SIZE <= 256 else total.flatten()[::16].quantile(0.01),
        total.flatten()[::16].quantile(0.99),
    )
    return ((total - low) / (high - low)).clamp(0, 1)


def look_up(textures: Tensor, channel: Channel, u: Tensor, v: Tensor) -> Tensor:
    """Bilinear value [R] of a channel at (u, v) [R] in periods."""
    grid = torch.stack([u - u.floor(), v - v.floor()], dim=-1).mul_(2).sub_(1)
    picture = textures[int(channel)][None, None]
    return grid_sample(picture, grid.view(1, 1, -1, 2), align_corners=True)[0, 0, 0]


def hashed(a: Tensor, b: Tensor, c: Tensor | float = 0.0) -> Tensor:
    """A number in [0, 1) that looks random, of three numbers (whole ones, or seeds)."""
    value = torch.sin(a * 12.9898 + b * 78.233 + c * 37.719) * 43758.547
    return value - value.floor()
