"""Two cameras before a wall: exact depth agrees with itself, a wrong scale shows as what it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fsmde_ros.geometry import pixel_grid, transform, unproject
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.sweep import LidarScan, SurroundDepth, Sweep, View
from training.evaluation.overlap import disagreement, into_view, seen_by_another

WALL = 12.0  # metres before the vehicle


def wall_depth(camera: Camera, driven: float = 0.0) -> np.ndarray:
    """Depth [H, W] of the wall for a vehicle that has driven towards it."""
    rays = transform(
        camera.camera_to_vehicle, unproject(camera.intrinsics, pixel_grid(camera.size), np.ones(camera.size))
    )
    origin = camera.camera_to_vehicle[:3, 3]
    return np.asarray((WALL - driven - origin[0]) / (rays[..., 0] - origin[0]))


def moved(driven: float) -> np.ndarray:
    pose = np.eye(4)
    pose[0, 3] = driven
    return pose


@pytest.fixture
def wall(make_camera: Callable[..., Camera]) -> tuple[Sweep, np.ndarray]:
    """A sweep before the wall with its true depths: left and right overlap, the third camera looks back."""
    cameras = (
        make_camera("left", 0.3, (1.0, 0.5, 1.5)),
        make_camera("right", -0.3, (1.1, -0.5, 1.4)),
        make_camera("back", np.pi, (-1.0, 0.0, 1.5)),
    )
    y, z = np.meshgrid(np.linspace(-8, 8, 60), np.linspace(-2, 5, 30))
    points = np.column_stack([np.full(y.size, WALL), y.ravel(), z.ravel()])
    image = np.zeros((*cameras[0].size, 3), np.uint8)
    sweep = Sweep(Rig(cameras), 0, {c.name: View(image, 0) for c in cameras}, LidarScan(points, 0))
    back = np.full(cameras[2].size, np.inf)
    return sweep, np.stack([wall_depth(cameras[0]), wall_depth(cameras[1]), back])


def depth_of(sweep: Sweep, depth: np.ndarray) -> SurroundDepth:
    return SurroundDepth(sweep.rig, 0, depth.astype(np.float32), np.ones(depth.shape, np.float32))


def test_exact_depth_does_not_disagree(wall: tuple[Sweep, np.ndarray]) -> None:
    sweep, truth = wall
    found = disagreement(sweep, depth_of(sweep, truth), 0.1, 80.0)
    assert set(found.at_lidar) == {("left", "right")}
    assert set(found.dense) == {("left", "right"), ("right", "left")}
    for shares in (*found.at_lidar.values(), *found.dense.values()):
        assert len(shares) > 50
        assert shares.max() < 2e-3  # what is left is bilinear sampling: a plane is linear in disparity, not in depth


def test_a_view_that_is_a_tenth_too_far_disagrees_by_a_tenth(wall: tuple[Sweep, np.ndarray]) -> None:
    sweep, truth = wall
    scaled = truth * np.array([1.0, 1.1, 1.0])[:, None, None]
    found = disagreement(sweep, depth_of(sweep, scaled), 0.1, 80.0)
    assert found.at_lidar["left", "right"].mean() == pytest.approx(0.1, abs=2e-3)
    assert np.median(found.dense["left", "right"]) == pytest.approx(0.1, abs=2e-3)


def test_sky_and_no_value_do_not_count_in_the_dense_measure(wall: tuple[Sweep, np.ndarray]) -> None:
    sweep, truth = wall
    truth[0], truth[1] = np.inf, np.nan
    assert not disagreement(sweep, depth_of(sweep, truth), 0.1, 80.0).dense


@pytest.mark.parametrize(("said", "clamped"), [(100.0, 30.0), (0.5, 2.0)])
def test_what_is_said_beyond_the_range_counts_as_its_end(
    wall: tuple[Sweep, np.ndarray], said: float, clamped: float
) -> None:
    sweep, truth = wall
    beyond, end = truth.copy(), truth.copy()
    beyond[1], end[1] = said, clamped
    found, expected = (disagreement(sweep, depth_of(sweep, depth), 2.0, 30.0) for depth in (beyond, end))
    np.testing.assert_array_equal(found.at_lidar["left", "right"], expected.at_lidar["left", "right"])
    np.testing.assert_array_equal(found.dense["left", "right"], expected.dense["left", "right"])
    assert ("right", "left") not in found.dense
    assert ("right", "left") in expected.dense


def test_no_value_does_not_count_at_the_lidar(wall: tuple[Sweep, np.ndarray]) -> None:
    sweep, truth = wall
    whole = disagreement(sweep, depth_of(sweep, truth), 0.1, 80.0).at_lidar["left", "right"]
    truth[0, :18] = np.nan
    half = disagreement(sweep, depth_of(sweep, truth), 0.1, 80.0).at_lidar["left", "right"]
    assert 10 < len(half) < len(whole) - 10
    assert not np.isnan(half).any()


@pytest.mark.parametrize("ahead", ["left", "right"])
def test_points_beyond_the_range_of_either_view_do_not_count(wall: tuple[Sweep, np.ndarray], ahead: str) -> None:
    """One view is 5 metres from the wall, the other 11."""
    still, truth = wall
    driven = {name: 6.0 * (name == ahead) for name in still.rig.names}
    views = {name: View(view.image, 0, moved(driven[name])) for name, view in still.views.items()}
    assert still.lidar is not None
    sweep = Sweep(still.rig, 0, views, LidarScan(still.lidar.points_vehicle, 0, vehicle_to_map=moved(0.0)))
    truth[:2] = [wall_depth(still.rig[name], driven[name]) for name in ("left", "right")]
    found = disagreement(sweep, depth_of(sweep, truth), 0.1, 80.0)
    assert len(found.at_lidar["left", "right"]) > 20
    assert len(found.dense) == 2
    for low, high in ((0.1, 8.0), (7.5, 80.0)):
        found = disagreement(sweep, depth_of(sweep, truth), low, high)
        assert not found.at_lidar
        assert not found.dense


def test_poses_take_account_of_the_way_between_the_exposures(wall: tuple[Sweep, np.ndarray]) -> None:
    still, truth = wall
    poses = {"left": moved(0.0), "right": moved(2.0), "back": moved(0.0)}
    views = {name: View(view.image, 0, poses[name]) for name, view in still.views.items()}
    assert still.lidar is not None
    lidar = LidarScan(still.lidar.points_vehicle, 0, vehicle_to_map=moved(0.0))
    driving = Sweep(still.rig, 0, views, lidar)
    truth[1] = wall_depth(still.rig["right"], driven=2.0)
    found = disagreement(driving, depth_of(driving, truth), 0.1, 80.0)
    assert found.at_lidar["left", "right"].max() < 2e-3
    assert found.dense["right", "left"].max() < 2e-3
    unaware = disagreement(still, depth_of(still, truth), 0.1, 80.0)
    assert unaware.dense["right", "left"].mean() > 0.1


def test_an_image_reaches_half_a_pixel_beyond_the_centres_of_its_outer_pixels(
    make_camera: Callable[..., Camera],
) -> None:
    rig = Rig((make_camera("a", 0.0, (0.0, 0.0, 1.0)), make_camera("b", 0.0, (0.0, 0.0, 1.0))))
    image = np.zeros((36, 61, 3), np.uint8)
    sweep = Sweep(rig, 0, {name: View(image, 0) for name in "ab"})
    within = np.array([[-0.4, 9.0], [60.4, 9.0], [9.0, -0.4], [9.0, 35.4]])
    beyond = np.array([[-0.6, 9.0], [60.6, 9.0], [9.0, -0.6], [9.0, 35.6]])
    assert into_view(sweep, "a", "b", within, np.full(4, 7.0))[2].all()
    assert not into_view(sweep, "a", "b", beyond, np.full(4, 7.0))[2].any()


@pytest.mark.parametrize("known", ["left", "right"])
def test_with_one_pose_alone_nothing_is_known_of_the_way(wall: tuple[Sweep, np.ndarray], known: str) -> None:
    still, _ = wall
    views = {name: View(view.image, 0, moved(2.0) if name == known else None) for name, view in still.views.items()}
    half_known = Sweep(still.rig, 0, views)
    pixels, depth = np.array([[55.0, 17.0]]), np.array([9.0])
    for found, expected in zip(
        into_view(half_known, "left", "right", pixels, depth),
        into_view(still, "left", "right", pixels, depth),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)


def test_points_go_to_the_other_view_and_back(wall: tuple[Sweep, np.ndarray]) -> None:
    sweep, _ = wall
    pixels, depth = np.array([[55.0, 17.0], [2.0, 17.0]]), np.array([9.0, 9.0])
    there, there_depth, inside = into_view(sweep, "left", "right", pixels, depth)
    np.testing.assert_array_equal(inside, [True, False])
    back, back_depth, _ = into_view(sweep, "right", "left", there, there_depth)
    np.testing.assert_allclose(back, pixels, atol=1e-9)
    np.testing.assert_allclose(back_depth, depth, atol=1e-9)
    np.testing.assert_array_equal(seen_by_another(sweep, "left", pixels, depth), [True, False])
