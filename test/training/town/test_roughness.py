"""A rough town is the plain one with other leaves and more beside its roads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from training.town.primitives import HALF, KIND, MATERIAL, PARAMS, TAPER, Kind, Material, Primitives, row
from training.town.raycast import nearest
from training.town.roughness import LARGEST_CROWN, SMALL_THINGS, with_rough_leaves
from training.town.settings import TownSettings
from training.town.tiles import Tiles
from training.town.world import World, build_world


def town(seed: int, rough: float) -> World:
    return build_world(seed, replace(TownSettings(), rough_probability=rough, open_probability=1.0), duration_s=2.0)


@pytest.mark.parametrize("seed", [2, 3])
def test_what_is_no_leaf_stays_as_it_is(seed: int) -> None:
    plain, rough = town(seed, 0.0).layout, town(seed, 1.0).layout
    assert rough.rough
    assert not plain.rough
    assert rough.streets == plain.streets
    np.testing.assert_array_equal(rough.path, plain.path)
    assert len(rough.movers) == len(plain.movers)
    count = len(plain.rows)
    others = plain.rows[:, MATERIAL] != Material.FOLIAGE
    np.testing.assert_array_equal(rough.rows[:count][others], plain.rows[others])
    np.testing.assert_array_equal(rough.rows[:count, HALF], plain.rows[:, HALF])
    assert len(rough.rows) == len(rough.anchors) == len(rough.stiff) == len(rough.owners)
    assert rough.owners[count:].min() > plain.owners.max()


def test_leaves_are_of_every_grain_and_hills_stay_smooth() -> None:
    layout = town(3, 1.0).layout
    rows = layout.rows[layout.rows[:, MATERIAL] == Material.FOLIAGE]
    period = rows[:, PARAMS.start]
    assert np.percentile(period, 90) > 3 * np.percentile(period, 10)
    smooth = rows[rows[:, KIND] == Kind.ELLIPSOID]
    assert (smooth[:, HALF].max(1) >= LARGEST_CROWN).all()
    assert (rows[rows[:, KIND] == Kind.CROWN][:, TAPER.start + 1] > 0).all()  # it divides by it


def test_small_things_stand_beside_the_roads_and_near() -> None:
    plain, rough = town(2, 0.0), town(2, 1.0)
    more = rough.layout.anchors[len(plain.layout.rows) :]
    distance = rough.ground.road_distance(torch.as_tensor(more[:, 0]), torch.as_tensor(more[:, 1])).numpy()
    assert len(more) > 30
    assert distance.min() > 0
    assert np.median(distance) < 5


@pytest.mark.parametrize("thing", SMALL_THINGS)
def test_small_things_are_small_and_stand_on_the_ground(thing) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        rows = thing(rng)
        assert (np.abs(rows[:, 1:3]) + rows[:, HALF][:, :2]).max() < 3
        top, foot = (rows[:, 3] + rows[:, HALF][:, 2]).max(), (rows[:, 3] - rows[:, HALF][:, 2]).min()
        assert 0.2 < top < 5
        assert foot < 0.3


def test_a_ragged_rim_lets_rays_through_that_a_smooth_one_stops() -> None:
    """Rays along x that pass a ball 0.9 of its radius off its middle."""
    angles = torch.linspace(0, 2 * np.pi, 400)[:-1]
    ring = torch.stack([torch.full_like(angles, -5.0), 1.8 * angles.cos(), 1.8 * angles.sin()], dim=1)

    def stopped(ragged: float) -> int:
        shape = (Kind.CROWN, (0, 0, 0), (2, 2, 2), Material.FOLIAGE, (0.1, 0.2, 0.1))
        ball = Primitives.of(row(*shape, taper=(3.0, 1.0, ragged)), np.zeros(1, dtype=np.int64), "cpu")
        count = len(ring)
        tiles = Tiles(torch.zeros(count, 4, 3), torch.ones(count, 4), torch.zeros(count, 3))  # culls nothing
        ahead = torch.tensor([1.0, 0.0, 0.0])[None, :, None].expand(count, 3, 1)
        limit = torch.full((count, 1), float("inf"))
        distance, _ = nearest(ball, ring, ahead, tiles, torch.zeros(count), limit, 20.0)
        return int(distance.isfinite().sum())

    assert stopped(0.0) == len(ring)
    assert stopped(9.0) < 0.9 * len(ring)


def test_what_is_no_leaf_is_left_alone() -> None:
    wall = row(Kind.ELLIPSOID, (0, 0, 0), (1, 1, 1), Material.CONCRETE, (0.5, 0.5, 0.5))
    np.testing.assert_array_equal(with_rough_leaves(wall, np.random.default_rng(0)), wall)
