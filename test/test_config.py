"""The shipped configuration files, read by the very readers that a user's files go through."""

from __future__ import annotations

import copy
import functools
import json
import operator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml
from rclpy.parameter import parameter_dict_from_yaml_file

from fsmde_ros.check_rig.findings import examine
from fsmde_ros.errors import RigError
from fsmde_ros.mounting import mountings
from fsmde_ros.node.parameters import Settings, names
from fsmde_ros.rig import Rig
from fsmde_ros.rig_file import read_lidars, read_rig, rig_from_mapping
from training.town.rigs import ddad_rig, nuscenes_rig

CONFIG = Path(__file__).parent.parent / "config"
PARAMETERS = [path for path in sorted(CONFIG.glob("*.yaml")) if "ros__parameters" in path.read_text()]
RIGS = [path for path in sorted(CONFIG.glob("*.yaml")) if path not in PARAMETERS]


def test_every_file_is_one_or_the_other() -> None:
    assert [path.name for path in PARAMETERS] == ["ddad.yaml", "nuscenes.yaml", "surround_depth.yaml"]
    assert [path.name for path in RIGS] == ["ddad_rig.yaml", "example_rig.yaml", "nuscenes_rig.yaml"]


@pytest.mark.parametrize("path", PARAMETERS, ids=lambda p: p.name)
def test_parameters_are_accepted_by_ros_and_by_the_node(path: Path) -> None:
    read_by_ros = parameter_dict_from_yaml_file(str(path), use_wildcard=True)
    values: dict[str, Any] = yaml.safe_load(path.read_text())["/**"]["ros__parameters"]
    assert set(read_by_ros) == set(values) <= set(names())
    settings = Settings().changed(values)
    assert settings.changed({}) == settings


SCHEMA = json.loads((CONFIG / "rig.schema.json").read_text())


@pytest.mark.parametrize("path", RIGS, ids=lambda p: p.name)
def test_rigs_fit_the_schema(path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(yaml.safe_load(path.read_text()), SCHEMA)


def _fields(content: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Places of all fields, by their keys and indices; of numbers in a list, of the first only."""
    items = content.items() if isinstance(content, dict) else list(enumerate(content))[:1]
    nested = [_fields(value, (*place, key)) for key, value in items if isinstance(value, (dict, list))]
    return [(*place, key) for key, _ in items] + [deeper for part in nested for deeper in part]


EXAMPLE = yaml.safe_load((CONFIG / "example_rig.yaml").read_text())


CHANGES = [
    pytest.param(place, change, id=f"{change} {'.'.join(map(str, place))}")
    for place in _fields(EXAMPLE)
    for change in ("remove", "misuse", *(["rename"] if isinstance(place[-1], str) else []))
]


@pytest.mark.parametrize(("place", "change"), CHANGES)
def test_schema_and_reader_refuse_the_same(place: tuple[Any, ...], change: str) -> None:
    content = copy.deepcopy(EXAMPLE)
    *way, last = place
    parent = functools.reduce(operator.getitem, way, content)
    value = parent[last] if change == "misuse" else parent.pop(last)
    if change == "rename":
        parent[f"{last}_"] = value
    elif change == "misuse":
        parent[last] = None
    try:
        rig_from_mapping(content)
        is_read = True
    except RigError:
        is_read = False
    assert is_read == jsonschema.Draft202012Validator(SCHEMA).is_valid(content)


@pytest.mark.parametrize("path", RIGS, ids=lambda p: p.name)
def test_rigs_look_right_and_leave_no_blind_spot(path: Path) -> None:
    rig = read_rig(path)
    assert [str(finding) for finding in examine(rig)] == []
    assert path.read_text().startswith("#")


@pytest.mark.parametrize(
    ("name", "rig"), [("nuscenes", nuscenes_rig()), ("ddad", ddad_rig())], ids=["nuscenes", "ddad"]
)
def test_typical_rigs_are_those_of_the_town_and_have_the_cameras_of_their_parameters(name: str, rig: Rig) -> None:
    shipped = read_rig(CONFIG / f"{name}_rig.yaml")
    assert shipped.names == rig.names
    for ours, theirs in zip(shipped.cameras, rig.cameras, strict=True):
        assert ours.size == theirs.size
        np.testing.assert_allclose(ours.intrinsics, theirs.intrinsics)
        np.testing.assert_allclose(ours.camera_to_vehicle, theirs.camera_to_vehicle, atol=1e-12)
    values = yaml.safe_load((CONFIG / f"{name}.yaml").read_text())["/**"]["ros__parameters"]
    assert tuple(values["cameras"]) == shipped.names


def test_the_example_is_what_its_comments_say() -> None:
    van = {at.name: at for at in mountings(read_rig(CONFIG / "example_rig.yaml"))}
    assert [round(at.yaw) % 360 for at in van.values()] == [0, 90, 180, 270]
    assert van["front"].pitch == pytest.approx(-5, abs=0.01)
    assert van["front"].horizontal_fov == pytest.approx(90, abs=0.01)
    assert all(abs(at.roll) < 0.01 for at in van.values())
    assert list(read_lidars(CONFIG / "example_rig.yaml")) == ["lidar_top"]
