"""The names of topics stand in one place, that of the vehicle frame in another."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import rclpy
from rclpy.context import Context

from fsmde_ros.topics import InputForm, full_name

ROOT = Path(__file__).parent.parent
MODULES = [p for room in ("fsmde_ros", "demo", "launch") for p in sorted((ROOT / room).rglob("*.py"))]
# A topic alone, or the end of one in an f-string; not words of a message.
TOPIC = re.compile(r"[\w/]*(image_rect|image_raw|depth/(camera_info|stddev)|surround_depth/(points|preview|sweep))\S*")
VEHICLE_FRAME = re.compile("base_link")


def spelled(path: Path, pattern: re.Pattern[str]) -> list[str]:
    constants = [n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)]
    return [text for text in constants if isinstance(text, str) and pattern.fullmatch(text)]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_other_module_spells_a_topic_or_the_vehicle_frame(path: Path) -> None:
    assert not spelled(path, TOPIC) or path == ROOT / "fsmde_ros" / "topics.py"
    assert not spelled(path, VEHICLE_FRAME) or path == ROOT / "fsmde_ros" / "rig.py"


def test_the_images_of_a_camera() -> None:
    assert InputForm().topic == "image_rect/compressed"
    assert InputForm(is_rectified=False, is_compressed=False).topic == "image_raw"


@pytest.mark.parametrize(
    ("topic", "namespace", "expected"),
    [
        ("front/image_rect", "", "/front/image_rect"),
        ("front/image_rect", "/", "/front/image_rect"),
        ("front/image_rect", "/fleet/robot/", "/fleet/robot/front/image_rect"),
        ("/front/image_rect", "robot", "/front/image_rect"),
    ],
)
def test_the_full_name_of_a_topic(topic: str, namespace: str, expected: str) -> None:
    assert full_name(topic, namespace) == expected


def test_what_to_change_in_a_node_for_images_of_another_form() -> None:
    assert InputForm().changes() == ()
    assert InputForm(is_rectified=False, is_compressed=False).changes() == (
        "input.rectified:=false",
        "input.transport:=raw",
    )
    assert InputForm().changes(InputForm(is_rectified=False)) == ("input.rectified:=true",)


def rules(text: str) -> list[str]:
    """Every FROM:=TO of whole topics of the camera front in a text; several may be joined by commas."""
    return re.findall(r"(/front/[\w/]+:=/[\w/]+)", text)


@pytest.mark.ros
@pytest.mark.parametrize(
    "page",
    [
        *("README.md", "fsmde_ros/launch_settings.py"),
        *(f"launch/{p.name}" for p in sorted((ROOT / "launch").glob("*.py"))),
    ],
)
def test_the_remappings_that_are_shown_are_of_topics_that_the_node_takes(page: str) -> None:
    """A rule of ROS is of one whole name: one of /front/image_rect would leave /front/image_rect/compressed alone."""
    found = rules((ROOT / page).read_text())
    assert found
    context = Context()
    context.init()
    arguments = [word for rule in found for word in ("-r", rule)]
    node = rclpy.create_node(
        "remapped", context=context, cli_args=["--ros-args", *arguments], use_global_arguments=False
    )
    names = [node.resolve_topic_name(f"front/{topic}") for topic in (InputForm().topic, "camera_info")]
    node.destroy_node()
    context.shutdown()
    assert [name.split("/")[1] for name in names] == ["cam0", "cam0"]
    assert names[0].endswith("/compressed")
    assert {rule.partition(":=")[0] for rule in found} == {f"/front/{InputForm().topic}", "/front/camera_info"}
