"""LiDAR points that a camera cannot see: they lie behind what hides them, and would teach a depth that is not there.

The LiDAR stands elsewhere than the camera, mostly higher, and sees over and past near things. In the town 18 % of the
points that fall on things 1 to 5 m away are of what lies behind them. Evaluations keep them, as published ones do, and
say beside that what is left without them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from training.batch import Sample
from training.sample_file import has_dense_depth

BEHIND = 1.05  # of the farthest depth about a point: further back it is hidden
FAR_BEHIND = 1.25  # of the points on each side of it, where only points can tell
FARTHEST = float(np.finfo(np.float32).max)
REACH = 1.7  # how far those may be away, in the mean distance of neighbouring points

Depth = NDArray[np.float32]
Pixels = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""View, row and column of each LiDAR point of a sample, [N] each: an index into [V, H, W]."""


def without_hidden_points(sample: Sample) -> Sample:
    """The sample without the LiDAR points that its cameras cannot see.

    Where its dense depth is known a point is compared with the farthest of the nine pixels about it, as it may lie on
    either side of an edge. A recorded drive has none: there a point is hidden that has far nearer points above and
    below, to the left and to the right. In the town that finds 88 % of those that are further back by a quarter, and
    takes 3 % of the others. A road that rises to the horizon has nearer points only below.
    """
    pixels = lidar_pixels(sample)
    if has_dense_depth(sample):
        hidden = is_behind(sample, pixels)
    else:
        hidden = is_surrounded(sample.lidar[:, 3], pixels, sample.size)
    return replace(sample, lidar=sample.lidar[~hidden])


def lidar_pixels(sample: Sample) -> Pixels:
    """The nearest pixel of each LiDAR point."""
    return nearest_pixels(sample.lidar[:, :3], sample.size)


def nearest_pixels(places: NDArray[np.floating[Any]], size: tuple[int, int]) -> Pixels:
    """The pixels of images of ``size`` (H, W) at ``places`` [N, 3]: index of the view, x, y."""
    view, x, y = np.rint(places).astype(np.int64).T
    height, width = size
    return view, y.clip(0, height - 1), x.clip(0, width - 1)


def is_behind(sample: Sample, pixels: Pixels) -> NDArray[np.bool_]:
    """[N] whether each LiDAR point, at ``lidar_pixels``, lies behind the dense depth; not where that is unknown."""
    unknown = np.where(np.isnan(sample.dense_depth), np.inf, sample.dense_depth)
    limit = BEHIND * np.stack([cv2.dilate(depth, np.ones((3, 3), np.uint8)) for depth in unknown])[pixels]
    hidden: NDArray[np.bool_] = sample.lidar[:, 3] > limit
    return hidden


def is_surrounded(depth: NDArray[np.floating[Any]], pixels: Pixels, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Whether each point has far nearer ones on all sides, which is what can be known without a dense depth.

    Args:
        depth: [N] metres, of all LiDAR points of a sweep.
        pixels: where they are; rows and columns in images of ``size`` (H, W).
    """
    height, width = size
    views = np.unique(pixels[0])
    spacing = np.sqrt(len(views) * height * width / max(1, len(depth)))
    reach = int(np.clip(np.rint(REACH * spacing), 1, width // 20))
    surrounded = np.zeros(len(depth), dtype=np.bool_)
    for view in views:
        own = pixels[0] == view
        place = pixels[1][own], pixels[2][own]
        nearest = np.full(size, np.inf, dtype=np.float32)
        np.minimum.at(nearest, place, depth[own].astype(np.float32))
        surrounded[own] = depth[own] > FAR_BEHIND * _farthest_side(nearest, reach)[place]
    return surrounded


def _farthest_side(nearest: Depth, reach: int) -> Depth:
    """[H, W]: of the nearest depth above, below, left and right of a pixel, within ``reach`` pixels, the farthest."""
    whole, half = 2 * reach + 1, reach + 1
    sides = []
    for shape, middle in (((half, whole), reach), ((whole, half), reach)):
        for end in (0, reach):
            anchor = (middle, end) if shape[0] == half else (end, middle)
            # beyond the border there is nothing near
            sides.append(cv2.erode(nearest, np.ones(shape, np.uint8), anchor=anchor, borderValue=[FARTHEST]))
    return np.asarray(np.max(sides, axis=0), dtype=np.float32)
