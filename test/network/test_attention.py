"""Surround attention: masked exactly, equivariant, and pooled over the present views only."""

from __future__ import annotations

import pytest
import torch

from fsmde_ros.network.attention import SurroundAttention

B, V, C, P, H, W = 2, 3, 12, 9, 2, 5


@pytest.fixture
def attention() -> SurroundAttention:
    torch.manual_seed(0)
    return SurroundAttention(C, P, 16, 4, 2).double()


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(B, V, C, H, W).double(), torch.randn(B, V, P, H, W).double()


def test_a_missing_view_is_as_if_it_were_not_there(attention: SurroundAttention) -> None:
    features, positions = inputs()
    present = torch.tensor([[True, False, True]] * B)
    out, pooled = attention(features, positions, present)
    kept = [0, 2]
    out_alone, pooled_alone = attention(features[:, kept], positions[:, kept], present[:, kept])
    torch.testing.assert_close(out[:, kept], out_alone)
    torch.testing.assert_close(pooled, pooled_alone)
    assert torch.isfinite(out).all()


@torch.no_grad()
def test_views_see_each_other(attention: SurroundAttention) -> None:
    features, positions = inputs()
    present = torch.ones(B, V, dtype=torch.bool)
    changed = features.clone()
    changed[:, 2] += 1
    out, _ = attention(features, positions, present)
    other, _ = attention(changed, positions, present)
    assert float((out[:, 0] - other[:, 0]).abs().max()) > 1e-3


def test_without_blocks_each_view_stays_by_itself() -> None:
    attention = SurroundAttention(C, 0, 16, 4, 0).double()
    features, _ = inputs()
    present = torch.ones(B, V, dtype=torch.bool)
    changed = features.clone()
    changed[:, 2] += 1
    out, pooled = attention(features, None, present)
    other, other_pooled = attention(changed, None, present)
    torch.testing.assert_close(out[:, :2], other[:, :2])
    assert not torch.allclose(pooled, other_pooled)


def test_a_sweep_without_any_view_stays_finite(attention: SurroundAttention) -> None:
    out, pooled = attention(*inputs(), torch.zeros(B, V, dtype=torch.bool))
    assert torch.isfinite(out).all()
    assert torch.isfinite(pooled).all()


def test_it_agrees_with_attention_written_out(attention: SurroundAttention) -> None:
    block = attention.blocks[0]
    torch.manual_seed(2)
    tokens, place = torch.randn(1, 7, 16).double(), torch.randn(1, 7, 16).double()
    x = block.norm_attention(tokens)
    q, k, _ = block.to_qkv(x + place).chunk(3, dim=-1)
    v = block.to_qkv(x)[..., 32:]
    seen = []
    for head in range(4):
        part = slice(4 * head, 4 * head + 4)
        scores = (q[0, :, part] @ k[0, :, part].T / 2.0).softmax(dim=-1)  # sqrt(4) = 2
        seen.append(scores @ v[0, :, part])
    middle = tokens + block.to_out(torch.cat(seen, dim=-1))
    expected = middle + block.mlp(block.norm_mlp(middle))
    torch.testing.assert_close(block(tokens, place, torch.zeros(1, 1, 1, 7).double()), expected)
