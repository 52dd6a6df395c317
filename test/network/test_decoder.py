"""The decoder against the way it is written in papers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from fsmde_ros.network.decoder import FusionLevel


@torch.no_grad()
@pytest.mark.parametrize("ray_channels", [0, 5])
def test_a_level_is_a_convolution_of_the_upsampled_joined_with_the_fine(ray_channels: int) -> None:
    torch.manual_seed(0)
    level = FusionLevel(12, 7, ray_channels, 16).double()
    coarse, skip = torch.randn(2, 12, 5, 6).double(), torch.randn(2, 7, 10, 12).double()
    rays: Tensor | None = torch.randn(2, ray_channels, 10, 12).double() if ray_channels else None
    large = interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    joined = level.join(torch.cat([large, skip, *([] if rays is None else [rays])], dim=1))
    expected = level.block(torch.relu(level.norm(joined)))
    torch.testing.assert_close(level(coarse, skip, rays), expected)
