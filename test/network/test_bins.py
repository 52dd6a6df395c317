"""Bins against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from fsmde_ros.network.bins import BinCentres, BinLogits, depth_from_bins

RANGE = (0.5, 200.0)


def test_depth_and_stddev_by_hand() -> None:
    centers = torch.tensor([[1.0, 2.0, 4.0]])
    p = torch.tensor([0.5, 0.25, 0.25])
    logits = torch.cat([p.log(), torch.tensor([0.0])])[None, None, :, None, None]  # e^0 against a sum of 1
    depth, stddev, out_of_range = (float(part.squeeze()) for part in depth_from_bins(logits, centers))
    assert depth == pytest.approx(2.0)
    assert stddev == pytest.approx(math.sqrt(0.5 * 1 + 0.25 * 0 + 0.25 * 4))
    assert out_of_range == pytest.approx(0.5)


def test_depth_expected_in_log_depth_by_hand() -> None:
    centers = torch.tensor([[1.0, 2.0, 4.0]])
    logits = torch.tensor([0.5, 0.25, 0.25, 1.0]).log()[None, None, :, None, None]
    depth, stddev, out_of_range = (float(part.squeeze()) for part in depth_from_bins(logits, centers, power=0.0))
    assert depth == pytest.approx(2**0.75)
    assert stddev == pytest.approx(math.sqrt(sum(p * (c - depth) ** 2 for p, c in ((0.5, 1), (0.25, 2), (0.25, 4)))))
    assert out_of_range == pytest.approx(0.5)


@pytest.mark.parametrize("power", [0.5, 0.25, 1e-3])
def test_depth_of_a_power_by_hand(power: float) -> None:
    centers = torch.tensor([[1.0, 2.0, 4.0]])
    logits = torch.tensor([0.5, 0.25, 0.25, 1.0]).log()[None, None, :, None, None]
    depth = depth_from_bins(logits, centers, power).depth
    expected = (0.5 * 1.0 + 0.25 * 2.0**power + 0.25 * 4.0**power) ** (1 / power)
    assert float(depth) == pytest.approx(expected, rel=1e-3)
    assert 2**0.75 < float(depth) < 2.0  # between that in log depth and that in metres


def test_out_of_range_does_not_move_the_depth() -> None:
    centers = torch.tensor([[1.0, 2.0, 4.0]])
    logits = torch.randn(1, 2, 4, 3, 5)
    sky = logits.clone()
    sky[:, :, -1] = 50.0
    torch.testing.assert_close(depth_from_bins(sky, centers).depth, depth_from_bins(logits, centers).depth)
    assert (depth_from_bins(sky, centers).out_of_range > 0.999).all()


def test_half_precision_logits_are_summed_in_float32() -> None:
    result = depth_from_bins(torch.zeros(1, 1, 65, 2, 3, dtype=torch.bfloat16), torch.full((1, 64), 100.3))
    assert result.depth.dtype == torch.float32
    torch.testing.assert_close(result.depth, torch.full((1, 1, 2, 3), 100.3))


def test_untrained_centres_are_even_in_log_depth() -> None:
    centers = BinCentres(16, 4, RANGE)(torch.zeros(2, 16))
    step = math.log(RANGE[1] / RANGE[0]) / 4
    expected = torch.tensor([RANGE[0] * math.exp(step * (k + 0.5)) for k in range(4)])
    torch.testing.assert_close(centers, expected.expand(2, 4), rtol=1e-2, atol=0)


def test_centres_ascend_within_the_range_whatever_the_token() -> None:
    torch.manual_seed(0)
    module = BinCentres(16, 64, RANGE)
    with torch.no_grad():
        module.to_widths[-1].weight.normal_(std=3.0)  # saturates the softmax
    centers = module(100 * torch.randn(5, 16))
    assert (centers.diff(dim=-1) > 0).all()
    assert (centers > RANGE[0]).all()
    assert (centers < RANGE[1]).all()


def test_untrained_ground_prior_gives_the_ground_depth() -> None:
    torch.manual_seed(0)
    centers = BinCentres(16, 64, RANGE)(torch.zeros(1, 16))
    ground = torch.linspace(math.log(1.0), math.log(60.0), 30)[None, None, None]  # [1, 1, 1, 30]
    head = BinLogits(8, 64, use_ground_prior=True)
    features = torch.randn(1, 1, 8, 1, 30)
    on_ground = depth_from_bins(head(features, centers, ground, torch.ones_like(ground)), centers)
    error = (on_ground.depth / ground.exp() - 1).abs()
    assert error.mean().item() < 0.015
    off_ground = head(features, centers, ground, torch.zeros_like(ground))
    torch.testing.assert_close(off_ground[0, :, :, 0], head.to_logits(features[0])[:, :, 0])


def test_a_closed_gate_and_no_prior_leave_the_logits() -> None:
    centers = torch.linspace(1, 80, 64)[None]
    ground = torch.zeros(1, 2, 3, 5)
    features = torch.randn(1, 2, 8, 3, 5)
    head = BinLogits(8, 64, use_ground_prior=True)
    with torch.no_grad():
        assert head.to_gate is not None
        head.to_gate.bias.fill_(-40.0)
    plain = head.to_logits(features[0])[None]
    torch.testing.assert_close(head(features, centers, ground, torch.ones_like(ground)), plain)
    without = BinLogits(8, 64, use_ground_prior=False)
    assert {name for name, _ in without.named_parameters()} == {"to_logits.weight", "to_logits.bias"}
