"""Metric bins: depth as classification over bins that are shared by all views of a sweep.

Positive widths from a softmax are those of AdaBins (S. F. Bhat et al., CVPR 2021), here over log
depth. The ground prior is this project's own: per pixel, a bump on the bin logits at the depth
where the ray meets the ground, which the network can accept or overrule.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

MAX_STRETCH = 3.0  # no bin is wider than the square of this times another, in log depth: LiDAR points are mostly
# near, and left alone they draw nearly all the bins to themselves
GATE_SCALE = 12.0  # largest height of the bump; exp(12) outweighs 64 flat bins by far
GATE_BIAS = 2.0  # the untrained gate: 12 * sigmoid(2) = 10.6, the ground plane with a mean error of 1 %
BUMP_WIDTH = 0.25  # in log depth; the softmax sharpens it to about one bin


class BinDepth(NamedTuple):
    """depth and stddev in metres and probability of being out of range, each [B, V, h, w]."""

    depth: Tensor
    stddev: Tensor
    out_of_range: Tensor


class BinCentres(nn.Module):
    """Bin centres of a sweep from its pooled token."""

    def __init__(self, dim: int, bins: int, depth_range: tuple[float, float]) -> None:
        super().__init__()
        self.log_min, self.log_span = math.log(depth_range[0]), math.log(depth_range[1] / depth_range[0])
        self.to_widths = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, bins))
        last = self.to_widths[-1]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=1e-3)  # the untrained bins are equally wide in log depth
        nn.init.zeros_(last.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """Centres [B, N], metres, ascending within the depth range, of tokens [B, dim]."""
        pooled = pooled.to(next(self.to_widths.parameters()).dtype)  # float32 where the rest runs in half precision
        stretch = math.log(MAX_STRETCH) * at_least_float32(self.to_widths(pooled)).tanh()
        widths = stretch.softmax(dim=-1)
        middles = widths.cumsum(dim=-1) - 0.5 * widths
        return (self.log_min + self.log_span * middles).exp()


class BinLogits(nn.Module):
    """Logits over the bins and "out of range" from the decoder's features."""

    def __init__(self, channels: int, bins: int, use_ground_prior: bool) -> None:
        super().__init__()
        self.to_logits = nn.Conv2d(channels, bins + 1, 1)
        nn.init.normal_(self.to_logits.weight, std=1e-2)
        assert self.to_logits.bias is not None
        nn.init.zeros_(self.to_logits.bias)
        self.to_gate: nn.Conv2d | None = None
        if use_ground_prior:
            self.to_gate = nn.Conv2d(channels, 1, 1)
            nn.init.zeros_(self.to_gate.weight)
            assert self.to_gate.bias is not None
            nn.init.constant_(self.to_gate.bias, GATE_BIAS)
            self.log_bump_width = nn.Parameter(torch.tensor(math.log(BUMP_WIDTH)))

    def forward(self, features: Tensor, centers: Tensor, log_ground_depth: Tensor, meets_ground: Tensor) -> Tensor:
        """Logits [B, V, N + 1, h, w], the last channel "out of range".

        Args:
            features: [B, V, C, h, w].
            centers: [B, N] metres.
            log_ground_depth: [B, V, h, w], log metres, of the ground on the pixel's ray.
            meets_ground: [B, V, h, w], 1 or 0; the prior is left out where 0.
        """
        in_range, beyond = self.parts(features, centers, log_ground_depth, meets_ground)
        return torch.cat([in_range, beyond[:, :, None]], dim=2)

    def parts(
        self, features: Tensor, centers: Tensor, log_ground_depth: Tensor, meets_ground: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The same in two, for ``depth_from_parts``: [B, V, N, h, w] of the bins and [B, V, h, w] of "out of range"."""
        shape = features.shape[:2]
        flat = features.flatten(0, 1).to(self.to_logits.weight.dtype)
        weight, bias = self.to_logits.weight, self.to_logits.bias
        assert bias is not None
        # Two convolutions, for runtimes copy the whole map to take a channel off it.
        logits = at_least_float32(nn.functional.conv2d(flat, weight[:-1], bias[:-1]))
        beyond = at_least_float32(nn.functional.conv2d(flat, weight[-1:], bias[-1:]))
        if self.to_gate is not None:
            gate = at_least_float32(self.to_gate(flat))  # [B * V, 1, h, w]
            height = GATE_SCALE * gate.sigmoid() * meets_ground.flatten(0, 1)[:, None]
            # Detached: else a loss on the logits moves the centres, and the easiest place for them is out of range.
            log_centers = _for_each_view(centers.detach().log(), shape[1])
            offset = log_centers - log_ground_depth.flatten(0, 1)[:, None]  # [B * V, N, h, w]
            logits = logits + height * torch.exp(offset * offset * (-0.5 * torch.exp(-2 * self.log_bump_width)))
        return logits.reshape(*shape, *logits.shape[1:]), beyond.reshape(*shape, *beyond.shape[2:])


def depth_from_bins(logits: Tensor, centers: Tensor, power: float = 1.0) -> BinDepth:
    """Expectation and standard deviation over the depth bins, which are normalised among themselves.

    d = (sum p_k c_k^q)^(1 / q) with the power q, or its limit exp(sum p_k ln c_k) where q is 0;
    sigma = sqrt(sum p_k (c_k - d)^2).

    Args:
        logits: [B, V, N + 1, h, w], the last channel "out of range".
        centers: [B, N] metres.
        power: 1 takes the expectation in metres, 0 that in log depth. Where the bins are in doubt between near and
            far, that in metres lies at the far end: relative to the near one, the larger error of the two.
    """
    return depth_from_parts(logits[:, :, :-1], logits[:, :, -1], centers, power)


def depth_from_parts(in_range: Tensor, beyond: Tensor, centers: Tensor, power: float = 1.0) -> BinDepth:
    """As ``depth_from_bins``, of logits in two: [B, V, N, h, w] of the bins and [B, V, h, w] of "out of range"."""
    shape = in_range.shape[:2]
    # Four dimensions: OpenVINO takes four times as long for a sum over the middle one of five.
    logits, beyond = at_least_float32(in_range.flatten(0, 1)), at_least_float32(beyond.flatten(0, 1))
    centers = at_least_float32(centers)
    c = _for_each_view(centers, shape[1])  # [B * V, N, 1, 1]
    # Of the bins, not of the map: a runtime that joins the power to the product takes it once for every cell.
    moment = _for_each_view(centers.log() if power == 0 else centers.pow(power), shape[1])
    # The softmax written out: its pieces serve the logarithm of the sum too, and runtimes transpose the whole
    # map for a softmax over a middle dimension. The shift cancels, so it needs no gradient.
    peak = logits.detach().amax(dim=1, keepdim=True)
    weights = (logits - peak).exp()
    total = weights.sum(dim=1, keepdim=True)
    mean = (weights * moment).sum(dim=1, keepdim=True) / total
    depth = mean.exp() if power == 0 else mean.pow(1 / power)
    offset = c - depth
    variance = (weights * offset * offset).sum(dim=1, keepdim=True) / total
    parts = (depth, variance.clamp(min=1e-6).sqrt(), (beyond[:, None] - peak - total.log()).sigmoid())
    return BinDepth(*(part.reshape(*shape, *part.shape[2:]) for part in parts))


def _for_each_view(centers: Tensor, views: int) -> Tensor:
    """[B, N] to [B * V, N, 1, 1]."""
    return centers[:, None].expand(-1, views, -1).flatten(0, 1)[:, :, None, None]


def at_least_float32(x: Tensor) -> Tensor:
    """``x``, in float32 where it is in half precision: bins and depth need the digits."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
