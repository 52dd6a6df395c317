"""The fused cloud against a plain loop over pixels."""

from __future__ import annotations

import numpy as np
import pytest

from fsmde_ros.errors import ConfigError
from fsmde_ros.fusion import FusionConfig, fuse
from fsmde_ros.geometry import rigid
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.sweep import SurroundDepth

FORWARD = [0.5, -0.5, 0.5, -0.5]  # optical frame to vehicle: z of the camera is x of the vehicle


def make_rig(views=3, size=(9, 14)):
    cameras = []
    for i in range(views):
        k = np.array([[11.0 + i, 0, 6.2], [0, 12.0, 4.1], [0, 0, 1]])
        cameras.append(Camera(f"cam_{i}", size, k, rigid(FORWARD, [0.1 * i, -0.2 * i, 1.5])))
    return Rig(tuple(cameras))


def make_depth(rig, seed=0):
    rng = np.random.default_rng(seed)
    shape = (len(rig), *rig.cameras[0].size)
    depth = rng.uniform(1, 30, shape).astype(np.float32)
    stddev = (depth * rng.uniform(0.01, 0.5, shape)).astype(np.float32)
    depth[rng.random(shape) < 0.1] = np.nan
    depth[rng.random(shape) < 0.1] = np.inf
    depth[rng.random(shape) < 0.1] *= 0.02  # below a metre
    depth[rng.random(shape) < 0.1] *= -1
    depth[rng.random(shape) < 0.05] = 0
    stddev[~np.isfinite(depth)] = np.nan
    images = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    return SurroundDepth(rig, 1, depth, stddev), images


