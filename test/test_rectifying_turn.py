"""How far rectification turns the images of a camera, from messages whose R is worked out by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from fsmde_ros.geometry import rigid
from fsmde_ros.rectifying_turn import rectifying_turn


def info(r: np.ndarray, focal: float = 100.0) -> SimpleNamespace:
    return SimpleNamespace(r=np.ravel(r), p=[focal, 0, 50, 0, 0, focal, 40, 0, 0, 0, 1, 0])


def turned(degrees: float, axis: tuple[float, float, float]) -> np.ndarray:
    half = np.radians(degrees) / 2
    return rigid([np.cos(half), *(np.sin(half) * np.array(axis))], [0, 0, 0])[:3, :3]


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0.6, 0, -0.8)])
@pytest.mark.parametrize("degrees", [0.3, 2.0, 90.0, 180.0])
def test_the_angle_of_a_rotation(degrees: float, axis: tuple[float, float, float]) -> None:
    assert rectifying_turn(info(turned(degrees, axis)), rectified=True) == pytest.approx(degrees, abs=1e-5)


@pytest.mark.parametrize("r", [np.eye(3), turned(0.1, (1, 0, 0)), np.zeros((3, 3)), np.full((3, 3), np.nan)])
def test_what_does_no_harm_or_is_not_filled_in(r: np.ndarray) -> None:
    assert rectifying_turn(info(r), rectified=True) == 0


def test_images_that_are_not_rectified_by_the_message() -> None:
    assert rectifying_turn(info(turned(2.0, (1, 0, 0))), rectified=False) == 0
    assert rectifying_turn(info(turned(2.0, (1, 0, 0)), focal=0.0), rectified=True) == 0
