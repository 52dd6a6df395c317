from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fsmde_ros.check_rig.scan_overlay import choose_sweep, overlay, road_height
from fsmde_ros.color import colorize
from fsmde_ros.errors import ImageError, SourceError
from fsmde_ros.geometry import rigid
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.sweep import LidarScan, Sweep, View

FORWARD = [[0, 0, 1, 1.0], [-1, 0, 0, 0.0], [0, -1, 0, 2.0], [0, 0, 0, 1]]  # 2 m high, 1 m ahead of the origin


def rig(camera_to_vehicle: object = FORWARD) -> Rig:
    """One camera of 160x80 pixels; the tile of the picture is four times as large."""
    k = [[80, 0, 79.5], [0, 80, 39.5], [0, 0, 1]]
    return Rig((Camera("front", (80, 160), np.array(k), np.array(camera_to_vehicle)),))


def sweep(rig: Rig, points: list[list[float]] | None = None) -> Sweep:
    image = np.zeros((80, 160, 3), np.uint8)
    scan = None if points is None else LidarScan(np.array(points, dtype=float).reshape(-1, 3), 0)
    return Sweep(rig, 0, {"front": View(image, 0)}, scan)


def test_a_point_is_drawn_where_the_camera_sees_it_in_the_colour_of_its_depth() -> None:
    # 8 m along the axis, 2 m to the left, 1 m above the axis: pixel (79.5 - 20, 39.5 - 10) of the image
    picture = overlay(sweep(rig(), [[9.0, 2.0, 3.0]]))
    assert picture.shape == (320, 640, 3)
    x, y = 4 * (59.5 + 0.5) - 0.5, 4 * (29.5 + 0.5) - 0.5
    expected = colorize(np.array([[8.0]], np.float32), 2.0, 60.0)[0, 0]
    np.testing.assert_array_equal(picture[round(y), round(x)], expected)
    assert not picture[100, 100].any()


def test_a_wrong_yaw_moves_the_points_and_leaves_the_image() -> None:
    turn = rigid([np.cos(np.radians(2)), 0, 0, np.sin(np.radians(2))], [0, 0, 0])  # 4 degrees to the left
    wrong = np.array(FORWARD)
    wrong[:3, :3] = turn[:3, :3] @ wrong[:3, :3]
    right_at, wrong_at = (
        np.argwhere(overlay(sweep(r, [[9.0, 2.0, 3.0]]))[50:150].any(-1))[:, 1].mean() for r in (rig(), rig(wrong))
    )
    # the point is atan(2 / 8) to the left of the axis, then 4 degrees less
    assert wrong_at - right_at == pytest.approx(320 * (0.25 - np.tan(np.arctan(0.25) - np.radians(4))), abs=1)


def test_horizon_and_circle_stand_where_they_must() -> None:
    picture = overlay(sweep(rig()))
    column = picture[60:, 310].astype(int)  # below the name of the camera
    assert np.average(np.arange(60, 320), weights=column[:, 1]) == pytest.approx(159.5, abs=1), "the horizon is white"
    # 10 m ahead of the camera, 2 m below it: 2 / 10 of the focal length of 320 pixels
    without_white = column[:, 0] - column[:, 1]
    assert np.average(np.arange(60, 320), weights=without_white) == pytest.approx(159.5 + 64, abs=1), "magenta"


def test_an_image_of_another_size_is_refused() -> None:
    other = Sweep(rig(), 0, {"front": View(np.zeros((90, 160, 3), np.uint8), 0)})
    with pytest.raises(ImageError, match="160x90 pixels, the rig says 160x80"):
        overlay(other)


def test_a_distorted_camera_is_rectified_first() -> None:
    """A white point of the raw image comes to lie where the pinhole model puts it."""
    camera = replace(rig().cameras[0], distortion=np.array([-0.2, 0, 0, 0]), distortion_model="plumb_bob")
    x = (139.5 - 79.5) / 80  # of the pinhole model, 0.75 m to the right at 1 m
    raw = 79.5 + 80 * x * (1 - 0.2 * x * x)
    image = np.zeros((80, 160, 3), np.uint8)
    image[38:42, round(raw) - 1 : round(raw) + 2] = 255
    picture = overlay(Sweep(Rig((camera,)), 0, {"front": View(image, 0)}))
    bright = np.argwhere(picture[130:190, 400:].min(-1) > 100)
    bright = bright[np.abs(bright[:, 0] + 130 - 159.5) > 2]  # without the horizon
    assert bright[:, 1].mean() + 400 == pytest.approx(4 * 140 - 0.5, abs=6)


def test_what_has_no_depth_is_dark_and_red() -> None:
    left_half = [[-0.5, -0.5], [79.5, -0.5], [79.5, 79.5], [-0.5, 79.5]]
    camera = replace(rig().cameras[0], self_occlusion=(left_half,))
    image = np.full((80, 160, 3), 120, np.uint8)
    picture = overlay(Sweep(Rig((camera,)), 0, {"front": View(image, 0)}))
    assert picture[250, 100].tolist() == [120, 40, 40]
    assert picture[250, 600].tolist() == [120, 120, 120]


def test_the_fullest_sweep_is_taken() -> None:
    without, with_scan = sweep(rig()), sweep(rig(), [[9.0, 0, 2.0]])
    assert choose_sweep([without, with_scan, without]) is with_scan
    assert choose_sweep([without, without]) is without
    assert choose_sweep([with_scan, without], first=1) is without
    with pytest.raises(SourceError, match="no sweep number 7"):
        choose_sweep([without], first=7)


def test_the_road_is_the_height_most_points_have() -> None:
    rng = np.random.default_rng(0)
    radius, angle = rng.uniform(3, 18, 3000), rng.uniform(-np.pi, np.pi, 3000)
    road = np.stack([radius * np.cos(angle), radius * np.sin(angle), rng.normal(-0.7, 0.03, 3000)], axis=-1)
    wall = np.stack([np.full(2500, 8.0), rng.uniform(-4, 4, 2500), rng.uniform(-0.7, 3.0, 2500)], axis=-1)
    found = road_height(sweep(rig(), np.concatenate([road, wall]).tolist()))
    assert found == pytest.approx(-0.7, abs=0.02)
    assert road_height(sweep(rig(), wall.tolist())) is None, "a wall is no road"
    assert road_height(sweep(rig(), road[:50].tolist())) is None
    assert road_height(sweep(rig())) is None
