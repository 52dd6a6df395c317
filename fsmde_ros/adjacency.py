"""Which views of a rig see the same part of the world: found from the rig, never listed by hand."""

from __future__ import annotations

import numpy as np

from fsmde_ros.geometry import invert, pixel_grid, project, scale_intrinsics, transform, unproject
from fsmde_ros.rig import Rig

_GRID = (9, 16)  # cells of an image that stand for it


def adjacent_pairs(
    rig: Rig, depths: tuple[float, ...] = (5.0, 20.0, 60.0), min_share: float = 0.02
) -> tuple[tuple[int, int], ...]:
    """Pairs (i, j), i < j, of cameras whose frusta overlap.

    A grid of pixels of camera i is taken to each of ``depths`` (metres) and projected into camera j;
    the cameras are adjacent where, at some depth, at least ``min_share`` of the grid of one lands in
    the image of the other.
    """
    shares = overlap_shares(rig, depths)
    mutual = np.maximum(shares, shares.T)
    return tuple((i, j) for i in range(len(rig)) for j in range(i + 1, len(rig)) if mutual[i, j] >= min_share)


def overlap_shares(
    rig: Rig, depths: tuple[float, ...] = (5.0, 20.0, 60.0)
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """[V, V]: the largest share, over ``depths``, of the image of camera i that camera j sees."""
    count = len(rig)
    shares = np.zeros((count, count))
    for i, camera in enumerate(rig.cameras):
        grid = scale_intrinsics(camera.intrinsics, camera.size, _GRID)
        pixels = pixel_grid(_GRID).reshape(-1, 2)
        points = np.stack([unproject(grid, pixels, np.full(len(pixels), depth)) for depth in depths])
        points_vehicle = transform(camera.camera_to_vehicle, points)  # [D, M, 3]
        for j, other in enumerate(rig.cameras):
            if i == j:
                continue
            seen, _ = project(other.intrinsics, transform(invert(other.camera_to_vehicle), points_vehicle))
            with np.errstate(invalid="ignore"):
                inside = ((seen > -0.5) & (seen < np.array(other.size[::-1]) - 0.5)).all(-1)
            shares[i, j] = inside.mean(1).max()
    return shares
