"""The mirrored world: a network shown it, and what it says brought back."""

from __future__ import annotations

import numpy as np
import pytest

from fsmde_ros.backends import Prediction
from fsmde_ros.geometry import ground_plane_depth, rigid, transform, unproject
from training.mirrored import MIRROR, MirroredBackend, mirrored_intrinsics, mirrored_pose
from training.mounting_error import MountingError
from training.town.rigs import nuscenes_rig

SIZE = (48, 80)  # H, W


class GroundPlane:
    """Knows the road, and each pixel's colour as its stddev: what it says follows from what it is told alone."""

    name = "ground plane"

    def __call__(
        self,
        images: np.ndarray,
        intrinsics: np.ndarray,
        camera_to_vehicle: np.ndarray,
        ground_z: float,
        present: np.ndarray,
    ) -> Prediction:
        depth = np.stack(
            [
                ground_plane_depth(k, pose, images.shape[-2:], ground_z, cap=30.0)
                for k, pose in zip(intrinsics, camera_to_vehicle, strict=True)
            ]
        ).astype(np.float32)
        return Prediction(depth, images[:, 0].astype(np.float32), images[:, 1] / np.float32(255))


def test_the_road_of_the_mirrored_world_brought_back_is_the_road() -> None:
    rig = MountingError(pitch=0.05, roll=0.15).told(nuscenes_rig(SIZE))  # else a row of a level camera has one depth
    images = np.random.default_rng(0).integers(0, 256, (len(rig), 3, *SIZE), dtype=np.uint8)
    given = images, rig.intrinsics(), rig.camera_to_vehicle(), rig.ground_z, np.ones(len(rig), dtype=bool)
    backend = GroundPlane()
    mirrored = MirroredBackend(backend)
    assert mirrored.name == "ground plane"
    for said, expected in zip(mirrored(*given), backend(*given), strict=True):
        np.testing.assert_allclose(said, expected, rtol=1e-5)
    # flipped images with the rig as it is would show another road
    flipped = backend(images[..., ::-1], *given[1:]).depth[..., ::-1]
    assert np.abs(flipped - backend(*given).depth).max() > 1.0


def test_a_pixel_and_its_mirror_image_are_of_mirrored_points() -> None:
    k = np.array([[60.0, 1.5, 41.0], [0.0, 58.0, 22.0], [0.0, 0.0, 1.0]])
    wxyz = np.random.default_rng(1).normal(size=4)
    pose = rigid(wxyz / np.linalg.norm(wxyz), (1.2, 0.4, 1.5))
    assert np.linalg.det(mirrored_pose(pose)[:3, :3]) == pytest.approx(1)
    pixels, depth = np.array([[3.0, 7.0], [70.0, 40.0], [41.5, 20.0]]), np.array([4.0, 9.0, 30.0])
    points = transform(pose, unproject(k, pixels, depth))
    opposite = np.column_stack([SIZE[1] - 1 - pixels[:, 0], pixels[:, 1]])
    mirrored = transform(mirrored_pose(pose), unproject(mirrored_intrinsics(k, SIZE[1]), opposite, depth))
    np.testing.assert_allclose(mirrored, transform(MIRROR, points), atol=1e-9)
