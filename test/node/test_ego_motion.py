"""The motion of the vehicle: what is said when its poses stay away."""

from __future__ import annotations

import numpy as np
import pytest
from nav_msgs.msg import Odometry
from std_msgs.msg import Header

from fsmde_ros.errors import RigError
from fsmde_ros.node.ego_motion import OdometryMotion, TfMotion
from fsmde_ros.node.messages import stamp_message

START, MS = 1_532_402_927_000_000_000, 1_000_000


class FakeNode:
    """Where only the messages matter, which the test brings itself."""

    def create_subscription(self, *_):
        return None


def odometry(stamp_ns, child="base_link"):
    message = Odometry(header=Header(stamp=stamp_message(stamp_ns), frame_id="odom"), child_frame_id=child)
    message.pose.pose.orientation.w = 1.0
    return message


@pytest.fixture
def motion():
    return OdometryMotion(FakeNode(), "/odom", "base_link")


def drive(motion, first_ms, last_ms):
    """Sweeps every 100 ms, as the pipeline asks and tells."""
    for ms in range(first_ms, last_ms + 1, 100):
        stamp = START + ms * MS
        motion.served(stamp, motion.pose_at(stamp) is not None)


def test_odometry_that_stops_is_told_after_two_seconds_and_forgotten_when_it_is_back(motion):
    for ms in range(0, 1001, 20):
        motion.take(odometry(START + ms * MS))
    drive(motion, 0, 3000)  # of which 1.1 s can be extrapolated to
    assert motion.problem() == ""
    assert motion.describe() == "odometry /odom"
    drive(motion, 3100, 4000)
    assert "the sweeps of the last 2.8 s had no pose of the vehicle" in motion.problem()
    assert "/odom has stopped or lags, its last pose is 3.0 s older than the last sweep" in motion.problem()
    assert "has stopped or lags" in motion.describe()
    for ms in range(4000, 5001, 20):
        motion.take(odometry(START + ms * MS))
    drive(motion, 4100, 4100)
    assert motion.problem() == ""
    assert motion.describe() == "odometry /odom"


def test_odometry_that_lags_is_told(motion):
    for ms in range(0, 5000, 100):
        motion.take(odometry(START + (ms - 500) * MS))
        drive(motion, ms, ms)
    assert "its last pose is 0.5 s older" in motion.problem()


def test_odometry_of_another_frame_is_told_with_it(motion):
    motion.take(odometry(START, child="gps"))
    drive(motion, 0, 2500)
    assert "expected 'base_link'" in motion.problem()


def test_a_vehicle_without_odometry_is_not_warned_of(motion):
    drive(motion, 0, 5000)
    assert motion.problem() == ""
    assert motion.describe() == "odometry /odom: no message yet"


def test_a_bag_that_begins_again_is_no_gap_of_its_length(motion):
    motion.take(odometry(START))
    drive(motion, 1000, 2000)
    drive(motion, 0, 1000)
    assert motion.problem() == ""


def test_a_fixed_frame_that_tf_does_not_have_is_told():
    class NoTf:
        def lookup(self, target, source, stamp_ns):
            raise RigError("TF has no transform from 'base_link' to 'map'")

    motion = TfMotion(NoTf(), "map", "base_link")
    drive(motion, 0, 1900)
    assert motion.problem() == ""
    drive(motion, 2000, 2500)
    assert "TF has no transform from 'base_link' to 'map'" in motion.problem()
    motion._tf.lookup = lambda *_: np.eye(4)
    drive(motion, 2600, 2600)
    assert motion.problem() == ""
