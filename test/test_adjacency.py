"""Adjacent views of rigs whose overlap is known by construction."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fsmde_ros.adjacency import adjacent_pairs, overlap_shares
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.sources.nuscenes import sweeps

NUSCENES = Path(__file__).parents[2] / "shared" / "data" / "nuscenes"

FORWARD = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


def _ring(yaws_degrees: list[float], field_of_view_degrees: float, size: tuple[int, int] = (90, 160)) -> Rig:
    focal = 0.5 * size[1] / np.tan(np.radians(field_of_view_degrees) / 2)
    k = np.array([[focal, 0, (size[1] - 1) / 2], [0, focal, (size[0] - 1) / 2], [0, 0, 1]])
    cameras = []
    for index, yaw in enumerate(np.radians(yaws_degrees)):
        matrix = np.eye(4)
        turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        matrix[:3, :3] = turn @ FORWARD
        cameras.append(Camera(f"c{index}", size, k, matrix))
    return Rig(tuple(cameras))


def test_a_ring_of_five_wide_cameras_overlaps_with_its_neighbours_only() -> None:
    pairs = adjacent_pairs(_ring([0, 72, 144, 216, 288], 90))
    assert set(pairs) == {(0, 1), (1, 2), (2, 3), (3, 4), (0, 4)}


def test_narrow_cameras_do_not_overlap() -> None:
    assert adjacent_pairs(_ring([0, 90, 180, 270], 60)) == ()


def test_one_camera_has_no_pair() -> None:
    assert adjacent_pairs(_ring([0], 90)) == ()


def test_pairs_follow_the_order_of_the_cameras() -> None:
    yaws = [0.0, 72, 144, 216, 288]
    order = [3, 0, 4, 1, 2]
    shuffled = adjacent_pairs(_ring([yaws[i] for i in order], 90))
    named = {frozenset((order[i], order[j])) for i, j in shuffled}
    assert named == {frozenset(pair) for pair in adjacent_pairs(_ring(yaws, 90))}


def test_share_of_two_cameras_at_one_place_by_hand() -> None:
    # 90 degrees wide, 45 apart: the right half of the left camera's directions is seen by the other;
    # on the image plane, x from 0 to 1 of -1 to 1, cut by the other camera's vertical field of view.
    shares = overlap_shares(_ring([0, 45], 90))
    assert shares[0, 1] == pytest.approx(shares[1, 0], abs=0.05)
    assert 0.35 < shares[0, 1] <= 0.5


def _shifted(right: float, down: float) -> Rig:
    """Two cameras of 9 x 16 pixels; what is 4 m away lies so many pixels further right and down in the second."""
    k = np.array([[8.0, 0, 7.5], [0, 8.0, 4.0], [0, 0, 1]])
    first, second = np.eye(4), np.eye(4)
    first[:3, :3] = second[:3, :3] = FORWARD
    second[:3, 3] = FORWARD @ [-right / 2, -down / 2, 0.0]  # metres: half of as many pixels
    return Rig((Camera("a", (9, 16), k, first), Camera("b", (9, 16), k, second)))


@pytest.mark.parametrize(
    ("right", "down", "share"),
    [
        (0.4, 0.4, 1.0),
        (-0.4, -0.4, 1.0),
        (0.6, 0.0, 15 / 16),
        (-0.6, 0.0, 15 / 16),
        (0.0, 0.6, 8 / 9),
        (0, -0.6, 8 / 9),
    ],
)
def test_a_pixel_is_seen_as_long_as_its_centre_is_in_the_image(right: float, down: float, share: float) -> None:
    """Pixels reach half a pixel to each side of their centres."""
    np.testing.assert_allclose(overlap_shares(_shifted(right, down), (4.0,)), [[0, share], [share, 0]])


def test_the_depth_at_which_most_is_seen_decides() -> None:
    rig = _shifted(3.0, 0.0)  # three columns of 16 at 4 m, six at 2 m
    assert overlap_shares(rig, (4.0,))[0, 1] == 13 / 16
    assert overlap_shares(rig, (2.0, 4.0))[0, 1] == overlap_shares(rig, (4.0, 2.0))[0, 1] == 13 / 16
    assert adjacent_pairs(rig, (2.0, 4.0), min_share=13 / 16) == ((0, 1),)
    assert adjacent_pairs(rig, (2.0, 4.0), min_share=0.82) == ()


def test_a_narrow_camera_that_looks_where_a_wide_one_does_is_adjacent() -> None:
    """The wide one sees all of its picture, and it hardly any of that of the wide one."""
    wide, narrow = _ring([0], 120).cameras[0], _ring([0], 10).cameras[0]
    rig = Rig((wide, replace(narrow, name="narrow")))
    assert overlap_shares(rig)[0, 1] < 0.02
    assert overlap_shares(rig)[1, 0] == 1
    assert adjacent_pairs(rig) == ((0, 1),)


@pytest.mark.skipif(not NUSCENES.exists(), reason="needs the real keyframe in ../shared/data/nuscenes")
def test_the_real_ring_of_nuscenes_is_a_ring() -> None:
    """Its back camera is wider than the others, and its cameras stand up to two metres apart."""
    rig = next(iter(sweeps(NUSCENES))).rig
    ring = ["cam_front", "cam_front_right", "cam_back_right", "cam_back", "cam_back_left", "cam_front_left"]
    expected = {frozenset((ring[i], ring[i - 1])) for i in range(6)}
    assert {frozenset((rig.names[i], rig.names[j])) for i, j in adjacent_pairs(rig)} == expected
