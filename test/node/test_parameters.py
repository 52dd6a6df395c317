"""The table of parameters, the shipped file and validation agree."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import rclpy
import yaml
from rclpy.node import Node

from fsmde_ros.errors import ConfigError
from fsmde_ros.node.parameters import Settings, declare, main, names, to_markdown, to_yaml, untaken
from fsmde_ros.replay_settings import free_domain
from fsmde_ros.topics import INPUT_FORMS

ROOT = Path(__file__).parents[2]


def test_the_shipped_file_is_that_of_the_table():
    assert (ROOT / "config" / "surround_depth.yaml").read_text() == to_yaml(), (
        "run: python -m fsmde_ros.node.parameters yaml > config/surround_depth.yaml"
    )


def test_the_file_holds_the_defaults():
    shipped = yaml.safe_load(to_yaml())["/**"]["ros__parameters"]
    assert list(shipped) == names()
    assert Settings().changed(shipped) == Settings()
    for row in fields(Settings):
        assert type(shipped[row.metadata["name"]]) is type(row.default) or row.default == ()


def test_every_row_is_described_and_numbers_have_a_range():
    for row in fields(Settings):
        assert len(row.metadata["description"]) > 15
        if isinstance(row.default, (int, float)) and not isinstance(row.default, bool):
            assert row.metadata["low"] <= row.default <= row.metadata["high"]


def test_markdown_has_one_row_for_each_parameter():
    assert to_markdown().count("\n") == len(names()) + 2


@pytest.mark.ros
def test_parameters_that_the_node_does_not_have_are_told():
    """As rcl passes over a misspelt one, and the node would run on a default without a word."""
    qos = "qos_overrides./front/camera_info.subscription.durability"
    given = {"input.transprot": "raw", "use_sim_time": True, "cloud.stride": 3, "colour": 1, qos: "volatile"}
    arguments = [word for name, value in given.items() for word in ("-p", f"{name}:={value}")]
    rclpy.init(args=["--ros-args", *arguments], domain_id=free_domain())
    try:
        node = Node("misspelt")
        assert declare(node).cloud_stride == 3
        assert untaken(node) == [
            "parameter input.transprot: the node has none of that name; did you mean input.transport?",
            "parameter colour: the node has none of that name",
        ]
        node.declare_parameter("qos_overrides./front/camera_info.subscription.durabilty", "volatile")
        [said] = untaken(node, of_qos=True)
        assert said == f"parameter {qos}: the node has none of that name; did you mean {qos[:-3]}ty?"
    finally:
        rclpy.try_shutdown()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cameras": ["a", "b", "a"]}, "each name once"),
        ({"cameras": ["a", "b"], "sync.anchor": "c"}, "sync.anchor"),
        ({"input.transport": "carrier pigeon"}, "expected one of compressed, raw"),
        ({"cloud.stride": 0}, "cloud.stride: expected 1 to 64, got 0"),
        ({"cloud.voxel_m": float("nan")}, "cloud.voxel_m"),
        ({"cloud.voxel_m": 1e-5}, "voxel size"),
        ({"latency_budget_ms": 0.0}, "latency_budget_ms"),
        ({"cloud.stride": 2.0}, "cloud.stride: expected a whole number, got 2.0"),
        ({"cloud.stride": True}, "cloud.stride: expected a whole number"),
        ({"cloud.voxel_m": 1}, "cloud.voxel_m: expected a number with a decimal point, got 1"),
        ({"cloud.enabled": 1}, "cloud.enabled: expected true or false"),
        ({"cameras": "front"}, "cameras: expected a list of texts"),
        ({"cameras": ["front", 2]}, "cameras: expected a list of texts"),
        ({"cameras": ["front camera"]}, "'front camera' cannot be the name of a camera"),
        ({"cameras": ["a//b"]}, "cannot be the name"),
        ({"cameras": ["a" * 1000]}, "at most 100"),
        ({"rig_file": 3}, "rig_file: expected a text"),
        ({"sync.deadline_s": 0.02}, "shorter than sync.window_s"),
        ({"depth.encoding": "16UC1", "depth.max_range_m": 80.0}, "does not fit depth.encoding 16UC1"),
        ({"motion.fixed_frame": "map", "motion.odometry": "/vo"}, "expected one of them"),
        ({"latency_budget_ms": 6000.0}, "within latency_budget_ms"),
    ],
)
def test_unfit_values_are_refused_by_name(values, message):
    with pytest.raises(ConfigError, match=message):
        Settings().changed(values)


def test_an_empty_name_means_no_name_and_foreign_parameters_are_ignored():
    assert Settings().changed({"cameras": [""], "use_sim_time": True}) == Settings()
    assert Settings().changed({"cameras": ["a", "b"]}).cameras == ("a", "b")


def test_the_vehicle_frame_loses_the_slash_of_ros_1():
    assert Settings().changed({"vehicle_frame": "/base_footprint"}).vehicle_frame == "base_footprint"
    assert Settings(vehicle_frame="/") == Settings()


def test_each_form_of_images_has_parameters_that_choose_it():
    for form in INPUT_FORMS:
        values = {name: yaml.safe_load(text) for name, text in form.parameters.items()}
        assert Settings().changed(values).input_form == form


@pytest.mark.ros
def test_an_empty_list_of_cameras_is_none(tmp_path):
    """rcl takes it for a parameter without a value."""
    file = tmp_path / "own.yaml"
    file.write_text("/**:\n  ros__parameters:\n    cameras: []\n    cloud.stride: 4\n")
    rclpy.init(args=["--ros-args", "--params-file", str(file)], domain_id=free_domain())
    try:
        node = Node("empty")
        settings = declare(node)
        node.destroy_node()
    finally:
        rclpy.shutdown()
    assert (settings.cameras, settings.cloud_stride) == ((), 4)


def test_the_command_prints_what_it_is_asked_for(capsys):
    assert main(["yaml"]) == 0
    assert capsys.readouterr().out == to_yaml()
    assert main([]) == 2
