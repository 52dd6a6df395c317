"""Light decoder: depthwise-separable, with skip connections and rays at every level."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fsmde_ros.network.group_norm import GroupNorm

NORM_GROUPS = 8


def _norm(channels: int) -> GroupNorm:
    # Not BatchNorm: its statistics would be those of the training drives, and break on others.
    return GroupNorm(NORM_GROUPS, channels)


class SeparableBlock(nn.Module):
    """Residual depthwise 5x5 and pointwise 1x1 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 5, padding=2, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = _norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [B, C, H, W] to the same shape."""
        return x + nn.functional.relu(self.norm(self.pointwise(self.depthwise(x))))


class FusionLevel(nn.Module):
    """Upsample the coarse features twofold and join them with the skip connection and the rays."""

    def __init__(self, coarse: int, skip: int, rays: int, outputs: int) -> None:
        super().__init__()
        self.join = nn.Conv2d(coarse + skip + rays, outputs, 1, bias=False)
        self.norm = _norm(outputs)
        self.block = SeparableBlock(outputs)

    def forward(self, coarse: Tensor, skip: Tensor, rays: Tensor | None) -> Tensor:
        """``coarse`` [B, C, h, w], ``skip`` and ``rays`` [B, ., 2h, 2w] to [B, outputs, 2h, 2w].

        ``skip`` may lack the last row or column, where that of ``coarse`` lies half outside of the image.
        """
        # A pointwise convolution of [upsampled coarse, skip, rays], in two parts: weights and interpolation commute,
        # so the coarse part is weighted where it has a quarter of the pixels.
        weight = self.join.weight
        channels = coarse.shape[1]
        fine = skip if rays is None else torch.cat([skip, rays.to(skip.dtype)], dim=1)
        small = nn.functional.conv2d(coarse, weight[:, :channels])
        large = nn.functional.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
        height, width = fine.shape[2:]
        if (height, width) != large.shape[2:]:
            large = large[:, :, :height, :width]
        joined = nn.functional.relu(self.norm(large + nn.functional.conv2d(fine, weight[:, channels:])))
        out: Tensor = self.block(joined)
        return out


class Decoder(nn.Module):
    """Features at strides 32, 16, 8, 4 to features at stride 4."""

    def __init__(self, bottom: int, skips: Sequence[int], rays: int, widths: Sequence[int]) -> None:
        """Channels at stride 32, of the skips at 16, 8, 4, of the rays (0: none), of the outputs."""
        super().__init__()
        inputs = (bottom, *widths[:-1])
        self.levels = nn.ModuleList(
            FusionLevel(coarse, skip, rays, width) for coarse, skip, width in zip(inputs, skips, widths, strict=True)
        )

    def forward(self, bottom: Tensor, skips: Sequence[Tensor], rays: Sequence[Tensor | None]) -> Tensor:
        """``bottom`` [B, C, H/32, W/32], rounded up, ``skips`` and ``rays`` at strides 16, 8, 4 to [B, C, H/4, W/4]."""
        x = bottom
        for level, skip, ray in zip(self.levels, skips, rays, strict=True):
            x = level(x, skip, ray)
        return x
