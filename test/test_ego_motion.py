"""The motion of the vehicle between the views of a sweep, with motions worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fsmde_ros.ego_motion import largest_move_m, rig_at_reference
from fsmde_ros.geometry import rigid, transform
from fsmde_ros.rig import Camera, Rig

K = np.array([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]])
FORWARD = rigid([0.5, -0.5, 0.5, -0.5], [1.5, 0.0, 1.5])


@pytest.fixture
def rig():
    return Rig((Camera("first", (80, 100), K, FORWARD), Camera("last", (80, 100), K, FORWARD)))


def straight(stamp_ns):
    """15 m/s along x of the map."""
    return rigid([1, 0, 0, 0], [15e-9 * stamp_ns, 2.0, 0.0])


def test_42_ms_at_15_metres_a_second_are_0_64_metres(rig):
    moved = rig_at_reference(rig, {"first": 0, "last": 42_600_000}, 0, straight)
    np.testing.assert_allclose(moved["first"].camera_to_vehicle, FORWARD, atol=1e-12)
    point = np.array([0.0, 0.0, 10.0])  # 10 m ahead of a camera 1.5 m ahead of the vehicle
    np.testing.assert_allclose(transform(moved["first"].camera_to_vehicle, point), [11.5, 0, 1.5], atol=1e-9)
    np.testing.assert_allclose(transform(moved["last"].camera_to_vehicle, point), [11.5 + 0.639, 0, 1.5], atol=1e-9)
    assert largest_move_m(rig, moved) == pytest.approx(0.639)


def test_a_turn_moves_points_round_the_vehicle(rig):
    def turning(stamp_ns):  # to the left, a right angle in a second
        angle = np.pi / 2 * stamp_ns / 1e9
        return rigid([np.cos(angle / 2), 0, 0, np.sin(angle / 2)], [0, 0, 0])

    moved = rig_at_reference(rig, {"first": 0, "last": 10**9}, 0, turning)
    point = transform(moved["last"].camera_to_vehicle, np.array([0.0, 0.0, 10.0]))
    np.testing.assert_allclose(point, [0, 11.5, 1.5], atol=1e-9)  # what was ahead is now to the left


def test_a_pose_that_is_not_known_leaves_the_sweep_as_it_is(rig):
    stamps = {"first": 0, "last": 42}
    assert rig_at_reference(rig, stamps, 0, lambda stamp: None) is None
    assert rig_at_reference(rig, stamps, 0, lambda stamp: straight(stamp) if stamp < 10 else None) is None


@pytest.mark.parametrize("far", [5.0, 60.0, 1e12, 1e308])
@pytest.mark.parametrize("later_ns", [42_600_000, -42_600_000])
def test_a_localisation_that_jumps_is_no_motion(rig, far, later_ns):
    jump = {0: rigid([1, 0, 0, 0], [0, 0, 0]), later_ns: rigid([1, 0, 0, 0], [far, -far, 0])}
    assert rig_at_reference(rig, {"first": 0, "last": later_ns}, 0, jump.get) is None


@pytest.mark.parametrize(("milliseconds", "metres", "is_motion"), [(0, 0.2, True), (0, 0.5, False), (200, 20, True)])
def test_how_far_a_vehicle_moves_depends_on_the_time_between_the_views(rig, milliseconds, metres, is_motion):
    poses = iter([0.0, 0.0, metres])  # of the reference and of each view; two may be of one stamp
    stamps = {"first": 0, "last": milliseconds * 1_000_000}
    moved = rig_at_reference(rig, stamps, 0, lambda stamp: rigid([1, 0, 0, 0], [next(poses), 0, 0]))
    assert (moved is not None) == is_motion
