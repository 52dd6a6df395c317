"""Nearest hits of tiles of rays with the primitives and the ground of a town.

A tile is a bundle of rays with one origin (P of them, e.g. 16 x 16 pixels). Its four side planes
cut away the primitives that none of its rays can meet; what remains is intersected from near to
far, until every ray of the tile has met something nearer than the next candidate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from training.town.primitives import Kind, Primitives
from training.town.solids import SOLVERS, Solver, cabin_planes
from training.town.tiles import Tiles, candidates, tiles_around

if TYPE_CHECKING:
    from training.town.world import World

__all__ = ["GROUND", "SKY", "Hits", "Tiles", "cast", "nearest", "tiles_around"]

GROUND, SKY = -1, -2
CHUNK_TILES = 192  # tiles handled at a time: their buffers stay in the cache of a CPU core
BATCH = 1 << 16  # rays x candidates of one step


@dataclass(frozen=True, eq=False)
class Hits:
    """What T tiles of P rays met first.

    Attributes:
        distance: [T, P] in lengths of the directions, inf = sky.
        primitive: [T, P] int64 index, -1 = ground, -2 = sky.
        point: [T, P, 3] metres, map frame; of sky undefined.
        normal: [T, P, 3] unit outward normal, map frame; of sky undefined.
        local: [T, P, 3] metres in the axes of the primitive from its centre; of ground and sky undefined.
    """

    distance: Tensor
    primitive: Tensor
    point: Tensor
    normal: Tensor
    local: Tensor


def cast(
    world: World,
    t: float | Tensor,
    origins: Tensor,
    directions: Tensor,
    tiles: Tiles,
    max_range: float | None = None,
    min_size: float = 0.0,
) -> Hits:
    """Find what rays meet first.

    Args:
        world: the town.
        t: seconds, one number or [T]: the time of every tile. Moving things are placed at the mean
            time and moved along their velocity to that of the tile; keep the span below 0.1 s.
        origins: [T, 3] metres, map frame, one for every tile.
        directions: [T, P, 3] map frame, any length; distances come in lengths of it.
        tiles: their bounds, see ``tiles_around``.
        max_range: in lengths of directions; that of the settings by default.
        min_size: primitives that look smaller than this (size / distance) are left out.
    """
    times = torch.as_tensor(t, dtype=torch.float64).expand(len(origins))
    middle = float(times.mean())
    shift = (times - middle).to(origins)
    primitives = world.primitives_at(middle)
    limit = world.settings.max_range if max_range is None else max_range
    planar = directions.transpose(1, 2).contiguous()
    count = planar.shape[2]
    flat = planar.transpose(0, 1).reshape(3, -1)
    ground, face = world.ground.intersect(origins.repeat_interleave(count, 0), flat, limit)
    distance, index = nearest(primitives, origins, planar, tiles, shift, ground.view(-1, count), limit, min_size)
    hit_shift = shift[:, None].expand(-1, count)
    point = origins[:, None] + directions * distance[..., None].nan_to_num(posinf=0.0)
    local, normal = _surface(primitives, point, index, hit_shift)
    on_ground = index == GROUND
    normal[on_ground] = _ground_normal(world, point[on_ground], directions[on_ground], face.view(-1, count)[on_ground])
    return Hits(distance, index, point, normal, local)


def _ground_normal(world: World, point: Tensor, direction: Tensor, face: Tensor) -> Tensor:
    """Unit normals [R, 3] of the ground; the face of a kerb looks to the road, away from the ray."""
    gx, gy = world.ground.gradient(point[:, 0], point[:, 1])
    smooth = torch.stack([-gx, -gy, torch.ones_like(gx)], dim=1)
    toward = -direction * torch.tensor([1.0, 1.0, 0.0]).to(direction)
    return torch.nn.functional.normalize(torch.where(face[:, None], toward, smooth), dim=1)


def _surface(primitives: Primitives, point: Tensor, index: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Local coordinates (metres) and unit normals of hits on primitives, both [T, P, 3]."""
    local_all, normal_all = torch.zeros_like(point), torch.zeros_like(point)
    some = (index >= 0).nonzero(as_tuple=True)
    i = index[some]
    center = primitives.center[i] + primitives.velocity[i] * shift[some][:, None]
    axes, half, kind = primitives.axes[i], primitives.half[i], primitives.kind[i][:, None]
    local = torch.bmm(axes, (point[some] - center)[:, :, None])[:, :, 0]
    scaled = local / half
    size = scaled.abs()
    largest = size >= size.amax(1, keepdim=True)
    flat = torch.sign(scaled) * largest
    round_ = scaled / half
    leans = cabin_planes(primitives.taper[i])
    face = ((leans[:, :, :3] * scaled[:, None]).sum(2) - leans[:, :, 3]).argmax(1)
    planes = leans[torch.arange(len(i), device=i.device), face, :3] / half
    rim = (scaled[:, 2:].abs() > 0.9999) & (kind == Kind.CONE)
    slope = (half[:, 0] * (1 - primitives.taper[i, 0]) / (2 * half[:, 2]))[:, None]
    radial = torch.nn.functional.normalize(local[:, :2], dim=1)
    side = torch.cat([radial, slope], dim=1)
    cap = torch.sign(scaled) * torch.tensor([0.0, 0.0, 1.0]).to(scaled)
    curved = (kind == Kind.ELLIPSOID) | (kind == Kind.CROWN)
    normal = torch.where(kind == Kind.BOX, flat, torch.where(curved, round_, side))
    normal = torch.where(kind == Kind.CABIN, planes, normal)
    normal = torch.where(rim, cap, normal)
    normal = torch.bmm(normal[:, None], axes)[:, 0]
    local_all[some] = local
    normal_all[some] = torch.nn.functional.normalize(normal, dim=1)
    return local_all, normal_all


