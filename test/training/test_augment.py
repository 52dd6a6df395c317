"""Augmentation must leave the geometry true: the depth of the new rig, computed anew, is the moved depth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fsmde_ros.errors import ConfigError
from fsmde_ros.geometry import pixel_grid, transform, unproject
from fsmde_ros.network_view import FILL
from training.augment import AugmentSettings, augment, crop_view, drop_views, mirror, recolour, with_rim
from training.batch import Sample, select_views

NONE = AugmentSettings(
    flip=0, crop=0, drop_view=0, style=0, grey=0, random_filter=0, exposure=0, blur=0, noise=0, jpeg=0, cutout=0,
    glare=0, own_body=0, hard_light=0,
)  # fmt: skip


def _points_vehicle(sample: Sample, view: int) -> np.ndarray:
    camera = sample.rig.cameras[view]
    depth = sample.dense_depth[view]
    points = unproject(camera.intrinsics, pixel_grid(camera.size), np.where(np.isfinite(depth), depth, np.nan))
    return transform(camera.camera_to_vehicle, points)


def _height_of_lidar(sample: Sample, view: int) -> np.ndarray:
    own = sample.lidar[sample.lidar[:, 0] == view]
    camera = sample.rig.cameras[view]
    return transform(camera.camera_to_vehicle, unproject(camera.intrinsics, own[:, 1:3], own[:, 3]))


def test_mirror_mirrors_every_point_of_the_world(sample: Sample) -> None:
    mirrored = mirror(sample)
    for view in range(5):
        before, after = _points_vehicle(sample, view), _points_vehicle(mirrored, view)
        np.testing.assert_allclose(after[:, ::-1] * [1, -1, 1], before, atol=1e-4)
        lidar = _height_of_lidar(mirrored, view) * [1, -1, 1]
        np.testing.assert_allclose(lidar, _height_of_lidar(sample, view), atol=1e-4)
    assert np.linalg.det(mirrored.rig.cameras[0].camera_to_vehicle[:3, :3]) == pytest.approx(1)
    twice = mirror(mirrored)
    np.testing.assert_array_equal(twice.images, sample.images)
    np.testing.assert_allclose(twice.rig.camera_to_vehicle(), sample.rig.camera_to_vehicle())
    np.testing.assert_allclose(twice.rig.intrinsics(), sample.rig.intrinsics())


def test_a_crop_shows_the_same_road_and_wall(sample: Sample) -> None:
    cropped = crop_view(sample, 1, top=16, left=12, height=45, width=60)
    points = _points_vehicle(cropped, 1)
    known = np.isfinite(cropped.dense_depth[1])
    # Every point lies on the road or on the wall, up to the nearest-pixel rounding of its depth.
    on_road, on_wall = np.abs(points[known][:, 2]), np.abs(points[known][:, 1] - 6)
    assert np.median(np.minimum(on_road, on_wall)) < 0.05
    lidar = _height_of_lidar(cropped, 1)
    assert np.minimum(np.abs(lidar[:, 2]), np.abs(lidar[:, 1] - 6)).max() < 1e-3
    for view in (0, 2, 3, 4):
        np.testing.assert_array_equal(cropped.images[view], sample.images[view])
        np.testing.assert_array_equal(cropped.rig.cameras[view].intrinsics, sample.rig.cameras[view].intrinsics)


def test_misplacing_is_drawn_with_its_spread(sample: Sample) -> None:
    settings = replace(NONE, tilt=0.01, lift=0.05)
    told = [augment(sample, settings, np.random.default_rng(k)).rig for k in range(200)]
    assert np.std([rig.ground_z for rig in told]) == pytest.approx(0.05, rel=0.25)
    true = {camera.name: camera.camera_to_vehicle for camera in sample.rig.cameras}
    turns = np.array([rig.cameras[0].camera_to_vehicle @ np.linalg.inv(true[rig.cameras[0].name]) for rig in told])
    assert np.std(turns[:, 0, 2]) == pytest.approx(0.01, rel=0.25)  # pitch: z of the vehicle leans to x
    assert np.std(turns[:, 2, 1]) == pytest.approx(0.01, rel=0.25)  # roll: y rises
    plain = augment(sample, NONE, np.random.default_rng(0))
    assert plain.rig.ground_z == sample.rig.ground_z


def test_lidar_raster_agrees_with_dense_depth(sample: Sample) -> None:
    raster = sample.lidar_depth()
    known = ~np.isnan(raster)
    assert known.sum() > 500
    np.testing.assert_array_equal(raster[known], sample.dense_depth[known])


def test_the_nearest_of_two_points_in_a_pixel_counts(sample: Sample) -> None:
    points = np.array(
        [[2, 10.2, 5.1, 30.0], [2, 9.8, 4.9, 7.0], [2, 10.0, 5.0, 12.0], [2, 400, 5, 1]], dtype=np.float32
    )
    raster = replace(sample, lidar=points).lidar_depth()
    assert raster[2, 5, 10] == 7.0
    assert np.isfinite(raster).sum() == 1


def test_select_views_moves_everything_together(sample: Sample) -> None:
    chosen = select_views(sample, [4, 1])
    assert chosen.rig.names == ("cam_4", "cam_1")
    np.testing.assert_array_equal(chosen.images, sample.images[[4, 1]])
    np.testing.assert_array_equal(chosen.lidar_depth(), sample.lidar_depth()[[4, 1]])


def test_dropped_views_leave_nothing_behind(sample: Sample) -> None:
    dropped = drop_views(sample, [0, 3])
    assert dropped.present.tolist() == [False, True, True, False, True]
    assert not dropped.images[[0, 3]].any()
    assert np.isnan(dropped.dense_depth[[0, 3]]).all()
    assert np.isnan(dropped.teacher_disparity[3]).all()
    assert set(np.unique(dropped.lidar[:, 0])) == {1, 2, 4}
    assert sample.present.all()


def test_augment_keeps_points_true_and_is_repeatable(sample: Sample) -> None:
    settings = AugmentSettings(drop_view=0.4, max_views=4, crop=1.0)
    for seed in range(20):
        a = augment(sample, settings, np.random.default_rng(seed))
        assert len(a.rig) == 4
        assert a.present.any()
        for view in np.flatnonzero(a.present):
            points = _height_of_lidar(a, int(view))
            wall = np.minimum(np.abs(points[:, 1] - 6), np.abs(points[:, 1] + 6))
            assert np.minimum(np.abs(points[:, 2]), wall).max(initial=0) < 2e-3
        b = augment(sample, settings, np.random.default_rng(seed))
        np.testing.assert_array_equal(a.images, b.images)
        np.testing.assert_array_equal(a.dense_depth, b.dense_depth)


def test_views_with_an_image_are_chosen_before_those_without(sample: Sample) -> None:
    lonely = drop_views(sample, [0, 1, 3, 4])
    for seed in range(20):
        drawn = augment(lonely, AugmentSettings(max_views=2), np.random.default_rng(seed))
        assert drawn.present.sum() == 1


def test_recolour_changes_colours_only_and_not_always(sample: Sample) -> None:
    np.testing.assert_array_equal(recolour(sample.images, NONE, np.random.default_rng(0)), sample.images)
    heavy = recolour(sample.images, AugmentSettings(style=1), np.random.default_rng(0))
    assert heavy.shape == sample.images.shape
    assert heavy.dtype == np.uint8
    assert np.abs(heavy.astype(int) - sample.images).mean() > 3
    grey = recolour(
        np.random.default_rng(1).integers(0, 255, sample.images.shape, dtype=np.uint8),
        replace(NONE, grey=1),
        np.random.default_rng(0),
    )
    np.testing.assert_array_equal(grey[..., 0], grey[..., 2])


def test_hard_light_clips_both_ends_of_a_picture() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8)[None, None, :, None], (2, 4, 1, 3))
    clipped = []
    for seed in range(20):
        hard = recolour(ramp, replace(NONE, hard_light=1), np.random.default_rng(seed)).astype(int)
        assert (np.diff(hard[0, 0, :, 0]) >= 0).all()
        clipped.append([(hard == end).mean() for end in (0, 255)])
    assert (np.array(clipped) > 0.05).mean() > 0.7
    assert (np.array(clipped) > 0.05).all(1).mean() > 0.5


@pytest.mark.parametrize(
    "field",
    [
        {"flip": 1.5},
        {"smallest_crop": 0.0},
        {"max_views": 0},
        {"lidar_every": 0},
        {"tilt": 0.5},
        {"lift": -0.1},
        {"exposure": -0.1},
        {"exposure": float("nan")},
    ],
)
def test_settings_out_of_range_are_refused_by_name(field: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(field))):
        AugmentSettings(**field)


def test_body_and_glare_change_images_and_nothing_else(sample: Sample) -> None:
    still = augment(sample, NONE, np.random.default_rng(2))
    glaring = augment(sample, replace(NONE, glare=1.0), np.random.default_rng(2))
    covered = augment(sample, replace(NONE, own_body=1.0), np.random.default_rng(2))
    for changed in (glaring, covered):
        np.testing.assert_array_equal(changed.dense_depth, still.dense_depth)
        np.testing.assert_array_equal(changed.lidar, still.lidar)
    seen = still.present
    assert (glaring.images[seen] >= still.images[seen]).all()
    assert glaring.images[seen].mean() > still.images[seen].mean()
    assert (covered.images[seen, -1] != still.images[seen, -1]).any()


def test_a_sparser_lidar_keeps_every_nth_point_and_all_pixels(sample: Sample) -> None:
    sparse = augment(sample, replace(NONE, max_views=9, lidar_every=4), np.random.default_rng(0))
    full = augment(sample, replace(NONE, max_views=9), np.random.default_rng(0))
    assert len(sparse.lidar) == -(-len(sample.lidar) // 4) > 0
    assert set(map(tuple, sparse.lidar)) <= set(map(tuple, full.lidar))
    np.testing.assert_array_equal(sparse.images, full.images)


def test_what_an_image_was_before_it_is_recoloured_moves_with_it(sample: Sample) -> None:
    """Views that are chosen, mirrored and cropped after that, too."""
    plain = replace(sample, images=np.random.default_rng(3).integers(0, 255, sample.images.shape, dtype=np.uint8))
    both = replace(plain, clean=plain.images)
    for change in (
        lambda s: select_views(s, [3, 1]),
        mirror,
        lambda s: crop_view(s, 2, top=5, left=9, height=40, width=70),
    ):
        changed = change(both)
        np.testing.assert_array_equal(changed.clean, changed.images)
        assert change(plain).clean is None
    drawn = augment(plain, AugmentSettings(style=1), np.random.default_rng(0))
    still = augment(plain, replace(NONE, flip=0.5, crop=0.5), np.random.default_rng(0))
    assert drawn.clean is not None
    assert still.clean is not None
    np.testing.assert_array_equal(drawn.clean, still.clean)
    np.testing.assert_array_equal(still.images, still.clean)
    assert np.abs(drawn.images.astype(int) - drawn.clean).mean() > 3


def test_a_rim_hides_what_a_narrower_camera_does_not_see(sample: Sample) -> None:
    made = with_rim(replace(sample, clean=sample.images), (0, 64), (10, 86))
    inside = np.zeros((64, 96), dtype=bool)
    inside[:, 10:86] = True
    assert made.clean is not None
    for images in (made.images, made.clean):
        assert (images[:, ~inside] == FILL).all()
        np.testing.assert_array_equal(images[:, inside], sample.images[:, inside])
    for got, before in (
        (made.dense_depth, sample.dense_depth),
        (made.teacher_disparity, sample.teacher_disparity),
        (made.lidar_depth(), sample.lidar_depth()),
    ):
        assert np.isnan(got[:, ~inside]).all()
        np.testing.assert_array_equal(got[:, inside], before[:, inside])
    assert made.rig is sample.rig
    assert (made.usable == inside).all()


def test_what_is_usable_moves_with_the_pixels(sample: Sample) -> None:
    usable = np.random.default_rng(0).random(sample.usable.shape) < 0.5
    sample = replace(sample, usable=usable, teacher_disparity=np.where(usable, 1.0, 2.0).astype(np.float32))
    for seed in range(8):
        made = augment(sample, AugmentSettings(drop_view=0, rim=0.5), np.random.default_rng(seed))
        np.testing.assert_array_equal(made.teacher_disparity == 1.0, made.usable)


def test_rims_are_narrow_or_wide_and_as_often_as_asked_for(sample: Sample) -> None:
    plain = replace(
        AugmentSettings(), crop=0, drop_view=0, style=0, grey=0, hard_light=0, random_filter=0, exposure=0, blur=0
    )
    plain = replace(plain, noise=0, jpeg=0, cutout=0, glare=0, own_body=0, rim=0.5)
    columns, rows, none = 0, 0, 0
    for seed in range(120):
        made = augment(sample, plain, np.random.default_rng(seed))
        rim = (made.images == FILL).all(-1).all(0)
        columns += bool(rim[32, 0] and rim[32, -1])
        rows += bool(rim[0, 48] and rim[-1, 48])
        none += not rim.any()
        assert not rim[28:36, 44:52].any()
    assert columns + rows + none == 120
    assert 40 < none < 80
    assert columns > rows > 5


def test_the_rim_of_an_image_stays_as_the_node_makes_it_whatever_the_colours(sample: Sample) -> None:
    rimmed = with_rim(sample, (0, 64), (10, 86))
    for seed in range(6):
        made = augment(rimmed, replace(AugmentSettings(), crop=0, drop_view=0), np.random.default_rng(seed))
        assert (made.images[:, :, :10] == FILL).all()
        assert (made.images[:, :, 86:] == FILL).all()
