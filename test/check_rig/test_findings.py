from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from fsmde_ros.check_rig.findings import direction_of_name, examine, examine_road, examine_training
from fsmde_ros.checkpoint import default_checkpoint, read_card
from fsmde_ros.geometry import invert, rigid
from fsmde_ros.rig import Camera, Rig


def turned(camera: Camera, axis: str, degrees: float) -> Camera:
    """Turned about the vertical of the vehicle, or about the camera's own optical axis."""
    half = np.radians(degrees) / 2
    turn = rigid([np.cos(half), 0, 0, np.sin(half)], [0, 0, 0])
    pose = np.array(camera.camera_to_vehicle)
    pose[:3, :3] = (turn @ pose)[:3, :3] if axis == "yaw" else (pose @ turn)[:3, :3]
    return replace(camera, camera_to_vehicle=pose)


def moved(camera: Camera, **to: float) -> Camera:
    pose = np.array(camera.camera_to_vehicle)
    for axis, value in to.items():
        pose["xyz".index(axis), 3] = value
    return replace(camera, camera_to_vehicle=pose)


def with_k(camera: Camera, fx: float = 1260, fy: float = 1260, cx: float = 799.5, cy: float = 449.5) -> Camera:
    return replace(camera, intrinsics=np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]))


def body_frame(camera: Camera) -> Camera:
    """The rotation of a frame with x ahead and z up, as URDF links have."""
    pose = np.array(camera.camera_to_vehicle)
    pose[:3, :3] = np.stack([pose[:3, 2], -pose[:3, 0], [0, 0, 1]], axis=-1)
    return replace(camera, camera_to_vehicle=pose)


def change(rig: Rig, name: str, edit: Callable[[Camera], Camera]) -> Rig:
    return replace(rig, cameras=tuple(edit(c) if c.name == name else c for c in rig.cameras))


def warnings(rig: Rig) -> list[str]:
    return [f"{found.camera}: {found.text}" for found in examine(rig) if found.level == "warning"]


def test_a_good_rig_has_no_findings(ring: Rig) -> None:
    assert examine(ring) == ()


@pytest.mark.parametrize("name", ["cam_front", "cam_front_right", "cam_back_right", "cam_back", "cam_front_left"])
@pytest.mark.parametrize("error", [90, -90, 180])
def test_an_error_of_a_quarter_turn_is_reported_for_the_camera(ring: Rig, name: str, error: float) -> None:
    found = warnings(change(ring, name, lambda c: turned(c, "yaw", error)))
    assert any(text.startswith(f"{name}: looks to") for text in found), found


def stereo(ring: Rig, names: tuple[str, str], baseline: float = 0.12) -> Rig:
    """Two cameras like the front one, the first to the left of the second."""
    front = ring["cam_front"]
    places = (baseline / 2, -baseline / 2)
    return Rig(tuple(replace(moved(front, y=y), name=name) for name, y in zip(names, places, strict=True)))


@pytest.mark.parametrize("names", [("stereo/left", "stereo/right"), ("zed/zed_node/left", "zed/zed_node/right")])
@pytest.mark.parametrize("yaw", [0, 5, 180])
def test_a_stereo_pair_is_left_and_right_without_looking_there(ring: Rig, names: tuple[str, str], yaw: float) -> None:
    rig = stereo(ring, names)
    rig = replace(rig, cameras=tuple(turned(camera, "yaw", yaw) for camera in rig.cameras))
    assert warnings(rig) == []


def test_left_and_right_that_are_no_stereo_pair_must_look_there(ring: Rig) -> None:
    far = stereo(ring, ("left", "right"), baseline=1.8)  # the mirrors of a car, with forgotten rotations
    assert [text.partition(": looks to 0 degrees")[0] for text in warnings(far)] == ["left", "right"]
    pair = stereo(ring, ("left", "right"))
    assert len(warnings(change(pair, "left", lambda c: turned(c, "yaw", 20)))) == 2
    for names in (("left", "middle"), ("left", "side_left"), ("left", "front_right")):
        assert any(text.startswith("left: looks to") for text in warnings(stereo(ring, names))), names


