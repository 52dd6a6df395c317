"""One coloured point cloud out of the depth of all views.

Neighbouring views overlap and far pixels crowd near the horizon: of the points that fall into one
voxel only the surest, that with the smallest standard deviation, is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.errors import ConfigError
from fsmde_ros.geometry import pixel_grid, transform, unproject
from fsmde_ros.rig import Camera
from fsmde_ros.sweep import SurroundDepth

_VOXEL_BITS = 21  # of each axis in one int64: 2 million voxels, 20 km at 1 cm


@dataclass(frozen=True)
class FusionConfig:
    """Which pixels become points.

    Attributes:
        stride: every how many pixels in x and y, at least 1; the first one lies half a stride in.
        max_range_m: farthest point from the origin of the vehicle frame, metres.
        max_relative_stddev: largest standard deviation as a share of the depth; 0 = no limit.
        max_stddev_m: largest standard deviation in metres; 0 = no limit.
        voxel_m: edge of a voxel, metres; 0 = keep every point.
    """

    stride: int = 2
    max_range_m: float = 60.0
    max_relative_stddev: float = 0.0
    max_stddev_m: float = 0.0
    voxel_m: float = 0.0

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise ConfigError(f"the stride of the cloud must be at least 1 pixel, got {self.stride}")
        if not self.max_range_m > 0:
            raise ConfigError(f"the range of the cloud must be above 0 m, got {self.max_range_m}")
        if not (self.max_relative_stddev >= 0 and self.max_stddev_m >= 0 and self.voxel_m >= 0):
            raise ConfigError(
                "the limits of the standard deviation and the voxel size must be at least 0 (0 = off), got "
                f"{self.max_relative_stddev}, {self.max_stddev_m} m, {self.voxel_m} m"
            )
        if 0 < self.voxel_m < self.max_range_m / 2 ** (_VOXEL_BITS - 2):
            raise ConfigError(
                f"the voxel size must be 0 or at least 2 millionths of the range {self.max_range_m} m, "
                f"got {self.voxel_m} m"
            )


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points in the vehicle frame.

    Attributes:
        points_vehicle: [N, 3] float32, metres, all finite.
        rgb: [N, 3] uint8.
        stddev: [N] float32, of the depth, metres; NaN where it is not known.
        view: [N] uint8, index of the camera in the rig of the depth.
    """

    points_vehicle: NDArray[np.float32]
    rgb: NDArray[np.uint8]
    stddev: NDArray[np.float32]
    view: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.points_vehicle)

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """Fields of a PointCloud2: ``x y z rgb stddev view``; rgb is 0x00RRGGBB in a float32 (PCL)."""
        red, green, blue = (self.rgb[:, i].astype(np.uint32) for i in range(3))
        packed = (red << 16 | green << 8 | blue).view(np.float32)
        x, y, z = self.points_vehicle.T
        return {"x": x, "y": y, "z": z, "rgb": packed, "stddev": self.stddev, "view": self.view}


def fuse(depth: SurroundDepth, images: NDArray[np.uint8], config: FusionConfig) -> Cloud:
    """Points of all views with a finite depth above 0, within the limits of ``config``.

    Args:
        depth: depth of V views, [V, H, W], metres.
        images: [V, H, W, 3] RGB, which colour the points.
        config: the limits.

    Returns:
        a cloud, unordered; where voxels are on, at most one point in each: that with the smallest
        standard deviation, an unknown one counting as the largest, the first of equals.
    """
    if images.shape != (*depth.depth.shape, 3):
        raise ValueError(f"images must be [V, H, W, 3] = {(*depth.depth.shape, 3)}, got {images.shape}")
    first, step = config.stride // 2, config.stride
    sample = (slice(None), slice(first, None, step), slice(first, None, step))
    depths, stddevs, colours = depth.depth[sample], depth.stddev[sample], images[sample]
    parts = [
        _view_points(camera, depths[index], stddevs[index], colours[index], index, config)
        for index, camera in enumerate(depth.rig.cameras)
    ]
    cloud = Cloud(
        np.concatenate([part.points_vehicle for part in parts]),
        np.concatenate([part.rgb for part in parts]),
        np.concatenate([part.stddev for part in parts]),
        np.concatenate([part.view for part in parts]),
    )
    return _thin(cloud, config.voxel_m) if config.voxel_m > 0 else cloud


def _view_points(
    camera: Camera,
    depth: NDArray[np.float32],
    stddev: NDArray[np.float32],
    image: NDArray[np.uint8],
    index: int,
    config: FusionConfig,
) -> Cloud:
    """Points of the sampled pixels of one view: depth and stddev [h, w], image [h, w, 3]."""
    keep = np.isfinite(depth) & (depth > 0)
    if config.max_relative_stddev > 0:
        keep &= stddev <= config.max_relative_stddev * depth
    if config.max_stddev_m > 0:
        keep &= stddev <= config.max_stddev_m
    first, step = config.stride // 2, config.stride
    pixels = pixel_grid(camera.size)[first::step, first::step][keep]
    points = transform(camera.camera_to_vehicle, unproject(camera.intrinsics, pixels, depth[keep]))
    near = np.einsum("ni,ni->n", points, points) <= config.max_range_m**2
    count = int(near.sum())
    return Cloud(
        points[near].astype(np.float32), image[keep][near], stddev[keep][near], np.full(count, index, dtype=np.uint8)
    )


def _thin(cloud: Cloud, voxel_m: float) -> Cloud:
    """The surest point of each voxel of the vehicle frame."""
    cells = np.floor(cloud.points_vehicle / np.float32(voxel_m)).astype(np.int64) + 2 ** (_VOXEL_BITS - 1)
    key = cells[:, 0] << 2 * _VOXEL_BITS | cells[:, 1] << _VOXEL_BITS | cells[:, 2]
    order = np.lexsort((cloud.stddev, key))  # by voxel, then by stddev (NaN last); stable
    key = key[order]
    best = order[np.concatenate([[True], key[1:] != key[:-1]])] if len(key) else order
    return Cloud(cloud.points_vehicle[best], cloud.rgb[best], cloud.stddev[best], cloud.view[best])
