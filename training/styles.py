"""Pictures as no student was taught: what is left of its depth there tells how much it goes by the look of the town.

A real camera differs from the town in more than can be drawn. These differ in ways of their own, the same for every
student; none of them is among the augmentations of a training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from fsmde_ros.images import decode
from fsmde_ros.sweep import EncodedImage, Sweep

Image = NDArray[np.uint8]  # [H, W, 3] RGB
Style = Callable[[Image], Image]

_LEVELS = 4  # of a posterised channel
_CANVAS = 0.25  # contrast of the cloth


def painted(image: Image) -> Image:
    """Smooth within edges, as in water colours."""
    return np.asarray(cv2.stylization(image, sigma_s=40, sigma_r=0.45), dtype=np.uint8)


def flat(image: Image) -> Image:
    """Areas of one colour without texture."""
    height, width = image.shape[:2]
    half = cv2.resize(image, (max(width // 2, 1), max(height // 2, 1)), interpolation=cv2.INTER_AREA)
    areas = cv2.pyrMeanShiftFiltering(half, 6, 30)
    return np.asarray(cv2.resize(areas, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def posterised(image: Image) -> Image:
    """A few levels of each colour."""
    step = np.uint8(256 // _LEVELS)
    middles: Image = image // step * step + step // np.uint8(2)
    return middles


def sketch(image: Image) -> Image:
    """Dark lines on paper, where it is darker than around."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    around = cv2.GaussianBlur(grey, (0, 0), max(image.shape[1] / 128, 1.0))
    lines = np.asarray(cv2.divide(grey, around, scale=255), dtype=np.uint8)
    return np.repeat(lines[..., None], 3, axis=2)


def equalised(image: Image) -> Image:
    """As much contrast in every part of the image."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(6.0, (8, 8)).apply(lab[..., 0])
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), dtype=np.uint8)


def canvas(image: Image) -> Image:
    """On cloth, whose grain is the same near and far."""
    height, width = image.shape[:2]
    rng = np.random.default_rng(5)
    cloth = np.zeros((height, width), np.float32)
    for cell in (4, 2):  # pixels
        noise = rng.normal(size=(max(height // cell, 1), max(width // cell, 1))).astype(np.float32)
        cloth += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) / np.sqrt(2)
    return np.clip(image * (1 + _CANVAS * cloth[..., None]), 0, 255).astype(np.uint8)


def recoloured(image: Image) -> Image:
    """Red, green and blue changed about: leaves are blue, the sky is red."""
    return np.ascontiguousarray(image[..., [2, 0, 1]])


STYLES: Mapping[str, Style] = {
    style.__name__: style for style in (painted, flat, posterised, sketch, equalised, canvas, recoloured)
}
"""By name."""


def in_style(sweep: Sweep, style: Style) -> Sweep:
    """The sweep as if its cameras had taken such pictures."""

    def taken(image: EncodedImage | Image) -> Image:
        return style(decode(image) if isinstance(image, EncodedImage) else image)

    views = {name: replace(view, image=taken(view.image)) for name, view in sweep.views.items()}
    return replace(sweep, views=views)
