"""Every kind of primitive against a slow twin that walks along each ray and asks what is inside."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.town.primitives import Kind, Material, Primitives, Rows, row
from training.town.raycast import nearest
from training.town.solids import LEAF_WAVES
from training.town.tiles import Tiles, tiles_around

GREY = (0.5, 0.5, 0.5)


def inside(p: Primitives, n: int, points: np.ndarray) -> np.ndarray:
    """Whether points [M, 3] of the map frame are inside primitive n, from the definition of its kind."""
    axes, half = p.axes[n].double().numpy(), p.half[n].double().numpy()
    x, y, z = ((points - p.center[n].double().numpy()) @ axes.T / half).T
    first, second, third = p.taper[n].tolist()
    kind = Kind(int(p.kind[n]))
    up = (z + 1) / 2  # 0 at the foot, 1 at the top
    if kind in (Kind.ELLIPSOID, Kind.CROWN):
        return x**2 + y**2 + z**2 <= 1
    if kind is Kind.CONE:
        return (np.abs(z) <= 1) & (np.hypot(x, y) <= 1 + (first - 1) * up)
    if kind is Kind.CABIN:
        return (np.abs(z) <= 1) & (x <= 1 - first * up) & (-x <= 1 - second * up) & (np.abs(y) <= 1 - third * up)
    return (np.abs(x) <= 1) & (np.abs(y) <= 1) & (np.abs(z) <= 1)


def is_hole(p: Primitives, n: int, point: np.ndarray, direction: np.ndarray) -> bool:
    axes, half = p.axes[n].double().numpy(), p.half[n].double().numpy()
    local, ahead = axes @ (point - p.center[n].double().numpy()), axes @ direction / half
    most, size, ragged = p.taper[n].tolist()
    head_on = abs(ahead @ (local / half)) / np.linalg.norm(ahead)
    return bool(np.sin(LEAF_WAVES.double().numpy() @ local / size).sum() > most - ragged * (1 - head_on) ** 2)


def walk(p: Primitives, origin: np.ndarray, direction: np.ndarray, reach: float = 14.0) -> tuple[float, int]:
    """Distance and primitive of the first surface along one ray, by small steps and bisection."""
    steps = np.linspace(0, reach, 2801)
    best = (np.inf, -2)
    for n in range(len(p)):
        states = inside(p, n, origin + steps[:, None] * direction)
        for k in np.flatnonzero(states[1:] != states[:-1]):
            low, high = steps[k], steps[k + 1]
            for _ in range(30):
                middle = (low + high) / 2
                if inside(p, n, (origin + middle * direction)[None])[0] == states[k]:
                    low = middle
                else:
                    high = middle
            if p.kind[n] == Kind.CROWN and is_hole(p, n, origin + high * direction, direction):
                continue
            if high < best[0]:
                best = (high, n)
            break
    return best


def scatter(kind: Kind, count: int, rng: np.random.Generator) -> Rows:
    rows = []
    for _ in range(count):
        rows.append(
            row(
                kind,
                rng.uniform(-2.5, 2.5, 3),
                rng.uniform(0.3, 1.8, 3),
                Material.PLAIN,
                GREY,
                yaw=rng.uniform(-3, 3),
                pitch=rng.uniform(-0.7, 0.7),
                roll=rng.uniform(-0.7, 0.7),
                taper=rng.uniform((0.0, 0.5, 0.0), (0.9, 2.0, 3.5)) if kind is Kind.CROWN else rng.uniform(0.0, 0.9, 3),
            )
        )
    return np.concatenate(rows)


@pytest.mark.parametrize("kinds", [[k] for k in Kind] + [list(Kind)])
def test_nearest_agrees_with_the_walk(kinds: list[Kind]) -> None:
    rng = np.random.default_rng(11)
    rows = np.concatenate([scatter(kind, 5, rng) for kind in kinds])
    primitives = Primitives.of(rows, np.arange(len(rows)), "cpu")
    origins = torch.tensor([[-8.0, 0.5, 0.2], [0.3, -8.0, 1.0], [6.0, 6.0, 2.0]])
    toward = torch.nn.functional.normalize(-origins, dim=1)
    spread = torch.as_tensor(rng.uniform(-0.35, 0.35, (3, 3, 30)), dtype=torch.float32)
    directions = torch.nn.functional.normalize(toward[:, :, None] + spread, dim=1)
    tiles = Tiles(torch.zeros(3, 4, 3), torch.ones(3, 4), torch.zeros(3, 3))  # culls nothing
    limit = torch.full((3, 30), float("inf"))
    distance, index = nearest(primitives, origins, directions, tiles, torch.zeros(3), limit, 14.0)
    hits = wrong = 0
    for t in range(3):
        for r in range(30):
            expected, which = walk(primitives, origins[t].double().numpy(), directions[t, :, r].double().numpy())
            got = float(distance[t, r])
            hits += np.isfinite(expected)
            same = (np.isinf(expected) and np.isinf(got)) or abs(got - expected) < 2e-3
            wrong += not (same and int(index[t, r]) == which)
    assert hits > 25
    assert wrong <= 1  # the walk may step over a corner thinner than its step


@pytest.mark.parametrize("kind", [Kind.BOX, Kind.CABIN, Kind.CONE])
def test_a_ray_along_an_axis_meets_the_face(kind: Kind) -> None:
    rows = row(kind, (5.0, 0.0, 0.0), (1.0, 1.0, 2.0), Material.PLAIN, GREY, taper=0.0 if kind is Kind.CABIN else 1.0)
    primitives = Primitives.of(rows, np.zeros(1, dtype=np.int64), "cpu")
    direction = torch.tensor([[[1.0], [0.0], [0.0]]])
    corners = torch.tensor([[[1, 0.1, 0.1], [1, -0.1, 0.1], [1, -0.1, -0.1], [1, 0.1, -0.1]]])
    tiles = tiles_around(torch.zeros(1, 3), corners)
    distance, _ = nearest(
        primitives, torch.zeros(1, 3), direction, tiles, torch.zeros(1), torch.full((1, 1), torch.inf), 50.0
    )
    assert float(distance) == pytest.approx(4.0, abs=1e-5)
