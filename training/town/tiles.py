"""Bundles of rays and which primitives they can meet."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.town.primitives import Primitives


@dataclass(frozen=True, eq=False)
class Tiles:
    """Bounds of T tiles of rays.

    Attributes:
        normals: [T, 4, 3] normals of the side planes, pointing inside.
        offsets: [T, 4] ``normals . x + offsets >= 0`` inside, metres times the length of the normal.
        axis: [T, 3] such that ``distance >= axis . (point - origin)`` for every point of every ray:
            the optical axis where rays are scaled to depth 1, else the unit mean direction.
        parent: [T] index of the coarse tile that encloses the tile.
        parents: the coarse tiles, or None to test every tile against every primitive.
    """

    normals: Tensor
    offsets: Tensor
    axis: Tensor
    parent: Tensor | None = None
    parents: Tiles | None = None


def tiles_around(origins: Tensor, corners: Tensor, axis: Tensor | None = None, slack: float | Tensor = 0.0) -> Tiles:
    """Tiles of rays that leave one point.

    Args:
        origins: [T, 3] metres, map frame.
        corners: [T, 4, 3] directions of the corners of each tile, in order around it; all rays lie within.
        axis: see ``Tiles``; by default the unit mean of the corners, right for unit directions.
        slack: [T] or number, metres that primitives are grown by.
    """
    normals = torch.cross(corners, corners.roll(-1, dims=1), dim=2)
    middle = corners.sum(1)
    normals = normals * torch.sign((normals * middle[:, None]).sum(2, keepdim=True))
    normals = torch.nn.functional.normalize(normals, dim=2)
    offsets = -(normals * origins[:, None]).sum(2) + torch.as_tensor(slack).reshape(-1, 1).to(origins)
    if axis is None:
        axis = torch.nn.functional.normalize(middle, dim=1)
    return Tiles(normals, offsets, axis)


def candidates(
    primitives: Primitives, origins: Tensor, tiles: Tiles, shift: Tensor, max_range: float, min_size: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs (tile [M], primitive [M]) that can meet, with a lower bound [M] of their distance."""
    every = torch.arange(len(primitives), device=origins.device)
    if tiles.parents is None or tiles.parent is None:
        return _overlaps(
            primitives, every, origins, tiles.normals, tiles.offsets, tiles.axis, shift, max_range, min_size
        )
    parents = tiles.parents
    first = torch.stack([(tiles.parent == p).nonzero()[0, 0] for p in range(len(parents.axis))])
    coarse, chosen, _ = _overlaps(
        primitives,
        every,
        origins[first],
        parents.normals,
        parents.offsets,
        parents.axis,
        shift[first],
        max_range,
        min_size,
    )
    found = []
    for p in range(len(parents.axis)):
        members = (tiles.parent == p).nonzero().squeeze(1)
        subset = chosen[coarse == p]
        t, i, lower = _overlaps(
            primitives,
            subset,
            origins[members],
            tiles.normals[members],
            tiles.offsets[members],
            tiles.axis[members],
            shift[members],
            max_range,
            min_size,
        )
        found.append((members[t], i, lower))
    return (
        torch.cat([f[0] for f in found]),
        torch.cat([f[1] for f in found]),
        torch.cat([f[2] for f in found]),
    )


def _overlaps(
    primitives: Primitives,
    subset: Tensor,
    origins: Tensor,
    normals: Tensor,
    offsets: Tensor,
    axis: Tensor,
    shift: Tensor,
    max_range: float,
    min_size: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Tiles against a subset of the primitives by support functions of their boxes; pairs and bounds."""
    count = len(origins)
    center, velocity = primitives.center[subset].T, primitives.velocity[subset].T
    half = primitives.half[subset]
    reach = primitives.axes[subset] * half[:, :, None]  # [N, 3, 3] half axes
    vectors = torch.cat([normals.reshape(-1, 3), axis])
    support = (vectors @ reach[:, 0].T).abs_()
    support += (vectors @ reach[:, 1].T).abs_()
    support += (vectors @ reach[:, 2].T).abs_()
    along = vectors @ center
    if bool(shift.any()):
        along += (vectors @ velocity) * torch.cat([shift.repeat_interleave(4), shift])[:, None]
    inside = along[: 4 * count] + support[: 4 * count]
    inside += offsets.reshape(-1, 1)
    meets = (inside >= 0).view(count, 4, -1).all(1)
    lower = along[4 * count :] - support[4 * count :] - (axis * origins).sum(1, keepdim=True)
    meets &= lower < max_range
    if min_size > 0:
        meets &= half.amax(1)[None] * 2 > min_size * lower
    tile, column = meets.nonzero(as_tuple=True)
    return tile, subset[column], lower[tile, column]
