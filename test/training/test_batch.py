"""Samples from sweeps, and batches of rigs with different numbers of views."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import torch

from fsmde_ros.geometry import compose, invert, project, transform
from fsmde_ros.sweep import EncodedImage, LidarScan, Sweep, View
from training.augment import drop_views
from training.batch import Sample, collate, sample_from_sweep, select_views


def test_collate_pads_views_and_keeps_rays_finite(sample: Sample) -> None:
    small = select_views(sample, [2, 0, 1])
    batch = collate([sample, small])
    assert batch.images.shape == (2, 5, 3, 64, 96)
    assert batch.images.dtype == torch.uint8
    assert batch.present.tolist() == [[True] * 5, [True, True, True, False, False]]
    assert torch.linalg.det(batch.intrinsics).min() > 0
    assert torch.isnan(batch.lidar_depth[1, 3:]).all()
    assert torch.isnan(batch.dense_depth[1, 3:]).all()
    np.testing.assert_array_equal(batch.images[1, 1].permute(1, 2, 0).numpy(), sample.images[0])
    np.testing.assert_array_equal(batch.dense_depth[1, 0].numpy(), sample.dense_depth[2])


def test_adjacency_is_symmetric_and_leaves_missing_views_out(sample: Sample) -> None:
    ring = collate([sample]).adjacent[0]
    expected = torch.zeros(5, 5, dtype=torch.bool)
    for view in range(5):
        expected[view, (view + 1) % 5] = expected[(view + 1) % 5, view] = True
    assert torch.equal(ring, expected)
    assert not collate([drop_views(sample, [3])]).adjacent[0, 3].any()


def test_sample_of_a_sweep_projects_each_view_at_its_own_pose(sample: Sample) -> None:
    rig = sample.rig.resized((128, 192))
    rng = np.random.default_rng(0)
    points = rng.uniform([-20, -20, 0], [20, 20, 3], (500, 3))
    moved = np.eye(4)
    moved[:3, 3] = (0.7, 0.1, 0.0)
    picture = rng.integers(0, 255, (128, 192, 3), dtype=np.uint8)
    png = cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
    views = {"cam_1": View(EncodedImage(png, "png"), 0, moved), "cam_3": View(picture, 0, np.eye(4))}
    got = sample_from_sweep(Sweep(rig, 0, views, LidarScan(points, 0, vehicle_to_map=np.eye(4))), (64, 96))
    assert got.present.tolist() == [False, True, False, True, False]
    np.testing.assert_array_equal(got.images[1], got.images[3])
    assert not got.images[0].any()
    camera = sample.rig.cameras[1]
    seen = transform(compose(invert(camera.camera_to_vehicle), invert(moved)), points)
    pixels, depth = project(camera.intrinsics, seen[seen[:, 2] > 0.1])
    inside = (pixels > -0.5).all(1) & (pixels < [95.5, 63.5]).all(1)
    own = got.lidar[got.lidar[:, 0] == 1]
    np.testing.assert_allclose(own[:, 1:], np.column_stack([pixels, depth])[inside], atol=1e-4)
    assert np.isnan(got.dense_depth).all()


def test_a_sweep_without_lidar_gives_an_empty_raster(sample: Sample) -> None:
    views = {"cam_0": View(np.zeros((64, 96, 3), dtype=np.uint8), 0)}
    got = sample_from_sweep(Sweep(sample.rig, 0, views), (64, 96))
    assert got.lidar.shape == (0, 4)
    batch = collate([replace(got)])
    assert torch.isnan(batch.lidar_depth).all()
