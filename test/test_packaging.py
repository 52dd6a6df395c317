"""What installs the package elsewhere: package.xml, containers, workflow, hooks. None of it can run here."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

from fsmde_ros.rig_file import read_rig

ROOT = Path(__file__).parent.parent
# Python packages of ROS that our code imports, and what else it imports that rosdep has a key for.
KEYS = {
    "tf2_ros": "tf2_ros_py",
    "cv2": "python3-opencv",
    "numpy": "python3-numpy",
    "yaml": "python3-yaml",
    "matplotlib": "python3-matplotlib",
}
WITHOUT_KEY = {"torch", "safetensors", "rosbags", "nuscenes", "pyquaternion"}


def imported() -> set[str]:
    """Root names of everything that the installed package imports."""
    found: set[str] = set()
    for path in [*(ROOT / "fsmde_ros").rglob("*.py"), *(ROOT / "launch").glob("*.py")]:
        found |= set(re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), flags=re.MULTILINE))
    return found


def dependencies() -> set[str]:
    tree = ElementTree.parse(ROOT / "package.xml")
    return {str(element.text) for element in tree.getroot().iter("exec_depend")}


def test_every_ros_package_that_is_imported_is_a_dependency() -> None:
    ros = {name for name in imported() if re.fullmatch(r"\w+_msgs|\w+_srvs|\w+_interfaces|rclpy|launch\w*", name)}
    assert {"rclpy", "sensor_msgs", "launch_ros"} <= ros
    assert ros <= dependencies()
    assert {KEYS[name] for name in imported() & set(KEYS)} <= dependencies()


def test_what_has_no_key_is_pinned_for_pip_as_everywhere() -> None:
    pins = {}
    for name in ("ros", "run"):
        lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
        pins[name] = dict(re.findall(r"^([\w.-]+)==([\w.]+)", "\n".join(lines), flags=re.MULTILINE))
    assert {"torch", "safetensors", "rosbags"} <= set(pins["ros"])
    del pins["ros"]["setuptools"]  # only colcon cares which one torch brings along
    assert pins["ros"].items() <= pins["run"].items()


@pytest.mark.parametrize("name", ["Dockerfile", "docker/Dockerfile.cuda"])
def test_container_files_copy_what_exists_and_say_that_they_were_not_run(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "Not yet run" in text
    for line in re.findall(r"^COPY (.+)$", text, flags=re.MULTILINE):
        assert (ROOT / line.split()[0]).exists(), line
    assert "requirements/ros.txt" in text


def test_workflow_runs_what_exists() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    jobs = yaml.safe_load(text)["jobs"]
    assert "Not yet run" in text
    assert ".ci/run" in [step.get("run") for step in jobs["checks"]["steps"]]
    assert jobs["jazzy"]["container"].startswith("ros:jazzy")
    for path in re.findall(r"\b(?:test|requirements)/[\w/.]+", text):
        assert (ROOT / path).exists(), path


def test_hooks_are_the_checks_of_make() -> None:
    makefile = (ROOT / "Makefile").read_text()
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    for hook in hooks:
        tool = hook["entry"].removeprefix(".venv/bin/").replace(" --force-exclude", "")
        assert f"$(VENV)/bin/{tool}" in makefile


def test_dev_container_and_citation_can_be_read() -> None:
    text = (ROOT / ".devcontainer" / "devcontainer.json").read_text()
    content = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))
    assert (ROOT / ".devcontainer" / content["build"]["dockerfile"]).resolve() == ROOT / "Dockerfile"
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["license"] == "Apache-2.0"
    assert citation["preferred-citation"]["year"] == 2026


def test_the_rig_of_the_launch_test_has_the_camera_it_waits_for() -> None:
    assert "listening to front/" in (ROOT / "test" / "launch_surround_depth.py").read_text()
    assert read_rig(ROOT / "config" / "example_rig.yaml").names[0] == "front"
