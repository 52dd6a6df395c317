"""The rays of feature cells against ``fsmde_ros.geometry``, which knows nothing of batches or strides."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fsmde_ros.geometry import ground_plane_depth, pixel_grid, rigid, rotation_from_quaternion, transform, unproject
from fsmde_ros.network.rays import POSITION_CHANNELS, RAY_CHANNELS, REFERENCE_FOCAL_LENGTH, ray_maps

H, W, GROUND = 32, 64, -0.3
RANGE = (0.5, 200.0)
K = np.array([[50.0, 0.7, 30.2], [0, 55.0, 12.9], [0, 0, 1]])  # with skew
# Optical frame of a camera that looks forward, rolled and pitched a little, at two places.
FORWARD = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])


def pose(wxyz: tuple[float, ...], translation: tuple[float, ...]) -> np.ndarray:
    matrix = rigid((1, 0, 0, 0), translation)
    matrix[:3, :3] = rotation_from_quaternion(wxyz) @ FORWARD
    return matrix


POSES = [pose((1, 0.05, 0.1, 0.02), (1.7, 0.1, 1.5)), pose((0.2, 0.02, 0.03, 0.9), (-0.5, -0.4, 1.1))]
DEEPER = np.diag([0.5, 0.8, 1.0]) @ K


def maps(stride: int):  # type: ignore[no-untyped-def]
    intrinsics = torch.from_numpy(np.stack([[K, DEEPER]]))
    return ray_maps(
        intrinsics,
        torch.from_numpy(np.stack([POSES])),
        torch.tensor([GROUND], dtype=torch.float64),
        (H // stride, W // stride),
        stride,
        RANGE,
    )


@pytest.mark.parametrize("stride", [1, 4, 32])
@pytest.mark.parametrize("view", [0, 1])
def test_rays_and_ground_agree_with_geometry(stride: int, view: int) -> None:
    result, k = maps(stride), (K, DEEPER)[view]
    pixels = (pixel_grid((H // stride, W // stride)) + 0.5) * stride - 0.5
    points = transform(POSES[view], unproject(k, pixels, np.ones(pixels.shape[:2])))
    rays = points - POSES[view][:3, 3]
    expected = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    np.testing.assert_allclose(result.direction[0, view].permute(1, 2, 0), expected, atol=1e-12)
    np.testing.assert_allclose(result.centre[0, view], [*POSES[view][:2, 3], POSES[view][2, 3] - GROUND])
    assert float(result.log_focal[0, view]) == pytest.approx(np.log(k[0, 0] / REFERENCE_FOCAL_LENGTH))

    fall = rays[..., 2]
    with np.errstate(divide="ignore"):
        depth = (GROUND - POSES[view][2, 3]) / fall
    meets = (fall < 0) & (depth < RANGE[1])
    np.testing.assert_array_equal(result.meets_ground[0, view].numpy().astype(bool), meets)
    np.testing.assert_allclose(result.log_ground_depth[0, view].exp()[meets], depth[meets].clip(RANGE[0]))
    np.testing.assert_allclose(result.log_ground_depth[0, view].exp()[~meets], RANGE[1])


@pytest.mark.parametrize("view", [0, 1])
def test_ground_depth_of_every_pixel_is_that_of_the_baseline(view: int) -> None:
    expected = ground_plane_depth((K, DEEPER)[view], POSES[view], (H, W), GROUND, cap=RANGE[1])
    assert 0.1 < (expected < RANGE[1]).mean() < 0.95
    np.testing.assert_allclose(maps(1).log_ground_depth[0, view].exp(), expected, rtol=1e-9)


def test_a_camera_below_the_ground_meets_none() -> None:
    below = POSES[0].copy()
    below[2, 3] = GROUND - 1
    result = ray_maps(
        torch.from_numpy(K)[None, None], torch.from_numpy(below)[None, None], torch.tensor([GROUND]), (H, W), 1, RANGE
    )
    assert not result.meets_ground.any()
    assert torch.isfinite(result.features()).all()


def test_features_have_their_channels_and_stay_small() -> None:
    result = maps(4)
    assert result.features().shape == (1, 2, RAY_CHANNELS, H // 4, W // 4)
    assert result.positions().shape == (1, 2, POSITION_CHANNELS, H // 4, W // 4)
    torch.testing.assert_close(result.positions()[:, :, :RAY_CHANNELS], result.features())
    assert float(result.positions().abs().max()) < 3
