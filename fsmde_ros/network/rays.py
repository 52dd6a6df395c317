"""Rays of the feature cells in the vehicle frame: what makes the student know its rig.

Convention as in ``fsmde_ros.geometry``, of which this is the torch twin for batches. Cell j of a
feature map at stride s covers input pixels s * j to s * j + s - 1, so its centre lies at
``(j + 0.5) * s - 0.5``. Products are written out element by element: under autocast a matmul
would run in half precision, which is too coarse for geometry.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

RAY_CHANNELS = 7
POSITION_CHANNELS = RAY_CHANNELS + 2
REFERENCE_FOCAL_LENGTH = 256.0  # pixels; near those of a 320 pixel wide view, so that the logarithm is near 0
MIN_FALL = 1e-6  # metres of height per metre of depth: a flatter ray counts as parallel to the ground


class RayMaps(NamedTuple):
    """Geometry of every cell of the feature maps of a batch of sweeps.

    Attributes:
        direction: [B, V, 3, h, w] unit rays in the vehicle frame.
        centre: [B, V, 3] camera centre, metres, x and y in the vehicle frame, z above the ground.
        log_focal: [B, V] log of the focal length (x), in pixels of what the encoder sees, over
            ``REFERENCE_FOCAL_LENGTH``.
        log_ground_depth: [B, V, h, w] log of the depth (metres along the optical axis) where the ray
            meets the ground, within the depth range; log d_max where it does not.
        meets_ground: [B, V, h, w] 1 where the ray meets the ground nearer than d_max, else 0.
        depth_range: (d_min, d_max), metres.
    """

    direction: Tensor
    centre: Tensor
    log_focal: Tensor
    log_ground_depth: Tensor
    meets_ground: Tensor
    depth_range: tuple[float, float]

    def features(self) -> Tensor:
        """Direction, height, ground depth, ground flag and focal length, [B, V, 7, h, w], near 0 to 1."""
        height_scale = 2.0  # metres; cameras of a car stand at 0.5 to 2
        d_min, d_max = self.depth_range
        low, span = math.log(d_min), math.log(d_max / d_min)
        shape = self.meets_ground.shape
        height = (self.centre[..., 2] / height_scale)[..., None, None].expand(shape)
        focal = self.log_focal[..., None, None].expand(shape)
        ground = (self.log_ground_depth - low) / span
        return torch.cat([self.direction, torch.stack([height, ground, self.meets_ground, focal], dim=2)], dim=2)

    def positions(self) -> Tensor:
        """The features and the place of the camera on the vehicle, [B, V, 9, h, w]."""
        place_scale = 2.0  # metres; cameras of a car stand within 2 m of each other
        features = self.features()
        place = (self.centre[..., :2] / place_scale)[..., None, None]
        return torch.cat([features, place.expand(*features.shape[:2], 2, *features.shape[3:])], dim=2)


def ray_maps(
    intrinsics: Tensor,
    camera_to_vehicle: Tensor,
    ground_z: Tensor,
    size: tuple[int, int],
    stride: int,
    depth_range: tuple[float, float],
    reduction: int = 1,
) -> RayMaps:
    """Rays of the cells of a feature map of ``size`` (h, w) at ``stride`` to what the encoder sees.

    Args:
        intrinsics: [B, V, 3, 3] pixels of the input image.
        camera_to_vehicle: [B, V, 4, 4] metres.
        ground_z: [B] height of the road in the vehicle frame, metres.
        size: (h, w) of the feature map.
        stride: pixels that the encoder sees, per cell.
        depth_range: (d_min, d_max), metres.
        reduction: input pixels, in each direction, per pixel that the encoder sees.
    """
    rays_camera = _cell_rays(intrinsics, size, stride * reduction)  # 3 of [B, V, h, w]
    rotation = camera_to_vehicle[..., :3, :3, None, None]  # [B, V, 3, 3, 1, 1]
    x, y, z = rays_camera
    along = rotation[:, :, :, 0] * x[:, :, None] + rotation[:, :, :, 1] * y[:, :, None]
    rays_vehicle = along + rotation[:, :, :, 2] * z[:, :, None]  # [B, V, 3, h, w], 1 m along the optical axis
    length = (rays_vehicle * rays_vehicle).sum(dim=2, keepdim=True).sqrt()

    translation = camera_to_vehicle[..., :3, 3]
    height = translation[..., 2] - ground_z[:, None]  # [B, V]
    centre = torch.cat([translation[..., :2], height[..., None]], dim=-1)
    fall = -rays_vehicle[:, :, 2]
    depth = height[..., None, None] / fall.clamp(min=MIN_FALL)
    d_min, d_max = depth_range
    meets = (fall > MIN_FALL) & (depth > 0) & (depth < d_max)
    depth = torch.where(meets, depth.clamp(d_min, d_max), torch.full_like(depth, d_max))
    return RayMaps(
        direction=rays_vehicle / length,
        centre=centre,
        log_focal=(intrinsics[..., 0, 0] / (REFERENCE_FOCAL_LENGTH * reduction)).log(),
        log_ground_depth=depth.log(),
        meets_ground=meets.to(depth.dtype),
        depth_range=depth_range,
    )


def _cell_rays(intrinsics: Tensor, size: tuple[int, int], stride: int) -> tuple[Tensor, Tensor, Tensor]:
    """x, y, z, each [B, V, h, w], of the rays with z = 1 in the camera frame."""
    k = intrinsics[..., None, None]  # [B, V, 3, 3, 1, 1]
    device, dtype = intrinsics.device, intrinsics.dtype
    xs = ((torch.arange(size[1], device=device, dtype=dtype) + 0.5) * stride - 0.5)[None, :]
    ys = ((torch.arange(size[0], device=device, dtype=dtype) + 0.5) * stride - 0.5)[:, None]
    y = (ys - k[:, :, 1, 2]) / k[:, :, 1, 1]
    x = (xs - k[:, :, 0, 2] - k[:, :, 0, 1] * y) / k[:, :, 0, 0]
    return x, y.expand_as(x), torch.ones_like(x)
