"""Other people's networks beside the student, for ``python -m fsmde_ros.benchmark --peers``.

Architectures of ``transformers`` with random weights, which are as fast as trained ones: eager
PyTorch, float32, all views as one batch. Sizes by their published configurations.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from transformers import (
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DPTConfig,
    DPTForDepthEstimation,
)

PATCH = 14  # of DINOv2; the images must be a multiple of it


def depth_anything_small() -> nn.Module:
    """Depth Anything V2 Small: DINOv2 ViT-S/14 and a DPT head of 64 channels."""
    backbone = Dinov2Config(
        hidden_size=384,
        num_attention_heads=6,
        num_hidden_layers=12,
        image_size=518,
        out_indices=[3, 6, 9, 12],  # type: ignore[call-arg]  # taken on by a base class
        apply_layernorm=True,
        reshape_hidden_states=False,
    )
    return DepthAnythingForDepthEstimation(
        DepthAnythingConfig(
            backbone_config=backbone,
            patch_size=PATCH,
            reassemble_hidden_size=384,
            neck_hidden_sizes=[48, 96, 192, 384],
            fusion_hidden_size=64,
        )
    )


def dpt_hybrid_size() -> nn.Module:
    """A DPT of the size of MiDaS v3's DPT-Large with a ViT-B/16 in place of ViT-L."""
    return DPTForDepthEstimation(
        DPTConfig(
            hidden_size=768,
            num_hidden_layers=12,
            num_attention_heads=12,
            intermediate_size=3072,
            backbone_out_indices=[2, 5, 8, 11],
            neck_hidden_sizes=[96, 192, 384, 768],
        )
    )


def peers(views: int, size: tuple[int, int]) -> dict[str, tuple[nn.Module, Callable[[], object]]]:
    """Networks by name, each with a call that runs it on ``views`` images of about ``size`` (H, W)."""
    torch.manual_seed(0)
    found: dict[str, tuple[nn.Module, Callable[[], object]]] = {}
    side = 16 * round((size[0] * size[1]) ** 0.5 / 16)  # transformers runs this one on squares only
    sizes = {PATCH: [PATCH * round(length / PATCH) for length in size], 16: [side, side]}
    for name, make, step in (
        ("Depth Anything V2 Small", depth_anything_small, PATCH),
        ("DPT, ViT-B/16", dpt_hybrid_size, 16),
    ):
        network = make().eval()
        height, width = sizes[step]
        pixels = torch.randn(views, 3, height, width)

        @torch.inference_mode()
        def call(network: nn.Module = network, pixels: torch.Tensor = pixels) -> object:
            return network(pixels)

        found[f"{name}, {height}x{width}"] = (network, call)
    return found
