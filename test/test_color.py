"""Depth colours tell near, far, sky and no value apart; the mosaic puts views in their place."""

from __future__ import annotations

import numpy as np
import pytest

from fsmde_ros.color import MISSING_RGB, NO_VALUE_RGB, OUT_OF_RANGE_RGB, colorize, mosaic, rows_of_rig
from fsmde_ros.geometry import rigid
from fsmde_ros.rig import Camera, Rig


def test_near_is_red_far_is_blue_and_the_rest_has_its_own_colour():
    depth = np.array([[1.5, 70.0, np.inf], [np.nan, 0.1, 500.0]], np.float32)
    rgb = colorize(depth, near=1.0, far=80.0).astype(int)
    assert rgb[0, 0, 0] > rgb[0, 0, 2]
    assert rgb[0, 1, 2] > rgb[0, 1, 0]
    assert tuple(rgb[0, 2]) == OUT_OF_RANGE_RGB
    assert tuple(rgb[1, 0]) == NO_VALUE_RGB
    np.testing.assert_array_equal(rgb[1, 1], colorize(np.float32([[1.0]]))[0, 0])
    np.testing.assert_array_equal(rgb[1, 2], colorize(np.float32([[80.0]]))[0, 0])
    ramp = colorize(np.geomspace(1, 80, 300, dtype=np.float32)[None])
    assert not (ramp == OUT_OF_RANGE_RGB).all(axis=-1).any()
    assert len(np.unique(ramp[0], axis=0)) > 200


def camera(name, azimuth):
    yaw = rigid([np.cos(azimuth / 2), 0, 0, np.sin(azimuth / 2)], [0, 0, 0])
    return Camera(
        name, (4, 8), np.array([[5.0, 0, 4], [0, 5, 2], [0, 0, 1]]), yaw @ rigid([0.5, -0.5, 0.5, -0.5], [0, 0, 1])
    )


def test_nothing_has_no_colour():
    assert colorize(np.zeros((1, 0), np.float32)).shape == (1, 0, 3)


def test_rows_follow_where_the_cameras_look():
    angles = {"front": 0, "right": -55, "back_right": -110, "back": 180, "back_left": 110, "left": 55}
    rig = Rig(tuple(camera(name, np.deg2rad(angle)) for name, angle in angles.items()))
    assert rows_of_rig(rig) == [["left", "front", "right"], ["back_left", "back", "back_right"]]
    assert rows_of_rig(rig.subset(["right", "front"])) == [["front", "right"]]


@pytest.mark.parametrize("side", [80, 90, 100])
def test_cameras_that_look_sideways_stand_beside_the_one_ahead(side):
    """In a ring of four the sine of a right angle decided by its last digit."""
    rig = Rig(tuple(camera(n, np.deg2rad(a)) for n, a in {"f": 0, "r": -side, "b": 180, "l": side}.items()))
    assert rows_of_rig(rig) == [["l", "f", "r"], ["b"]]


def test_names_are_written_into_their_fields():
    tiles = {name: np.full((40, 120, 3), 150, np.uint8) for name in ("a", "a name too long for its field")}
    rows = [["a", "gone"], ["a name too long for its field"]]
    plain, named = (mosaic(tiles, rows, width=240, named=named) for named in (False, True))
    changed = (plain != named).any(-1)
    for y, x in ((0, 0), (0, 120), (40, 0)):
        assert changed[y : y + 40, x : x + 120].any()
    assert not changed[40:, 120:].any(), "neither a field without a camera, nor what is beside a long name"


def test_mosaic_keeps_the_place_of_a_missing_view():
    tiles = {name: np.full((4, 8, 3), value, np.uint8) for name, value in (("a", 10), ("d", 40))}
    picture = mosaic(tiles, [["a", "b", "c"], ["d"]], width=48)
    assert picture.shape == (16, 48, 3)
    assert (picture[:8, :16] == 10).all()
    assert (picture[8:, :16] == 40).all()
    assert (picture[:, 16:] == MISSING_RGB).all()
