from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fsmde_ros.geometry import ground_plane_depth, pixel_grid, unproject
from fsmde_ros.rig import Camera
from training.town.camera import render_view, render_views
from training.town.primitives import Kind, Material, row
from training.town.settings import TownSettings
from training.town.world import World, build_world

GREY = (0.5, 0.5, 0.5)
FAR = row(Kind.BOX, (-900.0, 0.0, 0.0), (1.0, 1.0, 1.0), Material.PLAIN, GREY)  # out of sight


def test_ground_depth_is_that_of_the_plane(stage, forward_camera: Camera) -> None:  # type: ignore[no-untyped-def]
    _, depth = render_view(stage(FAR), 0.0, forward_camera, np.eye(4))
    expected = ground_plane_depth(forward_camera.intrinsics, forward_camera.camera_to_vehicle, (48, 70), cap=190.0)
    seen = expected < 190.0
    assert seen.any()
    np.testing.assert_allclose(depth[seen], expected[seen], rtol=1e-4)
    assert np.isinf(depth[~seen]).all()


def test_a_box_has_its_depth_at_exactly_its_pixels(stage, forward_camera: Camera) -> None:  # type: ignore[no-untyped-def]
    world = stage(row(Kind.BOX, (10.0, 1.0, 2.0), (2.0, 1.5, 0.8), Material.PLAIN, GREY))
    _, depth = render_view(world, 0.0, forward_camera, np.eye(4))
    at_face = unproject(forward_camera.intrinsics, pixel_grid((48, 70)), np.full((48, 70), 7.0))
    y, z = 0.3 - at_face[..., 0], 1.5 - at_face[..., 1]  # the front is at x = 8, the camera at x = 1
    front = (np.abs(y - 1.0) < 1.5 - 1e-3) & (np.abs(z - 2.0) < 0.8 - 1e-3)
    assert front.sum() > 50
    np.testing.assert_allclose(depth[front], 7.0, atol=1e-4)  # constant: along the axis, not the ray
    beside = (np.abs(y - 1.0) > 1.5 + 1e-3) | (np.abs(z - 2.0) > 0.8 + 1e-3)
    assert not np.isclose(depth[beside & (y > 0.3)], 7.0, atol=1e-4).any()


def test_the_same_seed_gives_the_same_picture_in_any_order(town: World, forward_camera: Camera) -> None:
    pose = town.vehicle_to_map(0.5)
    first = render_view(town, 0.5, forward_camera, pose)
    render_view(town, 2.0, forward_camera, town.vehicle_to_map(2.0))
    again = render_view(build_world(5, TownSettings(), duration_s=4.0), 0.5, forward_camera, pose)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])


def test_other_seeds_and_settings_give_other_pictures(town: World, forward_camera: Camera) -> None:
    own, _ = render_view(town, 0.5, forward_camera, town.vehicle_to_map(0.5))
    for other in (build_world(6, TownSettings(), 4.0), build_world(5, TownSettings.held_out(), 4.0)):
        image, _ = render_view(other, 0.5, forward_camera, other.vehicle_to_map(0.5))
        assert np.abs(image.astype(float) - own).mean() > 5


def test_views_of_a_sweep_do_not_depend_on_each_other(town: World, forward_camera: Camera) -> None:
    other = Camera("cam_low", (33, 65), forward_camera.intrinsics, forward_camera.camera_to_vehicle)
    views = [(0.5, forward_camera, town.vehicle_to_map(0.5)), (0.545, other, town.vehicle_to_map(0.545))]
    together = render_views(town, views)
    for (image, depth), (t, camera, pose) in zip(together, views, strict=True):
        assert image.shape == (*camera.size, 3)
        assert image.dtype == np.uint8
        assert depth.dtype == np.float32
        _, alone = render_view(town, t, camera, pose)
        close = np.isclose(depth, alone, rtol=2e-3) | (np.isinf(depth) & np.isinf(alone))
        assert close.mean() > 0.995  # outlines of moving things may differ by a pixel


def test_several_rays_a_pixel_average_its_light_and_leave_its_depth(town: World, forward_camera: Camera) -> None:
    """The picture of twice the size, shrunk, has about the same light; the depth is that of the pixel's centre."""
    pose = town.vehicle_to_map(0.5)
    settings = replace(town.settings, rays_per_pixel=2)
    lighting = replace(town.lighting, noise=0.0, vignette=0.0, blur=0.0)
    quiet = replace(town, lighting=lighting)
    (image, depth), (averaged, same) = (
        render_view(world, 0.5, forward_camera, pose) for world in (quiet, replace(quiet, settings=settings))
    )
    np.testing.assert_array_equal(depth, same)
    large, _ = render_view(quiet, 0.5, forward_camera.resized((96, 140)), pose)
    shrunk = large.reshape(48, 2, 70, 2, 3).mean((1, 3))
    error, plain = (np.abs(x.astype(float) - shrunk).mean() for x in (averaged, image))
    assert error < 0.6 * plain
    assert error < 4


@pytest.mark.parametrize("seed", [0, 7])
def test_pictures_are_exposed_and_have_sky_and_ground(seed: int, forward_camera: Camera) -> None:
    world = build_world(seed, TownSettings(), 2.0)
    image, depth = render_view(world, 0.0, forward_camera, world.vehicle_to_map(0.0))
    assert 30 < image.mean() < 220
    assert image.std() > 12
    assert not np.isnan(depth).any()
    assert (depth > 0).all()
    finite = np.isfinite(depth)
    assert finite[-5:].all()
    assert depth[finite].max() <= TownSettings().max_range
