"""A shadow map around the car."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.town.primitives import Primitives
from training.town.raycast import Tiles, nearest, tiles_around

SUN_DISTANCE = 260.0  # m; far enough that its rays are parallel to about 8 degrees
BIAS = 0.25  # m, of a map of the near surroundings
TILE = 16


@dataclass(frozen=True, eq=False)
class ShadowMap:
    """Distance to what the sun meets first.

    Attributes:
        map_to_sun: [3, 4] map frame to the frame of a camera at the sun (z looks down).
        reach: half of the width of the map over its distance.
        depth: [N, N] metres along z, inf where nothing stands in the light.
        bias: metres that a surface may lie behind what the map has, or it would shade itself.
    """

    map_to_sun: Tensor
    reach: float
    depth: Tensor
    bias: float


def shadow_map(
    primitives: Primitives,
    sun: Tensor,
    center: Tensor,
    half_width: float = 45.0,
    size: int = 256,
    bias: float = BIAS,
) -> ShadowMap:
    """Map of the light around ``center`` [3], metres, for a ``sun`` [3] (unit vector toward it)."""
    device = center.device
    forward = -sun
    right = torch.nn.functional.normalize(
        torch.linalg.cross(forward, torch.tensor([0.31, 0.95, 0.0], device=device)), dim=0
    )
    axes = torch.stack([right, torch.linalg.cross(forward, right), forward])
    place = center + sun * SUN_DISTANCE
    reach = half_width / SUN_DISTANCE
    tiles, directions = _light_tiles(axes, place, reach, size)
    origins = place.expand(len(directions), 3)
    limit = torch.full((len(directions), TILE * TILE), float("inf"), device=device)
    shift = torch.zeros(len(directions), device=device)
    pixel = 2 * reach / size
    depth, _ = nearest(primitives, origins, directions, tiles, shift, limit, 2 * SUN_DISTANCE, 0.7 * pixel)
    n = size // TILE
    depth = depth.view(n, n, TILE, TILE).transpose(1, 2).reshape(size, size)
    to_sun = torch.cat([axes, -(axes @ place)[:, None]], dim=1)
    return ShadowMap(to_sun, reach, depth, bias)


def _light_tiles(axes: Tensor, place: Tensor, reach: float, size: int) -> tuple[Tiles, Tensor]:
    """Tiles of the light's pixels and their directions [T, 3, P], scaled to depth 1."""
    device, n = axes.device, size // TILE
    steps = ((torch.arange(size, device=device) + 0.5) / size * 2 - 1) * reach
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    local = torch.stack([x, y, torch.ones_like(x)])
    planar = (axes.T @ local.view(3, -1)).view(3, n, TILE, n, TILE)
    directions = planar.permute(1, 3, 0, 2, 4).reshape(n * n, 3, TILE * TILE).contiguous()
    fine = _grid_tiles(axes, place, reach, n)
    coarse_n = max(n // 4, 1)
    row = torch.arange(n, device=device) * coarse_n // n
    parent = (row[:, None] * coarse_n + row[None]).reshape(-1)
    return Tiles(fine.normals, fine.offsets, fine.axis, parent, _grid_tiles(axes, place, reach, coarse_n)), directions


def _grid_tiles(axes: Tensor, place: Tensor, reach: float, n: int) -> Tiles:
    edges = torch.linspace(-reach, reach, n + 1, device=axes.device)
    y, x = torch.meshgrid(edges, edges, indexing="ij")
    corner = torch.stack([x, y, torch.ones_like(x)], dim=-1) @ axes
    corners = torch.stack([corner[:-1, :-1], corner[:-1, 1:], corner[1:, 1:], corner[1:, :-1]], dim=2).reshape(-1, 4, 3)
    return tiles_around(place.expand(n * n, 3), corners, axis=axes[2].expand(n * n, 3))


def lit(shadow: ShadowMap, points: Tensor, beyond: ShadowMap | None = None) -> Tensor:
    """Share [R] of the sun that reaches points [3, R], blurred over a texel.

    Outside the map it is that of the larger map ``beyond``, outside all maps 1.
    """
    size = shadow.depth.shape[0]
    x, y, z = shadow.map_to_sun[:, :3] @ points + shadow.map_to_sun[:, 3:]
    scale = 1 / (shadow.reach * z)
    px = (x * scale + 1) * (size / 2) - 0.5
    py = (y * scale + 1) * (size / 2) - 0.5
    inside = (px >= 0) & (py >= 0) & (px < size - 1) & (py < size - 1)
    px, py = px.clamp(0, size - 1.001), py.clamp(0, size - 1.001)
    ix, iy = px.long(), py.long()
    fx, fy = px - ix, py - iy
    flat, base, threshold = shadow.depth.view(-1), iy * size + ix, z - shadow.bias
    result = (flat[base] > threshold) * ((1 - fx) * (1 - fy))
    result += (flat[base + 1] > threshold) * (fx * (1 - fy))
    result += (flat[base + size] > threshold) * ((1 - fx) * fy)
    result += (flat[base + size + 1] > threshold) * (fx * fy)
    outside = (~inside).nonzero().squeeze(1)
    result[outside] = 1.0 if beyond is None else lit(beyond, points[:, outside])
    return result
