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

MAX_BATCHES = 200  # so few numbers need no more, however long a validation set is


@torch.no_grad()
def with_better_expectation(student: Student, batches: Iterable[SweepBatch]) -> Student:
    """The student whose depth is the expectation in metres or in log depth, whichever has the lower AbsRel.

    Scored against the LiDAR of ``batches``; of several processes, of those of all. Nothing to score leaves metres.
    """
    candidates = [with_config(student, expect_log_depth=in_log_depth) for in_log_depth in (False, True)]
    boards = [ScoreBoard() for _ in candidates]
    device = next(student.parameters()).device
    for batch in islice(batches, MAX_BATCHES):
        batch = SweepBatch(*(part.to(device) for part in batch))
        for candidate, board in zip(candidates, boards, strict=True):
            for view, score in score_views(run_student(candidate, batch).depth, batch, student.config):
                board.add(view, score)
    in_metres, in_log_depth = (board_of_all(board).overall().abs_rel for board in boards)
    return candidates[in_log_depth < in_metres]


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
