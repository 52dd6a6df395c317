"""Learned convex upsampling, after RAFT (Z. Teed and J. Deng, ECCV 2020).

Every fine pixel is a convex combination of the 3x3 coarse cells around it, with weights from the
features. Depth is combined as inverse depth, which on any plane is linear in the pixel, so that
the untrained (bilinear) weights already keep planes flat; a convex combination never leaves the
range of its neighbours.

The maps of the weights are the largest of the whole network. Learned to half the size of the input, and bilinear from
there on, they are a quarter of that: half the time of this part, for 0.4 % more AbsRel on the town's held-out drives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor, nn

FACTORS = (2, 4)  # that can be learned; what is left to the size of the input is bilinear
STRIDES = (4, 8)  # of the features, to the size that is wanted
NEIGHBOURS = 9
NEARLY_ZERO = 1e-3  # weight of a cell that bilinear interpolation leaves out; its logarithm must be finite
LARGEST_LOGIT = 30.0  # exp(30) outweighs all others, and nine of them are far from overflow


class FullSize(NamedTuple):
    """depth and stddev in metres and probability of being out of range, each [..., H, W]."""

    depth: Tensor
    stddev: Tensor
    out_of_range: Tensor


class ConvexUpsampling(nn.Module):
    """Maps at a stride to the size of the input."""

    def __init__(self, channels: int, factor: int = 4, stride: int = 4) -> None:
        """``factor``, one of ``FACTORS``, is learned; ``stride``, one of ``STRIDES``, is the whole way."""
        super().__init__()
        self.factor = factor
        self.stride = stride
        self.to_weights = nn.Conv2d(channels, NEIGHBOURS * factor**2, 1)
        nn.init.normal_(self.to_weights.weight, std=1e-3)
        assert self.to_weights.bias is not None
        with torch.no_grad():
            self.to_weights.bias.copy_(bilinear_weights(factor).clamp(min=NEARLY_ZERO).log().flatten())

    def forward(self, features: Tensor, depth: Tensor, stddev: Tensor, out_of_range: Tensor) -> FullSize:
        """The maps at the size of the input, ``stride`` times their own.

        Args:
            features: [B, C, h, w].
            depth, stddev, out_of_range: [B, h, w].
        """
        weights, whole = self._weights(features, depth.dtype)
        # One map at a time, for runtimes copy maps to join them.
        inverse, *others = (self._to_full_size(one, weights, whole) for one in (1 / depth, stddev, out_of_range))
        return FullSize(1 / inverse, *others)

    def _weights(self, features: Tensor, dtype: torch.dtype) -> tuple[Sequence[Tensor], Tensor | None]:
        """As ``convex_upsample`` takes them."""
        if not torch.onnx.is_in_onnx_export():
            logits = self.to_weights(features).unflatten(1, (NEIGHBOURS, self.factor**2))
            return logits.to(dtype).softmax(dim=1).unbind(dim=1), None
        # Nine convolutions, for runtimes copy the map to take it apart; a softmax would pass over it three times.
        assert self.to_weights.bias is not None
        kernels = self.to_weights.weight.chunk(NEIGHBOURS), self.to_weights.bias.chunk(NEIGHBOURS)
        maps = (nn.functional.conv2d(features, weight, bias) for weight, bias in zip(*kernels, strict=True))
        weights = [one.to(dtype).clamp(-LARGEST_LOGIT, LARGEST_LOGIT).exp() for one in maps]
        return weights, reduce(torch.add, weights)

    def _to_full_size(self, one: Tensor, weights: Sequence[Tensor], whole: Tensor | None) -> Tensor:
        fine = convex_upsample(one, weights, whole)
        for _ in range((self.stride // self.factor).bit_length() - 1):
            fine = double(fine)
        return fine


def convex_upsample(coarse: Tensor, weights: Sequence[Tensor], whole: Tensor | None = None) -> Tensor:
    """Combine the 3x3 cells around each coarse cell into its f x f fine pixels.

    Args:
        coarse: [B, h, w]; beyond the border the outermost cells are repeated.
        weights: nine of [B, f^2, h, w], all above 0; neighbours and fine pixels in row-major order.
        whole: [B, f^2, h, w], the sum of the nine; None where it is 1.

    Returns:
        [B, f h, f w].
    """
    height, width = coarse.shape[-2:]
    padded = nn.functional.pad(coarse[:, None], (1, 1, 1, 1), mode="replicate")
    first, *others = weights
    total = padded[..., :height, :width] * first  # [B, f^2, h, w]
    for index, weight in enumerate(others, start=1):
        row, column = divmod(index, 3)
        total = torch.addcmul(total, padded[..., row : row + height, column : column + width], weight)
    mean = total if whole is None else total / whole
    return nn.functional.pixel_shuffle(mean, math.isqrt(mean.shape[1]))[:, 0]


def double(coarse: Tensor) -> Tensor:
    """Bilinear interpolation [B, h, w] to [B, 2h, 2w] by the half-pixel rule."""
    if not torch.onnx.is_in_onnx_export():
        return nn.functional.interpolate(coarse[:, None], scale_factor=2, mode="bilinear", align_corners=False)[:, 0]
    # OpenVINO computes an interpolation, and all that leads to it, in bfloat16 where that is asked for: two digits.
    for dim in (2, 1):
        cells = coarse.shape[dim]
        pixel = torch.arange(2 * cells)
        nearest = pixel // 2
        second = (nearest + 2 * (pixel % 2) - 1).clamp(0, cells - 1)
        coarse = 0.75 * coarse.index_select(dim, nearest) + 0.25 * coarse.index_select(dim, second)
    return coarse


def bilinear_weights(factor: int) -> Tensor:
    """Weights [9, factor^2] of bilinear interpolation by the half-pixel rule."""
    offsets = [(i + 0.5) / factor - 0.5 for i in range(factor)]  # in coarse cells, from the cell's centre
    rows = [[max(0.0, -o), 1 - abs(o), max(0.0, o)] for o in offsets]
    line = torch.tensor(rows, device="cpu")  # [factor, 3]; also where the network is built on the meta device
    return torch.einsum("ya,xb->abyx", line, line).reshape(NEIGHBOURS, factor**2)
