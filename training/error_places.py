"""Where the errors of a student are, in the town, which knows the depth of every pixel.

    python -m training.error_places --checkpoint small

Every LiDAR point from 1 to 80 m is in one of four places: behind what the camera sees, where no student can be right;
near a rim, where the rendered depth changes by 40 % within 3 pixels; within 0.3 m of the plane of the road; or on
something. Beside the student stands what the rendered depth itself scores at the size of the input, of which nothing
but the pixels is in the way, and what is left of it in the cells of the bins.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from fsmde_ros.checkpoint import find_checkpoint, load_checkpoint, shipped_names
from fsmde_ros.errors import ConfigError, FsmdeError
from fsmde_ros.geometry import transform, unproject
from fsmde_ros.metrics import DepthScore, score_depth
from fsmde_ros.network.student import BIN_STRIDE, OUT_OF_RANGE, Student
from training.batch import Sample, collate
from training.datasets import TownData, town_sample
from training.hidden_points import Pixels, is_behind, lidar_pixels
from training.module import run_student

Array = NDArray[np.float64]
Depth = NDArray[np.float32]

PLACES = ("hidden", "rim", "road", "thing")
LIMITS = (1.0, 80.0)  # metres
RIM, RIM_PX = 1.4, 3  # ratio of the farthest to the nearest depth, within so many pixels
ROAD_M = 0.3  # from the plane of the wheels
SKY_M = 300.0  # counts as so far where depths are compared

Predict = Callable[[Sample], Depth]


@dataclass(frozen=True, eq=False)
class Points:
    """LiDAR points of some samples: depth and predicted depth [N], metres, and index [N] into ``PLACES``."""

    truth: Array
    predicted: Array
    place: NDArray[np.int64]

    def scores(self) -> dict[str, tuple[float, DepthScore]]:
        """Share of the points and score, by place, and of all of them."""
        masks = {"all": np.ones(len(self.place), np.bool_)}
        masks |= {name: self.place == index for index, name in enumerate(PLACES)}
        return {
            name: (float(mask.mean()), score_depth(self.predicted[mask], self.truth[mask], *LIMITS))
            for name, mask in masks.items()
        }


def points_of(samples: Sequence[Sample], predict: Predict) -> Points:
    """The LiDAR points of samples with dense depth, and what ``predict`` says of them, [V, H, W] metres."""
    parts = [(lidar_pixels(sample), sample, predict(sample)) for sample in samples]
    truth = np.concatenate([sample.lidar[:, 3] for _, sample, _ in parts]).astype(np.float64)
    counted = (truth >= LIMITS[0]) & (truth <= LIMITS[1])
    predicted = np.concatenate([depth[pixels] for pixels, _, depth in parts]).astype(np.float64)
    place = np.concatenate([_places(sample, pixels) for pixels, sample, _ in parts])
    return Points(truth[counted], predicted[counted], place[counted])


def student_depth(student: Student) -> Predict:
    """What a student says of a sample."""

    @torch.inference_mode()
    def predict(sample: Sample) -> Depth:
        output = run_student(student, collate([sample]))
        depth: Depth = torch.where(output.out_of_range > OUT_OF_RANGE, torch.inf, output.depth)[0].numpy()
        return depth

    return predict


def rendered_depth(sample: Sample) -> Depth:
    """The truth, at the pixels of the sample."""
    return sample.dense_depth


def depth_of_cells(side: int) -> Predict:
    """The truth in the middle of each cell of ``side`` pixels, which all of the cell then has."""

    def predict(sample: Sample) -> Depth:
        middle = slice(side // 2, None, side)
        return sample.dense_depth[:, middle, middle].repeat(side, axis=1).repeat(side, axis=2)

    return predict


def _places(sample: Sample, pixels: Pixels) -> NDArray[np.int64]:
    """[N] into ``PLACES``; the first that fits."""
    finite = np.minimum(sample.dense_depth, np.float32(SKY_M))
    around = np.ones((2 * RIM_PX + 1,) * 2, np.uint8)
    ratio = np.stack([cv2.dilate(depth, around) / cv2.erode(depth, around) for depth in finite])[pixels]
    heights = np.empty(len(sample.lidar))
    for view, camera in enumerate(sample.rig.cameras):
        own = sample.lidar[:, 0] == view
        seen = unproject(camera.intrinsics, sample.lidar[own, 1:3], sample.lidar[own, 3])
        heights[own] = transform(camera.camera_to_vehicle, seen)[:, 2] - sample.rig.ground_z
    conditions = [is_behind(sample, pixels), ratio > RIM, np.abs(heights) < ROAD_M]
    return np.select(conditions, [0, 1, 2], default=3)


def report(points: Mapping[str, Points]) -> str:
    """A table for a terminal: by what was predicted and place, share of the points and of the error."""
    width = max(24, *(len(name) + 1 for name in points))
    lines = [f"{'':{width}}{'place':8}{'points':>8}{'AbsRel':>9}{'delta1':>9}{'of the error':>14}"]
    for name, found in points.items():
        scores = found.scores()
        for place, (share, score) in scores.items():
            of_all = share * score.abs_rel / scores["all"][1].abs_rel
            shown = name if place == "all" else ""
            lines.append(
                f"{shown:{width}}{place:8}{100 * share:7.1f}%{score.abs_rel:9.4f}{score.d1:9.4f}{100 * of_all:13.1f}%"
            )
    return "\n".join(lines)


def _samples(data: TownData) -> Iterator[Sample]:
    for index in tqdm(range(data.drives), desc="rendering town drives", unit="drive"):
        yield town_sample(data.drive(index), 0, data.size)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; a user's mistake is told without a traceback."""
    parser = argparse.ArgumentParser(
        prog="python -m training.error_places",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--checkpoint",
        nargs="+",
        required=True,
        help=f"files, or names of the package: {shipped_names()}",
    )
    parser.add_argument("--drives", type=int, default=16, help="held-out town drives, a sweep of each (16)")
    given = parser.parse_args(arguments)
    try:
        loaded = {name: load_checkpoint(find_checkpoint(name)) for name in given.checkpoint}
        sizes = {card.input_size: name for name, (_, card) in loaded.items()}
        if len(sizes) > 1:
            raise ConfigError(f"--checkpoint: expected one input size, got {sizes}; give those of each by themselves")
        size = next(iter(sizes))
        data = TownData(drives=given.drives, sweeps_per_drive=1, first_seed=2_000_000, held_out=True, size=size)
        samples = list(_samples(data))
    except FsmdeError as error:
        print(f"error_places: {error}", file=sys.stderr)
        return 1
    predictions = {name: student_depth(student) for name, (student, _) in loaded.items()}
    predictions |= {"rendered depth": rendered_depth}
    for side in sorted({BIN_STRIDE * student.config.input_reduction for student, _ in loaded.values()}):
        predictions |= {f"rendered, cells of {side} px": depth_of_cells(side)}
    print(report({name: points_of(samples, predict) for name, predict in predictions.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
