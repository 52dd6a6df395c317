"""Samples from sweeps, and batches of rigs with different numbers of views."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import MagicMock

import cv2
import numpy as np
import pytest
import torch

from fsmde_ros.checkpoint import find_checkpoint, load_checkpoint
from fsmde_ros.errors import ImageError
from fsmde_ros.estimator import Estimator
from fsmde_ros.geometry import compose, invert, project, transform
from fsmde_ros.images import encode_jpeg
from fsmde_ros.rig import Rig
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


def test_views_are_adjacent_by_what_they_show_not_by_the_rims_of_their_inputs(sample: Sample) -> None:
    """Five cameras of 87 degrees that overlap; of the middle third of each, none does."""
    usable = np.zeros_like(sample.usable)
    usable[:, :, 32:64] = True
    assert collate([sample]).adjacent.any()
    assert not collate([replace(sample, usable=usable)]).adjacent.any()
    usable[2:4] = True
    wide = collate([replace(sample, usable=usable)]).adjacent[0]
    assert wide.nonzero().tolist() == [[2, 3], [3, 2]]


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


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_camera_that_is_mounted_turned_teaches_what_it_would_teach_upright(sample: Sample, turns: int) -> None:
    rig = sample.rig.resized((128, 192))
    rng = np.random.default_rng(0)
    points = rng.uniform([-20, -20, 0], [20, 20, 3], (2000, 3))
    pictures = {name: rng.integers(0, 255, (128, 192, 3), dtype=np.uint8) for name in ("cam_0", "cam_1")}
    dense = list(rng.uniform(1, 50, (5, 64, 96)).astype(np.float32))

    def seen(rig: Rig, pictures: dict[str, np.ndarray], dense: list[np.ndarray]) -> Sample:
        views = {name: View(picture, 0) for name, picture in pictures.items()}
        return sample_from_sweep(Sweep(rig, 0, views, LidarScan(points, 0)), (64, 96), dense)

    upright, mounted = seen(rig, pictures, dense), rig.cameras[1]
    about_axis = np.linalg.matrix_power(np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), turns)
    k, (height, width) = mounted.intrinsics, mounted.size
    x, y = k[0, 2], k[1, 2]
    middle = {1: (y, width - 1 - x), 2: (width - 1 - x, height - 1 - y), 3: (height - 1 - y, x)}[turns]
    focal = (k[1, 1], k[0, 0]) if turns % 2 else (k[0, 0], k[1, 1])
    turned = replace(
        mounted,
        size=(width, height) if turns % 2 else (height, width),
        intrinsics=[[focal[0], 0, middle[0]], [0, focal[1], middle[1]], [0, 0, 1]],
        camera_to_vehicle=mounted.camera_to_vehicle @ about_axis,
    )
    hung = seen(
        replace(rig, cameras=(rig.cameras[0], turned, *rig.cameras[2:])),
        {**pictures, "cam_1": np.ascontiguousarray(np.rot90(pictures["cam_1"], turns))},
        [dense[0], np.rot90(dense[1], turns), *dense[2:]],
    )
    np.testing.assert_array_equal(hung.images, upright.images)
    np.testing.assert_array_equal(hung.dense_depth, upright.dense_depth)
    np.testing.assert_allclose(hung.lidar, upright.lidar, atol=1e-4)
    np.testing.assert_allclose(hung.rig.intrinsics(), upright.rig.intrinsics())
    np.testing.assert_allclose(hung.rig.camera_to_vehicle(), upright.rig.camera_to_vehicle(), atol=1e-12)


def test_the_rim_of_an_image_of_another_shape_teaches_nothing(sample: Sample) -> None:
    rig = sample.rig.resized((128, 128))
    picture = np.full((128, 128, 3), 255, np.uint8)
    points = np.random.default_rng(0).uniform([-20, -20, 0], [20, 20, 3], (2000, 3))
    square = replace(
        rig, cameras=tuple(replace(c, intrinsics=[[64, 0, 64], [0, 64, 64], [0, 0, 1]]) for c in rig.cameras)
    )
    sweep = Sweep(square, 0, {"cam_0": View(picture, 0)}, LidarScan(points, 0))
    got = sample_from_sweep(sweep, (64, 96), np.full((5, 128, 128), 7.0, np.float32))
    is_rim = (got.images[0] != 255).any(-1)
    assert 0.3 < is_rim.mean() < 0.4
    np.testing.assert_array_equal(np.isnan(got.dense_depth[0]), is_rim)
    np.testing.assert_array_equal(~got.usable[0], is_rim)
    assert torch.equal(collate([got]).usable[0].any(-1).any(-1), torch.tensor([True] + [False] * 4))  # of present views
    assert len(got.lidar) > 50
    x, y = np.rint(got.lidar[:, 1:3]).astype(int).T
    assert not is_rim[y, x].any()


def test_points_on_the_own_vehicle_are_no_labels(sample: Sample) -> None:
    rig = sample.rig.resized((128, 192))
    points = np.random.default_rng(0).uniform([-20, -20, 0], [20, 20, 3], (2000, 3))
    lower_half = [[-0.5, 63.5], [191.5, 63.5], [191.5, 127.5], [-0.5, 127.5]]
    occluded = replace(rig, cameras=(replace(rig.cameras[0], self_occlusion=(lower_half,)), *rig.cameras[1:]))
    picture = np.zeros((128, 192, 3), np.uint8)
    views = {"cam_0": View(picture, 0), "cam_1": View(picture, 0)}
    plain, got = (sample_from_sweep(Sweep(r, 0, views, LidarScan(points, 0)), (64, 96)) for r in (rig, occluded))
    first = plain.lidar[:, 0] == 0
    assert (first & (plain.lidar[:, 2] > 33)).sum() > 10
    kept = plain.lidar[~first | (np.rint(plain.lidar[:, 2]) < 31)]
    np.testing.assert_array_equal(got.lidar[(got.lidar[:, 0] != 0) | (np.rint(got.lidar[:, 2]) < 31)], kept)
    assert not ((got.lidar[:, 0] == 0) & (np.rint(got.lidar[:, 2]) > 32)).any()
    assert got.rig.cameras[0].self_occlusion == ()  # augmentation moves the pixels
    assert not got.usable[0, 32:].any()
    assert got.usable[0, :31].all()
    assert got.usable[1:].all()


def test_a_sweep_without_lidar_gives_an_empty_raster(sample: Sample) -> None:
    views = {"cam_0": View(np.zeros((64, 96, 3), dtype=np.uint8), 0)}
    got = sample_from_sweep(Sweep(sample.rig, 0, views), (64, 96))
    assert got.lidar.shape == (0, 4)
    batch = collate([replace(got)])
    assert torch.isnan(batch.lidar_depth).all()


@pytest.mark.parametrize("lens", [(), (-0.2, 0.05, 0.0, 0.0)])
def test_a_student_learns_from_the_very_pixels_that_it_will_be_given(sample: Sample, lens: tuple[float, ...]) -> None:
    """A JPEG that is decoded at a half is not the one that is decoded whole and then shrunk."""
    size = (64, 96)
    large = sample.rig.resized((512, 768))
    model = "plumb_bob" if lens else "none"
    cameras = [replace(c, distortion_model=model, distortion=np.array(lens)) if lens else c for c in large.cameras]
    rig = Rig(tuple(cameras))
    rng = np.random.default_rng(0)
    pictures = {name: encode_jpeg(rng.integers(0, 255, (512, 768, 3), dtype=np.uint8)) for name in rig.names}
    sweep = Sweep(rig, 0, {name: View(picture, 0) for name, picture in pictures.items()})
    card = replace(load_checkpoint(find_checkpoint("small"))[1], input_size=size)
    given = Estimator(MagicMock(), card).prepare(sweep).images
    np.testing.assert_array_equal(sample_from_sweep(sweep, size).images.transpose(0, 3, 1, 2), given)


def test_an_image_of_another_size_than_its_camera_is_refused(sample: Sample) -> None:
    wrong = encode_jpeg(np.zeros((128, 96, 3), dtype=np.uint8))
    for image in (wrong, np.zeros((128, 96, 3), dtype=np.uint8)):
        with pytest.raises(ImageError, match=r"camera 'cam_2' has shape \(128, 96, 3\).*\(64, 96, 3\)"):
            sample_from_sweep(Sweep(sample.rig, 0, {"cam_2": View(image, 0)}), (32, 48))
