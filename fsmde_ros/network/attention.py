"""Surround attention: the tokens of all views of a sweep look at each other and agree on scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MASKED = -1e4  # added to the score of a missing view's keys: exp is exactly 0, and it is finite in float16


class AttentionBlock(nn.Module):
    """Pre-norm transformer block: attention over all tokens of a sweep, then an MLP."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(dim)
        self.to_qkv = nn.Linear(dim, 3 * dim)
        self.to_out = nn.Linear(dim, dim)
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim))

    def forward(self, tokens: Tensor, positions: Tensor, key_bias: Tensor) -> Tensor:
        """Update ``tokens`` [B, T, dim].

        Args:
            tokens: [B, T, dim].
            positions: [B, T, dim], added to queries and keys only, so that values stay content.
            key_bias: [B, 1, 1, T] added to the attention scores.
        """
        batch, count, dim = tokens.shape
        normed = self.norm_attention(tokens)
        weight, bias = self.to_qkv.weight, self.to_qkv.bias
        qk = nn.functional.linear(normed + positions, weight[: 2 * dim], bias[: 2 * dim])
        v = nn.functional.linear(normed, weight[2 * dim :], bias[2 * dim :])
        split = (batch, count, self.heads, dim // self.heads)
        query, key = qk[..., :dim].reshape(split).transpose(1, 2), qk[..., dim:].reshape(split).transpose(1, 2)
        value = v.reshape(split).transpose(1, 2)  # [B, heads, T, dim / heads]
        seen = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=key_bias.to(query.dtype))
        tokens = tokens + self.to_out(seen.transpose(1, 2).reshape(batch, count, dim))
        out: Tensor = tokens + self.mlp(self.norm_mlp(tokens))
        return out


class SurroundAttention(nn.Module):
    """Features of all views to features that know the other views, and one token for the sweep."""

    def __init__(self, channels: int, position_channels: int, dim: int, heads: int, blocks: int) -> None:
        """``blocks`` 0 leaves every view to itself; ``position_channels`` 0 leaves positions out."""
        super().__init__()
        self.to_tokens = nn.Linear(channels, dim)
        self.to_positions: nn.Module | None = None
        if position_channels and blocks:
            self.to_positions = nn.Sequential(nn.Linear(position_channels, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.blocks = nn.ModuleList(AttentionBlock(dim, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: Tensor, positions: Tensor | None, present: Tensor) -> tuple[Tensor, Tensor]:
        """Let the views of each sweep look at each other.

        Args:
            features: [B, V, C, h, w].
            positions: [B, V, P, h, w] or None where the network has no rays.
            present: [B, V] bool; a missing view is seen by no other view and not pooled.

        Returns:
            features [B, V, dim, h, w] and the pooled token [B, dim] of the present views.
        """
        batch, views, _, height, width = features.shape
        tokens = self.to_tokens(_to_tokens(features))  # [B, T, dim], T = V * h * w
        is_seen = present[:, :, None].expand(batch, views, height * width).reshape(batch, -1)  # [B, T]
        key_bias = torch.where(is_seen, 0.0, MASKED)[:, None, None, :]
        place = torch.zeros_like(tokens)
        if self.to_positions is not None and positions is not None:
            place = self.to_positions(_to_tokens(positions).to(tokens.dtype))
        for block in self.blocks:
            tokens = block(tokens, place, key_bias)
        tokens = self.norm(tokens)
        weight = is_seen.to(tokens.dtype)[..., None]
        pooled = (tokens * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)
        return tokens.reshape(batch, views, height, width, -1).permute(0, 1, 4, 2, 3), pooled


def _to_tokens(maps: Tensor) -> Tensor:
    """[B, V, C, h, w] to [B, V * h * w, C]."""
    return maps.permute(0, 1, 3, 4, 2).reshape(maps.shape[0], -1, maps.shape[2])
