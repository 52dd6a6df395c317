"""Which sweeps are shown."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fsmde_ros.estimator import PreparedSweep
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.sweep import SurroundDepth
from training.evaluation.pictures import PictureBook
from training.evaluation.points import DepthRange, ImagePoints


@pytest.fixture
def offer(make_camera: Callable[..., Camera]) -> Callable[..., None]:
    """Offers a sweep with a LiDAR point at 10 m for each prediction, metres, or without points."""
    rig = Rig((make_camera("front", 0.0, (1.0, 0.0, 1.5)),))
    size = rig.cameras[0].size
    prepared = PreparedSweep(rig, 0, np.zeros((1, 3, *size), np.uint8), {})
    estimate = SurroundDepth(rig, 0, np.ones((1, *size), np.float32), np.ones((1, *size), np.float32))

    def add(book: PictureBook, index: int, *predicted: float) -> None:
        n = len(predicted)
        truth, shared = np.full(n, 10.0), np.zeros(n, dtype=bool)
        image = ImagePoints("front", np.full((n, 2), 5.0), truth, np.array(predicted), truth, truth, shared, ~shared)
        book.add(index, prepared, estimate, [image] if n else [])

    return add


def test_the_worst_is_the_largest_error_and_not_the_first_that_is_none(offer: Callable[..., None]) -> None:
    book = PictureBook(1, 5, DepthRange())
    for index, predicted in enumerate((np.nan, 30.0, np.nan, 70.0, 20.0)):
        offer(book, index, predicted)
    titles = [(title, picture.abs_rel) for title, picture in book.chosen()]
    assert titles == [("Sweep 2", None), ("Sweep 3, the one with the largest error", 6.0)]


def test_sweeps_without_points_are_not_shown(offer: Callable[..., None]) -> None:
    book = PictureBook(3, 5, DepthRange())
    for index in range(5):
        offer(book, index, *([12.0] if index == 3 else []))
    assert [picture.index for _, picture in book.chosen()] == [3]
