"""What the documents say against what is there."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import rclpy
from rclpy.context import Context
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, HistoryPolicy, ReliabilityPolicy

from fsmde_ros.node.messages import INPUT_QOS, OUTPUT_QOS
from fsmde_ros.node.outputs import Outputs
from fsmde_ros.node.parameters import to_markdown
from fsmde_ros.replay_settings import own_domain

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
UNRUN = "not yet run"

# Every command of the README: what it begins with, and the test that runs it with its options.
COMMANDS = {
    "make demo": "test/integration/test_demo_command.py::test_a_town_from_nothing_and_from_the_cache",
    "make demo DRIVE=nuscenes:": "test/integration/test_replayed_drives.py::test_the_real_keyframe",
    "make demo DRIVE=ddad:": "test/integration/test_replayed_drives.py::test_the_real_ddad_scene",
    "make test": "ci",
    "make train": "test/training/test_distill.py::",
    "python -m training.distill": "test/training/test_distill.py::",
    "python -m training.evaluate": "test/training/test_evaluate.py::",
    "python -m training.soup": "test/training/test_soup.py::",
    "python -m fsmde_ros.sources.convert rig_from_bag": "test/integration/test_own_rig.py::test_the_five_steps",
    "python -m fsmde_ros.check_rig": "test/integration/test_own_rig.py::test_the_five_steps",
    "python -m fsmde_ros.node.surround_depth_node": "test/integration/test_own_rig.py::test_the_five_steps",
    "python -m fsmde_ros.node.evaluator_node": "test/integration/test_own_rig.py::test_the_five_steps",
    "python -m fsmde_ros.node.player": "test/integration/test_own_rig.py::test_the_five_steps",
    "export FASTRTPS_DEFAULT_PROFILES_FILE=": "test/test_replay_settings.py::test_what_the_pages_export_is_enough",
    "python -m fsmde_ros.node.rerun_view": "test/node/test_rerun_view.py::test_a_recording_of_the_live_node",
    "python -m fsmde_ros.bag_to_video": "test/test_bag_to_video.py::test_a_video",
}
# Need an installation of ROS 2 or Docker, which the README says were not at hand.
NOT_RUN = (
    "cd ~/ws/src",
    "sudo apt",
    "rosdep",
    "pip install --break",
    "colcon build",
    "ros2 ",
    "launch_test",
    "docker ",
)


def commands() -> list[str]:
    """Indented lines of the README, without comments; the drawing of the layout is no command."""
    text = README.split("## How the code is laid out")[0]
    lines = re.findall(r"^ {4,}(\S.*)$", text, flags=re.MULTILINE)
    return [line.split(" # ")[0].strip() for line in lines]


def functions(path: Path) -> set[str]:
    return {n.name for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef)}


def assert_test_exists(named: str) -> None:
    path, _, function = named.partition("::")
    assert (ROOT / path).is_file(), f"no file {path}"
    assert not function or function in functions(ROOT / path), f"no test {named}"


def test_parameter_table_is_that_of_the_code() -> None:
    table = README.split("<!-- parameters -->")[1].split("<!-- /parameters -->")[0]
    assert table.strip() == to_markdown().strip()


def test_powers_of_the_shipped_students_are_those_of_their_cards() -> None:
    students: dict[float, list[str]] = {}
    for path in sorted((ROOT / "fsmde_ros" / "models").glob("*.json")):
        students.setdefault(json.loads(path.read_text())["student"]["expectation_power"], []).append(f"`{path.stem}`")
    powers = ", ".join(f"{power:g} of {' and '.join(names)}" for power, names in sorted(students.items()))
    said = " ".join((ROOT / "docs" / "evaluation.md").read_text().split())
    assert f"now the powers are {powers}." in said


def test_qos_is_that_of_the_code() -> None:
    said = " ".join(README.split())
    assert (INPUT_QOS.reliability, INPUT_QOS.history) == (ReliabilityPolicy.BEST_EFFORT, HistoryPolicy.KEEP_LAST)
    assert f"taken best effort, keep last {INPUT_QOS.depth};" in said
    assert (OUTPUT_QOS.reliability, OUTPUT_QOS.durability) == (ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)
    assert f"depth and clouds are published reliable, volatile, keep last {OUTPUT_QOS.depth}." in said


@pytest.fixture
def published() -> dict[str, str]:
    """Type by topic, in the README's way of writing, of everything the node publishes for a sweep."""
    context = Context()
    rclpy.init(context=context, domain_id=own_domain())
    node = LifecycleNode("surround_depth", context=context)
    own = {publisher.topic_name for publisher in node.publishers}
    outputs = Outputs(node, ("CAM",), "base_link")
    names = {p.topic_name: p.msg_type.__name__ for p in node.publishers if p.topic_name not in own}
    outputs.close()
    node.destroy_node()
    rclpy.shutdown(context=context)
    written = {t.replace("/CAM", "<cam>").replace("/surround_depth", "~"): k for t, k in names.items()}
    return {re.sub(r"latency/.*", "latency/<stage>", topic): kind for topic, kind in written.items()}


