"""TF forgets when the clock of the node is set back, says how far it knows the way, and not where the road is."""

from __future__ import annotations

import pytest
import rclpy
from rclpy.clock import ROSClock
from rclpy.clock_type import ClockType
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.time import Time
from std_msgs.msg import Header

from fsmde_ros.errors import RigError
from fsmde_ros.node.messages import camera_to_info
from fsmde_ros.node.surround_depth_node import SurroundDepthNode
from fsmde_ros.node.transforms import TfBuffer
from fsmde_ros.replay_settings import free_domain

SECOND = 10**9


class SimulatedNode:
    """What of a node with use_sim_time is wanted here: its clock."""

    def __init__(self):
        self.clock = ROSClock()
        self.clock._set_ros_time_is_active(True)

    def get_clock(self):
        return self.clock

    def tell(self, seconds):
        self.clock.set_ros_time_override(Time(nanoseconds=round(seconds * SECOND), clock_type=ClockType.ROS_TIME))


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


@pytest.mark.usefixtures("tf2")
def test_frames_with_the_slash_of_ros_1_are_those_without():
    tf = TfBuffer(SimulatedNode(), "set rig_file")
    assert tf.lookup("/odom", "/velodyne")[2, 3] == 1.2
    assert tf.last_ns("/odom", "/base_link") == 17


@pytest.mark.ros
@pytest.mark.usefixtures("tf2")
def test_without_a_rig_file_the_parameter_says_where_the_road_is(ring, tiny_checkpoint, capfd):
    given = {"cameras": "[front]", "ground_z": -0.35, "checkpoint": tiny_checkpoint, "device": "cpu"}
    arguments = [word for name, value in given.items() for word in ("-p", f"{name}:={value}")]
    rclpy.init(args=["--ros-args", *arguments], domain_id=free_domain())
    try:
        node = SurroundDepthNode()
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS, node.problem
        camera = ring(("front",), (96, 160))["front"]
        node._live_rig.take("front", camera_to_info(camera, Header(frame_id="front_optical")))
        assert node._live_rig.rig().ground_z == -0.35
        node.close()
    finally:
        rclpy.try_shutdown()
    assert "cameras front, the road at z = -0.35 m, the heights of the cameras from TF; " in capfd.readouterr().err
