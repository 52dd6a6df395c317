"""How coarse the textures of a town are.

Stains, grain and leaves of one size in metres tell how far away a surface is. In the town that is right, on a real
street it is not: so each thing has a grain of its own, and so have the road and what lies beside it. Bricks, tiles,
letters and markings keep their sizes, which real ones have, too.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from training.town.textures import hashed
from training.town.world import World


def of_things(world: World, material: Tensor, seed: Tensor) -> Tensor:
    """Factor [R] of the size of textures, of things with these materials [R] and seeds [R]: log-uniform."""
    low, high = world.settings.grain
    return low * (high / low) ** hashed(seed * 61 + material, seed * 0 + world.seed % 997)


def of_ground(world: World) -> tuple[float, float]:
    """Factors of the size of textures, of the road with its sidewalks and of what is behind them: log-uniform."""
    low, high = np.log(world.settings.grain)
    road, behind = np.exp(np.random.default_rng([world.seed, 43]).uniform(low, high, 2))
    return float(road), float(behind)
