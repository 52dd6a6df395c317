"""Bring a trained student's standard deviation to the size of its errors, on the validation sweeps."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from fsmde_ros.backends.torch_eager import full_precision
from fsmde_ros.network.student import OUT_OF_RANGE, Student
from training.batch import SweepBatch
from training.calibrate import MIN_POINTS, SigmaPower, fit_power, with_power
from training.module import run_student


@torch.no_grad()
def with_fitted_stddev(student: Student, batches: Iterable[SweepBatch]) -> Student:
    """The student with the ``stddev_power`` that fits its errors at the LiDAR points of ``batches``.

    With too few points to fit, the spread of the bins stays what it is. Several processes fit it together, each with
    batches of its own: all have to call this.
    """
    plain = with_power(student, SigmaPower(1.0, 1.0))
    device = next(student.parameters()).device
    errors, spreads = [np.zeros(0)], [np.zeros(0)]
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    processes = torch.distributed.get_world_size() if together else 1
    for batch in batches:
        batch = SweepBatch(*(part.to(device) for part in batch))
        with full_precision(device):
            output = run_student(plain, batch)
        truth = batch.lidar_depth
        # What is taken for sky has no depth when it is published, and no error.
        has_depth = batch.present[:, :, None, None] & (output.out_of_range <= OUT_OF_RANGE)
        known = has_depth & (truth >= student.config.d_min) & (truth <= student.config.d_max)
        errors.append((output.depth - truth)[known].cpu().double().numpy())
        spreads.append(output.stddev[known].cpu().double().numpy())
    found = (np.concatenate(errors), np.concatenate(spreads))
    of_all = [found] * processes
    if together:
        torch.distributed.all_gather_object(of_all, found)
    error, spread = (np.concatenate(parts) for parts in zip(*of_all, strict=True))
    if len(error) < MIN_POINTS:
        return plain
    power = fit_power(error, spread)
    return with_power(student, SigmaPower(round(power.scale, 5), round(power.exponent, 5)))
