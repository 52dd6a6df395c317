"""Road, markings, sidewalks and what lies behind them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from training.town import grain
from training.town.surface import Surface
from training.town.textures import Channel, hashed, look_up
from training.town.world import World

LINE = 0.13  # m, width of a marking


def pavement(world: World, textures: Tensor, scene: Surface) -> tuple[Tensor, Tensor]:
    """Reflectance [3, R] and gloss [R] of points of the ground."""
    x, y = scene.point[0], scene.point[1]
    rng = np.random.default_rng([world.seed, 31])
    us, vs = world.ground.street_coordinates(x, y)
    half_widths = world.ground.table[:, 7:8]
    nearness = vs.abs() - half_widths
    street = nearness.argmin(0)
    pick = street[None]
    u, v = us.gather(0, pick)[0], vs.gather(0, pick)[0]
    # distance to the nearest other road, for crossings and to leave junctions unmarked
    other = nearness.scatter(0, pick, float("inf")).amin(0)
    edge = world.ground.distance_of(vs)
    coarse, coarse_behind = grain.of_ground(world)
    fine = look_up(textures, Channel.GRAINY, x / (2.1 * coarse), y / (2.1 * coarse))
    broad = look_up(textures, Channel.CLOUDY, x / (23.0 * coarse), y / (23.0 * coarse))
    fade = (0.02 * coarse / scene.footprint).clamp(0.1, 1)
    road = _asphalt(world, textures, rng, u, v, scene.footprint, coarse)
    paint, ink = _markings(world, street, u, v, other, scene.footprint)
    worn = look_up(textures, Channel.CLOUDY, x / (5.0 * coarse), y / (5.0 * coarse))
    coverage = (
        ink * (1.25 - float(rng.uniform(0.3, 1.1)) * worn).clamp(0, 1) * (edge < -0.1) * float(rng.uniform(0.55, 1.0))
    )
    tone = 1 + 0.35 * (broad - 0.5) + 0.45 * fade * (fine - 0.5)
    grey = torch.lerp((road * tone).expand(3, -1), paint, coverage)
    walk = _sidewalk(world, rng, street, u, v, edge, scene.footprint)
    behind = _behind(world, textures, street, x / coarse_behind, y / coarse_behind)
    widths = torch.tensor([s.sidewalk for s in world.ground.streets], device=x.device)[street]
    side = torch.where(edge < widths, walk * tone, behind * (1 + 0.6 * fade * (fine - 0.5)))
    on_road = (edge <= 0) & (scene.normal[2] > 0.5)
    albedo = torch.where(on_road, grey, side)
    puddles = look_up(textures, Channel.CLOUDY, x / (13.0 * coarse), y / (13.0 * coarse) + 0.4)
    puddles = (puddles * 1.6 - 0.5).clamp(0.15, 1)
    gloss = world.lighting.wet * puddles * (edge <= widths)
    return albedo * (1 - 0.5 * gloss), gloss


def _asphalt(
    world: World, textures: Tensor, rng: np.random.Generator, u: Tensor, v: Tensor, footprint: Tensor, coarse: float
) -> Tensor:
    """Reflectance [R]: wheel tracks, manholes and, ``coarse`` times as large as usual, patches and cracks."""
    base = float(rng.uniform(0.07, 0.24))
    a, b = (u / (11.0 * coarse)).floor(), (v / (2.3 * coarse)).floor()
    patch = hashed(a, b, float(rng.uniform(0, 9)))
    value = base * (1 + 0.5 * (patch - 0.8).clamp_min(0) * 5 * float(rng.choice([-0.7, 1.0])))
    lane = v / world.ground.streets[0].lane_width
    track = torch.cos((lane - lane.floor()) * (4 * np.pi))
    value = value * (1 + float(rng.uniform(0.0, 0.12)) * track)
    crack = look_up(textures, Channel.CRACKS, u / (19.0 * coarse), v / (19.0 * coarse))
    value = value * (1 - float(rng.uniform(0.1, 0.6)) * crack * (0.05 / footprint).clamp(0, 1))
    cx, cy = (u / 17.0).floor(), (v / 5.0).floor()
    du = u - (cx + 0.2 + 0.6 * hashed(cx, cy)) * 17.0
    dv = v - (cy + 0.2 + 0.6 * hashed(cy, cx)) * 5.0
    manhole = (du * du + dv * dv < 0.11) & (hashed(cx, cy, 3.0) < 0.35)
    return torch.where(manhole, value * 0.5, value)


def _soft(distance: Tensor, half: float, footprint: Tensor) -> Tensor:
    """Coverage [R] of a line of half width ``half`` at a distance from its middle, both metres."""
    return ((half - distance.abs()) / footprint + 0.5).clamp(0, 1) * (2 * half / footprint).clamp(0, 1)


def _markings(
    world: World, street: Tensor, u: Tensor, v: Tensor, other: Tensor, footprint: Tensor
) -> tuple[Tensor, Tensor]:
    """Colour [3, R] and coverage [R] of paint."""
    streets = world.ground.streets

    def each(values: list[float]) -> Tensor:
        return torch.tensor(values, device=u.device)[street]

    lane, lanes = each([s.lane_width for s in streets]), each([float(s.lanes) for s in streets])
    yellow, cross = each([float(s.yellow) for s in streets]), each([float(s.crosswalk) for s in streets])
    across = footprint * 1.5
    away = (other > 6.0).float()
    middle = torch.where(yellow > 0, v.abs() - 0.12, v)
    center = _soft(middle, LINE / 2, across) * away
    nearest = (v.abs() / lane).round().clamp_min(1)
    dash = (u / 9.0 - (u / 9.0).floor()) < 0.42
    inner = _soft(v.abs() - nearest * lane, LINE / 2, across) * (dash | (nearest >= lanes)) * away * (nearest <= lanes)
    bars = ((v / 1.1 - (v / 1.1).floor()) < 0.5).float()
    bars = torch.where(footprint > 0.3, 0.5, bars)
    crosswalk = _soft(other - 2.6, 1.5, footprint * 2) * cross * bars
    stop = _soft(other - 5.2, 0.2, footprint * 2)
    arrow = _arrow(u, v, lane, lanes) * away * (footprint < 0.4)
    white = torch.stack([inner, crosswalk, stop, arrow]).amax(0)
    coverage = torch.maximum(center, white)
    gold = torch.tensor([0.62, 0.42, 0.06], device=u.device)[:, None]
    pale = torch.tensor([0.68, 0.68, 0.65], device=u.device)[:, None]
    return torch.where((yellow > 0) & (center >= white), gold, pale), coverage


def _arrow(u: Tensor, v: Tensor, lane: Tensor, lanes: Tensor) -> Tensor:
    """Arrows in the middle of the lanes, every 41 m."""
    a = u - (u / 41.0).floor() * 41.0 - 20.0
    b = v.abs() - ((v.abs() / lane).floor() + 0.5) * lane
    a = torch.where(v > 0, -a, a)
    shaft = (a > -2.0) & (a < 0.6) & (b.abs() < 0.09)
    head = (a >= 0.6) & (a < 2.0) & (b.abs() < 0.45 * (2.0 - a) / 1.4)
    return ((shaft | head) & (v.abs() < lanes * lane)).float()


def _sidewalk(
    world: World, rng: np.random.Generator, street: Tensor, u: Tensor, v: Tensor, edge: Tensor, footprint: Tensor
) -> Tensor:
    """Reflectance [3, R]: slabs with joints, and the pale stone of the kerb."""
    size = float(rng.uniform(0.5, 1.8))
    tint = torch.tensor(rng.uniform(0.85, 1.1, 3), dtype=torch.float32, device=u.device)[:, None]
    a, b = u / size, edge / size
    joint = torch.maximum((a - a.round()).abs(), (b - b.round()).abs())
    joints = ((joint - 0.5 + 0.02 / size).clamp_min(0) > 0) * (0.03 / footprint).clamp(0, 1)
    slab = float(rng.uniform(0.22, 0.45)) * (0.9 + 0.2 * hashed(a.round(), b.round())) * (1 - 0.45 * joints)
    stone = torch.full_like(u, float(rng.uniform(0.3, 0.6)))
    if rng.uniform() < 0.3:  # painted black and white, as in Singapore
        stone = torch.where((u / 2.0 - (u / 2.0).floor()) < 0.5, 0.05, 0.6)
    return torch.where(edge < 0.16, stone, slab) * tint


def _behind(world: World, textures: Tensor, street: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Reflectance [3, R] of lawns, dry grass, bare soil, paving or gravel behind the sidewalk."""
    palette = torch.tensor(
        [
            *([0.1, 0.17, 0.05], [0.2, 0.15, 0.1], [0.3, 0.29, 0.27], [0.13, 0.15, 0.07]),
            *([0.06, 0.12, 0.03], [0.27, 0.24, 0.12]),  # a wet lawn, dry grass
        ],
        device=x.device,
    )
    kinds = torch.tensor([s.verge for s in world.ground.streets], device=x.device)[street]
    patches = look_up(textures, Channel.CLOUDY, x / 17.0, y / 17.0)
    base = palette[kinds].T
    green = torch.lerp(base, base[[1, 0, 2]] * 1.3, (patches - 0.55).clamp(0, 1)) * (0.7 + 0.6 * patches)
    return _worn(world, textures, green, palette, x, y) if world.layout.rough else green


def _worn(world: World, textures: Tensor, green: Tensor, palette: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Reflectance [3, R] of ground with tufts, and bare patches of soil, gravel or dry grass."""
    rng = np.random.default_rng([world.seed, 37])
    tufts = look_up(textures, Channel.CLOUDY, x / 3.7, y / 3.7)
    bare = look_up(textures, Channel.CLOUDY, x / 9.1 + 0.3, y / 9.1 + 0.6)
    worn = (float(rng.uniform(2.0, 9.0)) * (bare - float(rng.uniform(0.45, 1.0)))).clamp(0, 1)
    soil = palette[int(rng.choice([1, 2, 5]))][:, None] * float(rng.uniform(0.7, 1.5))
    return torch.lerp(green, soil, worn) * (1 + float(rng.uniform(0.0, 1.2)) * (tufts - 0.5))
