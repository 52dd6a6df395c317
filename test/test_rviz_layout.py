"""The layouts of RViz against the publishers of the node, as they really are, and against Qt's format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
import yaml
from rclpy.context import Context
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import ReliabilityPolicy

from fsmde_ros.node.error_cloud import ErrorCloud
from fsmde_ros.node.outputs import Outputs
from fsmde_ros.replay_settings import own_domain
from fsmde_ros.rig_file import read_rig
from fsmde_ros.rviz_docks import dock_state
from fsmde_ros.rviz_layout import HEIGHT, NUSCENES, SHIPPED, WIDTH, RvizView, layout, main, panel_order, write_layout
from fsmde_ros.topics import PREVIEW

ROOT = Path(__file__).parent.parent
CLASSES = {  # of rviz2's default plugins
    "rviz_default_plugins/Grid",
    "rviz_default_plugins/TF",
    "rviz_default_plugins/PointCloud2",
    "rviz_default_plugins/Image",
    "rviz_default_plugins/Orbit",
    "rviz_default_plugins/Interact",
    "rviz_default_plugins/MoveCamera",
    "rviz_default_plugins/FocusCamera",
    "rviz_default_plugins/Measure",
    "rviz_common/Displays",
    "rviz_common/Time",
    "",
}


def shipped(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "rviz" / f"{name}.rviz").read_text())
    return content


def displays(content: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = content["Visualization Manager"]["Displays"]
    return found


def topics(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {d["Topic"]["Value"]: d for d in displays(content) if "Topic" in d}


@pytest.fixture
def publishers() -> Iterator[dict[str, tuple[str, ReliabilityPolicy]]]:
    """Type and reliability by topic, of everything that node and evaluator publish for the nuScenes cameras."""
    domain = own_domain()
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    node = LifecycleNode("surround_depth", context=context)
    evaluator = rclpy.create_node("evaluate_replay", context=context)
    outputs = Outputs(node, NUSCENES, "base_link")
    ErrorCloud(evaluator, "base_link")
    found = {}
    for publisher in [*node.publishers, *evaluator.publishers]:
        kind = publisher.msg_type.__name__
        found[publisher.topic_name] = (kind, publisher.qos_profile.reliability)
    yield found
    outputs.close()
    node.destroy_node()
    evaluator.destroy_node()
    rclpy.shutdown(context=context)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_file_is_that_of_the_code(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name]) == 0
    assert (ROOT / "rviz" / f"{name}.rviz").read_text() == capsys.readouterr().out
    assert main(["none"]) == 2


@pytest.mark.parametrize("name", SHIPPED)
def test_class_names_are_those_of_rviz2(name: str) -> None:
    def classes(value: object) -> Iterator[str]:
        if isinstance(value, dict):
            yield from (v for k, v in value.items() if k == "Class")
            for inner in value.values():
                yield from classes(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from classes(inner)

    assert set(classes(shipped(name))) <= CLASSES


@pytest.mark.ros
@pytest.mark.parametrize("name", SHIPPED)
def test_topics_types_and_qos_are_those_of_the_publishers(
    name: str, publishers: dict[str, tuple[str, ReliabilityPolicy]]
) -> None:
    """Whatever does not come from a bag is published by us, with the type and the QoS that RViz asks for."""
    asked = topics(shipped(name))
    from_bag = {f"/{camera}/image_rect/compressed" for camera in NUSCENES} | {"/lidar_top"}
    expected = {f"/{camera}/depth/image_rect" for camera in NUSCENES} | {"/surround_depth/points", f"/{PREVIEW}"}
    if name == "replay_evaluation":
        expected |= {"/evaluate_replay/errors"}
    assert set(asked) - from_bag == expected
    for topic in expected:
        kind, reliability = publishers[topic]
        assert asked[topic]["Class"] == f"rviz_default_plugins/{kind.removeprefix('Compressed')}", topic
        assert (kind == "CompressedImage") == topic.endswith("/compressed"), "RViz takes the transport from the name"
        assert reliability == ReliabilityPolicy.RELIABLE, "RViz asks for it; best effort would not match"
        assert asked[topic]["Topic"]["Reliability Policy"] == "Reliable"
        assert asked[topic]["Topic"]["Durability Policy"] == "Volatile"
    for topic in set(asked) & from_bag:
        assert asked[topic]["Topic"]["Reliability Policy"] == "Best Effort", "matches every publisher"


def test_every_image_has_its_depth() -> None:
    asked = topics(shipped("surround_depth"))
    for camera in NUSCENES:
        assert f"/{camera}/image_rect/compressed" in asked
        assert f"/{camera}/depth/image_rect" in asked


def test_depth_is_not_black() -> None:
    """RViz paints 32FC1 black when it normalises a range that holds +Inf."""
    depth = [d for topic, d in topics(shipped("surround_depth")).items() if "/depth/" in topic]
    assert len(depth) == 6
    for display in depth:
        assert display["Normalize Range"] is False
        assert display["Max Value"] == 80


def test_the_preview_is_made_for_nobody_who_did_not_ask() -> None:
    assert [d["Name"] for d in displays(shipped("surround_depth")) if not d["Enabled"]] == ["Preview"]


def test_panels_stand_as_the_cameras_do() -> None:
    """A rig file has its cameras in any order."""
    rig = read_rig(ROOT / "config" / "nuscenes_rig.yaml")
    assert tuple(panel_order(rig.subset(sorted(rig.names)))) == NUSCENES


def test_the_image_of_a_single_camera_stands_beside_its_depth() -> None:
    state = layout(RvizView(("front",)))["Window Geometry"]["QMainWindow State"]
    assert state == dock_state([("Image front",), ("Depth front",)], (WIDTH, HEIGHT)).hex()


def test_another_rig_in_a_namespace(tmp_path: Path) -> None:
    view = RvizView(("left", "ns/right"), "/lorry/", "truck", lidars=("top",), errors=True)
    content = yaml.safe_load(write_layout(view, tmp_path / "own.rviz").read_text())
    assert set(topics(content)) == {
        "/lorry/surround_depth/points",
        f"/lorry/{PREVIEW}",
        "/lorry/evaluate_replay/errors",
        "/lorry/top",
        *(f"/lorry/{n}/{t}" for n in ("left", "ns/right") for t in ("image_rect/compressed", "depth/image_rect")),
    }
    assert content["Visualization Manager"]["Global Options"]["Fixed Frame"] == "truck"
    assert content == layout(view)
