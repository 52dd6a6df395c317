"""Which LiDAR points count in an evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fsmde_ros.sweep import SurroundDepth, Sweep
from training.evaluation.points import DepthRange, points_of_sweep


def test_points_on_the_own_vehicle_count_for_no_row(make_sweep: Callable[..., Sweep]) -> None:
    sweep = make_sweep(np.random.default_rng(0))
    depth = np.ones((5, *sweep.rig.cameras[0].size), np.float32)
    estimate = SurroundDepth(sweep.rig, 0, depth, depth)
    bonnet = [[-0.5, 17.5], [60.5, 17.5], [60.5, 35.5], [-0.5, 35.5]]  # of the rows 18 to 35
    cameras = (replace(sweep.rig.cameras[0], self_occlusion=(bonnet,)), *sweep.rig.cameras[1:])
    limits = DepthRange()
    plain = points_of_sweep(sweep, estimate, limits)
    found = points_of_sweep(replace(sweep, rig=replace(sweep.rig, cameras=cameras)), estimate, limits)
    kept = np.rint(plain[0].pixels[:, 1]) < 17
    assert 10 < kept.sum() < len(kept) - 10
    assert np.rint(found[0].pixels[:, 1]).max() <= 17
    np.testing.assert_array_equal(found[0].truth[np.rint(found[0].pixels[:, 1]) < 17], plain[0].truth[kept])
    for mine, other in zip(found[1:], plain[1:], strict=True):
        np.testing.assert_array_equal(mine.truth, other.truth)
