"""The package as colcon builds and installs it, on real ROS 2 packages from wherever they are."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("fsmde_ros", "launch", "config", "rviz", "resource", "training", "security", "requirements")
FILES = ("package.xml", "setup.py", "setup.cfg")
COMMANDS = (
    "surround_depth",
    "replay",
    "evaluate_replay",
    "benchmark",
    "nuscenes_to_bag",
    "ddad_to_bag",
    "rig_from_bag",
    "check_rig",
    "bag_to_video",
    "chaos",
    "rerun_view",
    "security_policy",
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The prefix that `colcon build` makes of a copy of the checkout."""
    workspace = tmp_path_factory.mktemp("workspace")
    source = workspace / "src" / "fsmde_ros"
    source.mkdir(parents=True)
    for room in ROOMS:
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, source / name)
    colcon = shutil.which("colcon", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert colcon, "colcon is not installed; pip install -r requirements/test.txt"
    environment = os.environ | {
        # Where the wheels put the ament index; a ROS installation has set it already.
        "AMENT_PREFIX_PATH": os.environ.get("AMENT_PREFIX_PATH", sys.prefix),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    build = subprocess.run(
        [colcon, "build", "--event-handlers", "console_direct+"],
        cwd=workspace,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert build.returncode == 0, build.stdout + build.stderr
    yield workspace / "install" / "fsmde_ros"
    shutil.rmtree(workspace)


def test_ros_finds_the_package(installed: Path) -> None:
    share = installed / "share"
    assert (share / "ament_index/resource_index/packages/fsmde_ros").is_file()
    assert (share / "fsmde_ros/package.xml").is_file()
    shared = (("launch", "*.launch.py"), ("config", "*"), ("rviz", "*.rviz"), ("security", "*"))
    for folder, pattern in (*shared, ("requirements", "[cv]*.txt")):
        shipped = {path.name for path in (ROOT / folder).glob(pattern)}
        assert {path.name for path in (share / "fsmde_ros" / folder).iterdir()} == shipped


def test_the_default_checkpoint_is_installed_with_its_card(installed: Path) -> None:
    models = next(installed.rglob("fsmde_ros/models"))
    assert {path.name for path in models.iterdir()} >= {"small.safetensors", "small.json"}


def test_training_is_not_installed(installed: Path) -> None:
    """Under so general a name it would shadow other people's packages."""
    packages = next(installed.rglob("site-packages"))
    assert {path.name for path in packages.iterdir() if path.is_dir() and "info" not in path.name} == {"fsmde_ros"}


@pytest.mark.parametrize("command", COMMANDS)
def test_ros2_run_finds_the_commands(installed: Path, command: str) -> None:
    """`ros2 run` starts what stands in lib/<package>; each tells its usage from the installed copy."""
    script = installed / "lib" / "fsmde_ros" / command
    packages = next(installed.rglob("site-packages"))
    result = subprocess.run(
        [sys.executable, str(script), "--help"],
        cwd=installed,
        env=os.environ | {"PYTHONPATH": str(packages)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert "usage:" in result.stdout


def test_every_entry_point_names_a_function() -> None:
    setup = (ROOT / "setup.py").read_text()
    entries = [line.strip(' ",') for line in setup.splitlines() if " = fsmde_ros." in line]
    assert {entry.split(" = ")[0] for entry in entries} == set(COMMANDS)
    for entry in entries:
        module, function = entry.split(" = ")[1].split(":")
        tree = ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text())
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, entry
