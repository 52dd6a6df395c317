"""Depth by parallax in scenes of textured planes, whose images are worked out here by rays alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsmde_ros.parallax import MATCHED_WIDTH, STEP, Sight, correct, sight

SIZE = (192, 320)
HERE = np.eye(4)


def intrinsics_of(size: tuple[int, int], focal: float = 0.7) -> np.ndarray:
    """Of a camera whose focal length is ``focal`` widths; its centre is not that of the image."""
    height, width = size
    return np.array([[focal * width, 0, 0.48 * width], [0, focal * width, 0.53 * height], [0, 0, 1.0]])


def turned(degrees: float, x: float = 0, y: float = 0, z: float = 0) -> np.ndarray:
    """A camera there, turned about its y axis, which points down: to the right."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cosine, 0, sine, x], [0, 1, 0, y], [-sine, 0, cosine, z], [0, 0, 0, 1.0]])


@dataclass(frozen=True)
class Plane:
    """Points p of the map with ``normal @ p = distance``, between two x; x right, y down, z ahead of ``HERE``."""

    normal: tuple[float, float, float]
    distance: float
    seed: int = 0
    contrast: float = 45.0  # grey values; of the map's x, y and z, so that any plane has a texture
    between: tuple[float, float] = (-np.inf, np.inf)


def wall(z: float, seed: int = 0, contrast: float = 45.0, between: tuple[float, float] = (-np.inf, np.inf)) -> Plane:
    return Plane((0, 0, 1), z, seed, contrast, between)


ROAD = Plane((0, 1, 0), 1.5)


