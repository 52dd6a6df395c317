from __future__ import annotations

import numpy as np
import torch

from training.town.primitives import Kind, Material, Primitives, row
from training.town.shadows import lit, shadow_map


def test_the_shadow_of_a_box_falls_away_from_the_sun() -> None:
    rows = row(Kind.BOX, (0.0, 0.0, 5.0), (2.0, 3.0, 5.0), Material.PLAIN, (0.5, 0.5, 0.5))
    primitives = Primitives.of(rows, np.zeros(1, dtype=np.int64), "cpu")
    sun = torch.nn.functional.normalize(torch.tensor([1.0, 0.0, 1.0]), dim=0)
    shadow = shadow_map(primitives, sun, torch.zeros(3), half_width=30.0, size=256)
    # the box is 10 m high and the sun at 45 degrees: dark from its foot at x = -2 to x = -12
    points = torch.tensor(
        [[-4.0, 0, 0], [-11.0, 0, 0], [-13.0, 0, 0], [4.0, 0, 0], [-6.0, 4.0, 0], [2.05, 0, 5.0], [-90.0, 0, 0]]
    )
    share = lit(shadow, points.T)
    torch.testing.assert_close(share, torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0]))


def test_a_larger_map_shades_what_lies_outside_the_near_one() -> None:
    rows = row(Kind.BOX, (100.0, 0.0, 5.0), (2.0, 3.0, 5.0), Material.PLAIN, (0.5, 0.5, 0.5))
    primitives = Primitives.of(rows, np.zeros(1, dtype=np.int64), "cpu")
    sun = torch.nn.functional.normalize(torch.tensor([1.0, 0.0, 1.0]), dim=0)
    near = shadow_map(primitives, sun, torch.zeros(3), half_width=30.0, size=256)
    far = shadow_map(primitives, sun, torch.zeros(3), half_width=210.0, size=640, bias=0.6)
    points = torch.tensor([[94.0, 0, 0], [85.0, 0, 0], [4.0, 0, 0], [400.0, 0, 0]])
    torch.testing.assert_close(lit(near, points.T), torch.ones(4))
    torch.testing.assert_close(lit(near, points.T, far), torch.tensor([0.0, 1.0, 1.0, 1.0]))