def nearest(
    primitives: Primitives,
    origins: Tensor,
    directions: Tensor,
    tiles: Tiles,
    shift: Tensor,
    limit: Tensor,
    max_range: float,
    min_size: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Distance [T, P] and primitive [T, P] of the first hit of rays [T, 3, P].

    ``limit`` [T, P] is the distance to the ground, inf where there is none; it is returned where
    nothing is nearer. ``shift`` [T] are seconds that moving primitives are moved on for each tile.
    """
    tile, primitive, lower = candidates(primitives, origins, tiles, shift, max_range, min_size)
    best = limit.clone()
    index = torch.where(torch.isfinite(best), GROUND, SKY)
    kinds = primitives.kind[primitive]
    frames = _unit_frames(primitives)
    for kind, solve in SOLVERS.items():
        chosen = (kinds == kind).nonzero().squeeze(1)
        if not len(chosen):
            continue
        table, bounds = _table(tile[chosen], primitive[chosen], lower[chosen], len(origins))
        for start in range(0, len(origins), CHUNK_TILES):
            part = slice(start, start + CHUNK_TILES)
            _sweep_front_to_back(
                solve,
                primitives,
                frames,
                origins[part],
                directions[part],
                shift[part],
                table[part],
                bounds[part],
                best[part],
                index[part],
            )
    beyond = best > max_range
    best[beyond] = float("inf")
    index[beyond] = SKY
    return best, index


def _table(tile: Tensor, primitive: Tensor, lower: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Pairs as a table [T, K] of primitives (-1 = none) from near to far, and their bounds [T, K]."""
    order = torch.argsort(lower)
    order = order[torch.argsort(tile[order], stable=True)]
    tile, primitive, lower = tile[order], primitive[order], lower[order]
    counts = torch.bincount(tile, minlength=count)
    rank = torch.arange(len(tile), device=tile.device) - (counts.cumsum(0) - counts)[tile]
    width = int(counts.max())
    table = torch.full((count, width), -1, dtype=torch.long, device=tile.device)
    bounds = torch.full((count, width), float("inf"), device=tile.device)
    table[tile, rank], bounds[tile, rank] = primitive, lower
    return table, bounds


def _unit_frames(primitives: Primitives) -> Tensor:
    """[N, 3, 3] that take map directions to the frame in which the primitive fills [-1, 1]^3."""
    return primitives.axes / primitives.half[:, :, None]


def _sweep_front_to_back(
    solve: Solver,
    primitives: Primitives,
    frames: Tensor,
    origins: Tensor,
    directions: Tensor,
    shift: Tensor,
    table: Tensor,
    bounds: Tensor,
    best: Tensor,
    index: Tensor,
) -> None:
    """Improve ``best`` and ``index`` [T, P] in place with the candidates of ``table`` [T, K]."""
    rays = directions.shape[2]
    column = 0
    farthest = best.amax(1)
    while column < table.shape[1]:
        active = (bounds[:, column] < farthest).nonzero().squeeze(1)
        if not len(active):
            break
        width = min(max(1, BATCH // (len(active) * rays)), table.shape[1] - column)
        chosen = table[active, column : column + width]  # [n, width]
        i = chosen.clamp_min(0).reshape(-1)
        matrix = frames[i]
        center = primitives.center[i] + primitives.velocity[i] * shift[active].repeat_interleave(width)[:, None]
        start = torch.bmm(matrix, (origins[active].repeat_interleave(width, 0) - center)[:, :, None])
        ahead = torch.bmm(matrix.view(len(active), width * 3, 3), directions[active]).view(len(active) * width, 3, rays)
        distance = solve(start, ahead, primitives.taper[i], primitives.half[i]).view(len(active), width, rays)
        distance = torch.where((chosen < 0)[:, :, None], float("inf"), distance)
        if width > 1:
            distance, which = distance.min(1)
            winner = chosen.gather(1, which)
        else:
            distance, winner = distance[:, 0], chosen.expand(-1, rays)
        old = best[active]
        nearer = distance < old
        new = torch.where(nearer, distance, old)
        best[active] = new
        index[active] = torch.where(nearer, winner, index[active])
        farthest[active] = new.amax(1)
        column += width
