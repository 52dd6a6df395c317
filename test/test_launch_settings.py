"""What the launch files learn from their arguments and the file of parameters."""

from __future__ import annotations

from pathlib import Path

import pytest

from fsmde_ros.errors import ConfigError
from fsmde_ros.launch_settings import (
    cameras_of,
    full_remappings,
    ground_z_of,
    image_topic_of,
    is_on,
    misspelt,
    odometry_of,
    odometry_parameter,
    remappings,
    rig_file_of,
    vehicle_frame_of,
)
from fsmde_ros.replay_settings import own_domain

SHIPPED = Path(__file__).parent.parent / "config" / "surround_depth.yaml"
NESTED = "/**:\n  ros__parameters:\n    input: {transport: raw, rectified: false}\n"
FLAT = "surround_depth:\n  ros__parameters:\n    input.transport: raw\n"


@pytest.mark.parametrize(
    ("file", "transport", "rectified", "expected"),
    [
        (None, "", "", "image_rect/compressed"),
        (None, "raw", "", "image_rect"),
        (None, "", "false", "image_raw/compressed"),
        (NESTED, "", "", "image_raw"),
        (NESTED, "compressed", "true", "image_rect/compressed"),
        (FLAT, "", "", "image_rect"),
        ("", "", "", "image_rect/compressed"),
        ("other: 3\n", "", "", "image_rect/compressed"),
    ],
)
def test_the_images_that_are_shown_are_those_the_node_takes(
    tmp_path: Path, file: str | None, transport: str, rectified: str, expected: str
) -> None:
    path = SHIPPED
    if file is not None:
        path = tmp_path / "params.yaml"
        path.write_text(file)
    assert image_topic_of(path, transport, rectified) == expected


