"""From single sweeps to all figures of a report."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.metrics import DepthScore, ScoreBoard, score_depth
from fsmde_ros.sweep import SurroundDepth, Sweep
from training.evaluation.alignment import rows_of_sweep
from training.evaluation.confidence import LEVEL, Unit, bootstrap_unit, interval, score_table
from training.evaluation.overlap import ViewAgreement, disagreement
from training.evaluation.points import DepthRange, ImagePoints, at_size_of, is_motion_compensated, points_of_sweep
from training.evaluation.range_error import RangeError
from training.evaluation.sigma import SigmaCalibration

BANDS = ((0.0, 20.0), (20.0, 40.0), (40.0, 80.0), (80.0, 200.0))
ERRORS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "d1", "d2", "d3")
OTHER_SCOPES = ("all", "overlap", "visible")  # than ranges of the true depth
CURVES = ("metric", "ground_plane")  # rows whose error is kept against range


class Scores:
    """Scores of single images, with the sweep each is of; averaged in the order of the protocol."""

    def __init__(self) -> None:
        self.board = ScoreBoard()
        self.sweeps: dict[str, list[int]] = {}

    def add(self, camera: str, sweep: int, score: DepthScore) -> None:
        """Add the score of one image; one without points does not count."""
        if score.n:
            self.board.add(camera, score)
            self.sweeps.setdefault(camera, []).append(sweep)

    def means(self) -> dict[str, Any]:
        """``overall``, ``spread`` (standard deviation over the cameras) and ``views``."""
        cameras = self.board.per_camera()
        spread = {
            name: float(np.std([getattr(score, name) for score in cameras.values()], ddof=1))
            if len(cameras) > 1
            else None
            for name in ERRORS
        }
        return {
            "overall": self.board.overall().as_dict(),
            "spread": spread,
            "views": {name: score.as_dict() for name, score in cameras.items()},
        }

    def intervals(self, unit: Unit | None) -> dict[str, list[float] | None]:
        """[low, high] of each error of ``overall``."""
        found: dict[str, list[float] | None] = {}
        for error in ERRORS:
            images = {c: [getattr(s, error) for s in scores] for c, scores in self.board.images.items()}
            limits = interval(score_table(images, self.sweeps), unit)
            found[error] = None if limits is None else list(limits)
        return found


class Tally:
    """Collects sweeps and what was estimated for them."""

    def __init__(self, limits: DepthRange, teacher_is_metric: bool = False) -> None:
        """``limits``: the true depth that counts. Only sweeps with LiDAR points count, the rest by their number."""
        self.limits = limits
        self.teacher_is_metric = teacher_is_metric
        self.bands = tuple((low, min(high, limits.max)) for low, high in BANDS if low < limits.max)
        self.sweeps = self.images = self.sweeps_without_lidar = self.images_without_pose = 0
        self.missing: dict[str, int] = {}
        self.scores: dict[str, dict[str, Scores]] = {}
        self.sigma = SigmaCalibration(self.bands)
        self.range_error = {row: RangeError(limits.min, limits.max) for row in CURVES}
        self.agreement = ViewAgreement()

    def add(
        self,
        sweep: Sweep,
        estimate: SurroundDepth,
        teacher: NDArray[np.float32] | None = None,
        mirrored: SurroundDepth | None = None,
        corrected: SurroundDepth | None = None,
    ) -> tuple[ImagePoints, ...]:
        """Score one sweep; returns the points it was scored at.

        ``teacher``: its disparity [V, H, W]. ``mirrored``: the estimate of the same views by their mirrored images.
        ``corrected``: the estimate after motion stereo.
        """
        images = points_of_sweep(sweep, estimate, self.limits, teacher, mirrored, corrected)
        # between the views the estimates can be compared without any LiDAR
        self.agreement.add(disagreement(at_size_of(sweep, estimate), estimate, self.limits.min, self.limits.max))
        if not images:
            self.sweeps_without_lidar += 1
            return images
        for name in set(sweep.rig.names) - set(estimate.rig.names):
            self.missing[name] = self.missing.get(name, 0) + 1
        rows = rows_of_sweep(images, self.limits, self.teacher_is_metric)
        for row, depths in rows.items():
            for image, depth in zip(images, depths, strict=True):
                self._score(row, image, depth)
        for image in images:
            self.sigma.add(image)
        self.images_without_pose += sum(not is_motion_compensated(sweep, image.camera) for image in images)
        self.sweeps += 1
        self.images += len(images)
        return images

    def _score(self, row: str, image: ImagePoints, depth: NDArray[np.float64]) -> None:
        scopes = {"all": np.ones(len(depth), dtype=np.bool_), "overlap": image.shared, "visible": ~image.hidden}
        for low, high in self.bands:
            within = (image.truth >= low) & ((image.truth < high) | (high == self.limits.max))
            scopes[f"{low:g}-{high:g}"] = within
        boards = self.scores.setdefault(row, {scope: Scores() for scope in scopes})
        for scope, mask in scopes.items():
            score = score_depth(depth[mask], image.truth[mask], self.limits.min, self.limits.max)
            boards[scope].add(image.camera, self.sweeps, score)
        if row in self.range_error:
            self.range_error[row].add(np.clip(depth, self.limits.min, self.limits.max), image.truth)

    def report(self) -> dict[str, Any]:
        """All figures under names that stay; what does not exist is None."""
        unit = bootstrap_unit(self.sweeps)
        rows = {}
        for row, scopes in self.scores.items():
            ranges = {scope: scores.means() for scope, scores in scopes.items() if scope not in OTHER_SCOPES}
            rows[row] = {
                **scopes["all"].means(),
                "interval": scopes["all"].intervals(unit),
                "ranges": ranges,
                "overlap": scopes["overlap"].means(),
                "visible": scopes["visible"].means(),
            }
        return {
            "sweeps": self.sweeps,
            "sweeps_without_lidar": self.sweeps_without_lidar,
            "images": self.images,
            "images_without_pose": self.images_without_pose,
            "missing_views": self.missing,
            "range_m": [self.limits.min, self.limits.max],
            "interval_of": {"unit": unit, "level": LEVEL},
            "rows": rows,
            "view_disagreement": self.agreement.as_dict(),
            "sigma": self.sigma.as_dict(),
            "range_error": {row: curve.as_dict() for row, curve in self.range_error.items()},
        }
