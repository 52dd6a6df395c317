"""What stands high behind the first row of houses: towers, blocks, works, and rows of houses of other streets.

Houses of one row only are all as near as the street is wide, so that a student takes every facade for near. Here some
stand farther back, and are of any size.
"""

from __future__ import annotations

import numpy as np

from training.town import buildings
from training.town.draws import log_uniform
from training.town.ground import Street
from training.town.landscape import place_beside
from training.town.settings import TownSettings
from training.town.site import Site

Generator = np.random.Generator
BACK = (25.0, 190.0)  # m from the sidewalk to the front of a house
HEIGHT = (7.0, 110.0)  # m


def line_with_skyline(
    rng: Generator, settings: TownSettings, site: Site, street: Street, reach: tuple[float, float]
) -> None:
    """Houses behind both sides of a street, alone or in groups of one height."""
    saturation = rng.uniform(*settings.saturation)
    left = int(rng.integers(settings.skyline[0], settings.skyline[1] + 1))
    while left > 0:
        group = min(left, int(rng.choice([1, 1, 2, 4])))
        left -= group
        back, height = log_uniform(rng, *BACK), log_uniform(rng, *HEIGHT)
        width, depth = rng.uniform(10, 45), rng.uniform(10, 30)
        u, side = rng.uniform(*reach), float(rng.choice([-1.0, 1.0]))
        turn = float(rng.choice([0.0, 0.0, np.pi / 2])) + rng.normal(0, 0.15)
        for k in range(group):
            v = side * (street.half_width + street.sidewalk + back)
            x, y, heading = place_beside(street, u + k * 1.4 * width, v)
            margin = 0.6 * max(width, 2 * depth)
            if site.is_free(x, y, margin):
                facing = heading + (0.0 if side > 0 else np.pi) + turn
                house = buildings.building(rng, width, depth, height * rng.uniform(0.8, 1.2), saturation)
                site.put(house, x, y, facing, stiff=True)
                site.take(x, y, margin)
