"""Another process, real: what it is asked, what it raises, and that it ends."""

from __future__ import annotations

import itertools
import multiprocessing
from pathlib import Path

import pytest
import torch

from fsmde_ros.backends import fastest_ready
from fsmde_ros.backends.built_files import CACHE_VARIABLE
from fsmde_ros.benchmark.apart import apart
from fsmde_ros.benchmark.networks import network_subjects, precision_of
from fsmde_ros.checkpoint import default_checkpoint, load_checkpoint
from fsmde_ros.errors import CheckpointError


def test_one_object_answers_from_a_process_of_its_own_that_ends_with_the_context() -> None:
    with apart(itertools.count, 4) as one, apart(itertools.count, 9) as other:
        assert (one.ask(next), one.ask(next), other.ask(next)) == (4, 5, 9)
        assert len(multiprocessing.active_children()) == 2
    assert not multiprocessing.active_children()


def test_what_cannot_be_made_is_raised_here() -> None:
    with (
        pytest.raises(CheckpointError, match=r"absent\.st"),
        apart(load_checkpoint, Path("absent.st")),
    ):
        pass
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_students_run_in_processes_of_their_own() -> None:
    files = {"small": default_checkpoint()}
    with network_subjects(files, ["torch", "cuda_graph", "abacus"], "cpu", 2, (64, 96)) as (subjects, left_out):
        assert [*subjects] == ["small torch"]
        assert subjects["small torch"].depth_change == pytest.approx(0, abs=1e-5)
        subjects["small torch"].call()
        assert [*left_out] == ["small cuda_graph", "small abacus"]
        assert "abacus" in left_out["small abacus"]
        assert len(multiprocessing.active_children()) == 1
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_auto_counts_in_the_precision_of_what_it_has_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    student, _ = load_checkpoint(default_checkpoint())
    chosen = fastest_ready(student, torch.device("cpu"), (64, 96))
    with network_subjects({"small": default_checkpoint()}, ["auto", chosen], "cpu", 2, (64, 96)) as (subjects, _):
        precision = {subject.precision for subject in subjects.values()}
    assert len(subjects) == 2
    assert precision == {"bfloat16" if chosen == "openvino_bf16" else "float32"}


@pytest.mark.parametrize(
    ("runs_as", "precision"),
    [
        ("torch cpu", "float32"),
        ("torch_compile cpu", "float32"),
        ("openvino cpu", "float32"),
        ("openvino_bf16 cpu", "bfloat16"),
        ("openvino_int8 cpu", "float32"),
    ],
)
def test_precisions_of_backends(runs_as: str, precision: str) -> None:
    assert precision_of(runs_as) == precision
