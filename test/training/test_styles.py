"""Pictures in other styles: the same scene at the same size, and each of another look."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from fsmde_ros.images import decode, encode_jpeg
from fsmde_ros.sweep import Sweep
from training.data_source import open_data
from training.styles import STYLES, in_style

TOWN = "town:3,seconds=0.3,rate=10,size=96x160"


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    return open_data(TOWN).sweeps[0]


def pictures(sweep: Sweep) -> np.ndarray:
    return np.stack([view.image for view in sweep.views.values()])


@pytest.mark.parametrize("name", STYLES)
def test_a_town_in_a_style_is_the_town_in_another_look(name: str, sweep: Sweep) -> None:
    styled = open_data(f"{TOWN},style={name}").sweeps[0]
    assert styled.rig.names == sweep.rig.names
    assert styled.lidar is not None
    assert sweep.lidar is not None
    np.testing.assert_array_equal(styled.lidar.points_vehicle, sweep.lidar.points_vehicle)
    before, after = pictures(sweep), pictures(styled)
    assert (after.shape, after.dtype) == (before.shape, np.uint8)
    assert np.abs(after.astype(int) - before).mean() > 3
    np.testing.assert_array_equal(after, pictures(in_style(sweep, STYLES[name])))


def test_no_style_is_another(sweep: Sweep) -> None:
    looks = {name: pictures(in_style(sweep, style)).astype(int) for name, style in STYLES.items()}
    for one, other in combinations(looks.values(), 2):
        assert np.abs(one - other).mean() > 3


def test_edges_stay_where_they_are() -> None:
    """A dark post before a bright wall, of any look, is where it was: depth is judged at the same pixels."""
    image = np.full((64, 96, 3), (200, 180, 160), np.uint8)
    image[:, 40:52] = (40, 60, 50)
    for name, style in STYLES.items():
        grey = style(image).astype(float).mean(axis=(0, 2))
        edge = 3 + int(np.abs(np.diff(grey))[3:-3].argmax())  # between this column and the next
        assert min(abs(edge - 39), abs(edge - 51)) <= 1, name


def test_an_encoded_image_is_decoded_first(sweep: Sweep) -> None:
    name, view = next(iter(sweep.views.items()))
    assert isinstance(view.image, np.ndarray)
    encoded = encode_jpeg(view.image)
    alone = replace(sweep, views={name: replace(view, image=encoded)})
    style = STYLES["posterised"]
    np.testing.assert_array_equal(in_style(alone, style).views[name].image, style(decode(encoded)))
