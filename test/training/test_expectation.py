"""Which way of averaging the bins is taken."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fsmde_ros.metrics import DepthScore
from fsmde_ros.network.student import Student, StudentConfig
from training.batch import Sample, SweepBatch, collate
from training.expectation import POWERS, best_power, score_powers, with_config
from training.module import DistillModule, run_student
from training.stddev_fit import with_fitted_stddev

CONFIG = StudentConfig(bins=16, attention_dim=32, attention_blocks=1, decoder_widths=(32, 16, 16))


@pytest.mark.parametrize("power", POWERS)
def test_depths_that_were_averaged_so_have_no_error(power: float, sample: Sample) -> None:
    torch.manual_seed(0)
    student = Student(CONFIG).eval()
    with torch.no_grad():
        student.bin_logits.to_logits.weight.normal_()  # bins in doubt, so that the depths lie apart
    batch = collate([sample])
    own = with_config(student, expectation_power=power)
    scores = score_powers(student, [batch._replace(lidar_depth=run_student(own, batch).depth.detach())])
    assert list(scores) == list(POWERS)
    assert scores[power].abs_rel < 1e-6
    assert min(scores[other].abs_rel for other in POWERS if other != power) > 1e-3
    assert best_power(scores) == power


def test_the_sum_of_the_errors_decides_by_hand() -> None:
    def score(abs_rel: float, rmse_log: float, d1: float = 0.0) -> DepthScore:
        return DepthScore(abs_rel, 0.0, 0.0, rmse_log, d1, 0.0, 0.0, 1)

    assert best_power({1.0: score(0.28, 0.32), 0.75: score(0.26, 0.36), 0.5: score(0.24, 0.50)}) == 1.0
    assert best_power({1.0: score(0.28, 0.32), 0.75: score(0.26, 0.33), 0.5: score(0.24, 0.36)}) == 0.75
    assert best_power({1.0: score(0.28, 0.32, 0.71), 0.75: score(0.26, 0.33, 0.69)}) == 1.0


def test_without_lidar_the_expectation_stays_in_metres(sample: Sample) -> None:
    batch = collate([replace(sample, lidar=sample.lidar[:0])])
    assert best_power(score_powers(Student(CONFIG), [batch])) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_what_is_measured_on_a_gpu_is_so_in_float32(sample: Sample) -> None:
    """Not in the TF32 of a training; else the figures would differ by a thousandth from those of an evaluation."""
    torch.manual_seed(0)
    student = Student(CONFIG).eval().cuda()
    batch = SweepBatch(*(part.cuda() for part in collate([sample])))
    module = DistillModule(student)
    found = []
    for allowed in (False, True):
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=allowed):
            module.on_validation_epoch_start()
            module.validation_step(batch, 0)
            powers = [score.rmse for score in score_powers(student, [batch]).values()]
            found.append(
                [module.board.overall().rmse, *powers, *with_fitted_stddev(student, [batch]).config.stddev_power]
            )
    assert found[0] == pytest.approx(found[1], rel=1e-5)
