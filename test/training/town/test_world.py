from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fsmde_ros.errors import ConfigError
from fsmde_ros.geometry import transform
from training.town.settings import TownSettings
from training.town.world import World, build_world, draw_lighting


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_the_car_drives_smoothly_on_the_road(seed: int) -> None:
    world = build_world(seed, TownSettings(turn_probability=1.0), duration_s=6.0)
    times = np.arange(0.0, 6.0, 0.05)
    poses = np.stack([world.vehicle_to_map(t) for t in times])
    places = torch.as_tensor(poses[:, :3, 3])
    torch.testing.assert_close(world.ground.height(places[:, 0], places[:, 1]), places[:, 2])
    assert (world.ground.road_distance(places[:, 0], places[:, 1]) < -0.5).all()
    np.testing.assert_allclose(
        poses[:, :3, :3] @ poses[:, :3, :3].transpose(0, 2, 1), np.eye(3)[None].repeat(len(times), 0), atol=1e-9
    )
    assert (poses[:, 2, 2] > 0.95).all()
    speed = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1) / 0.05
    assert speed.max() < 15.5
    assert np.abs(np.diff(speed)).max() < 1.0  # 20 m/s2 would be a jump
    moved = np.diff(poses[:, :3, 3], axis=0)[speed > 0.5]
    if len(moved):  # it moves the way it looks
        ahead = poses[:-1, :3, 0][speed > 0.5]
        cosine = (moved * ahead).sum(1) / np.linalg.norm(moved, axis=1)
        assert cosine.min() > 0.99


def test_uneven_ground_leaves_the_plane_of_the_car_and_nothing_else_changes() -> None:
    even, uneven = (
        build_world(6, replace(TownSettings(), unevenness=(rise, rise)), duration_s=2.0) for rise in (0.0, 0.07)
    )
    assert even.layout.streets == uneven.layout.streets
    np.testing.assert_array_equal(even.layout.rows, uneven.layout.rows)
    np.testing.assert_array_equal(even.layout.path, uneven.layout.path)

    def off_plane(world: World) -> float:
        """Largest height of the ground above or below the x-y plane of the car, 8 m around it, over the drive."""
        angles = np.linspace(0, 2 * np.pi, 73)
        found = []
        for t in (0.0, 0.7, 1.4, 2.0):
            pose = world.vehicle_to_map(t)
            ring = transform(pose, 8 * np.stack([np.cos(angles), np.sin(angles), np.zeros(73)], axis=1))
            height = world.ground.height(torch.as_tensor(ring[:, 0]), torch.as_tensor(ring[:, 1])).numpy()
            found.append(np.abs(ring[:, 2] - height).max())
        return float(max(found))

    assert off_plane(even) < 0.08
    assert 0.15 < off_plane(uneven) < 0.8


def test_some_drive_turns_and_some_stays_straight() -> None:
    def turned(probability: float) -> float:
        settings = TownSettings(turn_probability=probability, speed=(12.0, 14.0), cross_spacing=(55.0, 60.0))
        headings = []
        for seed in range(4):
            world = build_world(seed, settings, duration_s=10.0)
            first, last = world.vehicle_to_map(0.0)[:2, 0], world.vehicle_to_map(10.0)[:2, 0]
            headings.append(np.degrees(np.arccos(np.clip(first @ last, -1, 1))))
        return float(max(headings))

    assert turned(1.0) > 50
    assert turned(0.0) < 40


def test_nothing_that_moves_meets_the_car() -> None:
    world = build_world(9, TownSettings(moving=(16, 16), people=(40, 40)), duration_s=5.0)
    for t in np.arange(0, 5, 0.5):
        primitives, pose = world.primitives_at(float(t)), world.vehicle_to_map(float(t))
        local = (primitives.center.double().numpy() - pose[:3, 3]) @ pose[:3, :3]
        inside = (np.abs(local[:, 0]) < 1.5) & (np.abs(local[:, 1]) < 0.8) & (local[:, 2] < 1.5) & (local[:, 2] > 0.1)
        assert not inside.any()


def test_the_order_of_primitives_stays_and_movers_move() -> None:
    world = build_world(3, TownSettings(moving=(16, 16)), duration_s=5.0)
    first, last = world.primitives_at(0.0), world.primitives_at(1.0)
    for name in ("kind", "half", "material", "owner"):
        torch.testing.assert_close(getattr(first, name), getattr(last, name))
    shift = (last.center - first.center).norm(dim=1)
    assert (shift > 1).any()
    assert (shift == 0).float().mean() > 0.5
    assert (shift[first.velocity.norm(dim=1) == 0] < 1e-3).all()


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"lane_width must be a range.*got \(4\.0, 3\.0\)"):
        TownSettings(lane_width=(4.0, 3.0))
    with pytest.raises(ConfigError, match=r"overcast_probability must be between 0 and 1, got 1\.5"):
        TownSettings(overcast_probability=1.5)
    with pytest.raises(ConfigError, match="max_range"):
        TownSettings(max_range=0.0)
    with pytest.raises(ConfigError, match=r"rays_per_pixel at least 1, got 3\.0, 210\.0, 0"):
        TownSettings(rays_per_pixel=0)


def test_clear_days_are_common_and_fog_is_not() -> None:
    """Visibility by Koschmieder, 3.912 / haze: above 20 km in a third of the drives, below 1 km in one of eight."""
    settings = TownSettings()
    haze = np.array([draw_lighting(np.random.default_rng(seed), settings).haze for seed in range(2000)])
    visible_km = 3.912 / haze / 1000
    assert np.mean(visible_km > 20) == pytest.approx((3.912 / 20_000 / 0.006) ** (1 / 3), abs=0.03)  # 0.32
    assert np.mean(visible_km < 1) == pytest.approx(1 - (0.003912 / 0.006) ** (1 / 3), abs=0.03)  # 0.13
    held_out = replace(TownSettings.held_out(), haze=(0.0002, 0.0002))
    assert draw_lighting(np.random.default_rng(0), held_out).haze == 0.0002
