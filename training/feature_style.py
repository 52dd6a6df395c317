"""Statistics of the encoder's features, perturbed while it trains: a style that no picture of the town has.

The mean and the spread of a channel over a picture say more of its style, materials and light than of its structure;
recoloured pictures vary them along few directions, this along all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fsmde_ros.network.encoder import Encoder

STAGES = 4  # behind the stem and so many stages: style is in the early features (Li et al., section 4)
TINY = 1e-6


@contextmanager
def perturbed_style(encoder: Encoder, present: Tensor, probability: float, seed: int) -> Iterator[None]:
    """Perturb what the stem and the first stages of ``encoder`` say, each of them with ``probability``.

    Args:
        present: [B, V] bool; the views in the order of the encoder's batch. The black images of the others tell nothing
            of how much a style varies.
        probability: of each place; 0 leaves all as it is.
        seed: of what is drawn.
    """
    rng = torch.Generator().manual_seed(seed)
    counted = present.flatten()
    places = (encoder.stem, *encoder.stages[:STAGES]) if int(counted.sum()) > 1 else ()
    chosen = [place for place in places if float(torch.rand((), generator=rng)) < probability]

    def perturb(_: nn.Module, __: object, features: Tensor) -> Tensor:
        return with_other_style(features, counted, rng)

    handles = [place.register_forward_hook(perturb) for place in chosen]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def with_other_style(features: Tensor, counted: Tensor, rng: torch.Generator) -> Tensor:
    """``features`` [B, C, h, w] with a mean and a standard deviation of each channel drawn around their own.

    The spread of what is drawn is that over the pictures ``counted`` [B] bool, channel by channel (Li et al.,
    *Uncertainty modeling for out-of-distribution generalization*, ICLR 2022).
    """
    mean = features.mean((2, 3), keepdim=True)
    spread = (features.var((2, 3), keepdim=True, correction=0) + TINY).sqrt()

    def drawn(statistic: Tensor) -> Tensor:
        normal = torch.randn(statistic.shape, generator=rng).to(statistic)
        return statistic.detach()[counted].std(0, keepdim=True) * normal

    return (features - mean) / spread * (spread + drawn(spread)) + mean + drawn(mean)
