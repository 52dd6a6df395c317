"""The edge of town: what stands there must not let size tell distance, and must leave the road free."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.town.drive import nuscenes_drive
from training.town.landscape import wood_tree
from training.town.primitives import CENTER, HALF, MATERIAL, Material, Rows
from training.town.settings import TownSettings
from training.town.world import World, build_world

OPEN = TownSettings(open_probability=1.0, woods=(1.0, 1.0), vegetation=(0.0, 0.0))


@pytest.fixture(scope="module")
def worlds() -> list[World]:
    return [build_world(seed, OPEN, duration_s=2.0) for seed in range(6)]


def foliage(world: World) -> tuple[Rows, np.ndarray]:
    """Rows of all leaves that stand, and their distance to the road in metres."""
    rows = world.layout.rows[world.layout.rows[:, MATERIAL] == Material.FOLIAGE]
    x, y = (torch.as_tensor(rows[:, column]) for column in (1, 2))
    return rows, world.ground.road_distance(x, y).numpy()


def test_woods_are_high_and_low_near_and_far(worlds: list[World]) -> None:
    tops, distances = [], []
    for world in worlds:
        if not world.layout.streets[0].is_open:
            continue
        rows, distance = foliage(world)
        tree = (rows[:, HALF].max(axis=1) < 20) & (rows[:, HALF][:, 2] > 1.0)
        tops.append((rows[:, CENTER][:, 2] + rows[:, HALF][:, 2])[tree])
        distances.append(distance[tree])
    top, distance = np.concatenate(tops), np.concatenate(distances)
    assert len(top) > 500
    assert np.percentile(top, 10) < 8 < 18 < np.percentile(top, 95)
    assert np.percentile(distance, 10) < 15 < 45 < np.percentile(distance, 95)
    assert abs(np.corrcoef(np.log(top), np.log(distance))[0, 1]) < 0.5, "height must not tell distance"


def test_nothing_grows_on_a_road(worlds: list[World]) -> None:
    for world in worlds:
        assert foliage(world)[1].min() > 0


def test_a_closed_town_has_no_open_street_and_an_open_one_has() -> None:
    closed = build_world(3, TownSettings(open_probability=0.0, wide_probability=0.0), duration_s=2.0)
    assert not any(street.is_open for street in closed.layout.streets)
    assert any(street.is_open for street in build_world(3, OPEN, duration_s=2.0).layout.streets)


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("conifer", [False, True])
def test_a_tree_of_a_wood_reaches_its_height_from_the_ground(parts: int, conifer: bool) -> None:
    for seed in range(20):
        rows = wood_tree(np.random.default_rng(seed), 20.0, parts, (0.1, 0.2, 0.05), conifer)
        top = (rows[:, CENTER][:, 2] + rows[:, HALF][:, 2]).max()
        assert 15.0 < top <= 24.0
        assert (rows[:, CENTER][:, 2] - rows[:, HALF][:, 2]).min() == pytest.approx(0.0, abs=1e-9)


def test_depth_reaches_far_woods_beside_the_road() -> None:
    drive = nuscenes_drive(22, (96, 160), OPEN, duration_s=1.0)
    _, depths = drive.render(0)
    side = np.concatenate([depth[:48].ravel() for name, depth in depths.items() if "front" not in name])
    far = np.isfinite(side) & (side > 25)
    assert far.mean() > 0.03, "above the horizon, beside the road, something far must stand"
