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
    views, height, width = depth.depth[sample].shape
    depths, stddevs = (values[sample].reshape(views, -1) for values in (depth.depth, depth.stddev))  # [V, h * w]
    mounting = depth.rig.camera_to_vehicle().astype(np.float32)  # [V, 4, 4]
    points = mounting[:, :3, :3] @ _rays(depth.rig.intrinsics().tobytes(), depth.depth.shape, step)  # [V, 3, h * w]
    with np.errstate(invalid="ignore"):  # 0 * inf, of a ray along an axis in the sky, is no point that is kept
        points *= depths[:, None]
    points += mounting[:, :3, 3:]
    keep = _usable(depths, stddevs, config) & (np.einsum("vin,vin->vn", points, points) <= config.max_range_m**2)
    chosen = np.flatnonzero(keep)  # of all V * h * w
    kept, spread = points.transpose(1, 0, 2).reshape(3, -1).take(chosen, axis=1), stddevs.reshape(-1).take(chosen)
    if config.voxel_m > 0:
        surest = _surest(kept, spread, config.voxel_m)
        kept, spread, chosen = kept.take(surest, axis=1), spread.take(surest), chosen.take(surest)
    view, row, column = np.unravel_index(chosen, (views, height, width))
    colors = images[view, first + step * row, first + step * column]
    return Cloud(kept.T, colors, spread, index_in_rig[view])


def _usable(depth: NDArray[np.float32], stddev: NDArray[np.float32], config: FusionConfig) -> NDArray[np.bool_]:
    """Which pixels, of any shape, have a depth, sure enough."""
    keep: NDArray[np.bool_] = np.isfinite(depth) & (depth > 0)
    if config.max_relative_stddev > 0:
        keep &= stddev <= config.max_relative_stddev * depth
    if config.max_stddev_m > 0:
        keep &= stddev <= config.max_stddev_m
    return keep


@lru_cache(maxsize=8)  # a node has one rig; with a camera silent now and then, a few
def _rays(intrinsics: bytes, shape: tuple[int, int, int], step: int) -> NDArray[np.float32]:
    """Every ``step``-th pixel of V views [V, H, W] on the plane z = 1 of its optical frame, [V, 3, h * w]."""
    pixels = pixel_grid(shape[1:])[step // 2 :: step, step // 2 :: step].reshape(-1, 2)
    matrices = np.frombuffer(intrinsics).reshape(-1, 3, 3)
    rays = np.stack([unproject(matrix, pixels, np.ones(len(pixels))).T for matrix in matrices]).astype(np.float32)
    rays = np.ascontiguousarray(rays)
    rays.flags.writeable = False
    return rays


def _surest(points: NDArray[np.float32], stddev: NDArray[np.float32], voxel_m: float) -> NDArray[np.intp]:
    """Indices of the surest point of each voxel, of points [3, N] with standard deviations [N].

    Neighbouring pixels often fall into one voxel: of each run of points in one voxel the surest is found first. Then
    voxel and standard deviation go into one number, so that one sort of whole numbers does: the bits of a float32
    that is not negative are in its order, NaN comes last.
    """
    if not len(stddev):
        return np.zeros(0, dtype=np.intp)
    cells = np.floor(points * np.float32(1 / voxel_m)).astype(np.int32)
    cells -= cells.min(axis=1, keepdims=True)
    bits = [int(top).bit_length() for top in cells.max(axis=1)]
    x, y, z = cells.astype(np.uint64)
    voxel = (x << np.uint64(bits[1]) | y) << np.uint64(bits[2]) | z
    spread = (stddev.view(np.uint32) & np.uint32(0x7FFFFFFF)).astype(np.uint64)
    starts = np.flatnonzero(np.concatenate([[True], voxel[1:] != voxel[:-1]]))
    numbered = spread << np.uint64(32) | np.arange(len(spread), dtype=np.uint64)
    best = (np.minimum.reduceat(numbered, starts) & np.uint64(0xFFFFFFFF)).astype(np.intp)
    # With voxels so small that the number overflows, the last binary digits of the standard deviation go.
    room = min(_STDDEV_BITS, 64 - sum(bits))
    key = voxel[best] << np.uint64(room) | spread[best] >> np.uint64(_STDDEV_BITS - room)
    order = np.argsort(key)
    ordered = key[order] >> np.uint64(room)
    return best[order[np.concatenate([[True], ordered[1:] != ordered[:-1]])]]
