"""A sweep of a flat world with one wall: depth known by construction in every pixel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fsmde_ros.geometry import pixel_grid, transform, unproject
from fsmde_ros.images import encode_jpeg
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.sweep import LidarScan, Sweep, View
from training.batch import Sample

SIZE = (64, 96)
FORWARD = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


def make_rig(views: int = 5, height: float = 1.5) -> Rig:
    cameras = []
    for index in range(views):
        yaw = 2 * np.pi * index / views + 0.1
        turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        matrix = np.eye(4)
        matrix[:3, :3] = turn @ FORWARD
        matrix[:3, 3] = (0.5 * np.cos(yaw), 0.4 * np.sin(yaw), height + 0.05 * index)
        intrinsics = np.array([[50.0 + 0.5 * index, 0, 46.0], [0, 49.0, 33.0 + index], [0, 0, 1]])
        cameras.append(Camera(f"cam_{index}", SIZE, intrinsics, matrix))
    return Rig(tuple(cameras))


def true_depth(rig: Rig) -> np.ndarray:
    """Depth [V, H, W] of a road at z = 0 and a wall at y = 6 m, 4 m high; +inf above."""
    depths = []
    for camera in rig.cameras:
        points = unproject(camera.intrinsics, pixel_grid(camera.size), np.ones(camera.size))
        ends = transform(camera.camera_to_vehicle, points)
        centre = camera.camera_to_vehicle[:3, 3]
        ray = ends - centre
        with np.errstate(divide="ignore", invalid="ignore"):
            ground = np.where(ray[..., 2] < 0, -centre[2] / ray[..., 2], np.inf)
            wall = np.where(ray[..., 1] > 0, (6 - centre[1]) / ray[..., 1], np.inf)
            top = centre[2] + wall * ray[..., 2]
        wall = np.where(top < 4, wall, np.inf)
        depth = np.minimum(ground, wall)
        depths.append(np.where(depth > 100, np.inf, depth))
    return np.stack(depths).astype(np.float32)


def make_sample(views: int = 5, seed: int = 0) -> Sample:
    """Images that show the log depth, LiDAR points at random pixel centres."""
    rng = np.random.default_rng(seed)
    rig = make_rig(views)
    dense = true_depth(rig)
    grey = np.where(np.isfinite(dense), 255 * np.log(dense) / np.log(200), 255).clip(0, 255)
    lidar = []
    for view in range(views):
        x, y = rng.integers(0, SIZE[1], 400), rng.integers(0, SIZE[0], 400)
        depth = dense[view, y, x]
        lidar.append(np.column_stack([np.full(400, view), x, y, depth])[np.isfinite(depth)])
    return Sample(
        rig=rig,
        images=np.repeat(grey[..., None], 3, axis=3).astype(np.uint8),
        present=np.ones(views, dtype=bool),
        lidar=np.concatenate(lidar).astype(np.float32),
        dense_depth=dense,
        teacher_disparity=np.where(np.isfinite(dense), 3 / dense + 1, 1).astype(np.float32),
        usable=np.ones(dense.shape, dtype=bool),
        vehicle_to_common=np.tile(np.eye(4), (views, 1, 1)),
    )


@pytest.fixture
def sample() -> Sample:
    return make_sample()


@pytest.fixture
def made_up_rig() -> Rig:
    return make_rig()


def make_standing_drive(rig: Rig, sweeps: int = 6) -> list[Sweep]:
    """A vehicle that stands in a field of points, its pictures smooth so that JPEG keeps them."""
    result = []
    for i in range(sweeps):
        at = 1_600_000_000_000_000_000 + i * 100_000_000
        rng = np.random.default_rng(i)
        shade = np.linspace(20 + 20 * i, 120 + 20 * i, rig.cameras[0].size[1])[None, :, None]
        pixels = np.broadcast_to(shade, (*rig.cameras[0].size, 3)).astype(np.uint8)
        points = np.column_stack([rng.uniform(-30, 30, (4000, 2)), rng.uniform(0, 3, 4000)])
        views = {name: View(encode_jpeg(pixels, 95), at, np.eye(4)) for name in rig.names}
        result.append(Sweep(rig, at, views, LidarScan(points, at, vehicle_to_map=np.eye(4))))
    return result


@pytest.fixture
def standing_drive() -> Callable[..., list[Sweep]]:
    """``make_standing_drive``."""
    return make_standing_drive
