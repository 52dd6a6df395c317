"""Learned convex upsampling, after RAFT (Z. Teed and J. Deng, ECCV 2020).

Every fine pixel is a convex combination of the 3x3 coarse cells around it, with weights from the
features. Depth is combined as inverse depth, which on any plane is linear in the pixel, so that
the untrained (bilinear) weights already keep planes flat; a convex combination never leaves the
range of its neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

FACTOR = 4
NEIGHBOURS = 9
NEARLY_ZERO = 1e-3  # weight of a cell that bilinear interpolation leaves out; its logarithm must be finite


class ConvexUpsampling(nn.Module):
    """Maps at stride 4 to the size of the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_weights = nn.Conv2d(channels, NEIGHBOURS * FACTOR**2, 1)
        nn.init.normal_(self.to_weights.weight, std=1e-3)
        assert self.to_weights.bias is not None
        with torch.no_grad():
            self.to_weights.bias.copy_(bilinear_weights().clamp(min=NEARLY_ZERO).log().flatten())

    def forward(self, features: Tensor, depth: Tensor, stddev: Tensor, out_of_range: Tensor) -> Tensor:
        """Depth, stddev and out_of_range at the size of the input, [B, 3, 4h, 4w].

        Args:
            features: [B, C, h, w].
            depth, stddev, out_of_range: [B, h, w].
        """
        logits = self.to_weights(features).unflatten(1, (NEIGHBOURS, FACTOR**2))
        weights = _softmax_over_neighbours(logits.to(depth.dtype))  # [B, 9, 16, h, w]
        maps = convex_upsample(torch.stack([1 / depth, stddev, out_of_range], dim=1), weights)
        return torch.cat([1 / maps[:, :1], maps[:, 1:]], dim=1)


def _softmax_over_neighbours(logits: Tensor) -> Tensor:
    """Softmax over the second of the dimensions [B, 9, 16, h, w]."""
    if not torch.onnx.is_in_onnx_export():
        return logits.softmax(dim=1)
    # ONNX Runtime transposes the whole map for a softmax over a middle dimension: four times slower.
    weights = (logits - logits.amax(dim=1, keepdim=True)).exp()
    return weights / weights.sum(dim=1, keepdim=True)


def convex_upsample(maps: Tensor, weights: Tensor) -> Tensor:
    """Combine the 3x3 cells around each coarse cell into its 4x4 fine pixels.

    Args:
        maps: [B, C, h, w]; beyond the border the outermost cells are repeated.
        weights: [B, 9, 16, h, w], neighbours and fine pixels in row-major order, summing to 1 over
            the neighbours.

    Returns:
        [B, C, 4h, 4w].
    """
    height, width = maps.shape[-2:]
    padded = nn.functional.pad(maps, (1, 1, 1, 1), mode="replicate")
    total = torch.zeros_like(maps[:, :, None])  # [B, C, 16, h, w] after the first term
    for index in range(NEIGHBOURS):
        row, column = divmod(index, 3)
        cell = padded[:, :, row : row + height, column : column + width]
        total = total + cell[:, :, None] * weights[:, None, index]
    return nn.functional.pixel_shuffle(total.flatten(1, 2), FACTOR)


def bilinear_weights() -> Tensor:
    """Weights [9, 16] of bilinear interpolation by the half-pixel rule."""
    offsets = [(i + 0.5) / FACTOR - 0.5 for i in range(FACTOR)]  # in coarse cells, from the cell's centre
    line = torch.tensor([[max(0.0, -o), 1 - abs(o), max(0.0, o)] for o in offsets])  # [4, 3]
    return torch.einsum("ya,xb->abyx", line, line).reshape(NEIGHBOURS, FACTOR**2)
