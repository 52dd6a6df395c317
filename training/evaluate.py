"""Score a checkpoint against the LiDAR of a drive.

    python -m training.evaluate --checkpoint fsmde_ros/models/small.safetensors --data town:7
    python -m training.evaluate --checkpoint ... --data nuscenes:PATH --output report.json

Protocol (SurroundDepth's): single LiDAR scan moved to each view's stamp; a score for each image, the
mean over the images of a camera, the mean over the cameras. Rows: ``metric`` without any scaling,
``median`` scaled per image, ``median_sweep`` scaled once per sweep, and the flat ground plane.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fsmde_ros.errors import ConfigError, FsmdeError
from fsmde_ros.estimator import Estimator
from fsmde_ros.geometry import ground_plane_depth
from fsmde_ros.metrics import ScoreBoard, median_scale, median_scale_of_sweep, sample_bilinear, score_depth
from fsmde_ros.sources import ddad, nuscenes
from fsmde_ros.sweep import SurroundDepth, Sweep, lidar_in_view
from training.town.drive import nuscenes_drive
from training.town.settings import TownSettings

ROWS = ("metric", "median", "median_sweep", "ground_plane")
BASELINE_CAP = 20.0  # metres; see geometry.ground_plane_depth


@dataclass(frozen=True)
class DataSource:
    """Sweeps to score and the range of depth that counts, metres."""

    sweeps: Iterable[Sweep]
    min_depth: float
    max_depth: float


@dataclass
class Evaluation:
    """Score boards of all rows."""

    min_depth: float
    max_depth: float
    boards: dict[str, ScoreBoard] = field(default_factory=lambda: {row: ScoreBoard() for row in ROWS})
    sweeps: int = 0

    def add(self, sweep: Sweep, estimate: SurroundDepth) -> None:
        """Score the views of one sweep; views that no LiDAR point in the range falls into do not count."""
        names = estimate.rig.names
        small = Sweep(estimate.rig, sweep.stamp_ns, {name: sweep.views[name] for name in names}, sweep.lidar)
        predicted: dict[str, NDArray[np.float64]] = {}
        truth: dict[str, NDArray[np.float64]] = {}
        for name in names:
            pixels, depth = lidar_in_view(small, name, self.min_depth)
            counted = depth <= self.max_depth
            if not counted.any():
                continue
            pixels, truth[name] = pixels[counted], depth[counted]
            sampled = sample_bilinear(estimate.view(name)[0], pixels)
            predicted[name] = np.clip(sampled, self.min_depth, self.max_depth)
            self._score("ground_plane", name, sample_bilinear(_ground_plane(estimate, name), pixels), truth[name])
        if truth:
            sweep_scale = median_scale_of_sweep(predicted, truth)
            for name, values in predicted.items():
                self._score("metric", name, values, truth[name])
                self._score("median", name, values * median_scale(values, truth[name]), truth[name])
                self._score("median_sweep", name, values * sweep_scale, truth[name])
        self.sweeps += 1

    def report(self) -> dict[str, Any]:
        """Rows with ``overall`` and ``views``, as ``DepthScore.as_dict``, for JSON."""
        rows = {
            row: {
                "overall": board.overall().as_dict(),
                "views": {camera: score.as_dict() for camera, score in board.per_camera().items()},
            }
            for row, board in self.boards.items()
        }
        return {"sweeps": self.sweeps, "range_m": [self.min_depth, self.max_depth], "rows": rows}

    def _score(self, row: str, name: str, predicted: NDArray[np.float64], truth: NDArray[np.float64]) -> None:
        self.boards[row].add(name, score_depth(predicted, truth, self.min_depth, self.max_depth))


def open_data(text: str) -> DataSource:
    """``town:SEED``, ``nuscenes:PATH`` or ``ddad:PATH``; raises ConfigError for anything else.

    The town is the held-out one, ten seconds, two sweeps a second.
    """
    kind, _, rest = text.partition(":")
    if kind == "town" and rest.isdecimal():
        drive = nuscenes_drive(int(rest), (360, 640), TownSettings.held_out(), duration_s=10.0, camera_rate_hz=2.0)
        return DataSource(drive, 0.1, 80.0)
    if kind == "nuscenes" and rest:
        return DataSource(nuscenes.sweeps(rest), 0.1, 80.0)
    if kind == "ddad" and rest:
        return DataSource(ddad.sweeps(rest), 0.1, 200.0)
    raise ConfigError(f"--data must be town:SEED, nuscenes:PATH or ddad:PATH, got '{text}'")


def evaluate(estimator: Estimator, data: DataSource) -> dict[str, Any]:
    """Run the estimator over all sweeps; the report of ``Evaluation``."""
    evaluation = Evaluation(data.min_depth, data.max_depth)
    for sweep in tqdm(data.sweeps, desc="evaluating", unit="sweep"):
        evaluation.add(sweep, estimator(sweep))
    return evaluation.report()


def table(report: Mapping[str, Any]) -> str:
    """The report as text: a line per row and camera."""
    columns = ("abs_rel", "sq_rel", "rmse", "rmse_log", "d1", "d2", "d3")
    lines = [f"{'row':<14}{'camera':<18}" + "".join(f"{column:>10}" for column in columns) + f"{'n':>9}"]
    for row, scores in report["rows"].items():
        for camera, score in {"all": scores["overall"], **scores["views"]}.items():
            figures = "".join(f"{score[c]:>10.4f}" if score[c] is not None else f"{'-':>10}" for c in columns)
            lines.append(f"{row:<14}{camera:<18}{figures}{score['n']:>9}")
    return "\n".join(lines)


def main() -> int:
    """Command line; a user's mistake is told without a traceback."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True, help=".safetensors file of fsmde_ros")
    parser.add_argument("--data", required=True, help="town:SEED, nuscenes:PATH or ddad:PATH")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--output", type=Path, help="JSON file to write the report to")
    given = parser.parse_args()
    try:
        data = open_data(given.data)
        report = evaluate(Estimator.from_checkpoint(given.checkpoint, device=given.device), data)
    except FsmdeError as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    print(table(report))
    if given.output is not None:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(json.dumps({"data": given.data, **report}, indent=2) + "\n", encoding="utf-8")
    return 0


def _ground_plane(estimate: SurroundDepth, name: str) -> NDArray[np.float64]:
    camera = estimate.rig[name]
    return ground_plane_depth(
        camera.intrinsics, camera.camera_to_vehicle, camera.size, estimate.rig.ground_z, BASELINE_CAP
    )


if __name__ == "__main__":
    sys.exit(main())
