"""Which sweeps are shown, and how: images over depth over the errors at the LiDAR's points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray

from fsmde_ros.color import colorize, mosaic, rows_of_rig
from fsmde_ros.estimator import PreparedSweep
from fsmde_ros.metrics import score_depth
from fsmde_ros.rig import Rig
from fsmde_ros.sweep import SurroundDepth
from training.evaluation.points import DepthRange, ImagePoints

Picture = NDArray[np.uint8]

NEAR = 2.0  # metres, the near end of the colours of depth; the far end is that of the range that counts
ERROR_LIMIT = 0.5  # share of the true depth at the ends of the colours of errors
ERROR_MAP = "coolwarm"  # blue: too near, red: too far


@dataclass(frozen=True, eq=False)
class SweepPicture:
    """One sweep to be shown.

    Attributes:
        index: of the sweep in its drive.
        rig: the cameras, at the size of the estimate.
        images: [V, H, W, 3] RGB.
        depth: [V, H, W] metres, +inf = out of range.
        points: what the LiDAR says, of the views that have any.
        abs_rel: mean over the images; none where the depth has no value at any point.
    """

    index: int
    rig: Rig
    images: Picture
    depth: NDArray[np.float32]
    points: tuple[ImagePoints, ...]
    abs_rel: float | None


class PictureBook:
    """Keeps a few sweeps evenly spread over a drive, and the one with the largest error."""

    def __init__(self, count: int, sweeps: int, limits: DepthRange) -> None:
        """``count`` of ``sweeps`` sweeps are kept, besides the worst."""
        self.limits = limits
        self._wanted = set(np.linspace(0, sweeps - 1, count + 2).round().astype(int)[1:-1].tolist())
        self._kept: dict[int, SweepPicture] = {}
        self._worst: SweepPicture | None = None
        self._largest = -1.0  # error of the worst

    def add(self, index: int, prepared: PreparedSweep, estimate: SurroundDepth, points: Sequence[ImagePoints]) -> None:
        """Offer a sweep; one without LiDAR points shows nothing of how good it is."""
        if not points:
            return
        scores = [score_depth(p.predicted, p.truth, self.limits.min, self.limits.max) for p in points]
        known = [score.abs_rel for score in scores if score.n]
        abs_rel = float(np.mean(known)) if known else None
        is_worst = abs_rel is not None and abs_rel > self._largest
        if index not in self._wanted and not is_worst:
            return
        images = np.ascontiguousarray(prepared.colors())
        picture = SweepPicture(index, estimate.rig, images, estimate.depth, tuple(points), abs_rel)
        if index in self._wanted:
            self._kept[index] = picture
        if abs_rel is not None and is_worst:
            self._worst, self._largest = picture, abs_rel

    def chosen(self) -> list[tuple[str, SweepPicture]]:
        """Title and picture of each sweep that was kept, the worst last."""
        worst = self._worst
        titled = [(f"Sweep {i}", p) for i, p in sorted(self._kept.items()) if worst is None or i != worst.index]
        if worst is not None:
            titled.append((f"Sweep {worst.index}, the one with the largest error", worst))
        return titled


def draw_sweep(picture: SweepPicture, max_depth: float, width: int = 1320) -> Picture:
    """RGB mosaic of all cameras as they stand on the vehicle; in each tile image, depth and errors."""
    points = {p.camera: p for p in picture.points}
    tiles = {}
    for index, name in enumerate(picture.rig.names):
        parts = [picture.images[index], colorize(picture.depth[index], NEAR, max_depth)]
        parts.append(draw_errors(picture.images[index], points.get(name), max_depth))
        tile = np.vstack(parts)
        cv2.putText(tile, name, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.putText(tile, name, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
        tiles[name] = cv2.copyMakeBorder(tile, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(255, 255, 255)).astype(np.uint8)
    return mosaic(tiles, rows_of_rig(picture.rig), width)


def draw_errors(image: Picture, points: ImagePoints | None, max_depth: float) -> Picture:
    """A dim grey image [H, W, 3] with a dot at each LiDAR point in the colour of its relative error."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    canvas = np.repeat((grey[..., None] * 0.45).astype(np.uint8), 3, axis=2)
    if points is None:
        return canvas
    relative = np.clip(points.predicted, 0, max_depth) / points.truth - 1
    known = ~np.isnan(relative)
    share = np.clip(0.5 + 0.5 * relative[known] / ERROR_LIMIT, 0, 1)
    colours = (255 * matplotlib.colormaps[ERROR_MAP](share)[:, :3]).astype(np.uint8)
    column, row = points.pixels[known].round().astype(int).T
    height, width = grey.shape
    for dx in (0, 1):
        canvas[row.clip(0, height - 1), (column + dx).clip(0, width - 1)] = colours
    return canvas