@pytest.mark.parametrize("index", range(6))
def test_names_that_say_nothing_still_leave_the_blind_spot(ring: Rig, index: int) -> None:
    unnamed = replace(ring, cameras=tuple(replace(c, name=f"camera_{i}") for i, c in enumerate(ring.cameras)))
    assert examine(unnamed) == ()
    found = warnings(change(unnamed, f"camera_{index}", lambda c: turned(c, "yaw", 90)))
    assert any("no camera sees from" in text for text in found), found


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (body_frame, "not the optical one"),
        (lambda c: turned(c, "roll", 90), "lies on its side (roll 90 degrees)"),
        (lambda c: turned(c, "roll", 180), "hangs upside down (roll 180 degrees)"),
        (lambda c: turned(c, "roll", 20), "is tilted (roll 20 degrees)"),
        (lambda c: moved(c, z=-1.5), "is 1.50 m below the road"),
        (lambda c: moved(c, z=12.0), "is 12.00 m above the road"),
        (lambda c: moved(c, x=1700.0, z=1500.0), "were they millimetres?"),
        (lambda c: replace(c, camera_to_vehicle=invert(c.camera_to_vehicle)), "m below the road"),
        (lambda c: with_k(c, fx=20, fy=20), "field of view"),
        (lambda c: with_k(c, fx=12600, fy=12600), "field of view"),
        (lambda c: with_k(c, cx=1900.0), "principal point (1900, 450) is outside"),
        (lambda c: with_k(c, cx=400.0, cy=225.0), "far from the middle"),
        (lambda c: with_k(c, fy=600), "focal lengths differ"),
    ],
)
def test_suspicious_values_are_reported(ring: Rig, edit: Callable[[Camera], Camera], expected: str) -> None:
    found = [text for text in warnings(change(ring, "cam_front_left", edit)) if text.startswith("cam_front_left: ")]
    assert any(expected in text for text in found), found


def test_what_a_fisheye_loses_is_told(ring: Rig) -> None:
    """r = f theta, 560 pixels: a pinhole of 1920x1536 ends at tan theta = 960 / 560 and 768 / 560."""
    intrinsics = np.array([[560.0, 0, 959.5], [0, 560.0, 767.5], [0, 0, 1]])
    size = {"size": (1536, 1920), "intrinsics": intrinsics}
    lens = {"distortion_model": "equidistant", "distortion": np.zeros(4)}
    rig = change(ring, "cam_front", lambda camera: replace(camera, **size, **lens))
    (text,) = warnings(rig)
    expected = [100 * np.arctan(side / 560) * 560 / side for side in (960, 768)]
    assert f"uses the middle {expected[0]:.0f} x {expected[1]:.0f} % of this lens's image" in text
    assert warnings(change(ring, "cam_front", lambda camera: replace(camera, **size))) == []
    slight = {"distortion_model": "plumb_bob", "distortion": np.array([-0.3, 0.1, 0, 0, 0])}
    assert warnings(change(ring, "cam_front", lambda camera: replace(camera, **slight))) == []


def test_a_finding_of_one_camera_hides_none_of_another(ring: Rig) -> None:
    tilted = change(ring, "cam_front", lambda c: turned(c, "roll", 20))
    sunk = change(tilted, "cam_back", lambda c: moved(c, z=-1.5))
    found = warnings(sunk)
    assert any(text.startswith("cam_front: is tilted") for text in found), found
    assert any(text.startswith("cam_back: is 1.50 m below the road") for text in found), found


def test_the_wrong_way_round_is_named(ring: Rig) -> None:
    """A camera that looks straight ahead: inverted, its axis is level and its image lies on its side."""
    rolled = change(ring, "cam_front", lambda c: replace(c, camera_to_vehicle=invert(c.camera_to_vehicle)))
    assert any("camera_to_vehicle, not vehicle_to_camera" in text for text in warnings(rolled))


