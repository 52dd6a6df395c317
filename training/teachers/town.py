"""The town's stand-in teacher: its true depth, blurred, with scale and shift taken away."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def town_teacher(
    dense_depth: NDArray[np.float32], rng: np.random.Generator, blur_px: float = 0.7
) -> NDArray[np.float32]:
    """What a foundation model would say of a town sweep: blurred disparity of unknown scale and shift.

    Args:
        dense_depth: [V, H, W] metres, +inf = sky, NaN = no value (a missing view).
        rng: draws the one scale and shift of the sweep.
        blur_px: standard deviation of the Gaussian blur, pixels; 0 leaves the edges sharp.

    Returns:
        [V, H, W] float32 disparity, NaN where the depth is.
    """
    with np.errstate(divide="ignore"):
        disparity = (1.0 / dense_depth).astype(np.float32)
    if blur_px > 0:
        disparity = np.stack([_blurred(view, blur_px) for view in disparity])
    scale, shift = np.exp(rng.uniform(-1.5, 1.5)), rng.uniform(-1.0, 1.0)
    return (scale * disparity + shift).astype(np.float32)


def _blurred(view: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """[H, W] after a Gaussian blur in which what has no value has no part either, and gets none."""
    known = ~np.isnan(view)
    blurred = cv2.GaussianBlur(np.where(known, view, np.float32(0)), (0, 0), sigma)
    if not known.all():
        with np.errstate(divide="ignore", invalid="ignore"):
            blurred = np.where(known, blurred / cv2.GaussianBlur(known.astype(np.float32), (0, 0), sigma), np.nan)
    return np.asarray(blurred, dtype=np.float32)
