"""The motion of the vehicle: what is said when its poses stay away."""

from __future__ import annotations

import numpy as np
import pytest
from nav_msgs.msg import Odometry
from std_msgs.msg import Header

from fsmde_ros.errors import RigError
from fsmde_ros.geometry import rigid
from fsmde_ros.node.ego_motion import OdometryMotion, TfMotion
from fsmde_ros.node.messages import stamp_message

START, MS = 1_532_402_927_000_000_000, 1_000_000


class FakeNode:
    """Where only the messages matter, which the test brings itself."""

    def create_subscription(self, *_):
        return None


def odometry(stamp_ns, child="base_link", x=0.0):
    message = Odometry(header=Header(stamp=stamp_message(stamp_ns), frame_id="odom"), child_frame_id=child)
    message.pose.pose.position.x = x
    message.pose.pose.orientation.w = 1.0
    return message


@pytest.fixture
def motion():
    return OdometryMotion(FakeNode(), "/odom", "base_link")


def work_on(motion, ms):
    """A sweep of three views, 20 ms apart; whether it had poses."""
    stamps = [START + (ms + later) * MS for later in (0, 20, 40)]
    is_known = all(motion.pose_at(stamp) is not None for stamp in stamps)
    motion.served(stamps[1], is_known)
    return is_known


def follow(motion, period_ms, delay_ms, last_ms=20_000):
    """Sweeps every 104 ms, each worked on 80 ms after its first view, and odometry; how many sweeps had no pose."""
    sent, without = 0, 0
    for ms in range(3 * period_ms + delay_ms, last_ms, 104):
        while sent + delay_ms <= ms + 80:
            motion.take(odometry(START + sent * MS))
            sent += period_ms
        without += not work_on(motion, ms)
    return without


def drive(motion, first_ms, last_ms):
    """Sweeps every 100 ms, as the pipeline asks and tells."""
    for ms in range(first_ms, last_ms + 1, 100):
        stamp = START + ms * MS
        motion.served(stamp, motion.pose_at(stamp) is not None)


def test_odometry_that_stops_is_told_and_forgotten_when_it_has_been_back_for_a_while(motion):
    for ms in range(0, 1001, 20):
        motion.take(odometry(START + ms * MS))
    drive(motion, 0, 1800)  # of which 1.3 s can be extrapolated to
    assert motion.problem() == ""
    assert motion.describe() == "odometry /odom"
    drive(motion, 1900, 3000)
    assert motion.problem().startswith("55 % of the last sweeps had no pose of the vehicle"), "17 of 31"
    drive(motion, 3100, 4000)
    assert "the sweeps of the last 2.6 s had no pose of the vehicle" in motion.problem()
    assert "/odom has stopped or lags, its last pose is 3.0 s older than the last sweep" in motion.problem()
    assert "has stopped or lags" in motion.describe()
    for ms in range(4000, 10_001, 20):
        motion.take(odometry(START + ms * MS))
    drive(motion, 4100, 4100)
    assert "/odom comes too late or too seldom, or had stopped" in motion.problem()
    drive(motion, 4200, 8500)
    assert motion.problem() == "", "5 of the last 50, which is no more than one in ten"
    assert motion.describe() == "odometry /odom"


@pytest.mark.parametrize(("period_ms", "delay_ms"), [(200, 20), (200, 100), (100, 50), (100, 100), (20, 200)])
def test_usual_odometry_has_a_pose_for_every_sweep(motion, period_ms, delay_ms):
    assert follow(motion, period_ms, delay_ms) == 0
    assert motion.problem() == ""


@pytest.mark.parametrize(("period_ms", "delay_ms"), [(500, 20), (1000, 20), (200, 250)])
def test_odometry_that_comes_too_late_or_too_seldom_is_told(motion, period_ms, delay_ms):
    without = follow(motion, period_ms, delay_ms)
    assert without > 20, "some have poses, so that there is no gap of two seconds"
    assert "% of the last sweeps had no pose of the vehicle, their clouds are not of one moment" in motion.problem()
    assert ": /odom comes too late or too seldom" in motion.problem()
    assert "let it come every 0.2 s or more often, at most 0.1 s after its stamp" in motion.problem()
    assert "comes too late or too seldom" in motion.describe()


def test_a_few_sweeps_without_a_pose_and_those_before_the_first_one_are_not_many(motion):
    for ms in range(2000, 3001, 20):
        motion.take(odometry(START + ms * MS))
    drive(motion, 0, 1600)
    drive(motion, 1700, 3800)  # from 1.7 s, which is extrapolated back, to 3.3 s
    assert motion.problem() == "", "5 sweeps"
    drive(motion, 3900, 3900)
    assert motion.problem().startswith("26 % of the last sweeps"), "6 of the 23 from 1.7 s on"


def test_poses_that_jump_now_and_then_are_not_called_late(motion):
    for ms in range(0, 20_000, 20):
        motion.take(odometry(START + ms * MS))
    for ms in range(0, 10_000, 100):
        motion.served(START + ms * MS, ms % 400 != 0)
    assert motion.problem().startswith("24 % of the last sweeps"), "12 of 50"
    assert "/odom has no poses of these times, or they jump" in motion.problem()


def test_a_braking_car_is_followed_to_centimetres(motion):
    """15 m/s, from t = 0 on 3 m/s2 less: what counts is where the views of a sweep are relative to one another."""

    def x(ms):
        return 15 * ms / 1000 - 1.5 * (max(ms, 0) / 1000) ** 2

    for ms in range(-1000, 1001, 200):
        motion.take(odometry(START + ms * MS, x=x(ms)))
    first, last = (motion.pose_at(START + ms * MS)[0, 3] for ms in (1257, 1300))
    assert last - first == pytest.approx(x(1300) - x(1257), abs=0.055)
    assert abs(x(1300) - x(1257)) > 0.45, "the error without any pose"


