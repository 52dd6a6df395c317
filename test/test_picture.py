from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from fsmde_ros.geometry import rigid
from fsmde_ros.picture import Snapshot, compose, draw, from_left_to_right
from fsmde_ros.rig import Camera, Rig

# Yaw of the optical axis in the vehicle frame, degrees, as nuScenes has them.
YAWS = {"front": 0, "front_right": -55, "back_right": -110, "back": 180, "back_left": 110, "front_left": 55}


def camera(name: str, yaw: float) -> Camera:
    half = np.radians(yaw) / 2
    turn = rigid([np.cos(half), 0, 0, np.sin(half)], [0, 0, 1.5])
    forward = rigid([0.5, -0.5, 0.5, -0.5], [0, 0, 0])
    return Camera(name, (30, 50), [[40, 0, 24.5], [0, 40, 14.5], [0, 0, 1]], turn @ forward)


@pytest.fixture
def rig() -> Rig:
    return Rig(tuple(camera(name, yaw) for name, yaw in YAWS.items()))


@pytest.mark.parametrize("back", [180.0, -179.0, 179.0])
def test_cameras_stand_as_one_would_look_around(back: float) -> None:
    rig = Rig(tuple(camera(name, back if name == "back" else yaw) for name, yaw in YAWS.items()))
    assert from_left_to_right(rig) == ["back_left", "front_left", "front", "front_right", "back_right", "back"]


def test_a_picture_with_a_missing_view_and_points_where_they_belong(rig: Rig, tmp_path: Path) -> None:
    names = [name for name in rig.names if name != "back"]
    ahead = np.array([[23.0, 0, 1], [23.3, 0, 1]])  # a red thing 23 m ahead
    points = np.concatenate([ahead, [[0.0, 13, 0]]]).astype(np.float32)  # and a green one 13 m to the left
    colors = np.array([[255, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)
    snapshot = Snapshot(
        rig,
        {name: np.full((30, 50, 3), 120, np.uint8) for name in names},
        {name: np.full((12, 20), 8.0, np.float32) for name in names},
        points,
        colors,
    )
    draw(snapshot, tmp_path / "made" / "surround.png", ["one line", "another"])
    picture = cv2.imread(str(tmp_path / "made" / "surround.png"))
    assert picture.shape[1] == 6 * 404
    red = np.argwhere((picture == (0, 0, 255)).all(-1))
    green = np.argwhere((picture == (0, 255, 0)).all(-1))
    assert len(red)
    assert len(green)
    assert red[:, 0].mean() < green[:, 0].mean(), "ahead is up"
    assert green[:, 1].mean() < red[:, 1].mean(), "left is left"


@pytest.mark.parametrize(("count", "columns", "tiles_high"), [(1, 2, 1), (2, 2, 2), (3, 3, 2), (8, 5, 4)])
def test_rigs_of_few_and_of_many_cameras_fill_a_picture_that_can_be_read(
    count: int, columns: int, tiles_high: int
) -> None:
    rig = Rig(tuple(camera(f"c{i}", -360 * i / count) for i in range(count)))
    images = {name: np.full((30, 50, 3), 255, np.uint8) for name in rig.names}
    depths = {name: np.full((12, 20), np.nan, np.float32) for name in rig.names}
    picture = compose(Snapshot(rig, images, depths, np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8)), ["line"])
    tile = max(400, 1200 // columns)
    assert picture.shape[1] == columns * (tile + 4)
    white = (picture == 255).all(-1).sum() / (tile * tile * 30 // 50)
    assert count - 0.2 < white <= count, "every image, in the size of its tile"
    height = tiles_high * (tile * 30 // 50 + 4)
    side = min(1000, picture.shape[1] // 2 - 24)
    assert picture.shape[0] == height + 56 + side + 48
    assert picture.shape[0] < 1.3 * picture.shape[1]


def test_a_sweep_of_which_only_the_depth_or_nothing_is_known(rig: Rig) -> None:
    none = np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8)
    depth = compose(Snapshot(rig, {}, {"front": np.full((12, 20), 8.0, np.float32)}, *none), [])
    nothing = compose(Snapshot(rig, {}, {}, *none), [])
    assert depth.shape == nothing.shape
    assert not np.array_equal(depth, nothing)


def test_an_image_of_another_shape_keeps_it(rig: Rig) -> None:
    """And so does its depth, which has the shape of the network's input but shows the whole image."""
    shapes = {name: (50, 25) if name == "front" else (30, 50) for name in rig.names}
    images = {name: np.full((*shape, 3), 255 if name == "front" else 100, np.uint8) for name, shape in shapes.items()}
    depths = {name: np.full((12, 20), np.inf if name == "front" else 5.0, np.float32) for name in rig.names}
    nothing = np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8)
    picture = compose(Snapshot(rig, images, depths, *nothing), ["line"])
    for color in ((255, 255, 255), (240, 222, 205)):  # BGR of the image, and of what is out of range
        rows, columns = np.nonzero((picture == color).all(-1))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert (height, width) == (240, 120), color
