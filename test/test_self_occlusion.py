"""Pixels that can have a depth: not those on the own vehicle, nor those that the raw image does not have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fsmde_ros.rectify import undistort, undistortion_maps
from fsmde_ros.rig import Camera
from fsmde_ros.self_occlusion import are_usable, usable_pixels

SIZE = (60, 80)  # H, W
BONNET = [[-0.5, 39.5], [79.5, 39.5], [79.5, 59.5], [-0.5, 59.5]]  # all of the rows 40 to 59


def camera(*outlines: list[list[float]]) -> Camera:
    return Camera("cam", SIZE, [[50, 0, 39.5], [0, 50, 29.5], [0, 0, 1]], np.eye(4), self_occlusion=tuple(outlines))


def lens(k1: float, *outlines: list[list[float]]) -> Camera:
    return replace(camera(*outlines), distortion_model="plumb_bob", distortion=np.array([k1, 0, 0, 0]))


def test_a_camera_that_sees_all_of_its_image_has_no_mask() -> None:
    assert usable_pixels(camera(), (30, 40)) is None
    assert usable_pixels(lens(-0.3), (30, 40)) is None  # a barrel: the raw image has more than the rectified one


def test_rows_that_show_the_bonnet_are_not_usable_at_any_size() -> None:
    for rows, columns in ((60, 80), (30, 40), (15, 10)):
        usable = usable_pixels(camera(BONNET), (rows, columns))
        assert usable is not None
        first = rows * 2 // 3
        assert usable[: first - 1].all()
        assert not usable[first:].any()


def test_places_in_an_image() -> None:
    pixels = np.array([[0.0, 0.0], [39.0, 18.4], [39.0, 20.4], [-0.49, 29.49]])
    assert are_usable(camera(BONNET), (30, 40), pixels).tolist() == [True, True, False, False]
    assert are_usable(camera(), (30, 40), pixels).tolist() == [True] * 4


def test_several_outlines_add_up() -> None:
    left, right = [[0, 0], [9, 0], [9, 59], [0, 59]], [[70, 0], [79, 0], [79, 59], [70, 59]]
    usable = usable_pixels(camera(left, right), SIZE)
    assert usable is not None
    assert usable.sum(axis=1).tolist() == [60] * 60
    assert usable[:, 10:70].all()


@given(st.lists(st.tuples(st.floats(0, 79), st.floats(0, 59)), min_size=3, max_size=3))
def test_inside_of_a_triangle_and_nowhere_else(corners: list[tuple[float, float]]) -> None:
    usable = usable_pixels(camera([list(corner) for corner in corners]), SIZE)
    y, x = np.indices(SIZE).astype(float)
    points = np.array(corners)
    if np.cross(points[1] - points[0], points[2] - points[0]) < 0:
        points = points[::-1]
    edges = np.roll(points, -1, axis=0) - points
    lengths = np.maximum(np.linalg.norm(edges, axis=1), 1e-9)
    # distance of each pixel to each edge, positive inside
    to_edge = [
        (dx * (y - py) - dy * (x - px)) / length
        for (dx, dy), (px, py), length in zip(edges, points, lengths, strict=True)
    ]
    inside, covered = np.min(to_edge, axis=0), np.zeros(SIZE, bool) if usable is None else ~usable
    assert covered[inside > 1].all()
    assert not covered[inside < -1.5].any()


def test_what_the_raw_image_does_not_have_is_not_usable() -> None:
    """A pincushion: the corners of the rectified image lie outside of the raw one, and are black there."""
    pincushion = lens(0.3)
    usable = usable_pixels(pincushion, SIZE)
    white = undistort(np.full((*SIZE, 3), 255, np.uint8), undistortion_maps(pincushion))[..., 0]
    assert usable is not None
    assert 0.02 < np.mean(~usable) < 0.5
    np.testing.assert_array_equal(usable, white >= 128)


def test_the_outline_is_of_the_raw_image_and_goes_through_the_lens() -> None:
    """Worked by hand: at a radius of 0.6 a k1 of -0.3 draws a pixel in by 11 %."""
    edge = 29.5 + 50 * 0.4 * (1 - 0.3 * 0.4**2)  # row in the raw image of the row 49.5 of the rectified, in the middle
    usable = usable_pixels(lens(-0.3, [[-1, edge], [80, edge], [80, 60], [-1, 60]]), SIZE)
    assert usable is not None
    middle = usable[:, 40]
    assert middle[:49].all()
    assert not middle[51:].any()
