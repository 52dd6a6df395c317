"""How images lie in the input of a network: turned, fitted in, and brought back."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsmde_ros.errors import ImageError
from fsmde_ros.geometry import invert, pixel_grid, project, transform, unproject
from fsmde_ros.images import decode, encode_jpeg, resize
from fsmde_ros.network_view import FILL, NetworkView, network_view, quarter_turns, take_all
from fsmde_ros.rig import Camera

INPUT = (60, 100)
LEVEL = np.array([[0.0, 0, 1, 0.5], [-1, 0, 0, 0.1], [0, -1, 0, 1.4], [0, 0, 0, 1]])  # looks straight ahead


def camera(
    size: tuple[int, int] = (120, 200), roll: float = 0.0, pitch: float = 0.0, focal: tuple[float, float] = (100, 104)
) -> Camera:
    """Rolled about its optical axis after it was pitched up, degrees."""
    (sr, cr), (sp, cp) = ((np.sin(a), np.cos(a)) for a in np.radians([roll, pitch]))
    about_z = np.array([[cr, -sr, 0, 0], [sr, cr, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    about_x = np.array([[1, 0, 0, 0], [0, cp, -sp, 0], [0, sp, cp, 0], [0, 0, 0, 1]])
    k = [[focal[0], 0, 0.4 * size[1]], [0, focal[1], 0.6 * size[0]], [0, 0, 1]]
    return Camera("a", size, k, LEVEL @ about_x @ about_z)


def used(view: NetworkView) -> tuple[int, int]:
    """(H, W) of the input without its rim."""
    return view.rows[1] - view.rows[0], view.columns[1] - view.columns[0]


@pytest.mark.parametrize(
    ("roll", "pitch", "turns"),
    [
        (0, 0, 0),
        (44, 0, 0),
        (-44, 20, 0),
        (46, 0, 3),
        (90, 0, 3),
        (-90, 0, 1),
        (134, 0, 3),
        (136, 0, 2),
        (180, 0, 2),
        (-170, -30, 2),
        (180, -85, 0),  # straight down: which way is up nobody can tell
        (90, 85, 0),
        (180, 60, 2),
    ],
)
def test_how_far_images_are_turned(roll: float, pitch: float, turns: int) -> None:
    assert quarter_turns(camera(roll=roll, pitch=pitch)) == turns


@pytest.mark.parametrize("roll", [0, 85, 180, -92])
@pytest.mark.parametrize("size", [(120, 200), (120, 160), (200, 120), (120, 400)])
def test_after_turning_a_step_down_the_input_leads_down(size: tuple[int, int], roll: float) -> None:
    seen = network_view(camera(size, roll), INPUT).camera
    right, down = seen.camera_to_vehicle[2, :2]
    assert down < -0.9
    assert abs(right) < 0.2
    assert seen.size == INPUT
    assert quarter_turns(seen) == 0


@pytest.mark.parametrize(
    ("size", "focal", "expected"),
    [
        ((90, 160), (100, 100), (60, 100)),  # 16:9 in 5:3
        ((608, 968), (100, 100), (60, 100)),  # 1.59:1, as of DDAD
        ((120, 160), (100, 100), (60, 80)),  # 4:3
        ((120, 120), (100, 100), (60, 60)),
        ((160, 90), (100, 100), (60, 34)),
        ((80, 160), (100, 100), (50, 100)),  # 2:1
        ((120, 160), (75, 100), (60, 100)),  # 4:3 of pixels that are not square: what it shows is 16:9
    ],
)
def test_an_image_of_another_shape_gets_a_rim(
    size: tuple[int, int], focal: tuple[float, float], expected: tuple[int, int]
) -> None:
    view = network_view(camera(size, focal=focal), INPUT)
    assert used(view) == expected
    assert view.is_plain == (expected == INPUT)
    k = view.camera.intrinsics
    stretch = k[0, 0] / k[1, 1]
    assert 0.9 < stretch < 1.1
    assert view.is_plain or stretch == pytest.approx(1, abs=0.02)
    assert (view.rows[0] + view.rows[1], view.columns[0] + view.columns[1]) == pytest.approx(INPUT, abs=1)


@pytest.mark.parametrize("size", [(192, 320), (256, 448)])
def test_the_cameras_of_both_public_sets_fill_the_input_as_in_training(size: tuple[int, int]) -> None:
    """DDAD's focal lengths in x and y differ by 0.3 % at most."""
    for shape in ((900, 1600), (1216, 1936)):
        for ratio in (0.997, 1.0, 1.003):
            assert network_view(camera(shape, focal=(1000 * ratio, 1000)), size).is_plain


