"""Convex upsampling against the plain loop and against bilinear interpolation."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import interpolate

from fsmde_ros.network.upsample import FACTORS, ConvexUpsampling, bilinear_weights, convex_upsample, double


@pytest.mark.parametrize("factor", FACTORS)
def test_it_agrees_with_the_plain_loop(factor: int) -> None:
    torch.manual_seed(0)
    coarse, weights = torch.randn(2, 4, 5), torch.randn(2, 9, factor**2, 4, 5).softmax(dim=1)
    result = convex_upsample(coarse, weights.unbind(dim=1))
    expected = torch.zeros(2, 4 * factor, 5 * factor)
    for y in range(4 * factor):
        for x in range(5 * factor):
            row, column, fine = y // factor, x // factor, factor * (y % factor) + x % factor
            for neighbour in range(9):
                r = min(max(row + neighbour // 3 - 1, 0), 3)
                c = min(max(column + neighbour % 3 - 1, 0), 4)
                expected[:, y, x] += coarse[:, r, c] * weights[:, neighbour, fine, row, column]
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize("factor", FACTORS)
def test_bilinear_weights_are_those_of_the_half_pixel_rule(factor: int) -> None:
    coarse = torch.randn(2, 5, 7, dtype=torch.float64)
    weights = bilinear_weights(factor).double()[None, :, :, None, None].expand(2, 9, factor**2, 5, 7)
    expected = interpolate(coarse[:, None], scale_factor=factor, mode="bilinear")[:, 0]
    torch.testing.assert_close(convex_upsample(coarse, weights.unbind(dim=1)), expected)


def test_the_form_for_graphs_doubles_by_the_half_pixel_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    coarse = torch.randn(3, 5, 7, dtype=torch.float64)
    expected = interpolate(coarse[:, None], scale_factor=2, mode="bilinear")[:, 0]
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    monkeypatch.setattr(torch.nn.functional, "interpolate", None)  # so it is not the plain one
    torch.testing.assert_close(double(coarse), expected)


@pytest.mark.parametrize("spread", [0.5, 3.0])
def test_the_form_for_graphs_has_the_same_weights(monkeypatch: pytest.MonkeyPatch, spread: float) -> None:
    torch.manual_seed(0)
    module = ConvexUpsampling(8).double()
    torch.nn.init.normal_(module.to_weights.weight, std=spread)
    given = (torch.randn(2, 8, 6, 9), 1 + 50 * torch.rand(2, 6, 9), torch.rand(2, 6, 9), torch.rand(2, 6, 9))
    expected = module(*(map_.double() for map_ in given))
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    for wanted, found in zip(expected, module(*(map_.double() for map_ in given)), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("factor", FACTORS)
def test_untrained_upsampling_keeps_a_plane_flat(factor: int) -> None:
    """On a plane the inverse depth is linear in the pixel; so it must be after upsampling."""
    torch.manual_seed(0)
    module = ConvexUpsampling(8, factor)
    ys, xs = torch.meshgrid(torch.arange(6.0), torch.arange(9.0), indexing="ij")
    inverse = 0.02 + 0.01 * ys + 0.002 * xs
    flat = torch.zeros(1, 6, 9)
    depth = module(torch.randn(1, 8, 6, 9), 1 / inverse[None], flat, flat).depth[0]
    fine_y = (torch.arange(24.0) + 0.5) / 4 - 0.5
    fine_x = (torch.arange(36.0) + 0.5) / 4 - 0.5
    expected = 0.02 + 0.01 * fine_y[:, None] + 0.002 * fine_x[None]
    inner = (slice(4, -4), slice(4, -4))
    torch.testing.assert_close(1 / depth[inner], expected[inner], rtol=0.02, atol=0)


def test_the_result_stays_within_the_range_of_the_neighbours() -> None:
    torch.manual_seed(0)
    module = ConvexUpsampling(8)
    with torch.no_grad():
        module.to_weights.weight.normal_(std=5.0)
    depth = 0.5 + 199.5 * torch.rand(2, 6, 9)
    full = module(torch.randn(2, 8, 6, 9), depth, torch.rand(2, 6, 9), torch.rand(2, 6, 9))
    assert full.depth.shape == (2, 24, 36)
    padded = torch.nn.functional.pad(depth[:, None], (1, 1, 1, 1), mode="replicate")
    high = torch.nn.functional.max_pool2d(padded, 3, 1).repeat_interleave(4, 2).repeat_interleave(4, 3)
    low = -torch.nn.functional.max_pool2d(-padded, 3, 1).repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert (full.depth <= high[:, 0] * 1.0001).all()
    assert (full.depth >= low[:, 0] * 0.9999).all()
    assert (full.out_of_range <= 1).all()
