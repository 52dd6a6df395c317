"""The launch files against the code they start, and against ROS 2's launch where that is installed."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fsmde_ros.node.parameters import names

ROOT = Path(__file__).parent.parent
LAUNCH_FILES = sorted((ROOT / "launch").glob("*.launch.py"))
LAUNCH_OWN = {
    "params_file",
    "namespace",
    "bag",
    "rviz",
    "viewer",
    "evaluate",
    "lidar_topic",
    "odom_topic",
    "log_level",
    "respawn",
    "report",
    "max_depth",
    "pace",
    "transport",  # input.transport, whose dot no launch argument has
    "rectified",
    "remap",
}
BUILT_IN = {"use_sim_time"}  # declared by rclpy in every node


def is_launch(path: Path, name: str) -> bool:
    return path.name == f"{name}.launch.py"


def strings(tree: ast.AST) -> list[str]:
    return [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]


def declared(tree: ast.AST) -> dict[str, ast.Call]:
    """Launch arguments by name."""
    calls = [
        n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "DeclareLaunchArgument"
    ]
    return {call.args[0].value: call for call in calls if isinstance(call.args[0], ast.Constant)}


def started(tree: ast.AST) -> list[dict[str, ast.expr]]:
    """Keywords of every ``Node(...)``."""
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "Node"]
    return [{k.arg: k.value for k in call.keywords if k.arg} for call in calls]


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


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "surround_depth",
            "params_file rig_file checkpoint device backend cameras transport rectified remap autostart namespace "
            "use_sim_time bag rviz viewer evaluate report lidar_topic odom_topic log_level respawn",
        ),
        (
            "replay_evaluation",
            "bag rig_file params_file checkpoint device backend cameras transport rectified remap report lidar_topic "
            "odom_topic max_depth pace rviz log_level",
        ),
    ],
)
def test_the_arguments_users_of_nav2_expect_are_there(name: str, expected: str) -> None:
    arguments = declared(ast.parse((ROOT / "launch" / f"{name}.launch.py").read_text()))
    assert set(arguments) == set(expected.split())


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda p: p.name)
def test_parameters_set_by_launch_exist(path: Path) -> None:
    """Every launch argument that is a parameter of the node by name is one; the others are launch's own."""
    arguments = set(declared(ast.parse(path.read_text())))
    assert arguments - LAUNCH_OWN - BUILT_IN <= set(names())


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda p: p.name)
def test_executables_are_entry_points(path: Path) -> None:
    setup = (ROOT / "setup.py").read_text()
    found = started(ast.parse(path.read_text()))
    assert len(found) >= 3
    for node in found:
        package, executable = ast.literal_eval(node["package"]), ast.literal_eval(node["executable"])
        assert (package, executable) == ("rviz2", "rviz2") or f'"{executable} = fsmde_ros.' in setup, executable


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda p: p.name)
def test_options_of_the_programs_exist(path: Path, has_option: Callable[[str, str], bool]) -> None:
    """Options that are passed on, such as ``--max-depth``, are known to one of the programs."""
    options = {text for text in strings(ast.parse(path.read_text())) if text.startswith("--") and text[2:].islower()}
    programs = [f"fsmde_ros.node.{name}" for name in ("player", "evaluator_node", "rerun_view")]
    for option in options - {"--log-level", "--show-args"}:
        assert any(has_option(program, option) for program in programs), option


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda p: p.name)
def test_what_stands_beside_the_node_follows_its_parameters(path: Path) -> None:
    """Its odometry, its remappings, and where it needs no rig file its vehicle frame and the height of the road."""
    tree = ast.parse(path.read_text())
    by_tf = set() if is_launch(path, "replay_evaluation") else {"--vehicle-frame", "--ground-z"}
    options = {"--odom-topic"} | by_tf
    assert options <= set(strings(tree))
    for node in started(tree):
        assert ast.literal_eval(node["executable"]) == "replay" or "remappings" in node


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda p: p.name)
def test_modules_that_launch_files_import_exist(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("fsmde_ros"):
            assert importlib.util.find_spec(node.module), node.module
            exported = {n.id for n in ast.walk(ast.parse(_source(node.module))) if isinstance(n, ast.Name)}
            exported |= {
                n.name for n in ast.parse(_source(node.module)).body if isinstance(n, (ast.FunctionDef, ast.ClassDef))
            }
            assert {alias.name for alias in node.names} <= exported, node.module


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda p: p.name)
def test_misspelt_arguments_are_told_and_switches_are_checked(path: Path) -> None:
    called = {
        n.func.id
        for n in ast.walk(ast.parse(path.read_text()))
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
    }
    assert {"misspelt", "is_on"} <= called


def _source(module: str) -> str:
    return (ROOT / (module.replace(".", "/") + ".py")).read_text()


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda p: p.name)
def test_launch_accepts_the_file(path: Path) -> None:
    """The description, made by the real launch; what it would start is asked for without starting it."""
    pytest.importorskip("launch.actions", reason="ROS 2 launch is not installed (it has no wheel)")
    pytest.importorskip("launch_ros.actions", reason="launch_ros is not installed (it has no wheel)")
    ament = pytest.importorskip("ament_index_python.packages")
    try:
        ament.get_package_share_directory("fsmde_ros")
    except ament.PackageNotFoundError:
        pytest.skip("the package is not installed: colcon build, then source install/setup.bash")
    from launch import LaunchContext
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    description = PythonLaunchDescriptionSource(str(path)).get_launch_description(LaunchContext())
    shown = {argument.name for argument in description.get_launch_arguments()}
    assert shown == set(declared(ast.parse(path.read_text())))


@pytest.mark.ros
def test_the_node_comes_up_under_launch_testing() -> None:
    pytest.importorskip("launch_testing", reason="ROS 2 launch_testing is not installed (it has no wheel)")
    command = [sys.executable, "-m", "launch_testing.launch_test", str(ROOT / "test" / "launch_surround_depth.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
