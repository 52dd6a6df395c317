from __future__ import annotations

import numpy as np
import pytest
import torch

from training.town.ground import Ground, Street

WAVES = np.array([[0.8, 0.03, 0.01, 0.4], [0.4, -0.012, 0.035, 2.0]])
SHORT = np.concatenate([WAVES, [[0.12, 0.25, -0.1, 1.0], [0.2, 0.05, 0.12, 3.0]]])  # 23 and 48 m long


def street(origin: tuple[float, float], heading: float, bend: float = 0.0) -> Street:
    return Street(origin, heading, bend, 260.0, 0.7, 3.4, 2, 0.0, 2.5, 1.0, True, True, 0, False)


def surface(ground: Ground, points: np.ndarray) -> np.ndarray:
    return ground.surface(torch.as_tensor(points[:, 0]), torch.as_tensor(points[:, 1])).numpy()


@pytest.mark.parametrize(("kerb", "waves"), [(0.0, WAVES), (0.15, WAVES), (0.0, SHORT), (0.15, SHORT)])
def test_rays_meet_the_ground_where_a_walk_does(kerb: float, waves: np.ndarray) -> None:
    ground = Ground.of((street((0, 0), 0.3), street((30, 9), 1.9)), waves, kerb, "cpu")
    rng = np.random.default_rng(2)
    origin = np.array([1.0, 2.0, 2.6])
    azimuth, fall = rng.uniform(0, 2 * np.pi, 150), rng.uniform(0.03, 0.9, 150)
    rays = np.stack([np.cos(azimuth), np.sin(azimuth), -fall], axis=1)
    start = torch.as_tensor(origin, dtype=torch.float32).expand(150, 3)
    got, face = ground.intersect(start, torch.as_tensor(rays.T, dtype=torch.float32), 150.0)
    steps = np.arange(0, 150, 0.002)
    for ray, distance in zip(rays, got.numpy(), strict=True):
        points = origin + steps[:, None] * ray
        below = points[:, 2] <= surface(ground, points)
        expected = steps[below.argmax()] if below.any() else np.inf
        if np.isinf(expected):
            assert np.isinf(distance)
        else:
            assert distance == pytest.approx(expected, abs=0.004 + 2e-3 * expected)
    assert bool(face.any()) == (kerb > 0)


def test_rays_that_rise_or_end_too_soon_meet_nothing() -> None:
    ground = Ground.of((street((0, 0), 0.0),), np.zeros((0, 4)), 0.0, "cpu")
    origins = torch.tensor([[0.0, 0.0, 2.0]]).expand(3, 3)
    directions = torch.tensor([[1.0, 0, 0.1], [1.0, 0, 0.0], [1.0, 0, -0.01]]).T
    distance, _ = ground.intersect(origins, directions, 150.0)
    assert torch.isinf(distance).all()  # the last one would need 200 m


def test_street_coordinates_undo_place() -> None:
    s = street((4.0, -7.0), 2.2, bend=9.0)
    u, v = np.array([-50.0, 0.0, 80.0]), np.array([-5.0, 0.0, 3.0])
    x, y, _ = torch.as_tensor(s.place(u, v)).unbind(-1)
    ground = Ground.of((s,), np.zeros((0, 4)), 0.0, "cpu")
    _, across = ground.street_coordinates(x, y)
    np.testing.assert_allclose(across[0].numpy(), v, atol=0.15)  # v is first order in the bend


def test_gradient_is_the_slope_of_the_height() -> None:
    ground = Ground.of((street((0, 0), 0.0),), WAVES, 0.1, "cpu")
    x, y = torch.tensor([3.0, 50.0], dtype=torch.float64), torch.tensor([-8.0, 20.0], dtype=torch.float64)
    gx, gy = ground.gradient(x, y)
    e = 1e-4
    torch.testing.assert_close(gx, (ground.height(x + e, y) - ground.height(x - e, y)) / (2 * e), atol=1e-7, rtol=1e-4)
    torch.testing.assert_close(gy, (ground.height(x, y + e) - ground.height(x, y - e)) / (2 * e), atol=1e-7, rtol=1e-4)
