"""A ring of six cameras as on nuScenes' cars, built here from angles alone."""

from __future__ import annotations

import numpy as np
import pytest

from fsmde_ros.rig import Camera, Rig

# name: yaw (degrees to the left), x, y, focal length at 1600 pixels
RING = {
    "cam_front": (0, 1.7, 0.0, 1260),
    "cam_front_right": (-55, 1.5, -0.5, 1260),
    "cam_back_right": (-110, 1.0, -0.5, 1260),
    "cam_back": (180, 0.0, 0.0, 800),
    "cam_back_left": (110, 1.0, 0.5, 1260),
    "cam_front_left": (55, 1.5, 0.5, 1260),
}


def camera_to_vehicle(yaw: float, x: float, y: float, z: float) -> np.ndarray:
    """Columns: image x (to the right), image y (down), optical axis, position; worked out by hand."""
    s, c = np.sin(np.radians(yaw)), np.cos(np.radians(yaw))
    return np.array([[s, 0, c, x], [-c, 0, s, y], [0, -1, 0, z], [0, 0, 0, 1.0]])


@pytest.fixture
def ring() -> Rig:
    return Rig(
        tuple(
            Camera(name, (900, 1600), [[f, 0, 799.5], [0, f, 449.5], [0, 0, 1]], camera_to_vehicle(yaw, x, y, 1.5))
            for name, (yaw, x, y, f) in RING.items()
        )
    )
