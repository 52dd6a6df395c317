"""TF forgets when the clock of the node is set back, and says how far it knows the way."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from rclpy.clock import ROSClock
from rclpy.clock_type import ClockType
from rclpy.time import Time

from fsmde_ros.errors import RigError
from fsmde_ros.node.transforms import TfBuffer

SECOND = 10**9


class FakeBuffer:
    """As that of tf2_ros, which has no wheel: counts how often it is cleared, and knows one frame."""

    def __init__(self):
        self.cleared = 0

    def clear(self):
        self.cleared += 1

    def get_latest_common_time(self, target, source):
        if source != "base_link":
            raise RuntimeError(f'"{source}" passed to lookupTransform argument source_frame does not exist.')
        return Time(nanoseconds=17)


class FakeListener:
    def __init__(self, buffer, node, spin_thread):
        assert not spin_thread

    def unregister(self):
        pass


class SimulatedNode:
    """What of a node with use_sim_time is wanted here: its clock."""

    def __init__(self):
        self.clock = ROSClock()
        self.clock._set_ros_time_is_active(True)

    def get_clock(self):
        return self.clock

    def tell(self, seconds):
        self.clock.set_ros_time_override(Time(nanoseconds=round(seconds * SECOND), clock_type=ClockType.ROS_TIME))


@pytest.fixture
def tf2(monkeypatch):
    module = ModuleType("tf2_ros")
    module.TransformException, module.Buffer, module.TransformListener = RuntimeError, FakeBuffer, FakeListener
    monkeypatch.setitem(sys.modules, "tf2_ros", module)


@pytest.mark.usefixtures("tf2")
def test_a_bag_that_begins_again_clears_the_buffer_until_it_is_closed():
    node = SimulatedNode()
    node.tell(100)
    tf = TfBuffer(node, "set rig_file")
    node.tell(101)
    node.tell(160)
    node.tell(159.5)  # no jump: messages of /clock that changed places
    assert tf._buffer.cleared == 0
    node.tell(100)
    assert tf._buffer.cleared == 1
    tf.close()
    node.tell(50)
    assert tf._buffer.cleared == 1


@pytest.mark.usefixtures("tf2")
def test_the_newest_stamp_between_two_frames():
    tf = TfBuffer(SimulatedNode(), "set rig_file")
    assert tf.last_ns("odom", "base_link") == 17
    with pytest.raises(RigError, match="TF has no transform from 'gps' to 'odom': \"gps\" passed"):
        tf.last_ns("odom", "gps")