@pytest.mark.ros
def test_topics_are_those_of_the_publishers(published: dict[str, str]) -> None:
    rows = re.findall(r"^\| out \| `([^`]+)` \| (\w+)", README, flags=re.MULTILINE)
    written = dict(rows)
    assert written.pop("/diagnostics") == "DiagnosticArray"
    assert written == published


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_links_and_named_files_exist(document: Path) -> None:
    text = document.read_text()
    links = re.findall(r"\]\((?!http)([^)#]+)\)", text)
    named = re.findall(
        r"`((?:fsmde_ros|training|test|config|rviz|launch|docs|requirements|docker)/[\w./-]+\.\w+)`", text
    )
    for target in [*links, *named]:
        assert (document.parent / target).exists() or (ROOT / target).exists(), f"{document.name} names {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_modules_that_are_run_exist(document: Path) -> None:
    for module in re.findall(r"-m ((?:fsmde_ros|training|demo)[\w.]*)", document.read_text()):
        assert importlib.util.find_spec(module), f"{document.name} runs {module}"


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for document in DOCUMENTS:
        for target in re.findall(r"^ +make (\w+)", document.read_text(), flags=re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


@pytest.mark.parametrize("command", commands())
def test_every_command_is_run_by_a_test_or_said_not_to_be(command: str) -> None:
    plain = command.removeprefix(".venv/bin/")
    if plain.startswith(NOT_RUN):
        assert UNRUN in README.lower()
        return
    matches = [prefix for prefix in COMMANDS if plain.startswith(prefix)]
    assert matches, f"no test is named for '{command}'"
    named = COMMANDS[max(matches, key=len)]
    if named == "ci":
        assert plain in (ROOT / ".ci" / "run").read_text()
    else:
        assert_test_exists(named)


@pytest.mark.parametrize("command", [c for c in commands() if "ros2 launch" in c])
def test_launch_commands_name_files_and_arguments_that_exist(command: str) -> None:
    name, *arguments = command.partition("ros2 launch fsmde_ros ")[2].split()
    text = (ROOT / "launch" / name).read_text()
    for argument in arguments:
        assert f'"{argument.split(":=")[0]}"' in text, argument


@pytest.mark.parametrize("command", [c for c in commands() if "-m fsmde_ros" in c or "-m training" in c])
def test_options_of_the_commands_exist(command: str, has_option: Callable[[str, str], bool]) -> None:
    module = command.split("-m ")[1].split()[0]
    for option in re.findall(r"(--[a-z-]+)", command):
        assert option in ("--ros-args", "--help", "--config") or has_option(module, option), f"{module}: no {option}"


def test_every_feature_has_a_test() -> None:
    section = README.split("## Beside other nodes")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ") and "`test/" in line]
    assert len(rows) >= 15
    for row in rows:
        assert_test_exists(re.findall(r"`(test/[^`]+)`", row)[-1])


def test_the_figures_on_the_page_of_robustness_are_those_that_were_measured() -> None:
    page = (ROOT / "docs" / "robustness.md").read_text()
    soak, fuzz = (json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text()) for name in ("soak", "fuzz"))
    summary = soak["summary"]
    assert f"    {soak['command']}\n" in page
    assert f"    {fuzz['command']}\n" in page
    assert f"| {summary['sweeps']:,} |" in page
    for name in ("rss_mib", "p99_ms"):
        assert f"{summary[f'{name}_first_sixth']} and {summary[f'{name}_last_sixth']} m" in page.lower()
    assert f"{fuzz['cases']:,} cases" in page
    assert f"{len(fuzz['findings'])} findings" in page
    for parser, counts in fuzz["parsers"].items():
        assert f"| {parser} | {counts['cases']:,} | {counts['refused']:,} | {counts['accepted']:,} |" in page


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        ("/tf /tf_static /odom /odometry/filtered /wheel/odometry", True),
        ("/lidar_top /velodyne_points /ouster/points /points_raw /livox/lidar /rslidar_points", True),
        ("/front/camera_info /ns/front/camera_info /cam0/image /cam0/image/compressed", True),
        ("/front/image_raw /front/image_rect /front/image_rect_color /front/image_color", True),
        ("/front/image_raw/compressed /front/image_rect/compressed /front/image_rect_color/compressed", True),
        ("/front/image_raw/compressedDepth /front/image_raw/theora /rosout /clock /tf2 /cmd_vel /imu/data", False),
        ("/surround_depth/preview/compressed /front/depth/stddev /front/depth/color", False),
    ],
)
def test_the_recording_has_what_the_steps_after_it_need(names: str, taken: bool) -> None:
    """rosbag2 looks for the expression anywhere in the name of a topic."""
    [expression] = re.findall(r"ros2 bag record .* -e '(.*)'", README)
    for name in names.split():
        assert (re.search(expression, name) is not None) == taken, name
