"""The launch files and the RViz layout against the code they start."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

from fsmde_ros.node.parameters import names

ROOT = Path(__file__).parent.parent
LAUNCH_FILES = sorted((ROOT / "launch").glob("*.launch.py"))


def strings(tree: ast.AST) -> list[str]:
    return [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]


def declared(tree: ast.AST) -> dict[str, ast.Call]:
    """Launch arguments by name."""
    calls = [
        n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "DeclareLaunchArgument"
    ]
    return {call.args[0].value: call for call in calls if isinstance(call.args[0], ast.Constant)}


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda p: p.name)
def test_every_argument_is_described_and_used(path: Path) -> None:
    tree = ast.parse(path.read_text())
    arguments = declared(tree)
    assert arguments
    for name, call in arguments.items():
        keywords = {k.arg: k.value for k in call.keywords}
        assert isinstance(keywords["description"], ast.Constant), name
        assert keywords["description"].value.endswith("."), name
        assert strings(tree).count(name) >= 2, f"{path.name} declares '{name}' and never uses it"


def test_the_arguments_users_of_nav2_expect_are_there() -> None:
    arguments = declared(ast.parse((ROOT / "launch" / "surround_depth.launch.py").read_text()))
    assert set(arguments) == {
        *("params_file", "rig_file", "checkpoint", "device", "backend", "cameras", "namespace"),
        *("use_sim_time", "bag", "rviz", "evaluate", "log_level", "respawn"),
    }


def test_parameters_set_by_launch_exist() -> None:
    """Every launch argument that is a parameter of the node by name is one; the others are launch's own."""
    arguments = set(declared(ast.parse((ROOT / "launch" / "surround_depth.launch.py").read_text())))
    own = {"params_file", "namespace", "use_sim_time", "bag", "rviz", "evaluate", "log_level", "respawn"}
    assert arguments - own <= set(names())


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda p: p.name)
def test_launch_accepts_the_file(path: Path) -> None:
    pytest.importorskip("launch.actions", reason="ROS 2 launch is not installed (it has no wheel)")
    pytest.importorskip("launch_ros.actions", reason="launch_ros is not installed (it has no wheel)")
    from launch import LaunchService
    from launch.actions import IncludeLaunchDescription
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    service = LaunchService()
    source = PythonLaunchDescriptionSource(str(path))
    IncludeLaunchDescription(source).execute(service.context)


def displays() -> list[dict[str, Any]]:
    layout = yaml.safe_load((ROOT / "rviz" / "surround_depth.rviz").read_text())
    found: list[dict[str, Any]] = layout["Visualization Manager"]["Displays"]
    return found


def test_rviz_shows_what_the_node_publishes() -> None:
    clouds = [d for d in displays() if d["Class"] == "rviz_default_plugins/PointCloud2"]
    assert [d["Topic"]["Value"] for d in clouds] == ["/surround_depth/points"]
    images = [d for d in displays() if d["Class"] == "rviz_default_plugins/Image"]
    topics = [d["Topic"]["Value"] for d in images]
    cameras = {topic.split("/")[1] for topic in topics}
    assert len(cameras) == 6
    assert set(topics) == {f"/{c}/{t}" for c in cameras for t in ("image_rect/compressed", "depth/image_rect")}


def test_rviz_depth_is_not_black() -> None:
    """RViz paints 32FC1 black when it normalises a range that holds +Inf."""
    depth = [d for d in displays() if "/depth/" in d.get("Topic", {}).get("Value", "")]
    assert depth
    for display in depth:
        assert display["Normalize Range"] is False
        assert display["Max Value"] == 80
        assert display["Topic"]["Reliability Policy"] == "Reliable"