def plain_twin(depth, images, config):
    """The definition, pixel by pixel: {voxel or pixel: (point, rgb, stddev, view)}."""
    best = {}
    for v, camera in enumerate(depth.rig.cameras):
        k = camera.intrinsics
        for y in range(config.stride // 2, camera.size[0], config.stride):
            for x in range(config.stride // 2, camera.size[1], config.stride):
                d, s = float(depth.depth[v, y, x]), float(depth.stddev[v, y, x])
                if not np.isfinite(d) or d <= 0:
                    continue
                if config.max_relative_stddev and not s <= config.max_relative_stddev * d:
                    continue
                if config.max_stddev_m and not s <= config.max_stddev_m:
                    continue
                ray = [(x - k[0, 2]) / k[0, 0], (y - k[1, 2]) / k[1, 1], 1.0]
                point = camera.camera_to_vehicle[:3, :3] @ (np.array(ray) * d) + camera.camera_to_vehicle[:3, 3]
                if np.linalg.norm(point) > config.max_range_m:
                    continue
                cell = (v, y, x)
                if config.voxel_m:
                    cell = tuple(np.floor(point.astype(np.float32) / np.float32(config.voxel_m)).astype(int))
                if cell not in best or s < best[cell][2]:
                    best[cell] = (point, images[v, y, x], s, v)
    return best


@pytest.mark.parametrize(
    "config",
    [
        FusionConfig(stride=1),
        FusionConfig(stride=2, max_range_m=12.0),
        FusionConfig(stride=3, max_relative_stddev=0.2),
        FusionConfig(stride=1, max_stddev_m=1.5, voxel_m=1.0),
        FusionConfig(stride=1, max_stddev_m=0.4),
        FusionConfig(stride=1, voxel_m=4.0),
    ],
)
@pytest.mark.parametrize("views", [1, 3])
def test_fuse_equals_the_plain_loop(config, views):
    depth, images = make_depth(make_rig(views))
    cloud = fuse(depth, images, config)
    expected = plain_twin(depth, images, config)
    assert len(cloud) == len(expected) > 0

    def rows(points, rgb, stddev, view):
        return sorted(
            (*np.round(np.asarray(p, float), 3).tolist(), *map(int, c), round(float(s), 4), int(w))
            for p, c, s, w in zip(points, rgb, stddev, view, strict=True)
        )

    found = rows(cloud.points_vehicle, cloud.rgb, cloud.stddev, cloud.view)
    wanted = rows(*zip(*expected.values(), strict=True))
    np.testing.assert_allclose(np.array(found), np.array(wanted), atol=2e-3)


def test_the_surer_view_wins_a_voxel_and_unknown_stddev_loses():
    rig = Rig(
        tuple(
            Camera(n, (2, 2), np.array([[1e6, 0, 0.5], [0, 1e6, 0.5], [0, 0, 1]]), rigid(FORWARD, [0, 0, 0]))
            for n in "abc"
        )
    )
    depth = np.full((3, 2, 2), 5.05, np.float32)
    stddev = np.stack([np.full((2, 2), s, np.float32) for s in (0.4, 0.2, np.nan)])
    images = np.stack([np.full((2, 2, 3), c, np.uint8) for c in (10, 20, 30)])
    cloud = fuse(SurroundDepth(rig, 1, depth, stddev), images, FusionConfig(stride=2, voxel_m=0.5))
    assert len(cloud) == 1
    assert cloud.view.tolist() == [1]
    assert cloud.rgb.tolist() == [[20, 20, 20]]
    np.testing.assert_allclose(cloud.points_vehicle, [[5.05, 0, 0]], atol=1e-4)


@pytest.mark.parametrize("voxel_m", [0.0, 1.0])
def test_the_view_is_the_same_camera_whichever_others_are_missing(voxel_m):
    depth, images = make_depth(make_rig(2))
    config = FusionConfig(stride=1, voxel_m=voxel_m)
    of_two = fuse(depth, images, config)
    cameras = ("cam_9", "cam_0", "cam_8", "cam_1")
    cloud = fuse(SurroundDepth(depth.rig, depth.stamp_ns, depth.depth, depth.stddev, cameras), images, config)
    np.testing.assert_array_equal(cloud.view, np.array([1, 3], np.uint8)[of_two.view])
    np.testing.assert_array_equal(cloud.points_vehicle, of_two.points_vehicle)
    assert cloud.view.dtype == np.uint8


def before_cameras(places, stddev, config):
    """The cloud of cameras of one pixel, each 1 m behind its place [V, 3] and looking forward."""
    cameras = [
        Camera(f"cam_{i}", (1, 1), np.eye(3), rigid(FORWARD, np.subtract(place, [1.0, 0.0, 0.0])))
        for i, place in enumerate(places)
    ]
    shape = (len(cameras), 1, 1)
    depth = SurroundDepth(Rig(tuple(cameras)), 1, np.ones(shape, np.float32), np.reshape(stddev, shape).astype("f4"))
    return fuse(depth, np.zeros((*shape, 3), np.uint8), config)


def test_small_voxels_of_a_wide_scene_stay_apart():
    """12 bits for each axis: with all bits of the standard deviation the number would not fit."""
    places = 0.005 + np.array([[0, 0, 0], [20.48, 0, 0], [40, 40, 40], [40, 40, 40], [0, 40, 0]])
    cloud = before_cameras(places, [1, 1, 2, 1.5, np.nan], FusionConfig(stride=1, max_range_m=80, voxel_m=0.01))
    assert sorted(cloud.view.tolist()) == [0, 1, 3, 4]


def test_limits_are_inclusive_and_off_by_default():
    places, stddev = [[8.0, 0, 0], [0, 59.0, 0], [0, 0, 61.0]], [0.5, 100.0, 0.5]

    def kept(**limits):
        return before_cameras(places, stddev, FusionConfig(stride=1, **limits)).view.tolist()

    assert kept() == [0, 1]
    assert kept(max_range_m=61.0) == [0, 1, 2]
    assert kept(max_range_m=8.0) == kept(max_relative_stddev=0.5) == kept(max_stddev_m=0.5) == [0]
    assert FusionConfig().stride == 2


def test_images_of_another_size_are_refused():
    depth, images = make_depth(make_rig(2))
    with pytest.raises(ValueError, match=r"\(2, 9, 14, 3\), got \(2, 14, 9, 3\)"):
        fuse(depth, images.transpose(0, 2, 1, 3), FusionConfig())


def test_columns_are_those_of_a_pcl_cloud():
    depth, images = make_depth(make_rig(2))
    cloud = fuse(depth, images, FusionConfig())
    columns = cloud.columns()
    assert {name: column.dtype.str for name, column in columns.items()} == {
        "x": "<f4", "y": "<f4", "z": "<f4", "rgb": "<f4", "stddev": "<f4", "view": "|u1",
    }  # fmt: skip
    bits = columns["rgb"].view(np.uint32)
    np.testing.assert_array_equal(bits, [r * 65536 + g * 256 + b for r, g, b in cloud.rgb.astype(int)])


def test_nothing_in_range_gives_an_empty_cloud():
    rig = make_rig(2)
    nothing = np.full((2, 9, 14), np.inf, np.float32)
    depth = SurroundDepth(rig, 1, nothing, np.full_like(nothing, np.nan))
    cloud = fuse(depth, np.zeros((2, 9, 14, 3), np.uint8), FusionConfig(voxel_m=0.2))
    assert len(cloud) == 0
    assert len(cloud.columns()["rgb"]) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"stride": 0},
        {"max_range_m": 0.0},
        {"max_relative_stddev": -1.0},
        {"max_stddev_m": -1.0},
        {"voxel_m": float("nan")},
        {"voxel_m": 1.8e-6, "max_range_m": 1.0},
    ],
)
def test_bad_settings_are_refused(wrong):
    with pytest.raises(ConfigError, match="must be"):
        FusionConfig(**wrong)


def test_the_smallest_settings_are_accepted():
    FusionConfig(stride=1, max_range_m=1.0, voxel_m=2e-6)


@pytest.mark.filterwarnings("error")
def test_sky_straight_ahead_costs_no_warning() -> None:
    """Infinity times the 0 of a ray along an axis is no number, and no point either."""
    intrinsics = np.array([[100.0, 0, 32], [0, 100, 24], [0, 0, 1]])
    depth = np.full((1, 48, 64), np.inf, np.float32)
    depth[:, 30:] = 5
    rig = Rig((Camera("front", (48, 64), intrinsics, rigid(FORWARD, [0, 0, 1.5])),))
    cloud = fuse(SurroundDepth(rig, 0, depth, np.ones_like(depth)), np.zeros((1, 48, 64, 3), np.uint8), FusionConfig(1))
    assert len(cloud) == 18 * 64
