"""Which pixels of an image show the surroundings, and not the vehicle that the camera is mounted on."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from fsmde_ros.images import resize
from fsmde_ros.rectify import rectify, rectifying_maps
from fsmde_ros.rig import Camera

_FRACTION_BITS = 4  # of the pixels that OpenCV takes


@lru_cache(maxsize=64)  # by the camera object: the sweeps of a drive share theirs
def usable_pixels(camera: Camera, size: tuple[int, int]) -> NDArray[np.bool_] | None:
    """Which pixels of the images of ``camera``, rectified and resized to ``size``, can have a depth.

    Those cannot that show the camera's own vehicle (``Camera.self_occlusion``), and those of a rectified image that
    the raw one does not have: both for the greater part of the pixel.

    Returns:
        [H, W], or None where all can.
    """
    if camera.is_rectified and not camera.self_occlusion:
        return None
    seen = np.full(camera.size, 255, dtype=np.uint8)
    for outline in camera.self_occlusion:
        corners = np.rint(outline * 2**_FRACTION_BITS).astype(np.int32)
        cv2.fillPoly(seen, [corners], (0,), shift=_FRACTION_BITS)
    small = resize(seen, size) if camera.is_rectified else rectify(seen, rectifying_maps(camera, size), size)
    usable: NDArray[np.bool_] = small >= 128
    usable.setflags(write=False)  # the next caller gets the same
    return None if usable.all() else usable


def are_usable(camera: Camera, size: tuple[int, int], pixels: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of the places ``pixels`` [N, 2] (x, y), all within the image, ``usable_pixels`` lets have a depth, [N]."""
    usable = usable_pixels(camera, size)
    if usable is None:
        return np.ones(len(pixels), dtype=np.bool_)
    column, row = np.rint(pixels).astype(np.int64).T
    found: NDArray[np.bool_] = usable[row, column]
    return found