def test_odometry_that_lags_is_told(motion):
    for ms in range(0, 5000, 100):
        motion.take(odometry(START + (ms - 500) * MS))
        drive(motion, ms, ms)
    assert "its last pose is 0.5 s older" in motion.problem()


def test_odometry_of_another_frame_is_told_with_it(motion):
    motion.take(odometry(START, child="gps"))
    drive(motion, 0, 2500)
    assert "is of the frame 'gps', expected 'base_link'; take the motion from TF (motion.fixed_frame: odom), or do" in (
        motion.problem()
    )


def test_a_vehicle_without_odometry_is_not_warned_of(motion):
    drive(motion, 0, 5000)
    assert motion.problem() == ""
    assert motion.describe() == "odometry /odom: no message yet"


def test_a_bag_that_begins_again_is_no_gap_of_its_length(motion):
    motion.take(odometry(START))
    drive(motion, 1000, 2000)
    drive(motion, 0, 1000)
    assert "the sweeps of the last" not in motion.problem()


@pytest.mark.parametrize("hertz", [20, 400, 1000])
def test_a_late_sweep_has_its_poses_at_any_rate_of_the_odometry(motion, hertz):
    for k in range(4 * hertz):
        stamp = START + k * 10**9 // hertz
        motion.take(odometry(stamp))
        if k % hertz == 0 and k > 2 * hertz:
            late = stamp - 1500 * MS
            assert motion.pose_at(late) is not None


def test_odometry_whose_stamps_hardly_advance_does_not_fill_the_memory(motion, monkeypatch):
    monkeypatch.setattr("fsmde_ros.node.ego_motion.POSES", 100)
    motion = OdometryMotion(FakeNode(), "/odom", "base_link")
    for k in range(300):
        motion.take(odometry(START + k))
    assert len(motion._track) == 100


class MovingTf:
    """TF whose vehicle moves at 10 m/s along x and turns, known from ``first`` to ``last`` (ms), as a buffer has it."""

    def __init__(self, first, last):
        self.first, self.last = first, last

    def lookup(self, target, source, stamp_ns=0):
        ms = (stamp_ns - START) / MS
        if not self.first <= ms <= self.last:
            raise RigError(f"TF has no transform from '{source}' to '{target}': extrapolation to {ms} ms")
        return self.pose(ms)

    def last_ns(self, target, source):
        return START + self.last * MS

    @staticmethod
    def pose(ms):
        return rigid([np.cos(ms / 4000), 0, 0, np.sin(ms / 4000)], [ms / 100, 0, 0])


def test_an_image_just_after_the_newest_transform_has_a_pose():
    motion = TfMotion(MovingTf(0, 1000), "odom", "base_link")
    for ms in (0, 500, 1000, 1001, 1040, 1300):
        np.testing.assert_allclose(motion.pose_at(START + ms * MS), MovingTf.pose(ms), atol=1e-9)
    assert motion.describe() == "TF odom"
    assert motion.pose_at(START + 1301 * MS) is None
    assert "extrapolation to 1301" in motion.describe()
    assert motion.pose_at(START - 1 * MS) is None, "TF keeps no older ones; nothing is guessed back"


def test_tf_that_comes_too_late_or_too_seldom_is_told():
    tf = MovingTf(0, 0)
    motion = TfMotion(tf, "odom", "base_link")
    for ms in range(0, 10_000, 100):
        tf.last = ms - ms % 600
        work_on(motion, ms)
    assert "% of the last sweeps had no pose of the vehicle" in motion.problem()
    assert "the transform from 'base_link' to 'odom' comes too late or too seldom" in motion.problem()
    for ms in range(10_000, 15_000, 100):
        tf.last = ms
        work_on(motion, ms)
    assert (motion.problem(), motion.describe()) == ("", "TF odom")
    for ms in range(15_000, 16_000, 100):
        motion.served(START + ms * MS, ms % 200 == 0)  # poses that are known, and too far apart
    assert "% of the last sweeps" not in motion.problem(), "5 of 50"
    motion.served(START + 16_100 * MS, False)
    assert motion.problem().endswith("the poses of TF jump")


def test_a_single_transform_gives_no_velocity():
    motion = TfMotion(MovingTf(1000, 1000), "odom", "base_link")
    assert motion.pose_at(START + 1010 * MS) is None


def test_a_transform_that_comes_between_two_looks_is_taken():
    tf = MovingTf(0, 1000)
    looked = tf.lookup

    def late(*arguments):
        tf.lookup, tf.last = looked, 1020
        raise RigError("not yet")

    tf.lookup = late
    np.testing.assert_allclose(TfMotion(tf, "odom", "base_link").pose_at(START + 1010 * MS), MovingTf.pose(1010))


def test_a_fixed_frame_that_tf_does_not_have_is_told():
    class NoTf:
        def lookup(self, target, source, stamp_ns):
            raise RigError("TF has no transform from 'base_link' to 'map'")

        def last_ns(self, target, source):
            raise RigError("TF has no transform from 'base_link' to 'map'")

    motion = TfMotion(NoTf(), "map", "base_link")
    drive(motion, 0, 1900)
    assert motion.problem() == ""
    drive(motion, 2000, 2500)
    assert "TF has no transform from 'base_link' to 'map'" in motion.problem()
    motion._tf.lookup = lambda *_: np.eye(4)
    drive(motion, 2600, 2600)
    assert motion.problem() == ""
