"""One coloured point cloud out of the depth of all views.

Neighbouring views overlap and far pixels crowd near the horizon: of the points that fall into one
voxel only the surest, that with the smallest standard deviation, is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.errors import ConfigError
from fsmde_ros.geometry import pixel_grid, unproject
from fsmde_ros.sweep import SurroundDepth

_VOXEL_BITS = 21  # at most of each axis: 2 million voxels, 20 km at 1 cm
_STDDEV_BITS = 31  # of a float32 without its sign


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
        view: [N] uint8, index of the camera in the whole rig, which also counts the cameras without a view: it
            means the same camera in every sweep.
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
        standard deviation, an unknown one counting as the largest.
    """
    if images.shape != (*depth.depth.shape, 3):
        raise ValueError(f"images must be [V, H, W, 3] = {(*depth.depth.shape, 3)}, got {images.shape}")
    index_in_rig = np.array([depth.cameras.index(name) for name in depth.rig.names], dtype=np.uint8)  # [V]
    first, step = config.stride // 2, config.stride
    sample = (slice(None), slice(first, None, step), slice(first, None, step))
    depths, stddevs = depth.depth[sample], depth.stddev[sample]  # [V, h, w]
    keep = _usable(depths, stddevs, config)
    mounting = depth.rig.camera_to_vehicle().astype(np.float32)  # [V, 4, 4]
    rays = _rays(depth.rig.intrinsics().tobytes(), depth.depth.shape, step)
    directions = rays @ mounting[:, :3, :3].transpose(0, 2, 1)  # [V, h * w, 3], of optical depth 1
    chosen = np.flatnonzero(keep)
    view = (chosen // (depths.shape[1] * depths.shape[2])).astype(np.uint8)
    points = directions.reshape(-1, 3)[chosen] * depths.reshape(-1)[chosen, None] + mounting[view, :3, 3]
    near = np.einsum("ni,ni->n", points, points) <= config.max_range_m**2
    cloud = Cloud(points[near], images[sample][keep][near], stddevs[keep][near], index_in_rig[view[near]])
    return _thin(cloud, config.voxel_m) if config.voxel_m > 0 else cloud


def _usable(depth: NDArray[np.float32], stddev: NDArray[np.float32], config: FusionConfig) -> NDArray[np.bool_]:
    """Which pixels [V, h, w] have a depth, sure enough."""
    keep: NDArray[np.bool_] = np.isfinite(depth) & (depth > 0)
    if config.max_relative_stddev > 0:
        keep &= stddev <= config.max_relative_stddev * depth
    if config.max_stddev_m > 0:
        keep &= stddev <= config.max_stddev_m
    return keep


@lru_cache(maxsize=8)  # a node has one rig; with a camera silent now and then, a few
def _rays(intrinsics: bytes, shape: tuple[int, int, int], step: int) -> NDArray[np.float32]:
    """Every ``step``-th pixel of V views [V, H, W] on the plane z = 1 of its optical frame, [V, h * w, 3]."""
    pixels = pixel_grid(shape[1:])[step // 2 :: step, step // 2 :: step].reshape(-1, 2)
    matrices = np.frombuffer(intrinsics).reshape(-1, 3, 3)
    rays = np.stack([unproject(matrix, pixels, np.ones(len(pixels))) for matrix in matrices]).astype(np.float32)
    rays.flags.writeable = False
    return rays


def _thin(cloud: Cloud, voxel_m: float) -> Cloud:
    """The surest point of each voxel of the vehicle frame.

    Voxel and standard deviation go into one number, so that one sort of whole numbers does: the bits of a float32
    that is not negative are in its order, NaN comes last.
    """
    if not len(cloud):
        return cloud
    cells = np.floor(np.ascontiguousarray(cloud.points_vehicle.T) * np.float32(1 / voxel_m)).astype(np.int64)
    cells -= cells.min(axis=1, keepdims=True)
    bits = [int(top).bit_length() for top in cells.max(axis=1)]
    voxel = (cells[0] << bits[1] | cells[1]) << bits[2] | cells[2]
    # With voxels so small that the number overflows, the last binary digits of the standard deviation go.
    room = min(_STDDEV_BITS, 64 - sum(bits))
    spread = (cloud.stddev.view(np.uint32) & 0x7FFFFFFF) >> np.uint32(_STDDEV_BITS - room)
    key = voxel.astype(np.uint64) << np.uint64(room) | spread
    order = np.argsort(key)
    voxel = key[order] >> np.uint64(room)
    best = order[np.concatenate([[True], voxel[1:] != voxel[:-1]])]
    return Cloud(cloud.points_vehicle[best], cloud.rgb[best], cloud.stddev[best], cloud.view[best])
