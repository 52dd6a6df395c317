from __future__ import annotations

import numpy as np
import pytest

from fsmde_ros.geometry import transform
from training.batch import Sample
from training.mounting_error import MountingError


def test_the_road_tilts_but_not_the_views_against_each_other(sample: Sample) -> None:
    rig = sample.rig
    told = MountingError(pitch=0.03, roll=-0.02, lift=0.1).told(rig)
    assert told.ground_z == pytest.approx(rig.ground_z + 0.1)
    assert told.names == rig.names
    for view in range(1, 5):
        before = np.linalg.inv(rig.cameras[0].camera_to_vehicle) @ rig.cameras[view].camera_to_vehicle
        after = np.linalg.inv(told.cameras[0].camera_to_vehicle) @ told.cameras[view].camera_to_vehicle
        np.testing.assert_allclose(after, before, atol=1e-9)
    turned = told.cameras[2].camera_to_vehicle @ np.linalg.inv(rig.cameras[2].camera_to_vehicle)
    assert transform(turned, np.array([10.0, 0, 0]))[2] == pytest.approx(-10 * 0.03, rel=0.01)
    assert transform(turned, np.array([0.0, 10, 0]))[2] == pytest.approx(10 * -0.02, rel=0.01)


def test_no_error_is_no_error(sample: Sample) -> None:
    told = MountingError().told(sample.rig)
    np.testing.assert_array_equal(told.camera_to_vehicle(), sample.rig.camera_to_vehicle())
    assert told.ground_z == sample.rig.ground_z
