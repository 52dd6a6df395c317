"""Undistortion against the distortion models written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fsmde_ros.errors import ImageError
from fsmde_ros.rectify import undistort, undistortion_maps
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
