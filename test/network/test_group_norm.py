"""GroupNorm in the form for graphs against PyTorch's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fsmde_ros.network.group_norm import GroupNorm


@pytest.mark.parametrize(("mean", "spread"), [(0.0, 1.0), (3.0, 1.0), (-0.5, 20.0), (0.0, 0.0)])
def test_the_form_for_graphs_is_the_same_function(monkeypatch: pytest.MonkeyPatch, mean: float, spread: float) -> None:
    torch.manual_seed(0)
    ours, theirs = GroupNorm(4, 12), nn.GroupNorm(4, 12)
    for module in (ours, theirs):
        torch.manual_seed(1)
        nn.init.normal_(module.weight)
        nn.init.normal_(module.bias)
    channels = 1 + torch.rand(12)[None, :, None, None]
    x = channels * (mean + spread * torch.randn(3, 12, 5, 7))
    expected = theirs(x)
    torch.testing.assert_close(ours(x), expected)
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    monkeypatch.setattr(torch.nn.functional, "group_norm", None)  # so it is not the plain one
    torch.testing.assert_close(ours(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 1.7, 333.3])
def test_a_constant_map_gives_no_nan(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    result = GroupNorm(4, 12)(torch.full((1, 12, 30, 50), value))
    assert result.isfinite().all()
    assert result.abs().max() < 5
