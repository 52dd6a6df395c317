"""A drive through a town: the path of the car, everything around it, and the light."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from training.town.draws import skewed
from training.town.ground import Ground
from training.town.layout import Layout, Mover, lay_out
from training.town.primitives import CENTER, YAW, Primitives, Rows, placed, rotations
from training.town.roughness import roughened
from training.town.settings import TownSettings

Array = NDArray[np.float64]
STEP = 0.02  # s, of the table of the travelled distance


@dataclass(frozen=True)
class Lighting:
    """Light, weather and sensor of a drive.

    Attributes:
        sun: unit vector toward the sun (overcast: near the zenith, for soft contact shadows).
        sun_color, sky_color, horizon_color: linear RGB.
        soft: the light comes from the whole sky; only what is overhead shades.
        haze: 1/m.
        clouds: 0 clear to 1 closed.
        wet: 0 dry to 1 mirror-like road.
        dusk: lamps and some windows are lit.
        exposure, white_balance, vignette, noise, gamma, contrast, blur: of the sensor.
    """

    sun: tuple[float, float, float]
    sun_color: tuple[float, float, float]
    sky_color: tuple[float, float, float]
    horizon_color: tuple[float, float, float]
    soft: bool
    haze: float
    clouds: float
    wet: float
    dusk: bool
    exposure: float
    white_balance: tuple[float, float, float]
    vignette: float
    noise: float
    gamma: float
    contrast: float
    blur: float


@dataclass(frozen=True, eq=False)
class World:
    """A drive; see ``build_world``."""

    seed: int
    settings: TownSettings
    device: torch.device
    ground: Ground
    lighting: Lighting
    layout: Layout
    statics: Primitives
    travelled: Array  # [M] metres along the path every STEP seconds from t = -1 s

    def vehicle_to_map(self, t: float) -> Array:
        """Pose [4, 4] of the car at t seconds: base_link on the road, tilted with it."""
        return self._pose_on_path(self._distance(t))

    def _distance(self, t: float) -> float:
        times = np.arange(len(self.travelled)) * STEP - 1.0
        return float(np.interp(t, times, self.travelled))

    def _pose_on_path(self, distance: float) -> Array:
        path = self.layout.path
        x, y = (float(np.interp(distance, path[:, 0], path[:, k])) for k in (1, 2))
        heading = float(np.interp(distance, path[:, 0], path[:, 3]))
        px, py = torch.tensor([x], dtype=torch.float64), torch.tensor([y], dtype=torch.float64)
        gx, gy = (float(g) for g in self.ground.gradient(px, py))
        up = np.array([-gx, -gy, 1.0]) / np.sqrt(gx * gx + gy * gy + 1)
        ahead = np.array([np.cos(heading), np.sin(heading), 0.0])
        ahead = ahead - up * (ahead @ up)
        ahead /= np.linalg.norm(ahead)
        pose = np.eye(4)
        pose[:3, :3] = np.stack([ahead, np.cross(up, ahead), up], axis=1)
        pose[:3, 3] = x, y, float(self.ground.height(px, py))
        return pose

    def _place(self, mover: Mover, t: float) -> tuple[float, float, float]:
        """x, y, heading of a moving thing at t seconds."""
        if mover.street is None:  # keeps its distance to the car, on the same path
            path = self.layout.path
            distance = self._distance(t) + mover.start
            x, y, heading = (float(np.interp(distance, path[:, 0], path[:, k])) for k in (1, 2, 3))
            return x, y, heading
        street = self.ground.streets[mover.street]
        u = np.array(mover.start + mover.speed * t * (not mover.across))
        v = np.array(mover.lateral + mover.speed * t * mover.across)
        x, y, heading = street.place(u, v)
        turn = (np.pi / 2 if mover.speed > 0 else -np.pi / 2) if mover.across else (np.pi if mover.backward else 0.0)
        return float(x), float(y), float(heading + turn)

    def mover_to_map(self, mover: Mover, t: float) -> Array:
        """Pose [4, 4] of a moving thing at t seconds: upright, its origin on the ground below it."""
        x, y, heading = self._place(mover, t)
        ground = self.ground.height(*(torch.tensor([v], dtype=torch.float64) for v in (x, y)))
        pose = np.eye(4)
        pose[:2, :2] = [[np.cos(heading), -np.sin(heading)], [np.sin(heading), np.cos(heading)]]
        pose[:3, 3] = x, y, float(ground) + self.ground.kerb * mover.on_sidewalk
        return pose

    def _moved(self, t: float) -> Rows:
        """Rows of all that moves, in the map frame at t seconds, on the ground."""
        rows = np.concatenate([placed(mover.rows, *self._place(mover, t)) for mover in self.layout.movers])
        x, y = (torch.as_tensor(rows[:, k]) for k in (1, 2))
        rows[:, 3] += (self.ground.height(x, y) + self.ground.kerb * torch.as_tensor(self.layout.raised)).numpy()
        return rows

    def primitives_at(self, t: float) -> Primitives:
        """Everything that stands or moves, at t seconds; the order is the same at every time."""
        if not self.layout.movers:
            return self.statics
        moved = self._moved(t)
        velocity = (self._moved(t + 0.01) - self._moved(t - 0.01))[:, CENTER] / 0.02
        s, n = self.statics, len(self.statics) - len(moved)
        axes = rotations(moved[:, YAW], moved[:, YAW + 1], moved[:, YAW + 2]).transpose(0, 2, 1)

        def joined(start: torch.Tensor, rest: Array) -> torch.Tensor:
            tail = torch.as_tensor(np.ascontiguousarray(rest, dtype=np.float32), device=self.device)
            return torch.cat([start[:n], tail])

        return replace(
            s,
            center=joined(s.center, moved[:, CENTER]),
            axes=joined(s.axes, axes),
            velocity=joined(s.velocity, velocity),
        )


def build_world(
    seed: int, settings: TownSettings, duration_s: float = 12.0, device: str | torch.device = "cpu"
) -> World:
    """A drive drawn from a seed: the same seed, settings and duration give the same drive.

    The car can be asked for at t in [-1, duration_s + 2] seconds.
    """
    rng = np.random.default_rng([seed, 20240])
    lighting = draw_lighting(np.random.default_rng([seed, 7]), settings)
    travelled = _travel(rng, settings, duration_s)
    layout = lay_out(rng, settings, travelled[[0, int(1 / STEP), -1]])
    layout = roughened(layout, settings, np.random.default_rng([seed, 41]))
    ground = Ground.of(layout.streets, layout.waves, layout.kerb, device)
    layout = _without_collisions(layout, ground, travelled, duration_s)
    statics = _solid(layout, device)
    return World(seed, settings, torch.device(device), ground, lighting, layout, statics, travelled)


def _solid(layout: Layout, device: str | torch.device) -> Primitives:
    """All primitives, those that move last (their place at rest is not used)."""
    ground = Ground.of(layout.streets, layout.waves, layout.kerb, "cpu")
    rows = layout.rows.copy()
    x, y = (torch.as_tensor(np.where(layout.stiff, layout.anchors[:, k], rows[:, 1 + k])) for k in (0, 1))
    ax, ay = (torch.as_tensor(layout.anchors[:, k]) for k in (0, 1))
    rows[:, 3] += (ground.height(x, y) + ground.kerb * (ground.road_distance(ax, ay) > 0)).numpy()
    owners = [layout.owners]
    for k, mover in enumerate(layout.movers):
        owners.append(np.full(len(mover.rows), int(layout.owners.max(initial=-1)) + 1 + k))
    everything = np.concatenate([rows, *(mover.rows for mover in layout.movers)])
    return Primitives.of(everything, np.concatenate(owners), device)


def _travel(rng: np.random.Generator, settings: TownSettings, duration: float) -> Array:
    """Metres travelled every STEP seconds from t = -1 s to duration + 2 s; 0 at t = 0."""
    times = np.arange(-1.0, duration + 2.0 + STEP, STEP)
    low, high = settings.speed
    mean = rng.uniform(low, high)
    swing = rng.uniform(0, 0.5) * mean
    speed = mean + swing * np.sin(2 * np.pi * times / rng.uniform(6, 14) + rng.uniform(0, 6.28))
    speed = np.clip(speed, 0, max(high, 0.0))
    travelled = np.concatenate([[0.0], np.cumsum((speed[1:] + speed[:-1]) / 2 * STEP)])
    return travelled - np.interp(0.0, times, travelled)


def _without_collisions(layout: Layout, ground: Ground, travelled: Array, duration: float) -> Layout:
    """Leave out what would run into the car, or into another vehicle that was drawn before it."""
    probe = World(0, TownSettings(), torch.device("cpu"), ground, _NEUTRAL, layout, None, travelled)  # type: ignore[arg-type]
    times = np.arange(-0.5, duration + 1.0, 0.25)
    own = np.stack([probe._pose_on_path(probe._distance(t))[:2, 3] for t in times])
    kept: list[Mover] = []
    tracks = [(own, 2.6)]
    for mover in layout.movers:
        track = np.array([probe._place(mover, t)[:2] for t in times])
        radius = float(np.abs(mover.rows[:, 1]).max()) + 0.4
        if all(np.linalg.norm(track - other, axis=1).min() > radius * 0.75 + size for other, size in tracks):
            kept.append(mover)
            if radius > 1.5:
                tracks.append((track, radius * 0.75))
    raised = [np.full(len(m.rows), m.on_sidewalk, dtype=np.float64) for m in kept]
    return replace(layout, movers=tuple(kept), raised=np.concatenate(raised) if raised else np.zeros(0))


def draw_lighting(rng: np.random.Generator, settings: TownSettings) -> Lighting:
    """Light, weather and sensor of a drive."""
    overcast = rng.uniform() < settings.overcast_probability
    dusk = rng.uniform() < settings.dusk_probability
    elevation, azimuth = rng.uniform(*settings.sun_elevation), rng.uniform(0, 2 * np.pi)
    if overcast or dusk:
        elevation = 1.45
    sun = (np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation))
    warm = float(np.clip(1.2 - elevation, 0, 1))
    strength = rng.uniform(0.25, 0.5) if overcast else rng.uniform(1.5, 3.0)
    sun_color = strength * np.array([1.0, 1.0 - 0.14 * warm, 1.0 - 0.35 * warm])
    clouds = 1.0 if overcast else rng.uniform(0.0, 0.7)
    blue = np.array([0.25, 0.45, 0.85]) * rng.uniform(0.6, 1.1)
    grey = np.full(3, rng.uniform(0.6, 1.0)) * np.array([0.97, 1.0, 1.04])
    sky = grey if overcast else blue
    horizon = sky * 0.35 + np.array([0.85, 0.88, 0.92]) * rng.uniform(0.4, 0.65)
    exposure = rng.uniform(0.75, 1.25)
    if dusk:
        dim = rng.uniform(0.06, 0.3)
        sky, horizon, sun_color = sky * dim * [0.7, 0.8, 1.1], horizon * dim * [1.3, 0.95, 0.8], sun_color * 0.02
        exposure *= 0.8
    balance = 1 + rng.uniform(-0.08, 0.08, 3)
    return Lighting(
        sun=tuple(float(v) for v in sun),  # type: ignore[arg-type]
        sun_color=tuple(float(v) for v in sun_color),  # type: ignore[arg-type]
        sky_color=tuple(float(v) for v in sky),  # type: ignore[arg-type]
        horizon_color=tuple(float(v) for v in horizon),  # type: ignore[arg-type]
        soft=bool(overcast or dusk),
        haze=skewed(rng, *settings.haze, settings.haze_skew),
        clouds=float(clouds),
        wet=float(rng.uniform(0.4, 0.9)) if rng.uniform() < settings.wet_probability else 0.0,
        dusk=bool(dusk),
        exposure=float(exposure),
        white_balance=(float(balance[0]), float(balance[1]), float(balance[2])),
        vignette=float(rng.uniform(0, 0.35)),
        noise=float(rng.uniform(*settings.sensor_noise)) * (2.0 if dusk else 1.0),
        gamma=float(rng.uniform(1.9, 2.5)),
        contrast=float(rng.uniform(0.0, 0.4)),
        blur=float(rng.uniform(0, 0.5)),
    )


_NEUTRAL = Lighting((0, 0, 1), (1, 1, 1), (1, 1, 1), (1, 1, 1), False, 0, 0, 0, False, 1, (1, 1, 1), 0, 0, 2.2, 0, 0)
