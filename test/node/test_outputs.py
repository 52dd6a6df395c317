"""The preview of rigs of any number of cameras."""

from __future__ import annotations

import numpy as np
import pytest

from fsmde_ros.color import MISSING_RGB
from fsmde_ros.node.outputs import preview
from fsmde_ros.node.parameters import Settings
from fsmde_ros.sweep import SurroundDepth

pytestmark = pytest.mark.ros

SIZE = (64, 96)


def estimate(rig):
    depth = np.full((len(rig), *SIZE), 5.0, np.float32)
    return SurroundDepth(rig, 1, depth, depth), np.full((len(rig), *SIZE, 3), 200, np.uint8)


@pytest.mark.parametrize(("count", "rows", "columns"), [(1, 1, 1), (4, 2, 3), (8, 2, 5)])
def test_cameras_stand_in_rows_and_have_their_names(ring, count, rows, columns):
    rig = ring(tuple(f"c{i}" for i in range(count)), SIZE)
    picture = preview(*estimate(rig), Settings(preview_width=960), rig)
    tile = 960 // columns
    assert picture.shape == (rows * round(2 * SIZE[0] * tile / SIZE[1]), tile * columns, 3)
    for column in range(min(count, columns)):
        image = picture[5:20, column * tile + 5 : column * tile + 30]
        assert image.min() < 60, "the rim of the letters"


def test_a_view_that_is_missing_leaves_the_others_where_they_are(ring):
    rig = ring(("front", "right", "back", "left"), SIZE)
    whole = preview(*estimate(rig), Settings(), rig)
    some = preview(*estimate(rig.subset(("front", "back", "left"))), Settings(), rig)
    assert some.shape == whole.shape
    changed = (some != whole).any(-1)
    third = whole.shape[1] // 3
    assert not changed[:, : 2 * third].any()
    assert (some[whole.shape[0] // 4 : whole.shape[0] // 2, 2 * third :] == MISSING_RGB).all()
