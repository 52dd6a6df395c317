"""The training step: which terms there are, what they do to the student, and its optimiser."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from fsmde_ros.errors import ConfigError
from fsmde_ros.network.student import Student, StudentConfig
from training.batch import Sample, SweepBatch, collate, select_views
from training.module import (
    LossWeights,
    Optimisation,
    at_bin_size,
    distillation_terms,
    parameter_groups,
    rate_share,
    run_student,
    score_views,
)

TERMS = ("silog", "ckd", "vrkd", "bins", "out_of_range", "gradient", "smoothness", "overlap")
OFF = LossWeights(**dict.fromkeys(TERMS, 0.0))
CONFIG = StudentConfig(bins=16, attention_dim=32, attention_blocks=1, decoder_widths=(32, 16, 16))


@pytest.fixture
def batch(sample: Sample) -> SweepBatch:
    return collate([sample, select_views(sample, [3, 0, 1])])


@pytest.fixture
def student() -> Student:
    torch.manual_seed(0)
    return Student(CONFIG).train()


def test_a_term_is_there_where_its_weight_is_above_zero(batch: SweepBatch, student: Student) -> None:
    output = run_student(student, batch)
    assert distillation_terms(output, batch, OFF, CONFIG) == {}
    for term in TERMS:
        terms = distillation_terms(output, batch, replace(OFF, **{term: 1.0}), CONFIG)
        assert set(terms) == {term}
        assert torch.isfinite(terms[term])
        assert terms[term] > 0


def test_teacher_terms_vanish_where_the_teacher_cannot_be_aligned(batch: SweepBatch, student: Student) -> None:
    blind = batch._replace(lidar_depth=torch.full_like(batch.lidar_depth, torch.nan))
    terms = distillation_terms(run_student(student, blind), blind, LossWeights(), CONFIG)
    assert {name: value.item() for name, value in terms.items() if name != "vrkd"} == dict.fromkeys(
        ("silog", "bins", "ckd", "out_of_range", "gradient"), 0.0
    )
    torch.stack(list(terms.values())).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in student.parameters() if p.grad is not None)


def test_distillation_does_not_move_the_bin_centres(batch: SweepBatch, student: Student) -> None:
    for term in ("ckd", "vrkd", "out_of_range"):
        student.zero_grad()
        terms = distillation_terms(run_student(student, batch), batch, replace(OFF, **{term: 1.0}), CONFIG)
        terms[term].backward()
        moved = [p.grad for p in student.bin_centres.parameters() if p.grad is not None]
        assert all(not gradient.any() for gradient in moved), term


def test_a_few_steps_on_one_batch_lower_the_loss(batch: SweepBatch, student: Student) -> None:
    optimizer = torch.optim.AdamW(parameter_groups(student, Optimisation(rate=3e-3)))
    weights, history = LossWeights(), []
    for _ in range(25):
        terms = distillation_terms(run_student(student, batch), batch, weights, CONFIG)
        loss = torch.stack([getattr(weights, name) * value for name, value in terms.items()]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.7 * history[0]


def test_parameter_groups_hold_every_trainable_parameter_once(student: Student) -> None:
    groups = parameter_groups(student, Optimisation())
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in student.parameters() if p.requires_grad)
    slow = {id(p) for group in groups if group["lr"] == Optimisation().encoder_rate for p in group["params"]}
    assert {id(p) for p in student.bin_centres.parameters()} <= slow
    assert not {id(p) for p in student.decoder.parameters()} & slow


def test_rate_rises_then_falls_to_its_final_share() -> None:
    shares = [rate_share(step, 100, 10, 0.05) for step in range(101)]
    assert shares[0] == pytest.approx(0.1)
    assert shares[9] == shares[10] == 1
    assert shares[55] == pytest.approx(0.05 + 0.95 * 0.5)
    assert shares[100] == pytest.approx(0.05)


def test_maps_shrink_to_whole_pixels_never_to_mixtures() -> None:
    full = torch.rand(2, 3, 8, 12)
    small = at_bin_size(full, torch.zeros(2, 3, 5, 2, 3))
    torch.testing.assert_close(small, full[..., 2::4, 2::4])


def test_scores_are_of_present_views_only(batch: SweepBatch) -> None:
    depth = torch.nan_to_num(batch.dense_depth, nan=1.0, posinf=CONFIG.d_max)
    scores = score_views(depth, batch, CONFIG)
    assert len(scores) == 8
    assert all(score.abs_rel == pytest.approx(0, abs=1e-6) for _, score in scores)
    doubled = dict(score_views(depth * 2, batch, CONFIG))
    assert doubled["view_1"].d1 == 0
    assert np.isfinite(doubled["view_1"].rmse)


@pytest.mark.parametrize("name", [field.name for field in fields(LossWeights)])
def test_negative_weights_are_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        LossWeights(**{name: -1.0})
