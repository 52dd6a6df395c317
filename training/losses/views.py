"""Losses between two views of the same scene: of one sweep, or of one camera at two moments."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from training.losses.masked import log_ratio, masked_mean

MIN_DEPTH = 0.1  # metres in front of the second camera; nearer than that a projection means nothing


class Reprojection(NamedTuple):
    """Where the pixels of P views i lie in their views j.

    Attributes:
        grid: [P, h, w, 2] places in view j for ``grid_sample`` with align_corners False: -1 and 1 are the outer
            borders of the first and last pixel. 0 where not ``inside``.
        depth: [P, h, w] metres along the optical axis of view j.
        inside: [P, h, w] bool, in front of camera j and within its image.
    """

    grid: Tensor
    depth: Tensor
    inside: Tensor


def view_to_view(camera_i_to_vehicle: Tensor, camera_j_to_vehicle: Tensor, vehicle: Tensor | None = None) -> Tensor:
    """[..., 4, 4] from camera i to camera j.

    Args:
        camera_i_to_vehicle, camera_j_to_vehicle: [..., 4, 4].
        vehicle: [..., 4, 4] from the vehicle at the moment of i to the vehicle at the moment of j; none for
            two views of one moment.
    """
    i_to_vehicle = camera_i_to_vehicle.float()
    with torch.autocast(i_to_vehicle.device.type, enabled=False):
        if vehicle is not None:
            i_to_vehicle = vehicle.float() @ i_to_vehicle
        return torch.linalg.inv(camera_j_to_vehicle.float()) @ i_to_vehicle


def reproject(
    depth: Tensor, intrinsics_i: Tensor, intrinsics_j: Tensor, i_to_j: Tensor, size_j: tuple[int, int] | None = None
) -> Reprojection:
    """Move every pixel of P views i, at its depth, into views j; differentiable in the depth.

    Args:
        depth: [P, h, w] metres, above 0. intrinsics_i: [P, 3, 3] at (h, w).
        intrinsics_j: [P, 3, 3] at ``size_j``, which is (h, w) if not given. i_to_j: [P, 4, 4].
    """
    depth = depth.float()
    height, width = depth.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)]).reshape(3, -1).to(depth)  # [3, h w]
    with torch.autocast(depth.device.type, enabled=False):
        rays = torch.linalg.inv(intrinsics_i.float()) @ pixels  # [P, 3, h w]
        points = i_to_j[:, :3, :3].float() @ (rays * depth.flatten(1).unsqueeze(1)) + i_to_j[:, :3, 3:].float()
        projected = intrinsics_j.float() @ points
    z = points[:, 2]
    in_front = z > MIN_DEPTH
    xy = projected[:, :2] / torch.where(in_front, z, torch.ones_like(z)).unsqueeze(1)
    rows, columns = size_j or (height, width)
    grid = torch.stack([(xy[:, 0] * 2 + 1) / columns - 1, (xy[:, 1] * 2 + 1) / rows - 1], dim=-1)
    inside = in_front & (grid.abs() < 1).all(-1)
    grid = torch.where(inside.unsqueeze(-1), grid, torch.zeros_like(grid))
    shape = (-1, height, width)
    return Reprojection(grid.reshape(-1, height, width, 2), z.reshape(shape), inside.reshape(shape))


def among(moved: Reprojection, usable_i: Tensor, usable_j: Tensor) -> Reprojection:
    """``moved``, inside only where pixels are usable in view i and those around their place in view j are.

    ``usable_i``, ``usable_j``: [P, h, w] and [P, h', w'] bool.
    """
    seen = _sample(usable_j.float().unsqueeze(1), moved.grid)[:, 0] > 0.999  # all four pixels that are sampled there
    return moved._replace(inside=moved.inside & usable_i & seen)


def overlap_consistency(
    depth: Tensor,
    intrinsics: Tensor,
    camera_to_common: Tensor,
    pairs: Tensor,
    usable: Tensor,
    tolerance: float = 0.25,
) -> Tensor:
    """Mean ``|ln z - ln d_j|`` of points that view i sees, moved to view j: depth z there against d_j.

    Points whose two depths differ by more than ``tolerance`` in log depth are taken to be hidden from
    one of the views and do not count.

    Args:
        depth: [B, V, h, w] metres, above 0. intrinsics: [B, V, 3, 3] at (h, w).
        camera_to_common: [B, V, 4, 4] from each camera at its own exposure to one frame for all of a sweep.
        pairs: [P, 3] int64: sweep, view i, view j. No pairs: 0.
        usable: [B, V, h, w] bool, the pixels that count.
    """
    depth = depth.float()
    if not len(pairs):
        return depth.sum() * 0
    b, i, j = pairs.unbind(1)
    i_to_j = view_to_view(camera_to_common[b, i], camera_to_common[b, j])
    moved = among(reproject(depth[b, i], intrinsics[b, i], intrinsics[b, j], i_to_j), usable[b, i], usable[b, j])
    seen = _sample(depth[b, j].unsqueeze(1), moved.grid)[:, 0]
    difference = log_ratio(moved.depth, seen, moved.inside).abs()
    return masked_mean(difference, moved.inside & (difference < tolerance))


def photometric(
    target: Tensor, source: Tensor, moved: Reprojection, alpha: float = 0.85, ignore_still: bool = False
) -> Tensor:
    """Mean ``alpha (1 - SSIM) / 2 + (1 - alpha) |I_i - I_j'|`` between views i and views j warped onto them.

    Godard et al., CVPR 2017. SSIM (Wang et al., 2004) over 3 x 3 pixels with the constants 0.01^2 and 0.03^2 on
    images of range 0 to 1. It says something only where both views show the same thing in the same light:
    between overlapping views of one sweep, or of one camera at consecutive moments if little moves.

    Args:
        target: [P, 3, h, w], 0 to 255, the views i that ``moved`` starts from.
        source: [P, 3, h', w'], 0 to 255, the views j.
        moved: from ``reproject``; only its ``inside`` pixels count. No pairs: 0.
        ignore_still: leave out pixels that ``source``, of the same size, shows at the same place at least as well:
            what moves along with the camera, such as its own car (Godard et al., ICCV 2019).
    """
    if not len(target):
        return moved.depth.sum() * 0
    with torch.autocast(target.device.type, enabled=False):
        wanted = target.float() / 255
        warped = _sample(source.float() / 255, moved.grid)
        difference = _difference(wanted, warped, alpha)
        # a 3 x 3 window counts where all of it has been warped
        whole = -F.max_pool2d(-F.pad(moved.inside.float().unsqueeze(1), (1, 1, 1, 1), value=1.0), 3, 1)
        counted = whole[:, 0] > 0.5
        if ignore_still:
            counted &= difference.detach() < _difference(wanted, source.float() / 255, alpha)
        return masked_mean(difference, counted)


def _difference(a: Tensor, b: Tensor, alpha: float) -> Tensor:
    """[P, h, w] ``alpha (1 - SSIM) / 2 + (1 - alpha) |a - b|`` of images [P, C, h, w] in 0..1."""
    structure = ((1 - _ssim(a, b)) / 2).clamp(0, 1).mean(1)
    return alpha * structure + (1 - alpha) * (a - b).abs().mean(1)


def _sample(maps: Tensor, grid: Tensor) -> Tensor:
    """[P, C, h, w] of maps [P, C, h', w'] at the places of a grid, between pixels linearly."""
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity of images [P, C, h, w] in 0..1 over 3 x 3 windows; 1 where they are equal."""

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 1)

    c1, c2 = 0.01**2, 0.03**2
    mean_a, mean_b = mean(a), mean(b)
    variance_a, variance_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    return ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    )
