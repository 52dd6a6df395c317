"""How the bins of a trained student are averaged to a depth; the weights stay as they are.

Training averages in metres, power 1 of ``StudentConfig.expectation_power``. Whether a lower power is better depends on
what was trained: see docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from fsmde_ros.backends.torch_eager import full_precision
from fsmde_ros.metrics import DepthScore, ScoreBoard
from fsmde_ros.network.student import Student
from training.batch import SweepBatch
from training.module import board_of_all, run_student, score_views

POWERS = (1.0, 0.75, 0.5, 0.25, 0.0)
MAX_BATCHES = 200  # a number that is fitted after training needs no more, spread evenly over however many there are


@torch.no_grad()
def score_powers(student: Student, batches: Iterable[SweepBatch]) -> dict[float, DepthScore]:
    """Score against the LiDAR of ``batches``, by power; of several processes, of all of them together."""
    candidates = {power: with_config(student, expectation_power=power) for power in POWERS}
    boards = {power: ScoreBoard() for power in POWERS}
    device = next(student.parameters()).device
    for batch in batches:
        batch = SweepBatch(*(part.to(device) for part in batch))
        with full_precision(device):
            said = run_student(student, batch)
            for power, candidate in candidates.items():
                full = candidate.full_size(said.features, said.logits[:, :, :-1], said.logits[:, :, -1], said.centers)
                for view, score in score_views(full.depth, batch, student.config):
                    boards[power].add(view, score)
    return {power: board_of_all(board).overall() for power, board in boards.items()}


def error_of(score: DepthScore) -> float:
    """What is judged by, lower is better: AbsRel + RMSE log + 1 - delta1; NaN of nothing.

    AbsRel alone is in favour of what is too near, at any price in delta1; the error of the logarithm takes near and far
    alike, but pays most for the few points that are far off.
    """
    return score.abs_rel + score.rmse_log + 1 - score.d1


def best_power(scores: Mapping[float, DepthScore]) -> float:
    """The power with the lowest ``error_of``; 1 where there was nothing to score."""
    errors = {power: error_of(score) for power, score in scores.items() if score.n}
    return min(errors, key=errors.__getitem__) if errors and np.isfinite(list(errors.values())).all() else 1.0


def with_config(student: Student, **changes: Any) -> Student:
    """A copy of ``student``, same weights, precision and device, in evaluation mode, with ``changes`` of its
    configuration."""
    copy = Student(replace(student.config, **changes)).to(next(student.parameters()))
    copy.load_state_dict(student.state_dict())
    return copy.eval()
