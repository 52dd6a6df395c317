"""LiDAR points behind what a camera sees are left out; those on either side of an edge are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from training.augment import AugmentSettings
from training.batch import Sample
from training.datasets import TownData, prepare, town_sample
from training.hidden_points import lidar_pixels, without_hidden_points


def test_points_behind_a_wall_are_left_out(sample: Sample) -> None:
    dense = np.full_like(sample.dense_depth, 5.0)
    dense[0, :, 40:] = 20.0  # an edge between columns 39 and 40
    dense[1] = np.inf
    dense[2] = np.nan
    kept = [
        (0, 10.2, 8.0, 5.2),  # on the wall, to 5 %
        (0, 39.4, 8.0, 20.0),  # on the edge, as the LiDAR saw past it
        (0, 60.0, 8.0, 19.0),
        (0, 60.0, 8.0, 4.0),  # nearer than what was rendered: no reason to doubt it
        (1, 10.0, 8.0, 150.0),  # into the sky: what is beyond the range of the renderer
        (2, 10.0, 8.0, 30.0),  # nothing is known
        (3, -0.4, 65.4, 5.0),  # on the rim of the image
    ]
    hidden = [(0, 10.2, 8.0, 20.0), (0, 37.0, 8.0, 6.0), (0, 60.0, 8.0, 22.0), (4, 95.4, 65.4, 80.0)]
    lidar = np.array([*kept, *hidden], dtype=np.float32)
    found = without_hidden_points(replace(sample, dense_depth=dense, lidar=lidar)).lidar
    np.testing.assert_array_equal(found, lidar[: len(kept)])


def test_of_a_recorded_drive_the_points_themselves_tell(sample: Sample) -> None:
    """Behind a fence that ends at column 50; a road below it, whose points lie nearer and nearer."""
    columns, rows = np.arange(10, 80, 2.0), np.arange(5, 40, 2.0)
    fence = [(0, x, y, 6.0) for x in columns if x <= 50 for y in rows]
    beside = [(0, x, y, 30.0) for x in columns if x > 50 for y in rows if y < 30]
    road = [(0, x, y, 6.0 * 20 / (y - 20)) for x in columns for y in np.arange(41, 64, 2.0)]
    hidden = [(0, 21.0, 20.0, 30.0), (0, 40.0, 11.0, 9.0)]
    seen = np.array([*fence, *beside, *road], dtype=np.float32)
    nothing = np.full_like(sample.dense_depth, np.nan)
    both = np.concatenate([seen, np.array(hidden, dtype=np.float32)])
    found = without_hidden_points(replace(sample, dense_depth=nothing, lidar=both)).lidar
    np.testing.assert_array_equal(found, seen)


def test_a_point_is_compared_with_the_nine_pixels_about_it(sample: Sample) -> None:
    dense = np.full_like(sample.dense_depth, 5.0)
    dense[0, 30, 40] = 20.0
    about = [(0, 40.0 + x, 30.0 + y, 20.0) for y in range(-2, 3) for x in range(-2, 3)]
    found = without_hidden_points(replace(sample, dense_depth=dense, lidar=np.array(about, np.float32))).lidar
    assert found.tolist() == [list(p) for p in about if abs(p[1] - 40) <= 1 and abs(p[2] - 30) <= 1]


def test_points_on_the_outer_borders_are_of_the_outer_pixels(sample: Sample) -> None:
    corners = np.array([(0, -0.5, -0.5, 9), (1, 95.4, 63.4, 9), (2, 95.5, 63.5, 9), (3, 0.6, 1.4, 9)], np.float32)
    view, row, column = lidar_pixels(replace(sample, lidar=corners))
    assert list(zip(view, row, column, strict=True)) == [(0, 0, 0), (1, 63, 95), (2, 63, 95), (3, 1, 1)]


@pytest.mark.parametrize(("share", "reach"), [(0.6, 2), (0.25, 3), (0.0, 4)])
def test_how_far_off_nearer_points_tell(sample: Sample, share: float, reach: int) -> None:
    """1.7 times the mean distance of the points, here of a ``share`` of all pixels; at most a twentieth of the width.

    Near points in two opposite corners of a square about a point are on all sides of it, those of one edge are not.
    """
    assert sample.size == (64, 96)
    views = np.argwhere(sample.present).ravel()
    count = round(share * len(views) * 64 * 96)
    rng = np.random.default_rng(0)
    elsewhere = [rng.choice(views[views > 0], count), rng.integers(0, 96, count), rng.integers(0, 64, count)]
    far = np.column_stack([*elsewhere, np.full(count, 30.0)])
    near, middles = [], []
    r, over = reach, reach + 1
    offsets = [
        *([(-r, -r), (r, r)], [(-r, r), (r, -r)]),  # on all sides
        *([(-r, -r), (-r, r)], [(r, -r), (r, r)], [(-r, -r), (r, -r)], [(-r, r), (r, r)]),
        *([(-over, -over), (over, over)], [(-r, -r), (r, -r), (over, r)], [(-r, -r), (r, -r), (0, over)]),
    ]
    for place, corners in enumerate(offsets):
        x, y = 8 + 13 * (place % 7), 20 + 24 * (place // 7)
        middles.append((0, x, y, 30.0))
        near += [(0, x + i, y + j, 6.0) for i, j in corners]
    lidar = np.concatenate([far, near, middles]).astype(np.float32)
    nothing = np.full_like(sample.dense_depth, np.nan)
    found = without_hidden_points(replace(sample, dense_depth=nothing, lidar=lidar)).lidar
    kept = [tuple(p) in {tuple(f) for f in found.tolist()} for p in middles]
    assert kept == [False, False, True, True, True, True, True, True, True]


def pixel(point: list[float]) -> tuple[int, ...]:
    return tuple(np.rint(point[:3]).astype(int).clip(0)[[0, 2, 1]])


def test_the_points_of_a_town_tell_nearly_as_much_as_its_depth() -> None:
    data = TownData(drives=2, sweeps_per_drive=1, first_seed=30)
    shares = []
    for index in range(2):
        sample = town_sample(data.drive(index), 0, data.size)
        alone = replace(sample, dense_depth=np.full_like(sample.dense_depth, np.nan))
        by_depth, by_points = (
            {tuple(point) for point in without_hidden_points(s).lidar.tolist()} for s in (sample, alone)
        )
        far = {tuple(p) for p in sample.lidar.tolist() if p[3] > 1.25 * sample.dense_depth[pixel(p)]} - by_depth
        shares.append((len(far - by_points) / len(far), len(by_depth - by_points) / len(by_depth)))
    hidden, lost = np.mean(shares, axis=0)
    assert hidden > 0.75
    assert lost < 0.045


def test_they_teach_nothing_but_count_in_a_validation(sample: Sample) -> None:
    behind = sample.lidar.copy()
    behind[:, 3] *= 3
    both = replace(sample, lidar=np.concatenate([sample.lidar, behind]))
    still = AugmentSettings(**dict.fromkeys(("flip", "crop", "drop_view"), 0.0), max_views=9)
    trained = prepare(both, still, 0.0, [1])
    # those beside a pixel of the sky may lie on it
    assert len(sample.lidar) <= len(trained.lidar) < 1.05 * len(sample.lidar)
    assert len(prepare(both, None, 0.0, [1]).lidar) == 2 * len(sample.lidar)
