"""The commands on the pages below docs/: which test runs each, and that what they give is understood."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from training.configuration import read_command_line

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
LEARN = "test/training"
OWN_RIG = "test/integration/test_distilled_rig.py::test_from_a_bag_to_a_running_node"  # reads them from the page

# What a command begins with, and the test that runs it with such options.
RUN_BY = {
    "-m training.distill --config FILE --teacher.name": (
        f"{LEARN}/teachers/test_distillation.py::test_a_bag_is_distilled_from_a_teacher"
    ),
    "-m training.distill --config training/configs/town_nano.yaml --method a --teacher.name": (
        f"{LEARN}/teachers/test_method_a.py::test_method_a_trains_with_a_saved_model_and_exports_the_student_alone"
    ),
    "-m training.distill --config training/configs/town_more.yaml": (
        f"{LEARN}/test_distill.py::test_rigs_as_no_car_has_them_are_rendered_and_trained_on"
    ),
    "-m training.distill --config training/configs/town_any_rig.yaml": (
        f"{LEARN}/test_distill.py::test_rigs_as_no_car_has_them_are_rendered_and_trained_on"
    ),
    "-m training.ablate --config": f"{LEARN}/test_ablate.py::test_a_small_ablation_trains_scores_and_is_not_repeated",
    "-m training.evaluate --checkpoint fsmde_ros/models/small.safetensors --data town": (
        f"{LEARN}/test_evaluate.py::test_the_shipped_student_beats_the_ground_plane_on_a_held_out_sweep"
    ),
    "-m training.evaluate --checkpoint small --backend": f"{LEARN}/test_evaluate.py::test_another_backend_by_name",
    "-m training.evaluate --checkpoint small --data town:1": (
        f"{LEARN}/test_evaluate.py::test_a_rig_that_is_told_wrong_costs_accuracy_and_is_named"
    ),
    "-m training.evaluate --checkpoint small --data town:7": (
        f"{LEARN}/test_evaluate.py::test_sweeps_before_it_make_a_sweep_better_in_a_row_of_its_own"
    ),
    "-m training.evaluate --checkpoint C --data nuscenes:PATH --teacher": (
        f"{LEARN}/teachers/test_evaluated_teacher.py::"
        "test_a_teacher_stands_beside_the_student_in_every_form_of_the_report"
    ),
    "-m training.calibrate": (
        f"{LEARN}/test_calibrate.py::test_the_command_tells_the_shares_and_writes_the_calibrated_student"
    ),
    "-m training.soup --checkpoints": (
        f"{LEARN}/test_soup.py::test_the_command_writes_a_student_whose_card_names_the_parts"
    ),
    "-m training.error_places": f"{LEARN}/test_error_places.py::test_the_command_prints_a_row_for_every_place",
    "-m training.stereo_places": f"{LEARN}/test_stereo_places.py::test_the_command_prints_a_row_for_every_place",
    "-m training.scorecard": f"{LEARN}/test_scorecard.py::test_the_card_has_rows_cameras_ranges_and_the_baseline",
    "-m training.export": f"{LEARN}/test_export.py::test_int8_is_calibrated_on_the_town_and_close",
    "-m fsmde_ros.benchmark": "test/benchmark/test_benchmark.py::test_a_whole_run",
    "-m fsmde_ros.chaos": "test/chaos/test_faults.py::test_a_bag_with_faults_keeps_everything_else_and_has_a_record",
    "-m fsmde_ros.node.fault_matrix": "test/node/test_fault_matrix.py::test_the_command_writes_the_table_and_the_page",
    "-m fsmde_ros.node.frame_loss": "test/node/test_frame_loss.py::test_the_command_writes_the_figures",
    "-m fsmde_ros.node.soak": "test/node/test_soak.py::test_twenty_seconds",
    "-m fsmde_ros.node.security_policy": "test/node/test_security_policy.py::"
    "test_the_shipped_policy_is_that_of_the_nuscenes_rig",
    "-m fsmde_ros.sources.convert rig_from_bag": OWN_RIG,
    "-m fsmde_ros.check_rig": OWN_RIG,
    "-m training.distill --config training/configs/own_bag.yaml": OWN_RIG,
    "-m training.evaluate --checkpoint own.safetensors": OWN_RIG,
    "-m fsmde_ros.node.surround_depth_node": OWN_RIG,
    "-m fsmde_ros.node.evaluator_node": OWN_RIG,
    "-m fsmde_ros.node.player": OWN_RIG,
}


def commands() -> list[str]:
    texts = [page.read_text() for page in PAGES]
    found = [command for text in texts for command in re.findall(r"python (-m (?:training|fsmde_ros)[^`|\n]*)", text)]
    return sorted({command.split("#")[0].split(">")[0].partition(", or ")[0].strip() for command in found})


def inline_options() -> list[list[str]]:
    """Options of ``training.distill`` with a value, in the running text of its pages."""
    texts = [(ROOT / "docs" / page).read_text() for page in ("teachers.md", "own_rig.md")]
    found = [shlex.split(option) for text in texts for option in re.findall(r"`(--[^`]+)`", text)]
    return [option for option in found if len(option) > 1]


def test_the_pages_have_the_commands() -> None:
    assert len(commands()) >= 18
    assert len(inline_options()) >= 5


@pytest.mark.parametrize("command", commands())
def test_a_test_runs_every_command(command: str) -> None:
    found = [prefix for prefix in RUN_BY if re.match(rf"{re.escape(prefix)}(?![\w.])", command)]
    assert found, f"no test is named for '{command}'"
    path, _, function = RUN_BY[max(found, key=len)].partition("::")
    tree = ast.parse((ROOT / path).read_text())
    assert function in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("command", [c for c in commands() if "sources.convert" not in c and "--ros-args" not in c])
def test_every_option_of_a_command_exists(command: str, has_option: Callable[[str, str], bool]) -> None:
    _, module, *arguments = shlex.split(command)
    if module == "training.distill":
        given = [str(ROOT / "training/configs/smoke.yaml") if word == "FILE" else word for word in arguments]
        config, _ = read_command_line([str(ROOT / word) if word.startswith("training/") else word for word in given])
        assert config.steps > 0
        return
    for option in {word for word in arguments if word.startswith("--")} - {"--help"}:
        assert has_option(module, option), f"{module} has no {option}"


@pytest.mark.parametrize("option", inline_options(), ids=" ".join)
def test_options_in_the_running_text_are_understood(option: list[str]) -> None:
    smoke = str(ROOT / "training" / "configs" / "smoke.yaml")
    name = option[0].removeprefix("--")
    config, given = read_command_line(["--config", smoke, "--teacher.name", "some/model", *option])
    assert str(given[name]).lower() == option[1] or name == "data"
    assert config.steps == 20