def test_a_vehicle_frame_at_the_sensors_is_one_finding(ring: Rig) -> None:
    high = replace(ring, cameras=tuple(moved(c, z=0.0) for c in ring.cameras))
    [finding] = [found for found in examine(high) if "ground_z" in found.text]
    assert finding.level == "warning"
    assert "every camera is less than 0.1 m above the road" in finding.text
    assert examine(replace(high, ground_z=-1.5)) == ()


def test_a_low_robot_is_not_told_to_move_the_road(ring: Rig) -> None:
    """Its frame may well be on the road; a camera below the road is still one too low."""
    low = replace(ring, cameras=tuple(moved(c, z=0.2 + 0.015 * i) for i, c in enumerate(ring.cameras)))
    [finding] = examine(low)
    assert finding.level == "note"
    assert "(heights 0.20 to 0.28 m), as on a low robot; if the origin of 'base_link' is not on" in finding.text
    (text,) = warnings(change(low, "cam_back", lambda c: moved(c, z=-0.5)))
    assert text.startswith("cam_back: is 0.50 m below the road")


def test_two_cameras_with_one_calibration(ring: Rig) -> None:
    copied = ring["cam_front"].camera_to_vehicle
    found = warnings(change(ring, "cam_front_left", lambda c: replace(c, camera_to_vehicle=copied)))
    assert any("same place and looks the same way as cam_front" in text for text in found)


def test_a_rig_that_only_looks_ahead_is_no_error(ring: Rig) -> None:
    found = examine(ring.subset(["cam_front", "cam_front_left", "cam_front_right"]))
    assert [finding.level for finding in found] == ["note"]
    assert "no camera sees" in found[0].text


def test_cameras_on_their_side_see_their_height_along_the_horizon(ring: Rig) -> None:
    """Four of 116 x 84 degrees: 336 of the turn, so that the gaps are no error of their yaws."""
    pinhole = {"fx": 800 / np.tan(np.radians(58)), "fy": 450 / np.tan(np.radians(42))}
    standing = [with_k(turned(turned(ring.cameras[0], "yaw", 90 * i), "roll", 90), **pinhole) for i in range(4)]
    rig = Rig(tuple(replace(camera, name=f"camera_{i}") for i, camera in enumerate(standing)))
    gaps = [found for found in examine(rig) if "no camera sees" in found.text]
    assert gaps
    assert {found.level for found in gaps} == {"note"}


def test_the_road_of_the_scan(ring: Rig) -> None:
    assert examine_road(ring, 0.2) == ()
    [finding] = examine_road(ring, -0.6)
    assert "set ground_z: -0.60" in finding.text
    assert examine_road(replace(ring, ground_z=-0.6), -0.6) == ()


@pytest.mark.parametrize(
    ("name", "degrees"),
    [
        ("cam_front", 0),
        ("CAM_FRONT_LEFT", 50),
        ("ring/rear_right", -125),
        ("back", 180),
        ("side_left", 90),
        ("camera_05", None),
        ("stereo_front_right", -50),
    ],
)
def test_directions_that_names_tell(name: str, degrees: float | None) -> None:
    assert direction_of_name(name) == degrees


def test_a_camera_that_the_student_does_not_know_is_noted(ring: Rig) -> None:
    card = read_card(default_checkpoint())
    assert examine_training(ring, card) == ()
    low = change(ring, "cam_back", lambda c: moved(c, z=0.25))
    camera, whole = examine_training(low, card)
    assert str(camera).startswith("note: cam_back: model small knows no such camera: height 0.25 m")
    assert (whole.level, whole.camera) == ("note", "")
    assert examine_training(low, replace(card, cameras=None)) == ()  # of an older checkpoint nobody knows
