from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fsmde_ros.network.student import Student, StudentConfig
from training.batch import Sample, collate
from training.module import run_student
from training.stddev_fit import with_fitted_stddev

CONFIG = StudentConfig(bins=16, attention_dim=32, attention_blocks=1, decoder_widths=(32, 16, 16))


def test_as_many_errors_lie_inside_one_sigma_as_of_a_normal_distribution(sample: Sample) -> None:
    torch.manual_seed(0)
    student = Student(replace(CONFIG, stddev_power=(3.0, 0.5))).eval()  # an earlier fit must not remain
    batch = collate([sample])
    fitted = with_fitted_stddev(student, [batch])
    output = run_student(fitted, batch)
    known = (batch.lidar_depth > CONFIG.d_min) & batch.present[:, :, None, None] & (output.out_of_range <= 0.5)
    assert known.sum() > 1000
    inside = ((output.depth - batch.lidar_depth).abs() <= output.stddev)[known].double().mean()
    np.testing.assert_allclose(inside, 0.683, atol=0.02)  # fitted at full size, applied at stride 4
    torch.testing.assert_close(output.depth, run_student(student, batch).depth)


def test_what_is_taken_for_sky_has_no_error(sample: Sample) -> None:
    torch.manual_seed(0)
    student, batch = Student(CONFIG).eval(), collate([sample])
    with torch.no_grad():
        bias = student.bin_logits.to_logits.bias
        assert bias is not None
        bias[-1] = 100.0
    assert with_fitted_stddev(student, [batch]).config.stddev_power == (1.0, 1.0)


def test_too_few_points_leave_the_spread_of_the_bins(sample: Sample) -> None:
    torch.manual_seed(0)
    few = replace(sample, lidar=sample.lidar[:50])
    assert with_fitted_stddev(Student(CONFIG), [collate([few])]).config.stddev_power == (1.0, 1.0)


def test_several_processes_fit_to_the_errors_of_all(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one has seen errors that are twice as large, at each spread."""
    torch.manual_seed(0)
    student, batch = Student(CONFIG).eval(), collate([sample])
    alone = with_fitted_stddev(student, [batch]).config.stddev_power

    def gather(of_all: list[object], own: tuple[np.ndarray, np.ndarray]) -> None:
        of_all[:] = [own, (2 * own[0], own[1])]

    for name, stand_in in {
        "is_initialized": lambda: True,
        "get_world_size": lambda: 2,
        "all_gather_object": gather,
    }.items():
        monkeypatch.setattr(torch.distributed, name, stand_in)
    together = with_fitted_stddev(student, [batch]).config.stddev_power
    assert 1.2 < together[0] / alone[0] < 1.9
    assert together[1] == pytest.approx(alone[1], abs=0.2)
