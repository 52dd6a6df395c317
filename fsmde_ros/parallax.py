"""The depth of one view, corrected by what the same camera saw from elsewhere a moment before.

Motion stereo with the student's depth as the prior. The depth of a pixel is multiplied by each of ``SCALES``; by the
motion of the camera every scale says where the pixel was in an earlier image, and the difference of what surrounds it
there and here, brightness and contrast taken out, says how well that fits. The posterior over the scales is

    p(k) ~ N(log s_k; 0, stddev / depth) * exp(-cost_k)

so what has no texture, moved too little or cannot be seen in the earlier image keeps its depth and its standard
deviation. What moves with the vehicle, as a car ahead at its speed does, looks infinitely far away by parallax: so
that a pixel did not move in the image at all is one more hypothesis, as likely as all scales together, and gives the
depth of the student.

Scales of the student's depth, and not depths, are compared: a neighbourhood is warped with the shape that the student
gave it, so that a road seen at a grazing angle still looks like itself. The constants were chosen in towns
(docs/motion_stereo.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fsmde_ros.geometry import compose, invert, scale_intrinsics

Array = NDArray[np.float64]
Floats = NDArray[np.float32]

STEP = 0.1  # between two scales, in the logarithm
SCALES = (STEP * np.arange(-7, 8)).astype(np.float32)  # log s: from half the student's depth to twice as much
MATCHED_WIDTH = 320  # px: images are reduced to about that
GRID = 2  # every how many pixels of these, in x and y, one is matched
NEIGHBOURHOOD = (13, 13)  # px, whose brightness and contrast are taken out of an image
NOISE = 4.0  # grey values squared, that the variance of a neighbourhood without texture still has
WINDOW = (5, 5)  # that is compared, and then that over which costs are shared, in points of the grid
COST = 0.07  # difference of two windows, as 1 - their correlation, that costs one unit of log likelihood
WORST = 6.0  # the largest cost: so much can speak against the right scale, where something else is in the way
WEIGHT = 2.0  # of all costs
RELATIVE_STDDEV = (0.03, 1.0)  # limits of stddev / depth of the prior
DEPTH_LIMITS = (0.1, 1000.0)  # metres, of what is warped
_NEAREST = 1e-3  # z in the earlier camera, as a share of the depth now
_MEAN, _DEVIATION, _UNSEEN = 128.0, 32.0, 0  # of a normalised image


@dataclass(frozen=True, eq=False)
class Sight:
    """What a camera saw at one moment, in shades of grey.

    Attributes:
        image: [h, w] uint8, about ``MATCHED_WIDTH`` wide at most; how much brighter than its
            neighbourhood each pixel is, in standard deviations of that, times 32, plus 128.
        intrinsics: [3, 3] of that image.
        camera_to_map: [4, 4] where the camera was.
    """

    image: NDArray[np.uint8]
    intrinsics: Array
    camera_to_map: Array


def sight(image: NDArray[np.uint8], intrinsics: Array, camera_to_map: Array) -> Sight:
    """What is kept of an RGB image [H, W, 3] of a rectified camera."""
    height, width = image.shape[:2]
    factor = max(1, round(width / MATCHED_WIDTH))
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    size = (height // factor, width // factor)
    if factor > 1:
        grey = cv2.resize(grey, size[::-1], interpolation=cv2.INTER_AREA)
    return Sight(
        _normalised(grey.astype(np.float32)), scale_intrinsics(intrinsics, (height, width), size), camera_to_map
    )


def correct(depth: Floats, stddev: Floats, now: Sight, earlier: Sequence[Sight]) -> tuple[Floats, Floats]:
    """Depth and standard deviation of a view after its earlier images were compared.

    Args:
        depth: [H, W] metres; what is not finite stays as it is.
        stddev: [H, W] metres.
        now: the image that ``depth`` is of.
        earlier: what the camera saw from elsewhere; at least one.

    Returns:
        both, [H, W] float32, metres.
    """
    known = np.isfinite(depth) & np.isfinite(stddev)
    rows, columns = _grid(now.image.shape, depth.shape)
    at = np.ix_(rows, columns)
    prior_depth = np.clip(np.where(known[at], depth[at], DEPTH_LIMITS[1]), *DEPTH_LIMITS).astype(np.float32)
    spread = np.full_like(prior_depth, RELATIVE_STDDEV[1])
    np.divide(stddev[at], prior_depth, out=spread, where=known[at])
    np.clip(spread, *RELATIVE_STDDEV, out=spread)
    costs = _costs(now, earlier[0], prior_depth)
    for then in earlier[1:]:
        costs += _costs(now, then, prior_depth)
    costs *= np.float32(WEIGHT / np.sqrt(len(earlier)))
    for cost in costs:
        cv2.blur(cost, WINDOW, dst=cost)
    shift, variance = _enlarged(_posterior(costs, spread), now.image.shape, depth.shape)
    shift[~known] = 0
    corrected = depth * np.exp(shift)
    return corrected, np.where(known, corrected * np.sqrt(variance), stddev)


def _grid(matched: tuple[int, ...], size: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of an image of ``size`` that lie nearest to those that are matched."""
    rows, columns = (
        np.clip(np.rint((np.arange(0, few, GRID) + 0.5) * (many / few) - 0.5), 0, many - 1).astype(np.int64)
        for few, many in zip(matched, size, strict=True)
    )
    return rows, columns


