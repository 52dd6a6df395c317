"""The policy grants what the running node has, name by name, and nothing else."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import rclpy
from rclpy.lifecycle import TransitionCallbackReturn

from fsmde_ros.errors import ConfigError
from fsmde_ros.node.parameters import Settings
from fsmde_ros.node.security_policy import Grants, grants, main, to_xml
from fsmde_ros.node.surround_depth_node import SurroundDepthNode
from fsmde_ros.replay_settings import free_domain
from fsmde_ros.rig_file import write_rig

SHIPPED = Path(__file__).parents[2] / "security" / "surround_depth.policy.xml"
NUSCENES = ("cam_front", "cam_front_right", "cam_back_right", "cam_back", "cam_back_left", "cam_front_left")


def granted_by(xml):
    """The grants of a policy file, and whether anything in it is no plain ALLOW."""
    profile = ET.fromstring(xml).find("./enclaves/enclave/profiles/profile")
    found = {"publish": [], "subscribe": [], "reply": []}
    for group in profile:
        ((right, value),) = group.attrib.items()
        assert value == "ALLOW"
        found[right] += [item.text for item in group]
    return Grants(**{right: tuple(names) for right, names in found.items()})


def names_of(node):
    """Full names of what a node publishes, subscribes and answers, as the graph knows it."""
    who = (node.get_name(), node.get_namespace())
    listed = (
        node.get_publisher_names_and_types_by_node(*who),
        node.get_subscriber_names_and_types_by_node(*who),
        node.get_service_names_and_types_by_node(*who),
    )
    return Grants(*(tuple(sorted(name for name, _ in names)) for names in listed))


@pytest.mark.ros
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"input.transport": "raw", "input.rectified": False, "motion.odometry": '""'},
        {"use_sim_time": True, "motion.odometry": "/vehicle/odometry"},
    ],
    ids=["defaults", "raw", "clock"],
)
@pytest.mark.parametrize("namespace", ["/", "/car"])
def test_the_grants_are_the_nodes_own_list(parameters, namespace, ring, tiny_checkpoint, tmp_path):
    write_rig(ring(NUSCENES, (96, 160)), tmp_path / "rig.yaml")
    given = {"rig_file": tmp_path / "rig.yaml", "checkpoint": tiny_checkpoint, "device": "cpu", **parameters}
    words = {name: str(value).lower() if isinstance(value, bool) else value for name, value in given.items()}
    arguments = [word for name, value in words.items() for word in ("-p", f"{name}:={value}")]
    remap = [] if namespace == "/" else ["-r", f"__ns:={namespace}"]
    rclpy.init(args=["--ros-args", *arguments, *remap], domain_id=free_domain())
    try:
        node = SurroundDepthNode()
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS, node.problem
        assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        settings = node.settings.changed({"cameras": NUSCENES})
        expected = grants(settings, namespace, sim_time=parameters.get("use_sim_time", False))
        deadline = time.monotonic() + 30
        while (own := names_of(node)) != expected and time.monotonic() < deadline:
            time.sleep(0.1)  # the graph follows what is there, and what was, with a delay
        node.close()
    finally:
        rclpy.try_shutdown()
    assert own == expected


def test_the_shipped_policy_is_that_of_the_nuscenes_rig(capsys):
    assert main(["--cameras", *NUSCENES]) == 0
    assert capsys.readouterr().out == SHIPPED.read_text()
    assert granted_by(SHIPPED.read_text()) == grants(Settings(cameras=NUSCENES))


def test_what_is_not_asked_for_is_not_granted():
    plain = grants(Settings(cameras=("a",), motion_odometry=""))
    assert plain.subscribe == ("/a/camera_info", "/a/image_rect/compressed")
    with_tf = grants(Settings(cameras=("a",), motion_fixed_frame="odom"))
    assert set(with_tf.subscribe) - set(plain.subscribe) == {"/tf", "/tf_static"}
    assert not {name for name in plain.publish if "cmd" in name or "/tf" in name}
    root = ET.fromstring(to_xml(plain, "/car", "/car/depth"))
    assert root.get("version") == "0.2.0"
    assert root.find("./enclaves/enclave").get("path") == "/car/depth"
    assert root.find(".//profile").attrib == {"ns": "/car", "node": "surround_depth"}


def test_cameras_must_be_named(capsys):
    with pytest.raises(ConfigError, match="give --rig FILE"):
        grants(Settings())
    assert main([]) == 2
    assert main(["--cameras", "front camera"]) == 2
    assert "cannot be the name of a camera" in capsys.readouterr().err
