"""Where the sensors are, for what listens beside the node: as the node itself has it, by a rig file or by TF."""

from __future__ import annotations

import argparse
from dataclasses import replace

import pytest
import rclpy
from rclpy.context import Context
from rclpy.node import Node

from fsmde_ros.errors import ConfigError, RigError
from fsmde_ros.geometry import rigid
from fsmde_ros.node.placement import add_arguments, find_placement
from fsmde_ros.replay_settings import own_domain
from fsmde_ros.rig_file import write_rig

pytestmark = pytest.mark.ros


@pytest.fixture
def node():
    context = Context()
    rclpy.init(context=context, domain_id=own_domain())
    node = Node("beside", context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


@pytest.mark.usefixtures("tf2")
def test_with_tf_the_frame_and_the_road_are_those_of_the_node(node):
    given = find_placement(node, None, ("front",), "base_footprint", -0.2).extrinsics
    assert (given.vehicle_frame, given.ground_z) == ("base_footprint", -0.2)
    assert find_placement(node, None, ("front",), "/base_footprint").extrinsics.vehicle_frame == "base_footprint"
    plain = find_placement(node, None, ("front",)).extrinsics
    assert (plain.vehicle_frame, plain.ground_z) == ("base_link", 0.0)


def test_a_rig_file_has_both_and_is_not_contradicted(node, ring, tmp_path):
    write_rig(replace(ring(("front",), (96, 160)), vehicle_frame="car", ground_z=-0.2), tmp_path / "rig.yaml")
    for given in ((), ("car", -0.2), ("/car",)):
        found = find_placement(node, tmp_path / "rig.yaml", (), *given).extrinsics
        assert (found.vehicle_frame, found.ground_z) == ("car", -0.2)
    for wrong in (("base_link",), ("", 0.5)):
        with pytest.raises(ConfigError, match=r"rig.yaml is in 'car' with the road at -0.2; leave --vehicle-frame"):
            find_placement(node, tmp_path / "rig.yaml", (), *wrong)


def test_a_lidar_is_found_by_its_frame_with_the_slash_of_ros_1(node, ring, tmp_path):
    write_rig(ring(("front",), (96, 160)), tmp_path / "rig.yaml", {"velodyne": rigid([1, 0, 0, 0], [0, 0, 1.8])})
    placement = find_placement(node, tmp_path / "rig.yaml", ())
    for frame, height in (("velodyne", 1.8), ("/velodyne", 1.8), ("/base_link", 0.0)):
        assert placement.lidar_to_vehicle(frame)[2, 3] == height
    with pytest.raises(RigError, match="does not say where frame 'rear' is mounted"):
        placement.lidar_to_vehicle("/rear")


def test_the_frame_is_an_option():
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert parser.parse_args([]).vehicle_frame == ""
    assert parser.parse_args(["--vehicle-frame", "base_footprint"]).vehicle_frame == "base_footprint"
