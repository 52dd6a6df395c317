"""The vehicle's own body in its images: bonnet, boot, mirrors, the shade of a housing.

Cameras of many rigs see the car they are mounted on, glossy and full of reflections; DDAD publishes
self-occlusion masks for that reason, and the public protocols score without them. The depth stays
what lies behind, as if the car were glass: that is what the LiDAR on the roof measures there.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Array = NDArray[np.float64]

HIGHEST = 0.4  # share of the image's height that a body reaches at most


def cover_with_body(image: Image, rng: np.random.Generator) -> Image:
    """The image [H, W, 3] with a piece of bodywork along its lower edge, at times dark upper corners."""
    height, width = image.shape[:2]
    top = _outline(rng, width) * height  # rows covered, by column
    rows = np.arange(height, dtype=np.float64)[:, None]
    cover = np.clip(rows - (height - top) + 0.5, 0, 1)  # an edge as wide as a pixel
    paint = _bodywork(image, height - top, rng)
    if rng.random() < 0.3:
        corner = _corners(rng, height, width)
        paint, cover = np.where(corner[..., None] > cover[..., None], 8.0, paint), np.maximum(cover, corner)
    blended = image * (1 - cover[..., None]) + paint * cover[..., None]
    return np.clip(blended, 0, 255).astype(np.uint8)


def _outline(rng: np.random.Generator, width: int) -> Array:
    """[W] share of the height that is covered: a slope with a bulge, and nothing where it falls below 0."""
    x = np.linspace(-1, 1, width)
    slope = rng.uniform(-0.2, 0.2)
    bulge = rng.uniform(0, 0.15) * np.exp(-(((x - rng.uniform(-1, 1)) / rng.uniform(0.2, 0.8)) ** 2))
    return np.clip(rng.uniform(-0.05, 0.2) + slope * x + bulge, 0, HIGHEST)


def _bodywork(image: Image, edge: Array, rng: np.random.Generator) -> Array:
    """[H, W, 3] painted metal that mirrors, dimly and squeezed, what lies above the edge [W] (rows)."""
    height, width = image.shape[:2]
    rows, columns = np.indices((height, width), dtype=np.float64)
    source = edge - (rows - edge) * rng.uniform(1.0, 4.0)  # curved metal squeezes the reflection
    mirrored = cv2.remap(
        image, columns.astype(np.float32), source.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    colour = rng.uniform(0, 60, 3) if rng.random() < 0.6 else rng.uniform(0, 255, 3)
    gloss = rng.uniform(0.05, 0.8)
    shade = 1 - rng.uniform(0, 0.8) * np.clip((rows - edge) / height, 0, 1)
    result: Array = ((1 - gloss) * colour + gloss * mirrored) * shade[..., None]
    return result


def _corners(rng: np.random.Generator, height: int, width: int) -> Array:
    """[H, W] 0 to 1: an upper corner cut off by the camera's housing."""
    rows, columns = np.indices((height, width), dtype=np.float64)
    across = columns if rng.random() < 0.5 else width - 1 - columns
    reach = rng.uniform(0.05, 0.25, 2) * (height, width)
    result: Array = np.clip((1 - rows / reach[0] - across / reach[1]) * reach.min() * 0.5 + 0.5, 0, 1)
    return result