@pytest.mark.parametrize("stretch", [1.105, 1 / 1.105, 1.25])
def test_the_last_bit_of_a_focal_length_does_not_decide_how_an_image_lies(stretch: float) -> None:
    for focal in np.linspace(90, 110, 41):
        exact = camera((120, 200), focal=(focal * stretch, focal))
        for moved in (exact, exact.resized((607, 1013)), exact.resized(INPUT)):
            view = network_view(moved, INPUT)
            assert (view.rows, view.columns) == (network_view(exact, INPUT).rows, network_view(exact, INPUT).columns)


def test_a_camera_that_is_said_to_lie_otherwise_is_told_as_its_image_lies() -> None:
    """An error of the extrinsics does not turn an image that is there already."""
    true, wrong = camera((120, 160), roll=44.9), camera((120, 160), roll=45.6)
    view = network_view(true, INPUT)
    assert network_view(wrong, INPUT).turns != view.turns
    told = view.told(wrong)
    np.testing.assert_allclose(told.intrinsics, view.camera.intrinsics)
    angle = np.arccos((np.trace(told.camera_to_vehicle[:3, :3].T @ view.camera.camera_to_vehicle[:3, :3]) - 1) / 2)
    assert np.degrees(angle) == pytest.approx(0.7)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(20, 300),
    width=st.integers(20, 300),
    roll=st.floats(-180, 180),
    pitch=st.floats(-60, 60),
    seed=st.integers(0, 99),
)
def test_the_camera_of_the_input_sees_each_point_where_the_input_has_it(
    height: int, width: int, roll: float, pitch: float, seed: int
) -> None:
    given_camera = camera((height, width), roll, pitch)
    view = network_view(given_camera, INPUT)
    points = np.random.default_rng(seed).uniform([3, -2, 0], [9, 2, 3], (50, 3))
    own = given_camera.resized(INPUT)
    (before, depth), (after, same) = (
        project(c.intrinsics, transform(invert(c.camera_to_vehicle), points)) for c in (own, view.camera)
    )
    np.testing.assert_allclose(same, depth)
    seen = depth > 0.1
    np.testing.assert_allclose(view.pixels(before[seen]), after[seen], rtol=1e-6, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(height=st.integers(20, 300), width=st.integers(20, 300), roll=st.sampled_from([0, 90, 180, -90]))
def test_a_camera_and_the_same_one_resized_lie_alike_in_the_input(height: int, width: int, roll: float) -> None:
    view = network_view(camera((height, width), roll), INPUT)
    again = network_view(view.given.resized(INPUT), INPUT)
    assert (again.turns, again.rows, again.columns) == (view.turns, view.rows, view.columns)
    np.testing.assert_allclose(again.camera.intrinsics, view.camera.intrinsics)


@pytest.mark.parametrize("roll", [0, 90, 180, -90])
@pytest.mark.parametrize("size", [(120, 200), (120, 160), (160, 120), (100, 220)])
def test_what_is_taken_from_the_input_is_what_was_placed_there(size: tuple[int, int], roll: float) -> None:
    """Places of the camera's pixels as numbers: brought back, each is within the pixel that it stands for."""
    view = network_view(camera(size, roll), INPUT)
    rows, columns = np.indices(size, dtype=np.float64)
    for numbers, axis in ((rows, 0), (columns, 1)):
        placed = view.place(numbers, np.nan)
        assert placed.shape == INPUT
        back = view.take(placed)
        expected = (np.indices(INPUT)[axis] + 0.5) * size[axis] / INPUT[axis] - 0.5
        # half a pixel of the input's grid and half a one of the camera's, along an axis that is at most 5 times coarser
        assert np.abs(back - expected).max() <= 0.5 + 0.5 * size[axis] / min(used(view))


def test_the_rim_has_the_filling_and_the_rest_the_image() -> None:
    view = network_view(camera((120, 160), focal=(100, 100)), INPUT)
    picture = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    made = view.image(picture)
    np.testing.assert_array_equal(made[:, slice(*view.columns)], resize(picture, (60, 80)))
    for rim in (made[:, : view.columns[0]], made[:, view.columns[1] :]):
        assert rim.shape[1] == 10
        np.testing.assert_array_equal(rim, np.broadcast_to(FILL, rim.shape))


def test_an_image_on_its_side_is_turned() -> None:
    """Its right edge is up: the input has it as its upper one."""
    view = network_view(camera((200, 120), roll=-90), INPUT)
    assert view.turns == 1
    picture = np.zeros((200, 120, 3), np.uint8)
    picture[:, 60:] = 200
    made = view.image(picture)
    assert (made[:28] == 200).all()
    assert (made[32:] == 0).all()


def test_a_jpeg_is_decoded_no_larger_than_what_is_shown_of_it() -> None:
    view = network_view(camera((240, 240), focal=(100, 100)), INPUT)  # shown at 60x60
    encoded = encode_jpeg(np.random.default_rng(0).integers(0, 255, (240, 240, 3), dtype=np.uint8))
    for shrinks, reduction in ((1, 4), (2, 8)):
        expected = resize(decode(encoded, reduction=reduction), used(view))
        np.testing.assert_array_equal(view.image(encoded, shrinks)[:, slice(*view.columns)], expected)


def test_a_lens_is_undone_before_the_image_is_turned_and_fitted_in() -> None:
    """The image shows where each of its pixels' rays would lie without the lens: the input must show its own rays."""
    straight = camera((200, 240), roll=90)
    lens = replace(straight, distortion_model="plumb_bob", distortion=np.array([-0.2, 0.05, 0, 0]))
    view = network_view(lens, INPUT)
    assert view.camera.is_rectified
    assert view.turns == 3
    pixels = pixel_grid((200, 240)).reshape(-1, 1, 2)
    undistorted = cv2.undistortPoints(pixels, lens.intrinsics, lens.distortion, P=lens.intrinsics).reshape(200, 240, 2)
    picture = np.zeros((200, 240, 3), dtype=np.uint8)
    picture[..., :2] = np.clip(undistorted, 0, 255)
    made = view.image(picture).astype(float)
    rows, columns = np.mgrid[15:45, view.columns[0] + 8 : view.columns[1] - 8]
    rays = unproject(view.camera.intrinsics, np.stack([columns, rows], -1), np.ones(rows.shape))
    own = transform(invert(lens.camera_to_vehicle) @ view.camera.camera_to_vehicle, rays)
    expected, _ = project(lens.intrinsics, own)
    assert np.abs(made[rows, columns, :2] + 0.5 - expected).max() < 2.5  # a pixel of the input is 3.3 of the image
    np.testing.assert_array_equal(made[:, 0], np.broadcast_to(FILL, (60, 3)))


def test_an_image_of_another_size_than_its_camera_is_refused() -> None:
    view = network_view(camera(), INPUT)
    wrong = np.zeros((200, 120, 3), np.uint8)
    for image in (wrong, encode_jpeg(wrong)):
        with pytest.raises(ImageError, match=r"camera 'a' has shape \(200, 120, 3\) .* expected \(120, 200, 3\)"):
            view.image(image)
    with pytest.raises(ImageError, match="float64"):
        view.image(np.zeros((120, 200, 3)))  # type: ignore[arg-type]


def test_where_all_are_plain_nothing_is_copied() -> None:
    plain, narrow = network_view(camera(), INPUT), network_view(camera((120, 160)), INPUT)
    values = np.random.default_rng(0).normal(size=(2, 3, *INPUT))
    assert take_all((plain, plain), values) is values
    mixed = take_all((plain, narrow), values)
    np.testing.assert_array_equal(mixed[0], values[0])
    np.testing.assert_array_equal(mixed[1], narrow.take(values[1]))
    picture = np.zeros((*INPUT, 3), np.uint8)
    assert plain.place(picture, FILL) is picture