def test_the_rig_is_that_of_the_node_wherever_it_was_named(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("surround_depth:\n  ros__parameters:\n    rig_file: /rig.yaml\n    cameras: [front, left]\n")
    assert (rig_file_of(path, ""), cameras_of(path, "")) == ("/rig.yaml", ["front", "left"])
    assert (rig_file_of(path, "other.yaml"), cameras_of(path, " back, left ,")) == ("other.yaml", ["back", "left"])
    assert cameras_of(path, " , ") == ["front", "left"], "no name was given"
    assert (rig_file_of(SHIPPED, ""), cameras_of(SHIPPED, "")) == ("", [])


def test_the_odometry_the_frame_and_the_road_are_those_of_the_node(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(
        "/**:\n  ros__parameters:\n    motion: {odometry: /odometry/filtered}\n    vehicle_frame: base_footprint\n"
        "    ground_z: -0.35\n"
    )
    assert (odometry_of(path, ""), odometry_of(path, "/o")) == ("/odometry/filtered", "/o")
    assert (vehicle_frame_of(path), ground_z_of(path)) == ("base_footprint", "-0.35")
    assert (odometry_parameter(path, ""), odometry_parameter(path, "/o")) == ({}, {"motion.odometry": "/o"})
    assert (odometry_of(SHIPPED, ""), vehicle_frame_of(SHIPPED), ground_z_of(SHIPPED)) == ("/odom", "", "")
    path.write_text("/**:\n  ros__parameters:\n    motion: {odometry: '', fixed_frame: map}\n")
    assert odometry_of(path, "") == ""
    assert odometry_parameter(path, "/o") == {}, "the node takes one of them, and refuses both"


SECTIONS = {
    "surround_depth:\n  ros__parameters: {rig_file: a}\n": "a",
    "/surround_depth:\n  ros__parameters: {rig_file: a}\n": "a",
    "/**:\n  ros__parameters: {rig_file: a}\n": "a",
    "/*:\n  ros__parameters: {rig_file: a}\n": "a",
    "/**/surround_depth:\n  ros__parameters: {rig_file: a}\n": "a",
    "/**:\n  surround_depth:\n    ros__parameters: {rig_file: a}\n": "a",
    "/**:\n  ros__parameters: {rig_file: a}\nsurround_depth:\n  ros__parameters: {rig_file: b}\n": "b",
    "surround_depth:\n  ros__parameters: {rig_file: a}\n/**:\n  ros__parameters: {rig_file: b}\n": "b",
    "surround_depth:\n  ros__parameters: {rig_file: a}\nother:\n  ros__parameters: {rig_file: b}\n": "a",
    "other:\n  ros__parameters: {rig_file: b}\n": "",
    "/other:\n  sub:\n    ros__parameters: {rig_file: b}\n": "",
}
OF_A_ROBOT = {
    "/robot1:\n  surround_depth:\n    ros__parameters: {rig_file: a}\n": "a",
    "robot1:\n  '*':\n    ros__parameters: {rig_file: a}\n": "a",
    "robot1/surround_depth:\n  ros__parameters: {rig_file: a}\n": "a",
    "/robot1/**:\n  ros__parameters: {rig_file: a}\n": "a",
    "/robot1:\n  surround_depth:\n    ros__parameters: {rig_file: a}\n  b:\n    ros__parameters: {rig_file: b}\n": "a",
}


@pytest.mark.parametrize(("text", "expected"), [*SECTIONS.items(), *OF_A_ROBOT.items()])
def test_sections_of_the_node_are_found_and_no_others(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    assert rig_file_of(path, "") == expected


@pytest.mark.ros
@pytest.mark.parametrize(
    ("namespace", "text", "expected"),
    [("", *row) for row in SECTIONS.items()] + [("/robot1", *row) for row in OF_A_ROBOT.items()],
)
def test_the_node_itself_finds_the_same_sections(tmp_path: Path, namespace: str, text: str, expected: str) -> None:
    rclpy = pytest.importorskip("rclpy")
    path = tmp_path / "params.yaml"
    path.write_text(text)
    context = rclpy.Context()
    rclpy.init(args=["--ros-args", "--params-file", str(path)], context=context, domain_id=own_domain())
    node = rclpy.create_node("surround_depth", namespace=namespace, context=context)
    assert node.declare_parameter("rig_file", "").value == expected
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_another_node_in_the_file_does_not_name_our_cameras(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(
        "surround_depth:\n  ros__parameters: {rig_file: /rig.yaml, motion.odometry: /odom2}\n"
        "other:\n  ros__parameters: {cameras: [a, b], vehicle_frame: foo, ground_z: 1.0}\n"
    )
    assert (rig_file_of(path, ""), odometry_of(path, "")) == ("/rig.yaml", "/odom2")
    assert (cameras_of(path, ""), vehicle_frame_of(path), ground_z_of(path)) == ([], "", "")


def test_the_vehicle_frame_is_without_the_slash_of_ros_1(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("/**:\n  ros__parameters: {vehicle_frame: /base_footprint}\n")
    assert vehicle_frame_of(path) == "base_footprint"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: [")
    for name in ("a.yaml", "none.yaml"):
        with pytest.raises(ConfigError, match=name):
            image_topic_of(tmp_path / name, "", "")


def test_remappings() -> None:
    assert remappings("") == []
    assert remappings("/a/image_raw:=/b/c, /a/camera_info:=/b/d") == [
        ("/a/image_raw", "/b/c"),
        ("/a/camera_info", "/b/d"),
    ]
    for wrong in ("/a", "/a:=", ":=/b", "/a:=/b,/c=/d"):
        with pytest.raises(ConfigError, match="expected FROM:=TO"):
            remappings(wrong)


def test_remappings_in_full() -> None:
    assert full_remappings(remappings("a/image_raw:=b/c,/d:=/e")) == {"/a/image_raw": "/b/c", "/d": "/e"}


def test_a_switch_is_on_or_off_and_nothing_else() -> None:
    """``rviz:=yes`` opened no RViz, and ``rectified:=no`` told node and viewer the opposite of each other."""
    assert [is_on("rviz", text) for text in ("true", "True", "1", "false", "FALSE", "0")] == [True] * 3 + [False] * 3
    for text in ("yes", "no", "tru", "", "2"):
        with pytest.raises(ConfigError, match=f"rviz:={text}: expected true or false"):
            is_on("rviz", text)
    with pytest.raises(ConfigError, match="rectified:=no: expected true or false"):
        image_topic_of(SHIPPED, "", "no")


def test_an_argument_that_launch_would_pass_over_is_told() -> None:
    known = ("rig_file", "bag", "rviz", "namespace")
    assert misspelt({"rig_file": "a", "bag": "b"}, known) == []
    assert misspelt({"rigfile": "a", "unrelated_of_a_parent": "b"}, known) == [
        "no launch argument 'rigfile' here; did you mean rig_file?"
    ]
