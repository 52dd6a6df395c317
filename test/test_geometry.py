"""Geometry by properties and by hand-worked figures; OpenCV and SciPy-free twins where they exist."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fsmde_ros.geometry import (
    compose,
    ground_plane_depth,
    ground_plane_depth_at,
    interpolate_rigid,
    invert,
    pixel_grid,
    project,
    quaternion_from_rotation,
    rigid,
    rotation_from_quaternion,
    scale_intrinsics,
    transform,
    unproject,
)

finite = st.floats(-50, 50, allow_nan=False)
quaternions = arrays(np.float64, 4, elements=st.floats(-1, 1)).filter(lambda q: np.linalg.norm(q) > 1e-3)
translations = arrays(np.float64, 3, elements=finite)
points = arrays(np.float64, (5, 3), elements=finite)
intrinsics = st.builds(
    lambda fx, fy, cx, cy: np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]),
    st.floats(50, 3000),
    st.floats(50, 3000),
    st.floats(0, 2000),
    st.floats(0, 1000),
)

# Looks along +x of the vehicle: camera x is -y of the vehicle, camera y is -z.
FORWARD = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1.0]])


def test_a_quarter_turn_and_a_step_by_hand() -> None:
    a_to_b = rigid([1, 0, 0, 1], [10, 20, 30])
    np.testing.assert_allclose(a_to_b, [[0, -1, 0, 10], [1, 0, 0, 20], [0, 0, 1, 30], [0, 0, 0, 1]], atol=1e-15)
    np.testing.assert_allclose(transform(a_to_b, [[1, 2, 3], [0, 0, 0]]), [[8, 21, 33], [10, 20, 30]])


@given(quaternions, translations, points)
def test_invert_undoes_transform(q: np.ndarray, t: np.ndarray, p: np.ndarray) -> None:
    a_to_b = rigid(q, t)
    np.testing.assert_allclose(transform(invert(a_to_b), transform(a_to_b, p)), p, atol=1e-9)
    np.testing.assert_allclose(compose(invert(a_to_b), a_to_b), np.eye(4), atol=1e-12)


@given(quaternions, translations, quaternions, translations, points)
def test_compose_applies_the_last_first(
    q1: np.ndarray, t1: np.ndarray, q2: np.ndarray, t2: np.ndarray, p: np.ndarray
) -> None:
    a_to_b, b_to_c = rigid(q1, t1), rigid(q2, t2)
    np.testing.assert_allclose(
        transform(compose(b_to_c, a_to_b), p), transform(b_to_c, transform(a_to_b, p)), atol=1e-8
    )


@given(quaternions)
def test_quaternion_round_trip(q: np.ndarray) -> None:
    unit = q / np.linalg.norm(q)
    back = quaternion_from_rotation(rotation_from_quaternion(q))
    assert abs(float(np.dot(unit, back))) == pytest.approx(1.0, abs=1e-12)
    assert back[0] >= 0


@given(arrays(np.float64, 3, elements=st.floats(-3, 3)))
def test_rotation_agrees_with_rodrigues(axis_angle: np.ndarray) -> None:
    angle = float(np.linalg.norm(axis_angle))
    assume(angle > 1e-6)
    axis = axis_angle / angle
    q = np.concatenate([[np.cos(angle / 2)], np.sin(angle / 2) * axis])
    np.testing.assert_allclose(rotation_from_quaternion(q), cv2.Rodrigues(axis_angle)[0], atol=1e-9)


@pytest.mark.parametrize("q", [[0, 0, 0, 0], [np.nan, 0, 0, 1]])
def test_a_quaternion_without_length_is_refused(q: list[float]) -> None:
    with pytest.raises(ValueError, match="finite length"):
        rotation_from_quaternion(q)


@given(intrinsics, arrays(np.float64, (6, 2), elements=st.floats(0, 2000)), st.floats(0.1, 200))
def test_project_undoes_unproject(k: np.ndarray, pixels: np.ndarray, depth: float) -> None:
    points_camera = unproject(k, pixels, np.full(6, depth))
    back, back_depth = project(k, points_camera)
    np.testing.assert_allclose(back, pixels, atol=1e-6)
    np.testing.assert_allclose(back_depth, depth)


def test_project_agrees_with_opencv() -> None:
    k = np.array([[700.0, 0, 320], [0, 650.0, 170], [0, 0, 1]])
    p = np.array([[1.0, 2, 10], [-3, 0.5, 4]])
    expected = cv2.projectPoints(p, np.zeros(3), np.zeros(3), k, None)[0][:, 0]
    np.testing.assert_allclose(project(k, p)[0], expected)


def test_points_behind_the_camera_have_no_pixel() -> None:
    pixels, depth = project(np.eye(3), [[1.0, 1, -2], [1, 1, 0]])
    assert np.isnan(pixels).all()
    np.testing.assert_array_equal(depth, [-2, 0])


@given(intrinsics, st.integers(2, 900), st.integers(2, 1600), st.integers(2, 900), st.integers(2, 1600))
def test_scaling_intrinsics_keeps_the_corners_of_the_image(k: np.ndarray, h: int, w: int, h2: int, w2: int) -> None:
    """The outer border of the first and last pixel, not their centres, map onto each other."""
    scaled = scale_intrinsics(k, (h, w), (h2, w2))
    corners = np.array([[-0.5, -0.5], [w - 0.5, h - 0.5]])
    corners_scaled = np.array([[-0.5, -0.5], [w2 - 0.5, h2 - 0.5]])
    np.testing.assert_allclose(
        unproject(k, corners, np.ones(2)), unproject(scaled, corners_scaled, np.ones(2)), atol=1e-6
    )


def test_half_pixel_rule_by_hand() -> None:
    scaled = scale_intrinsics([[100, 0, 49.5], [0, 100, 24.5], [0, 0, 1]], (50, 100), (25, 50))
    np.testing.assert_allclose(scaled, [[50, 0, 24.5], [0, 50, 12.0], [0, 0, 1]])


def test_pixel_grid_is_x_then_y() -> None:
    grid = pixel_grid((2, 3))
    assert grid.shape == (2, 3, 2)
    np.testing.assert_array_equal(grid[1, 2], [2, 1])


def test_ground_plane_of_a_level_camera_by_hand() -> None:
    """A pixel f * h / d below the horizon sees the ground d metres ahead."""
    k = np.array([[100.0, 0, 2], [0, 100.0, 10], [0, 0, 1]])
    depth = ground_plane_depth(k, FORWARD, (41, 5))
    assert depth.shape == (41, 5)
    np.testing.assert_allclose(depth[40], 1.5 * 100 / 30)
    np.testing.assert_allclose(depth[20], 15.0)
    assert (depth[:18] == 20.0).all()
    np.testing.assert_allclose(ground_plane_depth(k, FORWARD, (41, 5), ground_z=-0.5)[40], 2.0 * 100 / 30)
    np.testing.assert_allclose(ground_plane_depth(k, FORWARD, (41, 5), ground_z=1.2)[40], 0.3 * 100 / 30)
    assert (ground_plane_depth(k, FORWARD, (41, 5), cap=5.5)[:37] == 5.5).all()
    np.testing.assert_allclose(ground_plane_depth_at(k, FORWARD, [[2.0, 40.0], [2.0, 0.0]]), [5.0, 20.0])


def test_a_camera_under_the_ground_sees_none_of_it() -> None:
    k = np.array([[100.0, 0, 2], [0, 100.0, 10], [0, 0, 1]])
    assert (ground_plane_depth(k, FORWARD, (41, 5), ground_z=2.0) == 20.0).all()


@given(quaternions, translations, quaternions, translations)
def test_interpolation_meets_both_ends(q0: np.ndarray, t0: np.ndarray, q1: np.ndarray, t1: np.ndarray) -> None:
    start, end = rigid(q0, t0), rigid(q1, t1)
    np.testing.assert_allclose(interpolate_rigid(start, end, 0.0), start, atol=1e-6)
    np.testing.assert_allclose(interpolate_rigid(start, end, 1.0), end, atol=1e-6)


def about_z(degrees: float, x: float) -> np.ndarray:
    half = np.radians(degrees) / 2
    return rigid([np.cos(half), 0, 0, np.sin(half)], [x, 0, 0])


@pytest.mark.parametrize("degrees", [40, 2e-5])
def test_interpolation_turns_at_a_constant_rate_and_extrapolates(degrees: float) -> None:
    for fraction in (0.25, 0.5, 1.5):
        expected = about_z(degrees * fraction, 2 * fraction)
        np.testing.assert_allclose(interpolate_rigid(np.eye(4), about_z(degrees, 2), fraction), expected, atol=1e-12)


def test_interpolation_takes_the_shorter_way() -> None:
    found = interpolate_rigid(about_z(170, 0), about_z(-170, 4), 0.25)
    np.testing.assert_allclose(found, about_z(175, 1), atol=1e-12)
