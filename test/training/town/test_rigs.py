from __future__ import annotations

import numpy as np
import pytest

from fsmde_ros.geometry import invert, project, transform
from fsmde_ros.rig import Camera
from training.town.rigs import camera_yaw, ddad_rig, jittered, nuscenes_rig, random_rig, spinning_offsets_s, unusual_rig

NUSCENES_NAMES = {
    "cam_front",
    "cam_front_right",
    "cam_back_right",
    "cam_back",
    "cam_back_left",
    "cam_front_left",
}


def yaw_degrees(camera: Camera) -> float:
    return float(np.degrees(camera_yaw(camera)))


def test_nuscenes_rig_looks_where_its_names_say():
    rig = nuscenes_rig()
    assert set(rig.names) == NUSCENES_NAMES
    assert yaw_degrees(rig["cam_front"]) == pytest.approx(0, abs=1e-9)
    assert 40 < yaw_degrees(rig["cam_front_left"]) < 70
    assert -130 < yaw_degrees(rig["cam_back_right"]) < -95
    assert abs(yaw_degrees(rig["cam_back"])) == pytest.approx(180)


def test_a_point_ahead_and_to_the_left_is_seen_left_of_the_centre_of_the_front_view():
    camera = nuscenes_rig((180, 320))["cam_front"]
    point_vehicle = np.array([21.7, 2.0, 1.5])  # 20 m in front of the camera, at its height
    pixel, depth = project(camera.intrinsics, transform(invert(camera.camera_to_vehicle), point_vehicle))
    # the focal length of 1266 px at 1600 px is 253.2 px at 320: 2 m at 20 m are 25.32 px
    assert depth == pytest.approx(20.0)
    assert pixel[0] == pytest.approx((815 + 0.5) / 5 - 0.5 - 25.32)
    assert pixel[1] == pytest.approx((490 + 0.5) / 5 - 0.5)


@pytest.mark.parametrize("rig", [nuscenes_rig((90, 160)), ddad_rig((76, 121))])
def test_the_cameras_of_a_rig_are_upright_and_level(rig):
    for camera in rig.cameras:
        down = camera.camera_to_vehicle[:3, 1]
        np.testing.assert_allclose(down, [0, 0, -1], atol=1e-12)


def test_ddad_front_camera_has_the_long_lens():
    rig = ddad_rig((608, 968))
    assert rig["camera_01"].intrinsics[0, 0] == pytest.approx(2181 / 2)
    assert rig["camera_09"].intrinsics[0, 0] == pytest.approx(1060 / 2)
    assert yaw_degrees(rig["camera_05"]) > 0 > yaw_degrees(rig["camera_06"])


def test_cameras_fire_in_the_order_of_the_nuscenes_cars():
    rig = nuscenes_rig()
    offsets = spinning_offsets_s(rig.cameras, 0.05, np.radians(106.4))
    order = sorted(offsets, key=offsets.__getitem__)
    assert order == [
        "cam_front_left",
        "cam_front",
        "cam_front_right",
        "cam_back_right",
        "cam_back",
        "cam_back_left",
    ]
    values = sorted(offsets.values())
    assert -0.05 <= values[0] < values[-1] < 0
    assert values[-1] - values[0] == pytest.approx(0.0426, abs=0.001)


def test_jitter_stays_within_its_bounds_and_comes_from_the_generator():
    rig = nuscenes_rig((90, 160))
    for seed in range(20):
        other = jittered(rig, np.random.default_rng(seed))
        assert other.names == rig.names
        for before, after in zip(rig.cameras, other.cameras, strict=True):
            delta = invert(before.camera_to_vehicle) @ after.camera_to_vehicle
            angle = np.degrees(np.arccos((np.trace(delta[:3, :3]) - 1) / 2))
            assert angle < np.sqrt(5**2 + 3**2 + 1.5**2) + 0.1
            assert abs(after.camera_to_vehicle[2, 3] - before.camera_to_vehicle[2, 3]) <= 0.3
            assert 0.85 <= after.intrinsics[0, 0] / before.intrinsics[0, 0] <= 1.15
            assert after.intrinsics[0, 0] / before.intrinsics[0, 0] == pytest.approx(
                after.intrinsics[1, 1] / before.intrinsics[1, 1]
            )
    again = jittered(rig, np.random.default_rng(19))
    np.testing.assert_array_equal(again.intrinsics(), other.intrinsics())


def test_random_rigs_have_three_to_eight_upright_cameras():
    counts = set()
    for seed in range(40):
        rig = random_rig(np.random.default_rng(seed), (60, 100))
        counts.add(len(rig))
        for camera in rig.cameras:
            assert camera.size == (60, 100)
            assert 0.6 <= camera.camera_to_vehicle[2, 3] <= 2.6
            assert camera.camera_to_vehicle[2, 1] < -0.98  # image down is down
            fov = 2 * np.degrees(np.arctan(50 / camera.intrinsics[0, 0]))
            assert 44 < fov < 111
    assert counts == set(range(3, 9))


def test_unusual_rigs_are_lower_and_higher_wider_and_narrower_and_look_down():
    counts, heights, fields, pitches, rolls = set(), [], [], [], []
    for seed in range(120):
        rig = unusual_rig(np.random.default_rng(seed), (60, 100))
        counts.add(len(rig))
        for camera in rig.cameras:
            right, down, forward = camera.camera_to_vehicle[2, :3]
            heights.append(camera.camera_to_vehicle[2, 3])
            fields.append(2 * np.degrees(np.arctan(50 / camera.intrinsics[0, 0])))
            pitches.append(np.degrees(np.arcsin(-forward)))
            rolls.append(abs(np.degrees(np.arctan2(right, -down))))
            assert camera.intrinsics[0, 0] == camera.intrinsics[1, 1]
    assert counts == set(range(1, 9))
    for found, low, high, lower, upper in (
        (heights, 0.2, 4.0, 0.4, 3.0),
        (fields, 30, 130, 40, 115),
        (pitches, -11, 43, -5, 35),
        (rolls, 0, 15, 1, 12),
    ):
        assert low <= min(found) < lower
        assert upper < max(found) <= high + 1e-9
