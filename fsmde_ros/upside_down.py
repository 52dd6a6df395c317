"""Cameras that hang upside down: their images are turned for the network, and what it says is turned back.

A student has seen upright images only, and says nonsense of others. Half a turn about the optical axis of a rectified
camera changes neither its size nor what it sees; by a quarter turn an image would have another shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.rig import Camera, Rig

HALF_TURN = np.diag([-1.0, -1.0, 1.0, 1.0])  # [4, 4] about the optical axis, its own inverse
LEVEL = 0.2  # share of a pixel's step down the image that must lead up; less: it looks straight up or down


def find_upside_down(rig: Rig) -> tuple[int, ...]:
    """Which cameras of a rig have images whose lower edge is up, by more than it is to one side."""
    rises = rig.camera_to_vehicle()[:, 2, :2]  # of a step to the right and of one down the image, [V, 2]
    found: NDArray[np.bool_] = rises[:, 1] > np.maximum(np.abs(rises[:, 0]), LEVEL)
    return tuple(np.flatnonzero(found).tolist())


def turn_cameras(rig: Rig, views: Sequence[int]) -> Rig:
    """The rig of rectified images of which those of ``views`` are turned by half a turn."""
    if not views:
        return rig
    return replace(rig, cameras=tuple(_turned(c) if v in views else c for v, c in enumerate(rig.cameras)))


def turn_images(images: NDArray[Any], views: Sequence[int]) -> NDArray[Any]:
    """Images or maps [V, ..., H, W], those of ``views`` turned by half a turn; the same array where there are none."""
    if not views:
        return images
    turned = images.copy(order="K")
    for view in views:
        turned[view] = images[view, ..., ::-1, ::-1]
    return turned


def _turned(camera: Camera) -> Camera:
    height, width = camera.size
    k = camera.intrinsics.copy()
    k[0, 2], k[1, 2] = width - 1 - k[0, 2], height - 1 - k[1, 2]
    return replace(camera, intrinsics=k, camera_to_vehicle=camera.camera_to_vehicle @ HALF_TURN)
