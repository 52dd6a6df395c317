"""What motion stereo gains and costs in the town: on what stands, on what moves, and with an odometry that is wrong.

    python -m training.stereo_places --checkpoint small --turn 0 0.1 0.3

LiDAR points of held-out drives that the camera can see are on things that stand, on things that move (cars, cyclists,
people under way), or on the one that drives ahead at the distance and speed of the vehicle, which looks as if it were
infinitely far away. ``--turn``: the vehicle's earlier poses are turned by so many degrees about an axis of chance.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fsmde_ros.checkpoint import shipped_names
from fsmde_ros.errors import FsmdeError
from fsmde_ros.estimator import Estimator, PreparedSweep
from fsmde_ros.geometry import compose, invert, transform, unproject
from fsmde_ros.metrics import score_depth
from fsmde_ros.motion_stereo import Keyframe, MotionStereo, is_complete, keyframe
from fsmde_ros.option_types import finite, whole
from fsmde_ros.sweep import SurroundDepth, Sweep, View
from training.evaluation.points import DepthRange, points_of_sweep
from training.town.annotations import box
from training.town.drive import TownDrive, nuscenes_drive, seconds
from training.town.settings import TownSettings
from training.town.world import World

Array = NDArray[np.float64]

PLACES = ("stands", "moves", "drives ahead")
LIMITS = DepthRange()
MARGIN_M = 0.3  # around a moving thing: the LiDAR passes it up to 50 ms before or after the camera fires
ABOVE_ROAD_M = 0.25
FIRST_SEED = 1
RATE_HZ, DURATION_S = 8.0, 12.0
SIZE = (360, 640)


@dataclass(frozen=True, eq=False)
class Points:
    """LiDAR points: depth and predicted depth [N], metres, and index [N] into ``PLACES``."""

    truth: Array
    predicted: Array
    place: NDArray[np.int64]


def turned(degrees: float, rng: np.random.Generator) -> Array:
    """[4, 4] a rotation by ``degrees`` about an axis of chance."""
    axis = rng.normal(size=3)
    turn = np.eye(4)
    turn[:3, :3] = cv2.Rodrigues(np.radians(degrees) * axis / np.linalg.norm(axis))[0]
    return turn


def keyframe_of(prepared: PreparedSweep, sweep: Sweep, turn: Array) -> Keyframe:
    """What motion stereo keeps of a sweep, with the vehicle turned by ``turn`` [4, 4] in its own frame."""
    poses = {name: compose(_pose(view), turn) for name, view in sweep.views.items()}
    return keyframe(prepared.rig, sweep.stamp_ns, prepared.colors(), poses)


def points_of(world: World, sweep: Sweep, estimate: SurroundDepth) -> Points:
    """The LiDAR points that the cameras can see, and where they are."""
    truth, predicted, places = [], [], []
    for image in points_of_sweep(sweep, estimate, LIMITS):
        camera, view = estimate.rig[image.camera], sweep.views[image.camera]
        camera_to_map = compose(_pose(view), camera.camera_to_vehicle)
        placed = transform(camera_to_map, unproject(camera.intrinsics, image.pixels, image.truth))
        seen = ~image.hidden
        truth.append(image.truth[seen])
        predicted.append(np.clip(image.predicted[seen], LIMITS.min, LIMITS.max))
        places.append(_places(world, placed[seen], seconds(view.stamp_ns)))
    return Points(np.concatenate(truth), np.concatenate(predicted), np.concatenate(places))


def _places(world: World, points_map: Array, t: float) -> NDArray[np.int64]:
    """[N] into ``PLACES`` of points [N, 3] of the map at t seconds."""
    place = np.zeros(len(points_map), dtype=np.int64)
    for mover in world.layout.movers:
        keeps_distance = mover.street is None
        if mover.speed == 0 and not keeps_distance:
            continue
        own = transform(invert(world.mover_to_map(mover, t)), points_map)
        centre, size = box(mover)
        inside = (np.abs(own - centre) <= size / 2 + MARGIN_M).all(axis=1) & (own[:, 2] > ABOVE_ROAD_M)
        place[inside] = PLACES.index("drives ahead") if keeps_distance else PLACES.index("moves")
    return place


def measure(
    estimator: Estimator, drive: TownDrive, sweeps: int, turns: Sequence[float]
) -> Iterator[tuple[str, Points]]:
    """Points of ``sweeps`` sweeps of a drive: of the student alone, and corrected with each of ``turns`` (degrees)."""
    with closing(MotionStereo()) as stereo:
        for index in np.linspace(len(drive) / (sweeps + 1), len(drive) - 1, sweeps).astype(int):
            sweep = drive.sweep(int(index))
            prepared = estimator.prepare(sweep)
            estimate, now = estimator.infer(prepared), keyframe_of(prepared, sweep, np.eye(4))
            yield "student alone", points_of(drive.world, sweep, estimate)
            before = _before(estimator, drive, int(index), now)
            for degrees in turns:
                turn = turned(degrees, np.random.default_rng([drive.seed, int(index)]))
                corrected = stereo.correct(estimate, now, [keyframe_of(*then, turn) for then in before])
                yield (
                    f"turned by {degrees:g} degrees" if degrees else "motion stereo",
                    points_of(drive.world, sweep, corrected),
                )


def _before(estimator: Estimator, drive: TownDrive, index: int, now: Keyframe) -> list[tuple[PreparedSweep, Sweep]]:
    """The sweeps before one that are compared with it, the latest first."""
    found: list[tuple[PreparedSweep, Sweep]] = []
    keyframes: list[Keyframe] = []
    while index > 0 and not is_complete(now, keyframes):
        index -= 1
        sweep = drive.sweep(index)
        found.append((estimator.prepare(sweep), sweep))
        keyframes.append(keyframe_of(*found[-1], np.eye(4)))
    return found


def _pose(view: View) -> Array:
    assert view.vehicle_to_map is not None, "the town knows all poses"
    return view.vehicle_to_map


def report(found: Mapping[str, Sequence[Points]]) -> str:
    """A table for a terminal: share of the points, AbsRel and delta1, by what was done and place."""
    lines = [f"{'':26}{'place':14}{'points':>8}{'AbsRel':>9}{'delta1':>9}"]
    for name, parts in found.items():
        truth, predicted, place = (
            np.concatenate([getattr(part, what) for part in parts]) for what in ("truth", "predicted", "place")
        )
        masks = {"all": np.ones(len(place), np.bool_)} | {p: place == k for k, p in enumerate(PLACES)}
        for label, mask in masks.items():
            score = score_depth(predicted[mask], truth[mask], LIMITS.min, LIMITS.max)
            shown = name if label == "all" else ""
            lines.append(f"{shown:26}{label:14}{100 * mask.mean():7.2f}%{score.abs_rel:9.4f}{score.d1:9.4f}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; a user's mistake is told without a traceback."""
    parser = argparse.ArgumentParser(
        prog="python -m training.stereo_places",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkpoint", required=True, help=f"file, or one of the package: {shipped_names()}")
    parser.add_argument("--drives", type=whole(1), default=6, help="held-out town drives (6)")
    parser.add_argument("--sweeps", type=whole(1), default=4, help="sweeps of each (4)")
    parser.add_argument("--first-seed", type=whole(0), default=FIRST_SEED, help=f"of the drives ({FIRST_SEED})")
    parser.add_argument("--turn", type=finite, nargs="+", default=[0.0], metavar="DEG", help="errors of the poses (0)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    given = parser.parse_args(arguments)
    found: dict[str, list[Points]] = {}
    try:
        with closing(Estimator.from_checkpoint(given.checkpoint, given.device, "torch")) as estimator:
            for seed in tqdm(range(given.first_seed, given.first_seed + given.drives), desc="town drives"):
                settings = TownSettings.held_out()
                drive = nuscenes_drive(seed, SIZE, settings, duration_s=DURATION_S, camera_rate_hz=RATE_HZ)
                for name, points in measure(estimator, drive, given.sweeps, given.turn):
                    found.setdefault(name, []).append(points)
    except FsmdeError as error:
        print(f"stereo_places: {error}", file=sys.stderr)
        return 1
    print(report(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
