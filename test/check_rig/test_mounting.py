from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fsmde_ros.geometry import rigid
from fsmde_ros.mounting import describe_heights, mounting, mountings
from fsmde_ros.rig import Rig


def test_angles_and_heights_of_the_ring(ring: Rig) -> None:
    found = {at.name: at for at in mountings(replace(ring, ground_z=-0.25))}
    assert [round(abs(at.yaw)) for at in found.values()] == [0, 55, 110, 180, 110, 55]
    assert found["cam_front_left"].yaw == pytest.approx(55)
    assert found["cam_back_right"].yaw == pytest.approx(-110)
    for at in found.values():
        assert (at.pitch, at.roll, at.height) == pytest.approx((0, 0, 1.75), abs=1e-9)
    # 2 atan(800 / 1260) and 2 atan(450 / 1260), by a pocket calculator
    assert found["cam_front"].horizontal_fov == pytest.approx(64.82, abs=0.01)
    assert found["cam_front"].vertical_fov == pytest.approx(39.31, abs=0.01)
    assert found["cam_back"].horizontal_fov == pytest.approx(90, abs=1e-9)


@pytest.mark.parametrize(("axis", "angle"), [("pitch", 10), ("pitch", -20), ("roll", 90), ("roll", -30)])
def test_pitch_is_up_and_roll_is_clockwise(ring: Rig, axis: str, angle: float) -> None:
    half = np.radians(angle) / 2
    # about the camera's own x axis (to the right) its nose goes up; about its z axis its image turns clockwise
    vector = [1.0, 0, 0] if axis == "pitch" else [0, 0, 1.0]
    turn = rigid([np.cos(half), *np.sin(half) * np.array(vector)], [0, 0, 0])
    camera = ring["cam_back_left"]
    at = mounting(replace(camera, camera_to_vehicle=camera.camera_to_vehicle @ turn))
    assert getattr(at, axis) == pytest.approx(angle)
    assert getattr(at, "roll" if axis == "pitch" else "pitch") == pytest.approx(0, abs=1e-9)
    assert at.yaw == pytest.approx(110)


def test_the_principal_point_moves_the_edges(ring: Rig) -> None:
    camera = replace(ring["cam_front"], intrinsics=np.array([[800, 0, -0.5], [0, 800, 449.5], [0, 0, 1]]))
    assert mounting(camera).horizontal_fov == pytest.approx(np.degrees(np.arctan(2)))


@pytest.mark.parametrize(("roll", "along"), [(0, 64.82), (180, 64.82), (90, 39.31), (-80, 39.31)])
def test_the_field_along_the_horizon_is_that_of_the_turned_image(ring: Rig, roll: float, along: float) -> None:
    half = np.radians(roll) / 2
    camera = ring["cam_front"]
    turn = rigid([np.cos(half), 0, 0, np.sin(half)], [0, 0, 0])
    at = mounting(replace(camera, camera_to_vehicle=camera.camera_to_vehicle @ turn))
    assert at.level_fov == pytest.approx(along, abs=0.01)
    assert (at.horizontal_fov, at.vertical_fov) == pytest.approx((64.82, 39.31), abs=0.01)


def test_heights_are_those_above_the_road(ring: Rig) -> None:
    lower = replace(ring.cameras[0], camera_to_vehicle=rigid([0.5, -0.5, 0.5, -0.5], [0, 0, 0.75]))
    rig = replace(ring, cameras=(lower, *ring.cameras[1:]), ground_z=-0.25)
    assert describe_heights(rig, -0.25) == "the road at z = -0.25 m, the cameras 1.00 to 1.75 m above it"
    assert describe_heights(None, 0.0) == "the road at z = 0.00 m, the heights of the cameras from TF"
