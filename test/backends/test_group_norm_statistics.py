"""What bfloat16 does to the statistics of GroupNorm in the exported graph, on the shipped student."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fsmde_ros.network.group_norm import GroupNorm
from fsmde_ros.network.student import Student

Make = Callable[..., Any]  # the fixture make


def rounded(x: Tensor) -> Tensor:
    return x.bfloat16().float()


@torch.no_grad()
def test_statistics_survive_bfloat16(trained: Student, make: Make) -> None:
    """The mean of the squares less the square of the mean: of no use where the mean is far from 0 for its spread."""
    images, intrinsics, poses, ground, present = make(6)
    errors: list[Tensor] = []

    def compare(norm: nn.Module, inputs: tuple[Tensor], _: Tensor) -> None:
        assert isinstance(norm, GroupNorm)
        x = inputs[0]
        grouped = (len(x), norm.num_groups, -1)
        exact = x.reshape(grouped).var(2, correction=0)
        mean = rounded(rounded(x.mean((2, 3))).reshape(grouped).mean(2))
        norms = rounded(torch.linalg.vector_norm(x, dim=(2, 3)))
        square = rounded(rounded(norms.square() / x[0, 0].numel()).reshape(grouped).mean(2))
        errors.append(((square - mean**2).clamp(min=0) / exact).sqrt().sub(1).abs().flatten())

    hooks = [part.register_forward_hook(compare) for part in trained.modules() if isinstance(part, GroupNorm)]
    assert len(hooks) == 6
    rig = (torch.as_tensor(part, dtype=torch.float32)[None] for part in (intrinsics, poses))
    trained(
        torch.as_tensor(images)[None], *rig, torch.tensor([ground], dtype=torch.float32), torch.as_tensor(present)[None]
    )
    for hook in hooks:
        hook.remove()
    error = torch.cat(errors)
    assert error.median() < 0.002
    assert error.max() < 0.02
