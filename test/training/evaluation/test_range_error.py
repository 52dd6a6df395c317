"""Relative error by range."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluation.range_error import RangeError


def test_means_and_quantiles_stand_in_the_cell_of_the_truth() -> None:
    curve = RangeError(0.1, 81.0, cells=4)
    np.testing.assert_allclose(curve.edges, [1, 3, 9, 27, 81])
    truth = np.full(101, 10.0)
    curve.add(10 * (1 + np.linspace(-0.5, 0.5, 101)), truth)
    curve.add(np.array([np.nan, 4.0, 2.2, 500.0]), np.array([10.0, 100.0, 2.0, 2.0]))
    near, far = curve.as_dict()
    assert (far["from_m"], far["to_m"], far["n"]) == (pytest.approx(9), pytest.approx(27), 101)
    assert far["abs_rel"] == pytest.approx(np.abs(np.linspace(-0.5, 0.5, 101)).mean())
    assert [far["q10"], far["q50"], far["q90"]] == pytest.approx([-0.4, 0.0, 0.4], abs=0.015)
    assert near["n"] == 2
    assert near["abs_rel"] == pytest.approx((0.1 + 249) / 2)
    assert near["q90"] == 2.0
