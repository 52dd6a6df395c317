"""Where the streets run, how the ground rolls, and the course of the car."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.town.ground import Street
from training.town.settings import Range, TownSettings

Array = NDArray[np.float64]
Generator = np.random.Generator

SHORT_WAVES: Range = (20.0, 60.0)  # m


def draw_waves(rng: Generator, settings: TownSettings) -> Array:
    """Waves of the ground, [W, 4], as ``Ground`` takes them; none where the settings are flat."""
    short = rng.spawn(1)[0]  # its own draws: a town with unevenness is otherwise the town without
    rows = []
    if settings.slope[1] > 0:
        for share in (0.6, 0.4):
            angle, length = rng.uniform(0, np.pi), rng.uniform(120, 300)
            rows.append(_wave(rng, angle, length, share * rng.uniform(*settings.slope)))
    if settings.unevenness[1] > 0:
        rise = short.uniform(*settings.unevenness)
        for share in (0.5, 0.3, 0.2):
            angle, length = short.uniform(0, np.pi), short.uniform(*SHORT_WAVES)
            rows.append(_wave(short, angle, length, share * rise * length / (2 * np.pi)))
    return np.array(rows).reshape(-1, 4)


def _wave(rng: Generator, angle: float, length: float, amplitude: float) -> list[float]:
    k = 2 * np.pi / length
    return [amplitude, k * np.cos(angle), k * np.sin(angle), rng.uniform(0, 2 * np.pi)]


def draw_streets(rng: Generator, settings: TownSettings, length: float) -> tuple[tuple[Street, ...], int | None]:
    """The main street along the drive, those that cross it, and the one the car turns into."""

    edge_of_town = rng.uniform() < settings.open_probability

    def street(origin: tuple[float, float], heading: float, bend: Range, lanes: int) -> Street:
        is_open = bool(edge_of_town and rng.uniform() < 0.85)
        bare = is_open and rng.uniform() < 0.5  # a shoulder instead of a sidewalk
        return Street(
            origin=origin,
            heading=heading,
            amplitude=float(rng.uniform(*bend)),
            wavelength=float(rng.uniform(220, 420)),
            phase=float(rng.uniform(0, 2 * np.pi)),
            lane_width=float(rng.uniform(*settings.lane_width)),
            lanes=lanes,
            parking=float(rng.choice([0.0, 2.1, 2.4])),
            sidewalk=float(rng.uniform(0.3, 1.2)) if bare else float(rng.uniform(*settings.sidewalk)),
            setback=float(rng.uniform(*(settings.open_setback if is_open else settings.setback))),
            crosswalk=bool(rng.uniform() < 0.75),
            yellow=bool(rng.uniform() < 0.5),
            verge=int(rng.choice([0, 3, 4, 5, 1])) if is_open else int(rng.integers(0, 4)),
            is_open=is_open,
        )

    low, high = settings.lanes
    heading = float(rng.uniform(-np.pi, np.pi))
    main = street((0.0, 0.0), heading, settings.bend, int(rng.integers(low, high + 1)))
    streets, turn = [main], None
    u = rng.uniform(-60, 60)
    while u < length + 170 and len(streets) < 5:
        x, y, local = main.place(np.array(u), np.array(0.0))
        across = float(local + np.pi / 2 + rng.uniform(-0.25, 0.25))
        cross = street((float(x), float(y)), across, (0.0, 0.0), int(rng.integers(low, min(high, 2) + 1)))
        streets.append(cross)
        reachable = 30 < u < max(length - 5, 0)
        if turn is None and reachable and rng.uniform() < settings.turn_probability:
            turn = len(streets) - 1
        u += rng.uniform(*settings.cross_spacing)
    return tuple(streets), turn


def draw_path(rng: Generator, streets: tuple[Street, ...], turn: int | None, side: float, travel: Array) -> Array:
    """Course of the car, [M, 4] distance, x, y, heading."""
    main = streets[0]
    lateral = side * main.lane_width * (int(rng.integers(0, main.lanes)) + 0.5)
    u = np.arange(travel[0] - 60, travel[2] + 90, 0.25)
    points = main.place(u, np.full_like(u, lateral))[:, :2]
    if turn is not None:
        cross = streets[turn]
        backward = rng.uniform() < 0.5
        sign = -1.0 if backward else 1.0
        w = np.arange(-60, travel[2] + 90, 0.25)
        cross_v = side * sign * cross.lane_width * 0.5
        other = cross.place(sign * w, np.full_like(w, cross_v))[:, :2]
        gaps = np.linalg.norm(points[:, None] - other[None], axis=2) if len(points) < 4000 else np.zeros((1, 1))
        i, j = np.unravel_index(int(np.argmin(gaps)), gaps.shape)
        radius = int(rng.uniform(9, 15) / 0.25)
        start, end, corner = points[i - radius], other[j + radius], (points[i] + other[j]) / 2
        f = np.linspace(0, 1, 60)[1:-1, None]
        arc = (1 - f) ** 2 * start + 2 * f * (1 - f) * corner + f**2 * end
        points = np.concatenate([points[: i - radius + 1], arc, other[j + radius :]])
    kernel = np.hanning(17) / np.hanning(17).sum()
    points = np.stack([np.convolve(points[:, k], kernel, mode="valid") for k in (0, 1)], axis=1)
    distance = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    tangent = np.gradient(points, distance, axis=0)
    heading = np.unwrap(np.arctan2(tangent[:, 1], tangent[:, 0]))
    return np.column_stack([distance + travel[0] - 58.0, points, heading])
