"""Wide towns: large houses and woods stand far back, nothing on a road; the held-out towns have neither."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from training.town.primitives import HALF, MATERIAL, Material
from training.town.settings import TownSettings
from training.town.world import World, build_world

WIDE = TownSettings(wide_probability=1.0, skyline=(24, 24))
CLOSE = replace(WIDE, wide_probability=0.0, skyline=(0, 0), open_probability=1.0)


def facades(world: World) -> tuple[np.ndarray, np.ndarray]:
    """Height of each house and the distance of its middle to the road, metres."""
    rows = world.layout.rows[world.layout.rows[:, MATERIAL] == Material.FACADE]
    x, y = (torch.as_tensor(rows[:, column]) for column in (1, 2))
    return 2 * rows[:, HALF][:, 2], world.ground.road_distance(x, y).numpy()


def test_towers_stand_far_back_and_no_house_on_a_road() -> None:
    heights, distances = map(np.concatenate, zip(*(facades(build_world(s, WIDE, 2.0)) for s in range(6)), strict=True))
    assert distances.min() > 0
    far = distances > 60
    assert far.sum() > 60
    assert np.percentile(heights[far], 10) < 20 < 50 < np.percentile(heights[far], 90)


def test_a_wide_town_is_farther_away_than_an_open_one() -> None:
    def median(settings: TownSettings) -> float:
        found = []
        for seed in range(8):
            world = build_world(seed, settings, 2.0)
            rows = world.layout.rows[world.layout.rows[:, MATERIAL] == Material.FOLIAGE]
            x, y = (torch.as_tensor(rows[:, column]) for column in (1, 2))
            found.append(world.ground.road_distance(x, y).numpy())
        return float(np.median(np.concatenate(found)))

    assert median(replace(WIDE, vegetation=(0.0, 0.0))) > 1.5 * median(replace(CLOSE, vegetation=(0.0, 0.0)))


def test_the_held_out_towns_have_neither() -> None:
    held_out = TownSettings.held_out()
    assert (held_out.wide_probability, held_out.skyline) == (0.0, (0, 0))
    plain, wide = (build_world(7, replace(held_out, wide_probability=p), 2.0).layout.streets for p in (0.0, 1.0))
    assert not any(street.is_open and street.setback > 24 for street in plain)
    assert max(street.half_width for street in wide) >= max(street.half_width for street in plain)
