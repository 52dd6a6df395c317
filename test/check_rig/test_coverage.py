from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fsmde_ros.check_rig.coverage import coverage, road_counts
from fsmde_ros.rig import Camera, Rig


def ideal(yaws: list[float], z: float = 1.0) -> Rig:
    """Cameras of exactly 90 degrees, all at one point, at the height that is looked at."""
    cameras = []
    for i, yaw in enumerate(yaws):
        s, c = np.sin(np.radians(yaw)), np.cos(np.radians(yaw))
        pose = [[s, 0, c, 0], [-c, 0, s, 0], [0, -1, 0, z], [0, 0, 0, 1]]
        cameras.append(Camera(f"c{i}", (100, 100), [[50, 0, 49.5], [0, 50, 49.5], [0, 0, 1]], np.array(pose)))
    return Rig(tuple(cameras))


def test_one_camera_sees_a_quarter() -> None:
    seen = coverage(ideal([0]), 20.0)
    assert (seen.unseen, seen.once, seen.more) == pytest.approx((0.75, 0.25, 0.0), abs=0.003)
    [(start, end)] = seen.gaps
    assert (start, end) == pytest.approx((45, -45), abs=0.6), "the gap goes across the back"


def test_a_place_behind_the_own_vehicle_is_not_seen() -> None:
    left_half = [[-0.5, -0.5], [49.5, -0.5], [49.5, 99.5], [-0.5, 99.5]]
    rig = ideal([0])
    occluded = Rig((replace(rig.cameras[0], self_occlusion=(left_half,)),))
    seen = coverage(occluded, 20.0)
    assert (seen.unseen, seen.once) == pytest.approx((0.875, 0.125), abs=0.004)
    [(start, end)] = seen.gaps
    assert (start, end) == pytest.approx((0, -45), abs=1.2)


def test_overlap_and_gap_of_three_cameras() -> None:
    seen = coverage(ideal([0, 45, 180]), 20.0)  # -45..45, 0..90, 135..-135
    assert (seen.unseen, seen.once, seen.more) == pytest.approx((0.375, 0.5, 0.125), abs=0.006)
    assert [round(edge) for gap in seen.gaps for edge in gap] == pytest.approx([-135, -45, 90, 135], abs=1)


def test_four_make_a_full_turn_and_none_makes_nothing() -> None:
    assert coverage(ideal([0, 90, 180, 270]), 5.0).unseen == pytest.approx(0, abs=0.006)
    up = Camera("up", (10, 10), [[50, 0, 4.5], [0, 50, 4.5], [0, 0, 1]], np.eye(4))  # looks straight up
    assert coverage(Rig((up,)), 20.0).gaps == ((-180.0, 180.0),)


def test_the_road_under_a_level_camera_is_seen_from_its_height_on() -> None:
    """A lens of 90 degrees sees the road from as far ahead as it is high."""
    counts = road_counts(ideal([0], z=2.0), radius=10.0, side=100)
    assert counts.shape == (100, 100)
    ahead = counts[:, 50]  # the column of y = -0.1 m; row i is x = 10 - 0.2 (i + 0.5)
    x = 10 - 0.2 * (np.arange(100) + 0.5)
    np.testing.assert_array_equal(ahead, (x >= 2.0).astype(int))
    left = counts[25]  # x = 4.9 m: seen as far to the side as ahead
    y = 10 - 0.2 * (np.arange(100) + 0.5)
    assert set(left[np.abs(y) < 4.8]) == {1}
    assert set(left[np.abs(y) > 5.0]) == {0}
