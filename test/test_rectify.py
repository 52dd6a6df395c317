"""Undistortion against the distortion models written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fsmde_ros.errors import ImageError
from fsmde_ros.images import resize
from fsmde_ros.rectify import rectify, rectifying_size, undistort, undistortion_maps
from fsmde_ros.rig import Camera

K = np.array([[60.0, 0, 50.5], [0, 62.0, 30.25], [0, 0, 1]])
SIZE = (64, 100)  # H, W
PLUMB_BOB = (-0.2, 0.05, 0.003, -0.002, 0.01)
RATIONAL = (0.3, 0.1, 0.001, 0.002, 0.01, 0.5, 0.2, 0.02)
EQUIDISTANT = (0.05, -0.01, 0.002, 0.0005)


def brown(x: float, y: float, d: tuple[float, ...]) -> tuple[float, float]:
    """Brown and Conrady's model, with 8 coefficients the rational one, with 12 thin prisms, as in OpenCV's manual."""
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = (*d, *[0.0] * 8)[:12]
    r2 = x * x + y * y
    radial = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
    return (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x) + s1 * r2 + s2 * r2**2,
        y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y + s3 * r2 + s4 * r2**2,
    )


def fisheye(x: float, y: float, d: tuple[float, ...]) -> tuple[float, float]:
    """Kannala and Brandt's model."""
    r = float(np.hypot(x, y))
    theta = float(np.arctan(r))
    bent = theta * (1 + sum(k * theta ** (2 * i + 2) for i, k in enumerate(d)))
    return x * bent / r, y * bent / r


@pytest.mark.parametrize(
    ("model", "coefficients"),
    [
        ("plumb_bob", PLUMB_BOB[:4]),
        ("plumb_bob", PLUMB_BOB),
        ("rational_polynomial", RATIONAL),
        ("rational_polynomial", (*RATIONAL, 0.01, -0.02, 0.015, 0.03)),
        ("equidistant", EQUIDISTANT),
        ("equidistant", (0.0,) * 4),
    ],
)
@pytest.mark.parametrize("pixel", [(3, 5), (97, 60), (20, 40)])
def test_maps_follow_the_model(model: str, coefficients: tuple[float, ...], pixel: tuple[int, int]) -> None:
    camera = Camera("cam", SIZE, K, np.eye(4), np.array(coefficients), model)
    maps = undistortion_maps(camera)
    x, y = (pixel[0] - K[0, 2]) / K[0, 0], (pixel[1] - K[1, 2]) / K[1, 1]
    bend = fisheye if model == "equidistant" else brown
    bent = bend(x, y, coefficients)
    expected = bent[0] * K[0, 0] + K[0, 2], bent[1] * K[1, 1] + K[1, 2]
    assert maps[0].shape == SIZE
    assert (maps[0][pixel[1], pixel[0]], maps[1][pixel[1], pixel[0]]) == pytest.approx(expected, abs=1e-3)


def ramp(size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.broadcast_to((2 * np.arange(size[1], dtype=np.uint8))[None, :, None], (*size, 3)).copy()


def test_undistorting_samples_the_raw_image() -> None:
    maps = undistortion_maps(Camera("cam", SIZE, K, np.eye(4), np.array(PLUMB_BOB), "plumb_bob"))
    rectified = undistort(ramp(SIZE), maps)
    expected = 2 * maps[0]
    inside = (maps[0] > 1) & (maps[0] < SIZE[1] - 2) & (maps[1] > 1) & (maps[1] < SIZE[0] - 2)
    assert inside.mean() > 0.8
    np.testing.assert_allclose(rectified[inside][:, 1], expected[inside], atol=1.0)
    assert np.abs(expected - ramp(SIZE)[..., 0])[inside].max() > 4  # the raw image itself would not pass


def test_an_image_of_another_size_is_refused() -> None:
    maps = undistortion_maps(Camera("cam", SIZE, K, np.eye(4), np.array(PLUMB_BOB), "plumb_bob"))
    with pytest.raises(ImageError, match="100x64"):
        undistort(ramp((32, 50)), maps)


def waves(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A smooth wallpaper at normalised image coordinates, RGB."""
    channels = 127 + 100 * np.sin(np.stack([9 * x, 7 * y, 6 * (x + y)], axis=-1))
    return np.rint(channels).astype(np.uint8)


@pytest.mark.parametrize("full", [(512, 800), (500, 801), (150, 170)])
def test_rectifying_to_a_size_shows_what_a_pinhole_of_that_size_sees(full: tuple[int, int]) -> None:
    size = (96, 160)
    k = np.array([[0.7 * full[1], 0, full[1] / 2 + 3], [0, 0.72 * full[1], full[0] / 2 - 2], [0, 0, 1]])
    camera = Camera("cam", full, k, np.eye(4), np.array((-0.15, 0.0, 0.0, 0.0)), "plumb_bob")
    # The raw image needs the lens the other way round: by fixed-point iteration, as OpenCV's manual has it.
    v, u = np.mgrid[: full[0], : full[1]]
    bent_x, bent_y = (u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1]
    x, y = bent_x, bent_y
    for _ in range(50):
        radial = 1 - 0.15 * (x * x + y * y)
        x, y = bent_x / radial, bent_y / radial
    raw = waves(x, y)
    small = camera.resized(size)
    v, u = np.mgrid[: size[0], : size[1]]
    seen = waves(
        (u - small.intrinsics[0, 2]) / small.intrinsics[0, 0], (v - small.intrinsics[1, 2]) / small.intrinsics[1, 1]
    )
    maps = undistortion_maps(camera.resized(rectifying_size(full, size)))
    inner = (slice(8, -8), slice(8, -8))  # the lens squeezes the picture: at the rim the raw image has no more
    error = np.abs(rectify(raw, maps, size).astype(float) - seen)[inner]
    assert error.mean() < 1.0
    assert error.max() < 6
    assert np.abs(resize(raw, size).astype(float) - seen)[inner].mean() > 4  # the raw image itself would not pass


def test_lenses_are_undone_at_twice_the_size_or_what_the_camera_has() -> None:
    assert rectifying_size((1216, 1936), (192, 320)) == (384, 640)
    assert rectifying_size((240, 400), (192, 320)) == (240, 400)
