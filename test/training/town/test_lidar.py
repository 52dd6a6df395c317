"""The LiDAR against worlds simple enough to be solved by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from fsmde_ros.geometry import transform
from training.town.ground import Ground, Street
from training.town.lidar import DDAD_LIDAR, HDL32E, SpinningLidar, Turn, scan_turn
from training.town.primitives import Kind, Material, Primitives, row
from training.town.settings import TownSettings

HEIGHT = 1.84  # of the sensor above the road
QUIET = replace(HDL32E, range_noise=0.0, random_loss=0.0, threshold=1e-12, columns=360)
STREET = Street((0.0, 0.0), 0.0, 0.0, 200.0, 0.0, 3.5, 2, 0.0, 3.0, 5.0, False, False, 0, False)


@dataclass
class BareTown:
    """A flat road without kerbs, boxes that stand or move, and a car with a given motion."""

    boxes: np.ndarray | None = None
    velocity: tuple[float, float, float] = (0.0, 0.0, 0.0)
    pose: Callable[[float], tuple[float, float, float]] = lambda t: (0.0, 0.0, 0.0)  # x, y, yaw
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    settings: TownSettings = field(default_factory=TownSettings)
    ground: Ground = field(default_factory=lambda: Ground.of((STREET,), np.zeros((0, 4)), 0.0, "cpu"))

    def vehicle_to_map(self, t: float) -> np.ndarray:
        x, y, yaw = self.pose(t)
        matrix = np.eye(4)
        matrix[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
        matrix[:2, 3] = x, y
        return matrix

    def primitives_at(self, t: float) -> Primitives:
        far_away = row(Kind.BOX, (0, 0, -500), (1, 1, 1), Material.PLAIN, (0.5, 0.5, 0.5))
        rows = far_away if self.boxes is None else np.concatenate([far_away, self.boxes])
        solids = Primitives.of(rows, np.arange(len(rows)), "cpu")
        velocity = torch.zeros_like(solids.center)
        velocity[1:] = torch.tensor(self.velocity)
        return replace(solids, velocity=velocity, center=solids.center + velocity * t)


def box(center, half, material=Material.CONCRETE, color=(0.6, 0.6, 0.6)) -> np.ndarray:
    return row(Kind.BOX, center, half, material, color)


def scan(town: BareTown, lidar: SpinningLidar = QUIET, end_s: float = 1.0, seed: int = 0) -> Turn:
    return scan_turn(town, lidar, end_s, 0.05, np.random.default_rng(seed))


def driving(speed: float, turn_rate: float = 0.0) -> Callable[[float], tuple[float, float, float]]:
    """Constant speed (m/s) and turn rate (rad/s) from the origin."""
    if turn_rate == 0:
        return lambda t: (speed * t, 0.0, 0.0)
    radius = speed / turn_rate
    return lambda t: (radius * np.sin(turn_rate * t), radius * (1 - np.cos(turn_rate * t)), turn_rate * t)


def test_beams_meet_a_flat_road_where_trigonometry_says():
    turn = scan(BareTown())
    elevations = np.linspace(-30.67, 10.67, 32)
    seen = np.unique(turn.ring)
    for ring in seen:
        points = turn.points_vehicle[turn.ring == ring]
        expected = HEIGHT / np.tan(np.radians(-elevations[ring]))
        np.testing.assert_allclose(np.hypot(points[:, 0] - 0.94, points[:, 1]), expected, rtol=1e-4)
        np.testing.assert_allclose(points[:, 2], 0.0, atol=2e-4 * expected)
        assert len(points) == 360
    # beams reach the road within 100 m when they fall by more than asin(1.84 / 100) = 1.05 degrees
    assert list(seen) == list(np.nonzero(elevations < -1.0543)[0])


def test_it_turns_clockwise_from_its_start_within_the_turn():
    turn = scan(BareTown())
    order = np.argsort(turn.time, kind="stable")
    azimuth = np.degrees(np.arctan2(turn.points_vehicle[:, 1], turn.points_vehicle[:, 0] - 0.94))[order]
    turned = (106.4 - azimuth) % 360
    assert (np.diff(turned) > -5.5).all()  # within a packet of 5 columns there is no order of time
    np.testing.assert_allclose(turned, (turn.time[order] - 0.95) / 0.05 * 360, atol=3)
    assert 0.95 < turn.time.min() < turn.time.max() < 1.0


@pytest.mark.parametrize(("speed", "turn_rate"), [(13.0, 0.0), (8.0, 0.6)])
def test_a_wall_stays_in_its_place_while_the_car_moves(speed, turn_rate):
    """Static points of two turns, compensated by the poses, agree with each other and with the truth."""
    town = BareTown(box((0.0, 21.0, 5.0), (80.0, 1.0, 5.0)), pose=driving(speed, turn_rate))
    for end_s in (0.5, 0.9):
        turn = scan(town, end_s=end_s)
        points_map = transform(town.vehicle_to_map(end_s), turn.points_vehicle)
        wall = points_map[(points_map[:, 2] > 0.5) & (np.abs(points_map[:, 0]) < 60)]
        assert len(wall) > 500
        np.testing.assert_allclose(wall[:, 1], 20.0, atol=2e-3)


def test_without_compensation_the_same_points_would_be_off():
    """The check above can fail: points at the poses of their own times lie elsewhere in the vehicle frame."""
    town = BareTown(box((40.0, 0.0, 5.0), (1.0, 30.0, 5.0)), pose=driving(14.0))
    turn = scan(town, end_s=1.0)
    facing = turn.points_vehicle[:, 2] > 0.5
    at_own_time = 39.0 - 14.0 * turn.time[facing]  # distance of the wall from the moving origin
    np.testing.assert_allclose(turn.points_vehicle[facing][:, 0], 39.0 - 14.0, atol=2e-3)
    assert np.abs(turn.points_vehicle[facing][:, 0] - at_own_time).max() > 0.3


def test_a_moving_car_is_seen_where_it_was_at_the_time_of_the_beam():
    """An oncoming van, 10 m/s, is smeared as in a real scan: its front lies at x(t), not at x(end)."""
    front = 30.0
    town = BareTown(box((front + 2.0, 0.0, 1.5), (2.0, 1.0, 1.5)), velocity=(-10.0, 0.0, 0.0))
    turn = scan(town, end_s=1.0)
    points = turn.points_vehicle
    on_front = (points[:, 2] > 0.2) & (np.abs(points[:, 1]) < 0.98) & (points[:, 2] < 2.9)
    assert on_front.sum() > 10
    np.testing.assert_allclose(points[on_front][:, 0], front - 10.0 * turn.time[on_front], atol=2e-3)
    assert np.abs(points[on_front][:, 0] - (front - 10.0)).min() > 0.2  # it was passed 34 ms before the end


def test_noise_is_along_the_ray_and_of_the_given_size():
    turn = scan(BareTown(), replace(QUIET, range_noise=0.02, columns=1085))
    beam = turn.points_vehicle[turn.ring == 5] - (0.94, 0, HEIGHT)
    distance = np.linalg.norm(beam, axis=1)
    assert np.std(distance) == pytest.approx(0.02, rel=0.1)
    elevation = np.degrees(np.arcsin(beam[:, 2] / distance))
    np.testing.assert_allclose(elevation, -30.67 + 5 * 41.34 / 31, atol=1e-3)


def share_returned(color, distance: float, material=Material.CONCRETE) -> float:
    """Returns of a wall across the road as a share of those of a perfect sensor and surface."""
    half, noisy = (1.0, 40.0, 5.0), replace(HDL32E, columns=360, range_noise=0.0)
    perfect = box((distance + 1.0, 0.0, 5.0), half)
    counts = []
    for wall, lidar in ((box((distance + 1.0, 0.0, 5.0), half, material, color), noisy), (perfect, QUIET)):
        points = scan(BareTown(wall), lidar).points_vehicle
        counts.append(int(((points[:, 0] > distance - 0.5) & (points[:, 2] > 0.5)).sum()))
    return counts[0] / counts[1]


def test_dark_far_and_glass_surfaces_return_less():
    white, black = (0.9, 0.9, 0.9), (0.02, 0.02, 0.02)
    assert share_returned(white, 15.0) == pytest.approx(1 - HDL32E.random_loss, abs=0.02)
    assert share_returned(black, 70.0) < share_returned(white, 70.0) - 0.05
    assert share_returned(black, 90.0) < share_returned(black, 40.0) - 0.05
    assert share_returned(white, 15.0, Material.GLASS) == pytest.approx(0.35, abs=0.05)


def test_sky_and_what_is_out_of_range_return_nothing():
    beyond = box((131.0, 0.0, 20.0), (1.0, 60.0, 20.0))
    assert scan(BareTown(beyond)).points_vehicle[:, 2].max() < 0.1
    far = replace(QUIET, max_range=200.0)
    assert scan(BareTown(beyond), far).points_vehicle[:, 2].max() > 5
    assert DDAD_LIDAR.max_range == 200.0


def test_intensity_follows_the_surface():
    bright = box((0.0, 16.0, 5.0), (40.0, 1.0, 5.0), color=(0.95, 0.95, 0.95))
    dark = box((0.0, -16.0, 5.0), (40.0, 1.0, 5.0), color=(0.05, 0.05, 0.05))
    turn = scan(BareTown(np.concatenate([bright, dark])))
    high = turn.points_vehicle[:, 2] > 0.5
    left = turn.points_vehicle[:, 1] > 0
    assert turn.intensity.dtype == np.float32
    assert 0 <= turn.intensity.min() <= turn.intensity.max() <= 255
    assert np.median(turn.intensity[high & left]) > 2 * np.median(turn.intensity[high & ~left])


def test_the_generator_decides_the_noise():
    first, again, other = (scan(BareTown(), HDL32E, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.points_vehicle, again.points_vehicle)
    assert first.points_vehicle.shape != other.points_vehicle.shape or not np.array_equal(
        first.points_vehicle, other.points_vehicle
    )


def test_tiles_of_uneven_beams_see_the_same():
    """30 beams make tiles of 8 beams uneven: the plain way, one tile a packet, is taken."""
    uneven = replace(QUIET, beams=30, columns=120)
    even = replace(QUIET, beams=32, columns=120, lowest=-30.0, highest=10.0)
    town = BareTown(box((12.0, 5.0, 1.0), (2.0, 1.0, 1.0)))
    for lidar in (uneven, even):
        turn = scan(town, lidar)
        elevations = np.radians(np.linspace(lidar.lowest, lidar.highest, lidar.beams))
        rays = turn.points_vehicle - (0.94, 0, HEIGHT)
        np.testing.assert_allclose(
            np.arcsin(rays[:, 2] / np.linalg.norm(rays, axis=1)), elevations[turn.ring], atol=1e-6
        )
        assert (np.abs(turn.points_vehicle[:, 2]) > 0.3).sum() > 5
