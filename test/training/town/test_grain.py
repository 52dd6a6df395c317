"""Textures of any size: the same town, and what its pictures show of it is coarser or finer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fsmde_ros.errors import ConfigError
from fsmde_ros.rig import Camera
from training.town import grain
from training.town.camera import render_view
from training.town.primitives import Kind, Material, row
from training.town.settings import TownSettings
from training.town.world import World, build_world

LOW, HIGH = 0.3, 3.0


def with_grain(world: World, low: float, high: float) -> World:
    quiet = replace(world.lighting, noise=0.0, blur=0.0)
    return replace(world, settings=replace(world.settings, grain=(low, high)), lighting=quiet)


def likeness(picture: np.ndarray, lag: int = 8) -> float:
    """Correlation of pixels ``lag`` columns apart."""
    grey = picture.astype(float).mean(-1)
    return float(np.corrcoef(grey[:, lag:].ravel(), grey[:, :-lag].ravel())[0, 1])


def test_things_have_grains_of_their_own_evenly_in_logarithm(town: World) -> None:
    world = with_grain(town, LOW, HIGH)
    seed = torch.rand(5000, generator=torch.Generator().manual_seed(0))
    factor = grain.of_things(world, torch.full_like(seed, float(Material.CONCRETE)), seed)
    assert LOW <= factor.min() < 0.35
    assert 2.6 < factor.max() <= HIGH
    assert factor.log().mean().item() == pytest.approx(np.log(LOW * HIGH) / 2, abs=0.05)
    other = grain.of_things(replace(world, seed=world.seed + 1), torch.full_like(seed, float(Material.CONCRETE)), seed)
    assert (factor - other).abs().mean() > 0.1  # a seed of a thing that occurs in every town tells nothing


def test_the_ground_differs_between_towns_and_stays_in_one(town: World) -> None:
    worlds = [replace(with_grain(town, LOW, HIGH), seed=seed) for seed in range(200)]
    factors = np.array([grain.of_ground(world) for world in worlds])
    assert (factors >= LOW).all()
    assert (factors <= HIGH).all()
    assert (np.log(factors).std(axis=0) > 0.5).all()
    assert grain.of_ground(worlds[3]) == grain.of_ground(worlds[3])
    assert grain.of_ground(with_grain(town, 1.0, 1.0)) == (1.0, 1.0)


@pytest.mark.parametrize("material", [Material.CONCRETE, Material.FOLIAGE])
def test_a_wall_of_coarser_grain_has_larger_patches_and_is_as_far(
    stage, forward_camera: Camera, material: Material
) -> None:
    world = stage(row(Kind.BOX, (4.0, 0.0, 0.0), (1.0, 40.0, 40.0), material, (0.5, 0.5, 0.5)))
    (fine, near), (coarse, same) = (
        render_view(with_grain(world, factor, factor), 0.0, forward_camera, np.eye(4)) for factor in (LOW, HIGH)
    )
    np.testing.assert_array_equal(near, same)
    above = slice(0, 20)  # all wall
    assert likeness(coarse[above]) > likeness(fine[above]) + 0.1


def test_a_street_of_coarser_grain_is_the_same_street(forward_camera: Camera) -> None:
    world = build_world(5, TownSettings(), duration_s=2.0)
    pose = world.vehicle_to_map(0.5)
    (fine, depth), (coarse, same) = (
        render_view(with_grain(world, factor, factor), 0.5, forward_camera, pose) for factor in (LOW, HIGH)
    )
    np.testing.assert_array_equal(depth, same)
    assert (fine != coarse).any(-1)[depth < 30].mean() > 0.8


def test_a_grain_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="grain must be above 0"):
        TownSettings(grain=(0.0, 1.0))
