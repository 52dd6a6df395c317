"""The Python of docs/using.md, as a user would copy it."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
import yaml
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import Header

from fsmde_ros.node.messages import OUTPUT_QOS, columns_to_message
from fsmde_ros.node.parameters import Settings
from fsmde_ros.node.security_policy import NAME as SURROUND_DEPTH
from fsmde_ros.replay_settings import own_domain

PAGE = (Path(__file__).parents[2] / "docs" / "using.md").read_text()


def block(first: str) -> str:
    """Indented lines of the page from the one that begins with ``first`` to the next text."""
    found = re.search(rf"^    {re.escape(first)}.*?(?=^\S)", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert found
    return textwrap.dedent(found[0])


@pytest.fixture
def lane_ahead() -> Iterator[rclpy.node.Node]:
    names: dict[str, object] = {"__name__": "page"}
    exec(block("import numpy as np"), names)
    rclpy.init(domain_id=own_domain())
    node = names["LaneAhead"]()  # type: ignore[operator]
    yield node
    node.destroy_node()
    rclpy.shutdown()


@pytest.mark.ros
def test_the_nearest_thing_that_stands_in_the_lane(lane_ahead) -> None:
    """Of seven points one is neither aside, behind, on the road, overhead, unsure nor farther than another."""
    points = [
        (5.0, 2.0, 1.0, 0.1),
        (-3.0, 0.0, 1.0, 0.1),
        (4.0, 0.0, 0.4, 0.1),
        (4.0, 0.0, 4.0, 0.1),
        (6.0, 0.0, 1.0, 0.9),
        (20.0, -1.0, 1.0, 0.5),
        (12.0, 1.0, 1.0, 0.5),
    ]
    columns = dict(zip(("x", "y", "z", "stddev"), np.array(points, np.float32).T, strict=True))
    message = columns_to_message(columns, Header(frame_id="base_link"))
    publisher = lane_ahead.create_publisher(type(message), "surround_depth/points", OUTPUT_QOS)
    executor = SingleThreadedExecutor()
    executor.add_node(lane_ahead)
    for _ in range(100):
        publisher.publish(message)
        executor.spin_once(timeout_sec=0.1)
        if lane_ahead.nearest_m is not None:
            break
    executor.shutdown()
    assert lane_ahead.nearest_m == pytest.approx(12.0)


@pytest.mark.ros
def test_nothing_ahead_is_no_distance(lane_ahead) -> None:
    empty = {name: np.zeros(0, np.float32) for name in ("x", "y", "z", "stddev")}
    lane_ahead.on_cloud(columns_to_message(empty, Header()))
    assert lane_ahead.nearest_m is None


def heard(source: dict[str, Any], z: float) -> bool:
    """Whether a point is left of a source of Nav2, which drops the others before it marks and before it clears."""
    return bool(source["min_obstacle_height"] <= z <= source["max_obstacle_height"])


def test_the_costmap_marks_what_stands_and_clears_along_rays_to_the_road() -> None:
    layer = yaml.safe_load(block("local_costmap:"))["local_costmap"]["local_costmap"]["ros__parameters"][
        "obstacle_layer"
    ]
    sources = [layer[name] for name in layer["observation_sources"].split()]
    assert {source["topic"] for source in sources} == {"/surround_depth/points"}
    [marks], [clears] = ([source for source in sources if source[what]] for what in ("marking", "clearing"))
    assert (heard(marks, 0.0), heard(clears, 0.0), heard(clears, -0.5)) == (False, True, True)
    assert heard(marks, 1.0)
    assert heard(clears, 1.0)
    assert not heard(clears, 3.0), "a ray that passes above a thing would clear it"
    assert marks["obstacle_max_range"] < clears["raytrace_max_range"]


def test_the_lifecycle_manager_waits_for_no_bond() -> None:
    manager = yaml.safe_load(block("lifecycle_manager:"))["lifecycle_manager"]["ros__parameters"]
    assert (manager["bond_timeout"], manager["node_names"]) == (0.0, [SURROUND_DEPTH])
    row = next(row for row in fields(Settings) if row.name == "autostart")
    assert "bond_timeout: 0.0" in row.metadata["description"]
