"""Sweeps with missing views, and the LiDAR of a sweep seen from its cameras."""

from __future__ import annotations

import numpy as np
import pytest

from fsmde_ros.errors import RigError
from fsmde_ros.geometry import rigid
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.sweep import LidarScan, SurroundDepth, Sweep, View, lidar_in_view

K = np.array([[100.0, 0, 50], [0, 100.0, 30], [0, 0, 1]])
FORWARD = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1.0]])
RIG = Rig(tuple(Camera(name, (61, 101), K, FORWARD) for name in ("left", "front", "right")))
IMAGE = np.zeros((61, 101, 3), np.uint8)


def sweep(points: list[list[float]], view_pose: np.ndarray | None = None, scan_pose: np.ndarray | None = None) -> Sweep:
    scan = LidarScan(np.array(points), stamp_ns=0, vehicle_to_map=scan_pose)
    return Sweep(RIG, 0, {"front": View(IMAGE, 10, view_pose)}, scan)


def test_missing_views_are_named_in_the_order_of_the_rig() -> None:
    assert sweep([]).missing == ("left", "right")
    assert sweep([]).present == ("front",)


def test_a_sweep_has_at_least_one_view_all_of_its_rig() -> None:
    with pytest.raises(RigError, match="at least one view"):
        Sweep(RIG, 0, {})
    with pytest.raises(RigError, match="'rear'"):
        Sweep(RIG, 0, {"rear": View(IMAGE, 0)})


def test_lidar_point_lands_where_geometry_says() -> None:
    """10 m ahead, 1 m to the left and 0.5 m above the camera: 10 px left, 5 px up of (50, 30)."""
    pixels, depth = lidar_in_view(sweep([[10.0, 1.0, 2.0], [-10, 0, 1.5], [10, 40, 1.5]]), "front")
    np.testing.assert_allclose(pixels, [[40, 25]])
    np.testing.assert_allclose(depth, [10])


def test_border_pixels_count_to_their_outer_edge() -> None:
    inside = [[100.0, 50.4, 1.5], [100, 50.6, 1.5]]
    pixels, _ = lidar_in_view(sweep(inside), "front")
    np.testing.assert_allclose(pixels, [[-0.4, 30]])


def test_ego_motion_between_scan_and_exposure_is_compensated() -> None:
    """The vehicle drives 2 m ahead between scan and exposure: a wall 10 m away is then 8 m away."""
    ahead = rigid([1, 0, 0, 0], [2, 0, 0])
    _, depth = lidar_in_view(sweep([[10.0, 0, 1.5]], view_pose=ahead, scan_pose=np.eye(4)), "front")
    np.testing.assert_allclose(depth, [8])
    _, depth = lidar_in_view(sweep([[10.0, 0, 1.5]], view_pose=ahead, scan_pose=None), "front")
    np.testing.assert_allclose(depth, [10])


def test_sweep_without_lidar_sees_no_points() -> None:
    pixels, depth = lidar_in_view(Sweep(RIG, 0, {"front": View(IMAGE, 0)}), "front")
    assert pixels.shape == (0, 2)
    assert depth.shape == (0,)


def test_surround_depth_checks_its_shape_and_gives_views_by_name() -> None:
    depth = np.arange(3 * 61 * 101, dtype=np.float32).reshape(3, 61, 101)
    result = SurroundDepth(RIG, 0, depth, depth / 10)
    np.testing.assert_array_equal(result.view("right")[0], depth[2])
    with pytest.raises(ValueError, match=r"\[V, H, W\]"):
        SurroundDepth(RIG, 0, depth[:, :-1], depth)
    with pytest.raises(RigError, match="no camera"):
        result.view("rear")