def _normalised(grey: Floats) -> NDArray[np.uint8]:
    mean = cv2.blur(grey, NEIGHBOURHOOD)
    variance = cv2.sqrBoxFilter(grey, -1, NEIGHBOURHOOD, normalize=True) - mean * mean
    deviation = (grey - mean) / np.sqrt(np.maximum(variance, 0) + np.float32(NOISE))
    return np.asarray(np.clip(np.rint(_DEVIATION * deviation + _MEAN), 1, 255), dtype=np.uint8)


def _costs(now: Sight, then: Sight, depth: Floats) -> Floats:
    """[scales + 1, h, w] of each scale, and of no motion in the image: 0 = alike, at most ``WORST``."""
    height, width = now.image.shape
    y, x = np.mgrid[0:height:GRID, 0:width:GRID].astype(np.float32)
    here = now.image[::GRID, ::GRID].astype(np.float32)
    now_to_then = compose(invert(then.camera_to_map), now.camera_to_map)
    rotation = (then.intrinsics @ now_to_then[:3, :3] @ np.linalg.inv(now.intrinsics)).astype(np.float32)
    q = [row[0] * x + row[1] * y + row[2] for row in rotation]
    b = [float(shift) / depth for shift in then.intrinsics @ now_to_then[:3, 3]]
    per_scale = np.exp(-SCALES)[:, None, None]
    # the pixel of the earlier image is q + b / scale, up to its last element
    z = per_scale * b[2]
    z += q[2]
    np.maximum(z, np.float32(_NEAREST), out=z)  # what was behind the camera lands far outside the image
    places = np.empty((2, len(SCALES) + 1, *here.shape), dtype=np.float32)
    for place, unmoved, at_infinity, shift in zip(places, (x, y), q[:2], b[:2], strict=True):
        np.multiply(per_scale, shift, out=place[:-1])
        place[:-1] += at_infinity
        place[:-1] /= z
        place[-1] = unmoved
    there = np.empty(places.shape[1:], dtype=np.uint8)
    for u, v, found in zip(*places, there, strict=True):
        cv2.remap(then.image, u, v, cv2.INTER_LINEAR, found, cv2.BORDER_CONSTANT, (_UNSEEN,))
    costs = here - there
    costs *= costs
    costs *= np.float32(0.5 / (COST * _DEVIATION**2))
    for cost in costs:
        cv2.blur(cost, WINDOW, dst=cost)
        cv2.threshold(cost, WORST, WORST, cv2.THRESH_TRUNC, dst=cost)
    np.copyto(costs, np.float32(WORST), where=there == _UNSEEN)
    return costs


def _posterior(costs: Floats, spread: Floats) -> Floats:
    """Mean and variance of log scale, [h, w, 2]: of ``costs`` [scales + 1, h, w] and the prior's ``spread``."""
    scales = SCALES[:, None, None]
    weights = scales**2 * (np.float32(-0.5) / spread**2)
    prior = np.exp(weights).sum(0)
    least = costs.min(0)
    weights += least
    weights -= costs[:-1]
    np.exp(weights, out=weights)
    moves_along = np.exp(least - costs[-1]) * prior
    total = weights.sum(0) + moves_along
    weights *= scales
    mean = weights.sum(0) / total
    weights *= scales
    # of what moves along nothing new is known: the prior's variance; within a step nothing is told apart
    square = (weights.sum(0) + moves_along * spread**2) / total
    return np.stack([mean, np.maximum(square - mean**2, 0) + np.float32(STEP**2 / 12)], axis=-1)


def _enlarged(values: Floats, matched: tuple[int, ...], size: tuple[int, ...]) -> tuple[Floats, ...]:
    """Both values [h, w, 2] of the grid of an image of size ``matched`` at each pixel of one of ``size``, [H, W]."""
    scale_y, scale_x = size[0] / matched[0], size[1] / matched[1]
    to_pixels = np.array([[GRID * scale_x, 0, (scale_x - 1) / 2], [0, GRID * scale_y, (scale_y - 1) / 2]])
    whole = cv2.warpAffine(values, to_pixels, size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return tuple(np.asarray(part, dtype=np.float32) for part in cv2.split(whole))
