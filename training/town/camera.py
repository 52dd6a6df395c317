"""Pictures and true depth of cameras in a town.

Convention: as in ``fsmde_ros/geometry.py``; rays are scaled to depth 1, so that distance is depth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d

from fsmde_ros.geometry import compose
from fsmde_ros.rig import Camera
from training.town.raycast import Tiles, cast, tiles_around
from training.town.sensor import develop
from training.town.shading import shade
from training.town.world import World

Array = NDArray[np.float64]
TILE = 16  # pixels; smaller tiles cull better, larger ones have less to cull
BLOCK = 4  # tiles along the side of a coarse tile
Picture = tuple[NDArray[np.uint8], NDArray[np.float32]]


def render_view(world: World, t: float, camera: Camera, vehicle_to_map: Array) -> Picture:
    """What a camera sees at t seconds.

    Returns:
        image [H, W, 3] uint8 RGB and depth [H, W] float32, metres along the optical axis at the
        pixel centres, inf = sky or beyond the range of the settings.
    """
    return render_views(world, [(t, camera, vehicle_to_map)])[0]


def render_views(world: World, views: Sequence[tuple[float, Camera, Array]]) -> list[Picture]:
    """What cameras see, each at its own time (spread over less than 0.1 s) and pose of the vehicle.

    With ``rays_per_pixel`` above 1 the light of a pixel is the mean over it; the depth is still that of its centre.
    """
    fine = world.settings.rays_per_pixel
    if fine == 1:
        light, depths = _cast_views(world, views)
    else:
        _, depths = _cast_views(world, views, with_light=False)
        finer = [(t, camera.resized((fine * camera.size[0], fine * camera.size[1])), pose) for t, camera, pose in views]
        light = [
            avg_pool2d(c.permute(2, 0, 1)[None], fine)[0].permute(1, 2, 0)
            for c in _cast_views(world, finer, pixel_share=fine)[0]
        ]
    return [
        (develop(world, t, camera.name, c), d.cpu().numpy().astype(np.float32))
        for (t, camera, _), c, d in zip(views, light, depths, strict=True)
    ]


def _cast_views(
    world: World, views: Sequence[tuple[float, Camera, Array]], pixel_share: int = 1, with_light: bool = True
) -> tuple[list[Tensor], list[Tensor]]:
    """Linear light [H, W, 3] and depth [H, W] at the pixel centres of each view, m.

    ``pixel_share``: of how many pixels along a side the light will be averaged, so that textures are those of all.
    """
    grids = [_view_tiles(world, camera, vehicle_to_map) for _, camera, vehicle_to_map in views]
    counts = [len(origins) for origins, _, _ in grids]
    origins, directions = torch.cat([grid[0] for grid in grids]), torch.cat([grid[1] for grid in grids])
    times = torch.repeat_interleave(torch.tensor([v[0] for v in views], dtype=torch.float64), torch.tensor(counts))
    pixels = torch.tensor([1.0 / float(camera.intrinsics[0, 0]) for _, camera, _ in views], device=world.device)
    pixel = torch.repeat_interleave(pixels, torch.tensor(counts, device=world.device))
    tiles = _joined([grid[2] for grid in grids])
    hits = cast(world, times, origins, directions, tiles, min_size=0.6 * float(pixel.min()))
    sizes = [camera.size for _, camera, _ in views]
    parts = zip(torch.split(hits.distance, counts), sizes, strict=True)
    depths = [_untiled(d[..., None], size)[..., 0] for d, size in parts]
    if not with_light:
        return [], depths
    color = shade(world, times, origins, directions, hits, pixel * pixel_share)
    return [_untiled(c, size) for c, size in zip(torch.split(color, counts), sizes, strict=True)], depths


def _view_tiles(world: World, camera: Camera, vehicle_to_map: Array) -> tuple[Tensor, Tensor, Tiles]:
    """Origins [T, 3], directions [T, P, 3] of depth 1, and bounds of the tiles of a view."""
    camera_to_map = compose(vehicle_to_map, camera.camera_to_vehicle)
    to_rays = camera_to_map[:3, :3] @ np.linalg.inv(camera.intrinsics)
    rows, columns = (-(-n // TILE) for n in camera.size)
    ys, xs = np.meshgrid(np.arange(rows * TILE), np.arange(columns * TILE), indexing="ij")
    rays = np.stack([xs, ys, np.ones_like(xs)], axis=-1) @ to_rays.T
    rays = rays.reshape(rows, TILE, columns, TILE, 3).transpose(0, 2, 1, 3, 4).reshape(rows * columns, -1, 3)

    def bounds(height: int, width: int, step: int) -> Tiles:
        ey = np.minimum(np.arange(height + 1) * step, rows * TILE) - 0.5
        ex = np.minimum(np.arange(width + 1) * step, columns * TILE) - 0.5
        gy, gx = np.meshgrid(ey, ex, indexing="ij")
        g = np.stack([gx, gy, np.ones_like(gx)], axis=-1) @ to_rays.T
        corners = np.stack([g[:-1, :-1], g[:-1, 1:], g[1:, 1:], g[1:, :-1]], axis=2).reshape(-1, 4, 3)
        count = len(corners)
        axis = tensor(camera_to_map[:3, 2]).expand(count, 3)
        return tiles_around(tensor(camera_to_map[:3, 3]).expand(count, 3), tensor(corners), axis)

    def tensor(value: Array) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(value, dtype=np.float32), device=world.device)

    coarse_rows, coarse_columns = -(-rows // BLOCK), -(-columns // BLOCK)
    parent = (np.arange(rows) // BLOCK)[:, None] * coarse_columns + np.arange(columns) // BLOCK
    fine, coarse = bounds(rows, columns, TILE), bounds(coarse_rows, coarse_columns, TILE * BLOCK)
    tiles = Tiles(
        fine.normals, fine.offsets, fine.axis, torch.as_tensor(parent.reshape(-1), device=world.device), coarse
    )
    return tensor(camera_to_map[:3, 3]).expand(rows * columns, 3), tensor(rays), tiles


def _joined(parts: list[Tiles]) -> Tiles:
    """The tiles of several views, one after another."""
    coarse = [p.parents for p in parts if p.parents is not None]
    normals, offsets, axis = (torch.cat([getattr(c, name) for c in coarse]) for name in ("normals", "offsets", "axis"))
    parents = Tiles(normals, offsets, axis)
    shifted, start = [], 0
    for part, c in zip(parts, coarse, strict=True):
        assert part.parent is not None, "tiles of a view have parents"
        shifted.append(part.parent + start)
        start += len(c.axis)
    normals, offsets, axis = (torch.cat([getattr(p, name) for p in parts]) for name in ("normals", "offsets", "axis"))
    return Tiles(normals, offsets, axis, torch.cat(shifted), parents)


def _untiled(values: Tensor, size: tuple[int, int]) -> Tensor:
    """[T, P, C] of tiles as a picture [H, W, C]."""
    rows, columns = (-(-n // TILE) for n in size)
    channels = values.shape[2]
    picture = values.view(rows, columns, TILE, TILE, channels).permute(0, 2, 1, 3, 4)
    return picture.reshape(rows * TILE, columns * TILE, channels)[: size[0], : size[1]]
