from __future__ import annotations

import numpy as np
import pytest

from fsmde_ros.geometry import rigid
from fsmde_ros.pose_track import PoseTrack

MS = 1_000_000


def at_x(x: float, yaw: float = 0.0) -> np.ndarray:
    return rigid([np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)], [x, 0, 0])


def test_interpolates_whatever_the_order_of_arrival() -> None:
    track = PoseTrack()
    track.add(2_000 * MS, at_x(30, yaw=0.4))
    track.add(1_000 * MS, at_x(10))
    np.testing.assert_allclose(track.at(1_250 * MS), at_x(15, yaw=0.1), atol=1e-9)
    np.testing.assert_array_equal(track.at(1_000 * MS), at_x(10))
    assert track.stamps_ns == (1_000 * MS, 2_000 * MS)


def test_extrapolates_at_constant_velocity_but_not_far() -> None:
    track = PoseTrack(extrapolation_ns=100 * MS)
    for i in range(3):
        track.add(i * 1_000 * MS, at_x(10.0 * i))
    np.testing.assert_allclose(track.at(-100 * MS), at_x(-1))
    np.testing.assert_allclose(track.at(2_050 * MS), at_x(20.5))
    assert track.at(-101 * MS) is None
    assert track.at(2_101 * MS) is None


def test_velocity_is_not_taken_from_poses_milliseconds_apart() -> None:
    track = PoseTrack()
    track.add(0, at_x(0))
    track.add(100 * MS, at_x(1.0))
    track.add(101 * MS, at_x(1.1))  # 0.09 m of noise: over 1 ms that would be 100 m/s
    x = track.at(151 * MS)
    assert x is not None
    assert x[0, 3] == pytest.approx(1.1 * 151 / 101)


def test_one_pose_is_known_only_at_its_own_stamp() -> None:
    track = PoseTrack()
    assert track.at(0) is None
    track.add(5, at_x(1))
    np.testing.assert_array_equal(track.at(5), at_x(1))
    assert track.at(6) is None


def test_keeps_the_newest_and_the_last_given() -> None:
    track = PoseTrack(limit=2)
    for stamp in (1, 2, 3):
        track.add(stamp, at_x(stamp))
    track.add(3, at_x(7))
    assert track.stamps_ns == (2, 3)
    pose = track.at(3)
    assert pose is not None
    assert pose[0, 3] == 7
    track.clear()
    assert len(track) == 0


def test_keeps_by_age_whatever_the_rate() -> None:
    for step in (1, 250):
        track = PoseTrack(span_ns=10_000 * MS)
        assert track.last_ns is None
        for ms in range(0, 12_001, step):
            track.add(ms * MS, at_x(ms))
        assert (track.stamps_ns[0], track.last_ns) == (2_000 * MS, 12_000 * MS)
        track.add(1_999 * MS, at_x(0))  # too old when it comes
        assert track.stamps_ns[0] == 2_000 * MS


def test_two_poses_stay_however_old_the_first_is() -> None:
    track = PoseTrack(span_ns=1_000 * MS)
    for seconds in (0, 5, 10):
        track.add(seconds * 1_000 * MS, at_x(seconds))
    pose = track.at(7_500 * MS)
    assert pose is not None
    assert pose[0, 3] == pytest.approx(7.5)


def test_refuses_what_is_no_pose() -> None:
    with pytest.raises(ValueError, match="finite 4x4"):
        PoseTrack().add(0, np.full((4, 4), np.nan))
    with pytest.raises(ValueError, match="at least 2"):
        PoseTrack(limit=1)
    with pytest.raises(ValueError, match="span_ns must be above 0"):
        PoseTrack(span_ns=0)
