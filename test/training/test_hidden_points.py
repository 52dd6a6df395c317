"""LiDAR points behind what a camera sees are left out; those on either side of an edge are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from training.augment import AugmentSettings
from training.batch import Sample
from training.datasets import TownData, prepare, town_sample
from training.hidden_points import without_hidden_points


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
