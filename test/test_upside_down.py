"""Cameras that hang upside down."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fsmde_ros.geometry import invert, project, transform
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.upside_down import find_upside_down, turn_cameras, turn_images

LEVEL = np.array([[0.0, 0, 1, 0.5], [-1, 0, 0, 0.1], [0, -1, 0, 1.4], [0, 0, 0, 1]])  # looks straight ahead


def camera(name: str, roll: float = 0.0, pitch: float = 0.0) -> Camera:
    """Rolled about its optical axis after it was pitched up, degrees."""
    (sr, cr), (sp, cp) = ((np.sin(a), np.cos(a)) for a in np.radians([roll, pitch]))
    about_z = np.array([[cr, -sr, 0, 0], [sr, cr, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    about_x = np.array([[1, 0, 0, 0], [0, cp, -sp, 0], [0, sp, cp, 0], [0, 0, 0, 1]])
    return Camera(name, (40, 60), [[50, 0.2, 31], [0, 52, 17], [0, 0, 1]], LEVEL @ about_x @ about_z)


@pytest.mark.parametrize(
    ("roll", "pitch", "hangs"),
    [
        (0, 0, False),
        (44, 0, False),
        (90, 0, False),
        (134, 0, False),
        (136, 0, True),
        (180, 0, True),
        (-170, -30, True),
        (0, -30, False),
        (180, -85, False),  # straight down: which way is up nobody can tell
        (180, 60, True),
    ],
)
def test_which_cameras_hang(roll: float, pitch: float, hangs: bool) -> None:
    rig = Rig((camera("a"), camera("b", roll, pitch)))
    assert find_upside_down(rig) == ((1,) if hangs else ())


def test_a_turned_camera_sees_each_point_where_the_turned_image_has_it() -> None:
    rig = Rig((camera("a", 180, 5), camera("b", 3)), "car", -0.2)
    turned = turn_cameras(rig, (0,))
    assert (turned.vehicle_frame, turned.ground_z, turned.names) == ("car", -0.2, rig.names)
    assert turned.cameras[1] is rig.cameras[1]
    assert find_upside_down(turned) == ()
    points = np.random.default_rng(0).uniform([3, -2, 0], [9, 2, 3], (50, 3))
    before, after = (
        project(r.cameras[0].intrinsics, transform(invert(r.cameras[0].camera_to_vehicle), points))
        for r in (rig, turned)
    )
    np.testing.assert_allclose(after[0], [59, 39] - before[0], atol=1e-9)
    np.testing.assert_allclose(after[1], before[1])
    again = turn_cameras(turned, (0,)).cameras[0]
    np.testing.assert_allclose(again.intrinsics, rig.cameras[0].intrinsics)
    np.testing.assert_allclose(again.camera_to_vehicle, rig.cameras[0].camera_to_vehicle)


def test_only_the_images_that_are_asked_for_are_turned() -> None:
    images = np.random.default_rng(0).integers(0, 255, (3, 2, 4, 5))
    turned = turn_images(images, (1,))
    np.testing.assert_array_equal(turned[[0, 2]], images[[0, 2]])
    for row in range(4):
        for column in range(5):
            np.testing.assert_array_equal(turned[1, :, row, column], images[1, :, 3 - row, 4 - column])
    assert turn_images(images, ()) is images


def test_nothing_is_made_anew_where_no_camera_hangs() -> None:
    rig = Rig((camera("a"), replace(camera("b"), name="c")))
    assert turn_cameras(rig, find_upside_down(rig)) is rig