def grey_of(plane: Plane, points: np.ndarray) -> np.ndarray:
    """Sixty waves of 0.25 to 2.5 m in all directions, about 128."""
    rng = np.random.default_rng(plane.seed)
    directions = rng.normal(size=(60, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    waves = directions * 2 * np.pi / np.exp(rng.uniform(np.log(0.25), np.log(2.5), (60, 1)))
    return 128 + plane.contrast * np.sin(points @ waves.T + rng.uniform(0, 2 * np.pi, 60)).sum(-1) / np.sqrt(30)


def render(
    planes: Sequence[Plane],
    camera_to_map: np.ndarray,
    size: tuple[int, int] = SIZE,
    intrinsics: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """RGB [H, W, 3] and depth [H, W], metres, +inf = sky (white), of the planes that a camera sees."""
    y, x = np.mgrid[: size[0], : size[1]]
    matrix = intrinsics_of(size) if intrinsics is None else intrinsics
    rays = np.stack([(x - matrix[0, 2]) / matrix[0, 0], (y - matrix[1, 2]) / matrix[1, 1], np.ones(size)], -1)
    rays = rays @ camera_to_map[:3, :3].T
    place = camera_to_map[:3, 3]
    depth, grey = np.full(size, np.inf), np.full(size, 255.0)
    for plane in planes:
        with np.errstate(divide="ignore", invalid="ignore"):
            far = (plane.distance - place @ plane.normal) / (rays @ plane.normal)
            points = place + far[..., None] * rays
        hit = (far > 0) & (far < np.minimum(depth, 200))
        hit &= (points[..., 0] >= plane.between[0]) & (points[..., 0] < plane.between[1])
        depth[hit], grey[hit] = far[hit], grey_of(plane, points[hit])
    image = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
    return np.stack([image] * 3, -1), depth.astype(np.float32)


def seen(planes: Sequence[Plane], camera_to_map: np.ndarray, size: tuple[int, int] = SIZE) -> Sight:
    return sight(render(planes, camera_to_map, size)[0], intrinsics_of(size), camera_to_map)


def corrected(
    planes: Sequence[Plane], there: Sequence[np.ndarray], factor: float, stddev: float, size: tuple[int, int] = SIZE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth after the correction as a share of the truth, stddev as a share of that depth, and the true depth."""
    image, depth = render(planes, HERE, size)
    now = sight(image, intrinsics_of(size), HERE)
    guess = (factor * depth).astype(np.float32)
    result, spread = correct(guess, (stddev * guess).astype(np.float32), now, [seen(planes, p, size) for p in there])
    return result / depth, spread / result, depth


ASIDE, AHEAD, FAR_AHEAD = turned(0, x=-1), turned(0, z=-1), turned(0, z=-4)  # where the camera was
TURNED = turned(5, x=-0.7, z=-0.7)
SLANTED = Plane((0.5, 0.0, np.sqrt(0.75)), 10.0)
SCENES = {"wall": [wall(8)], "slanted": [SLANTED], "road and wall": [ROAD, wall(15, seed=1)]}
MOTIONS = {"aside": [ASIDE], "ahead": [AHEAD], "twice": [AHEAD, FAR_AHEAD], "turned": [TURNED]}


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("factor", [0.7, 1.3])
def test_a_depth_that_is_a_third_wrong_comes_out_right(scene: str, motion: str, factor: float) -> None:
    """Too near or too far: 0.3 before."""
    share, stddev, depth = corrected(SCENES[scene], MOTIONS[motion], factor, 0.3)
    error = np.abs(share - 1)[np.isfinite(depth)]
    assert np.median(error) < 0.03
    assert np.quantile(error, 0.8) < 0.06  # the rest was not in the earlier image, or hardly moved in it
    assert np.median(stddev[np.isfinite(depth)]) < 0.1


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("scene", SCENES)
def test_a_right_depth_stays_and_is_more_certain(scene: str, motion: str) -> None:
    share, stddev, depth = corrected(SCENES[scene], MOTIONS[motion], 1.0, 0.3)
    error = np.abs(share - 1)[np.isfinite(depth)]
    assert np.median(error) < 0.01
    assert np.quantile(error, 0.95) < STEP
    assert np.median(stddev[np.isfinite(depth)]) < 0.1


@pytest.mark.parametrize("size", [(360, 640), (361, 641), (252, 448), (191, 319), (97, 161), (61, 103)])
def test_images_of_any_size(size: tuple[int, int]) -> None:
    share, stddev, _ = corrected([wall(8)], [ASIDE], 1.3, 0.3, size)
    assert share.shape == stddev.shape == size
    assert share.dtype == stddev.dtype == np.float32
    assert np.median(np.abs(share - 1)) < 0.04
    assert np.median(stddev) < 0.1
    assert seen([wall(8)], HERE, size).image.shape[1] <= 1.5 * MATCHED_WIDTH


@pytest.mark.parametrize("size", [(5, 7), (1, 3), (3, 1), (40, 640)])
def test_images_that_are_too_small_to_tell_anything_do_no_harm(size: tuple[int, int]) -> None:
    share, stddev, _ = corrected([wall(8)], [ASIDE], 1.0, 0.1, size)
    assert share.shape == stddev.shape == size
    assert np.isfinite(share).all()
    assert np.abs(np.median(share) - 1) < 0.1


@pytest.mark.parametrize("size", [(96, 160), (101, 173), (384, 640)])
def test_the_depth_may_be_of_another_size_than_the_image(size: tuple[int, int]) -> None:
    _, depth = render([SLANTED], HERE, size)
    guess = 1.3 * depth
    result, _ = correct(guess, 0.3 * guess, seen([SLANTED], HERE), [seen([SLANTED], AHEAD), seen([SLANTED], FAR_AHEAD)])
    assert result.shape == size
    assert np.median(np.abs(result / depth - 1)) < 0.03


def test_the_lens_may_have_been_another_then() -> None:
    """As after a new calibration, or with a zoom."""
    image, depth = render([wall(8)], HERE)
    lens = intrinsics_of(SIZE, 0.9)
    then = sight(render([wall(8)], ASIDE, SIZE, lens)[0], lens, ASIDE)
    guess = 0.75 * depth
    result, _ = correct(guess, 0.3 * guess, sight(image, intrinsics_of(SIZE), HERE), [then])
    inside = np.s_[:, : SIZE[1] // 2]  # the rest was not in its narrower view
    assert np.median(np.abs(result / depth - 1)[inside]) < 0.03


@pytest.mark.parametrize(("gain", "offset"), [(0.5, 20.0), (0.7, 60.0), (1.2, -25.0)])
def test_another_exposure_does_not_matter(gain: float, offset: float) -> None:
    image, depth = render([wall(8)], HERE)
    before = render([wall(8)], ASIDE)[0]
    other = np.clip(gain * before + offset, 0, 255).astype(np.uint8)
    now = sight(image, intrinsics_of(SIZE), HERE)
    guess = 1.3 * depth
    same, different = (
        correct(guess, 0.3 * guess, now, [sight(earlier, intrinsics_of(SIZE), ASIDE)])[0] for earlier in (before, other)
    )
    assert np.median(np.abs(different / depth - 1)) < 0.04
    assert np.median(np.abs(different / same - 1)) < 0.01


@pytest.mark.parametrize("relative", [0.03, 0.1, 0.3])
def test_without_texture_depth_and_stddev_stay(relative: float) -> None:
    """The posterior by hand: half the prior over the steps of 0.1 up to 0.7, half what moves along, and the step."""
    share, stddev, _ = corrected([wall(8, contrast=0)], [turned(0, x=-0.3)], 1.0, relative)
    steps = np.arange(-7, 8) / 10
    weights = np.exp(-0.5 * (steps / relative) ** 2)
    variance = (weights @ steps**2 / weights.sum() + relative**2) / 2 + 0.1**2 / 12
    inside = np.s_[:, :-40]  # to the right something of every scale lay outside
    np.testing.assert_allclose(share[inside], 1, atol=1e-3)
    np.testing.assert_allclose(stddev[inside], np.sqrt(variance), rtol=1e-3)
    assert np.abs(stddev / relative - 1).max() < 0.4
    assert np.abs(share - 1).max() < 0.1


def test_what_was_outside_of_the_earlier_image_stays() -> None:
    """A camera that looked to the other side, one that looked away from the left, and one that was past everything."""
    for there in (turned(180), turned(-90, x=-30), turned(0, z=30)):
        share, stddev, _ = corrected([wall(8)], [there], 1.2, 0.2)
        np.testing.assert_allclose(share, 1.2, rtol=0.01)
        np.testing.assert_allclose(stddev, 0.2, rtol=0.1)


def test_what_was_hidden_by_something_nearer_is_not_believed_to_be_elsewhere() -> None:
    """A pillar 3 m away hid a part of the wall 12 m away from where the camera was."""
    pillar, there = wall(3, seed=2, between=(-0.8, -0.1)), turned(0, x=-0.5)
    planes = [wall(12), pillar]
    share, stddev, depth = corrected(planes, [there], 1.0, 0.1)
    x = (np.arange(SIZE[1]) - intrinsics_of(SIZE)[0, 2]) / intrinsics_of(SIZE)[0, 0] * 12  # on the wall
    crossing = -0.5 + (x + 0.5) * 3 / 12  # where the ray to the earlier camera goes through the pillar's plane
    hidden = (depth > 5) & (crossing > -0.8) & (crossing < -0.1)
    assert 0.05 < hidden.mean() < 0.15
    assert np.quantile(np.abs(share - 1)[hidden], 0.9) < 0.05
    assert 0.08 < np.median(stddev[hidden]) < 0.12  # as uncertain as before
    visible = (depth > 5) & ~hidden & (x < 7)
    assert np.median(stddev[visible]) < 0.05
    assert np.quantile(np.abs(share - 1)[~hidden], 0.9) < 0.03


@pytest.mark.parametrize("motion", ["aside", "ahead", "twice"])
def test_what_moves_with_the_vehicle_keeps_its_depth(motion: str) -> None:
    """As a car ahead at the same speed: the same pixels in both images, while the wall behind moves."""
    block = np.s_[80:150, 130:220]
    speckle = cv2.GaussianBlur(np.random.default_rng(4).normal(size=(70, 90)), (0, 0), 1.5)
    car = 128 + 45 * speckle / speckle.std()
    images, depth = [], render([wall(12)], HERE)[1]
    for place in [HERE, *MOTIONS[motion]]:
        image = render([wall(12)], place)[0]
        image[block] = np.clip(car, 0, 255)[..., None]
        images.append(sight(image, intrinsics_of(SIZE), place))
    depth[block] = 6
    guess = 1.25 * depth
    result, spread = correct(guess, 0.25 * guess, images[0], images[1:])
    inside = np.s_[90:140, 140:210]
    assert np.median(np.abs(result / guess - 1)[inside]) < 0.03  # the student's, though that is wrong
    assert np.median((spread / result)[inside]) > 0.2
    around = np.ones(SIZE, bool)
    around[70:160, 120:230] = False
    assert np.median(np.abs(result / depth - 1)[around]) < 0.04


@pytest.mark.parametrize("turn", [0.0, 3.0])
def test_a_camera_that_only_turned_tells_nothing(turn: float) -> None:
    share, stddev, _ = corrected([wall(8)], [turned(turn)], 1.2, 0.2)
    np.testing.assert_allclose(share, 1.2, rtol=0.02)
    assert np.median(stddev) == pytest.approx(0.2, rel=0.1)


def test_sky_and_unknown_pixels_stay_as_they_are() -> None:
    planes = [ROAD, wall(15, seed=1, between=(-6, 3))]
    image, truth = render(planes, HERE)
    assert 0.1 < np.isinf(truth).mean() < 0.5
    depth = 1.3 * truth
    depth[100:120, 50:80] = np.nan
    stddev = np.where(np.isfinite(depth), 0.3 * depth, np.nan).astype(np.float32)
    stddev[150:160] = np.nan  # a depth without one is not corrected either
    given_depth, given_stddev = depth.copy(), stddev.copy()
    earlier = [seen(planes, place) for place in MOTIONS["twice"]]
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        result, spread = correct(depth, stddev, sight(image, intrinsics_of(SIZE), HERE), earlier)
    unknown = ~(np.isfinite(depth) & np.isfinite(stddev))
    np.testing.assert_array_equal(result[unknown], depth[unknown])
    np.testing.assert_array_equal(spread[unknown], stddev[unknown])
    assert np.isfinite(result[~unknown]).all()
    assert np.isfinite(spread[~unknown]).all()
    assert np.median(np.abs(result[~unknown] / truth[~unknown] - 1)) < 0.03
    np.testing.assert_array_equal(depth, given_depth)  # what was given is not written to
    np.testing.assert_array_equal(stddev, given_stddev)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_view_of_which_nothing_is_known(value: float) -> None:
    depth = np.full(SIZE, value, np.float32)
    stddev = np.full(SIZE, np.nan, np.float32)
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        result = correct(depth, stddev, seen([wall(8)], HERE), [seen([wall(8)], ASIDE)])
    np.testing.assert_array_equal(result[0], depth)
    np.testing.assert_array_equal(result[1], stddev)


SMALL = (48, 80)
SMALL_WALL = [wall(8), Plane((1, 0, 0), 5.0)]
angles = st.floats(-180, 180, allow_nan=False)
places = st.builds(turned, angles, st.floats(-5, 5), st.floats(-1, 1), st.floats(-5, 20))


@settings(max_examples=40)
@given(
    st.lists(places, min_size=1, max_size=3),
    st.sampled_from([1e-30, 0.01, 1.0, 8.0, 900.0, 1e30]),
    st.sampled_from([0.0, 1e-9, 0.03, 0.3, 1.0, 50.0]),
    st.integers(0, 2**32 - 1),
)
def test_whatever_comes_is_corrected_by_a_factor_of_two_at_most(
    there: list[np.ndarray], typical: float, relative: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    depth = (typical * np.exp(rng.normal(size=SMALL))).astype(np.float32)
    depth[rng.random(SMALL) < 0.1] = np.nan
    depth[rng.random(SMALL) < 0.1] = np.inf
    stddev = np.where(np.isfinite(depth), np.float32(relative) * np.nan_to_num(depth, posinf=1), np.nan)
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        result, spread = correct(
            depth, stddev, seen(SMALL_WALL, HERE, SMALL), [seen(SMALL_WALL, place, SMALL) for place in there]
        )
    known = np.isfinite(depth)
    np.testing.assert_array_equal(result[~known], depth[~known])
    np.testing.assert_array_equal(spread[~known], stddev[~known])
    assert (np.abs(np.log(result[known] / depth[known])) < np.log(2.02)).all()
    assert (spread[known] > 0.02 * result[known]).all()
    assert (spread[known] <= 1.05 * result[known]).all()


@settings(max_examples=25)
@given(angles, st.floats(-500, 500), st.floats(-500, 500))
def test_only_the_motion_counts_and_not_the_map(degrees: float, x: float, z: float) -> None:
    elsewhere = turned(degrees, x, 3, z)
    image, depth = render(SMALL_WALL, HERE, SMALL)
    before = render(SMALL_WALL, TURNED, SMALL)[0]
    results = []
    for frame in (np.eye(4), elsewhere):
        now, then = (sight(i, intrinsics_of(SMALL), frame @ p) for i, p in ((image, HERE), (before, TURNED)))
        results.append(correct(1.2 * depth, 0.3 * depth, now, [then]))
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=2e-3)
    np.testing.assert_allclose(results[1][1], results[0][1], rtol=2e-2)


@settings(max_examples=10)
@given(st.floats(0.1, 10))
def test_a_world_of_another_scale_looks_the_same(scale: float) -> None:
    image, depth = render(SMALL_WALL, HERE, SMALL)
    before = render(SMALL_WALL, AHEAD, SMALL)[0]
    now = sight(image, intrinsics_of(SMALL), HERE)
    results = []
    for factor in (1.0, scale):
        guess = np.float32(1.2 * factor) * depth
        then = sight(before, intrinsics_of(SMALL), turned(0, z=-factor))
        results.append([values / np.float32(factor) for values in correct(guess, 0.3 * guess, now, [then])])
    np.testing.assert_allclose(results[1], results[0], rtol=2e-3)


def test_a_sight_is_an_image_of_shades_of_the_size_that_is_compared() -> None:
    """The intrinsics are those of the reduced image: a plane seen at 640 and at 320 px across looks the same."""
    image, _ = render([wall(8)], HERE, (360, 640))
    large = sight(image, intrinsics_of((360, 640)), ASIDE)
    assert (large.image.shape, large.image.dtype) == ((180, 320), np.uint8)
    assert large.image.min() > 0  # 0 is what was not seen
    half = intrinsics_of((360, 640)) / 2 - [[0, 0, 0.25], [0, 0, 0.25], [0, 0, -0.5]]  # pixel centres, by hand
    half[2] = 0, 0, 1
    np.testing.assert_allclose(large.intrinsics, half)
    np.testing.assert_array_equal(large.camera_to_map, ASIDE)
    plain = sight(np.full((20, 30, 3), 77, np.uint8), intrinsics_of((20, 30)), HERE)
    np.testing.assert_array_equal(plain.image, 128)
