"""Other people's networks beside the student, for ``python -m fsmde_ros.benchmark --peers``.

Architectures of ``transformers`` with random weights, which are as fast as trained ones: eager
PyTorch, float32, all views as one batch. Sizes by their published configurations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from transformers import (
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DPTConfig,
    DPTForDepthEstimation,
)

from fsmde_ros.backends.heap import keep_freed_memory
from fsmde_ros.benchmark.apart import apart
from fsmde_ros.benchmark.counts import Work, count_module

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


MAKERS = {"Depth Anything V2 Small": depth_anything_small, "DPT, ViT-B/16": dpt_hybrid_size}


@dataclass(frozen=True, eq=False)
class Peer:
    """A network, loaded, with what it is to run on.

    Attributes:
        network: of ``MAKERS``, with random weights.
        pixels: [V, 3, H, W].
    """

    network: nn.Module
    pixels: Tensor

    @torch.inference_mode()
    def run(self) -> None:
        """One sweep."""
        self.network(self.pixels)

    def count(self) -> Work:
        """Work of one sweep."""
        return count_module(self.network, self.run)


def load_peer(name: str, shape: Sequence[int], keeps_memory: bool) -> Peer:
    """A network of ``MAKERS`` for images of ``shape`` [V, 3, H, W], in this process.

    ``keeps_memory`` as this package does (``fsmde_ros.backends.heap``) and its peers do not.
    """
    if keeps_memory:
        keep_freed_memory()
    torch.manual_seed(0)
    return Peer(MAKERS[name]().eval(), torch.randn(*shape))


@contextmanager
def peers(views: int, size: tuple[int, int]) -> Iterator[dict[str, tuple[Work, Callable[[], object]]]]:
    """Networks by name: their work, and a call that runs them on ``views`` images of about ``size`` (H, W).

    Each runs in a process of its own; the small one again in one that keeps the memory it frees.
    """
    side = 16 * round((size[0] * size[1]) ** 0.5 / 16)  # transformers runs this one on squares only
    anything = tuple(PATCH * round(length / PATCH) for length in size)
    # The large one would keep 10 GB, beside all the others more than a machine of 24 GB has.
    variants = (
        ("Depth Anything V2 Small", anything, False),
        ("Depth Anything V2 Small", anything, True),
        ("DPT, ViT-B/16", (side, side), False),
    )
    found: dict[str, tuple[Work, Callable[[], object]]] = {}
    with ExitStack() as processes:
        for name, (height, width), keeps in variants:
            peer = processes.enter_context(apart(load_peer, name, (views, 3, height, width), keeps))
            note = ", memory kept" if keeps else ""
            found[f"{name}, {height}x{width}{note}"] = peer.ask(Peer.count), partial(peer.ask, Peer.run)
        yield found
