from __future__ import annotations

import numpy as np
import pytest

from training.own_body import HIGHEST, cover_with_body

SIZE = (48, 80)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(1).integers(100, 200, (*SIZE, 3), dtype=np.uint8)


def test_a_body_lies_along_the_lower_edge_and_below_its_highest(image: np.ndarray) -> None:
    covered = 0
    for seed in range(40):
        result = cover_with_body(image, np.random.default_rng(seed))
        assert result.shape == image.shape
        assert result.dtype == np.uint8
        changed = (result != image).any(-1)
        middle = changed[int(0.3 * SIZE[0]) : int((1 - HIGHEST) * SIZE[0]) - 1]
        assert not middle.any()  # between the corners above and the body below
        body = changed[SIZE[0] // 2 :]
        # whatever is covered is covered down to the lower edge: glossy paint may repeat a pixel by chance
        assert (body.sum(0) == 0)[~body[-3:].any(0)].all()
        covered += bool(body.any())
    assert covered > 20  # at times it is out of sight


def test_bodies_differ_and_repeat_with_their_seed(image: np.ndarray) -> None:
    first, again, other = (cover_with_body(image, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_dark_corners_are_at_the_top_only(image: np.ndarray) -> None:
    cut = [cover_with_body(image, np.random.default_rng(seed)) for seed in range(60)]
    corners = [result for result in cut if (result[0, 0] < 20).all() or (result[0, -1] < 20).all()]
    assert 5 < len(corners) < 40  # 30 % of them
