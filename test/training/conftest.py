"""A sweep of a flat world with one wall: depth known by construction in every pixel."""

from __future__ import annotations

import numpy as np
import pytest

from fsmde_ros.geometry import pixel_grid, transform, unproject
from fsmde_ros.rig import Camera, Rig
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
        intrinsics = np.array([[50.0 + index, 0, 46.0], [0, 49.0, 33.0 + index], [0, 0, 1]])
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
    )


@pytest.fixture
def sample() -> Sample:
    return make_sample()


@pytest.fixture
def made_up_rig() -> Rig:
    return make_rig()
