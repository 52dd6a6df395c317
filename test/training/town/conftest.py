"""Towns of few known things."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from fsmde_ros.rig import Camera
from training.town.ground import Ground, Street
from training.town.primitives import Primitives, Rows
from training.town.settings import TownSettings
from training.town.world import World, build_world

STREET = Street((0.0, 0.0), 0.0, 0.0, 300.0, 0.0, 3.5, 1, 0.0, 2.0, 1.0, False, False, 0, False)
Maker = Callable[..., World]


@pytest.fixture(scope="session")
def town() -> World:
    """A whole drive with everything in it."""
    return build_world(5, TownSettings(), duration_s=4.0)


@pytest.fixture(scope="session")
def stage(town: World) -> Maker:
    """Makes a flat world, road along map x, with nothing but the given rows in it."""

    def make(*rows: Rows, waves: np.ndarray | None = None, kerb: float = 0.0) -> World:
        streets = (STREET,)
        ground = Ground.of(streets, np.zeros((0, 4)) if waves is None else waves, kerb, "cpu")
        everything = np.concatenate(rows)
        layout = replace(town.layout, streets=streets, movers=(), raised=np.zeros(0))
        statics = Primitives.of(everything, np.arange(len(everything)), "cpu")
        return replace(town, ground=ground, layout=layout, statics=statics)

    return make


@pytest.fixture(scope="session")
def forward_camera() -> Camera:
    """48 x 70 pixels (no multiple of the tiles), at (1, 0.3, 1.5), looking along vehicle x."""
    intrinsics = np.array([[40.0, 0.0, 33.3], [0.0, 42.0, 21.7], [0.0, 0.0, 1.0]])
    camera_to_vehicle = np.eye(4)
    camera_to_vehicle[:3, :3] = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    camera_to_vehicle[:3, 3] = 1.0, 0.3, 1.5
    return Camera("cam_front", (48, 70), intrinsics, camera_to_vehicle)
