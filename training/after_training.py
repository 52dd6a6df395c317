"""What is chosen of a trained student on the validation sweeps; the weights stay as they are.

How its bins are averaged to a depth, and the size of its standard deviation.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import numpy as np
import torch

from fsmde_ros.metrics import ScoreBoard
from fsmde_ros.network.student import Student
from training.batch import SweepBatch
from training.calibrate import MIN_POINTS, SigmaPower, fit_power, with_config, with_power
from training.module import board_of_all, run_student, score_views

POWERS = (1.0, 0.75, 0.5, 0.25, 0.0)
MAX_BATCHES = 200  # so few numbers need no more, however long a validation set is


@torch.no_grad()
def with_best_expectation(student: Student, batches: Iterable[SweepBatch]) -> Student:
    """The student with the ``expectation_power`` that has the lowest sum of AbsRel and RMSE log.

    AbsRel alone is in favour of what is too near, at any price in delta1; the error of the logarithm takes near and far
    alike. Scored against the LiDAR of ``batches``; of several processes, of those of all. Nothing to score leaves 1.
    """
    candidates = [with_config(student, expectation_power=power) for power in POWERS]
    boards = [ScoreBoard() for _ in candidates]
    device = next(student.parameters()).device
    for batch in islice(batches, MAX_BATCHES):
        batch = SweepBatch(*(part.to(device) for part in batch))
        for candidate, board in zip(candidates, boards, strict=True):
            for view, score in score_views(run_student(candidate, batch).depth, batch, student.config):
                board.add(view, score)
    scores = [board_of_all(board).overall() for board in boards]
    errors = [score.abs_rel + score.rmse_log for score in scores]
    return candidates[int(np.nanargmin(errors))] if np.isfinite(errors).any() else candidates[0]


@torch.no_grad()
def with_fitted_stddev(student: Student, batches: Iterable[SweepBatch]) -> Student:
    """The student with the ``stddev_power`` that fits its errors at the LiDAR points of ``batches``.

    With too few points to fit, the spread of the bins stays what it is.
    """
    plain = with_power(student, SigmaPower(1.0, 1.0))
    device = next(student.parameters()).device
    errors, spreads = [np.zeros(0)], [np.zeros(0)]
    for batch in islice(batches, MAX_BATCHES):
        batch = SweepBatch(*(part.to(device) for part in batch))
        output = run_student(plain, batch)
        truth = batch.lidar_depth
        known = batch.present[:, :, None, None] & (truth >= student.config.d_min) & (truth <= student.config.d_max)
        errors.append((output.depth - truth)[known].double().cpu().numpy())
        spreads.append(output.stddev[known].double().cpu().numpy())
    error, spread = np.concatenate(errors), np.concatenate(spreads)
    if len(error) < MIN_POINTS:
        return plain
    power = fit_power(error, spread)
    return with_power(student, SigmaPower(round(power.scale, 5), round(power.exponent, 5)))
