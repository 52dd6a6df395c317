"""Fit what turns a checkpoint's sigma into the size of its errors.

    python -m training.calibrate --checkpoint fsmde_ros/models/small.safetensors \\
        --fit town:101 town:102 --check town:7 --output calibrated.safetensors

The spread of the bins tells where the student is unsure, but not by how many metres. Two numbers mend that
without touching the depth: sigma = scale * spread ^ exponent (metres), ``stddev_power`` of the student. They are
fitted on drives of the validation town, or of a rig of one's own, and checked on another; the shares inside k
sigma are printed before and after.

``--power`` chooses what the depth is, of the probabilities of the bins: 1 their expectation in metres, 0 that in log
depth, or something between (``expectation_power`` of the student); ``best`` takes the one that scores best on the
drives to fit (200 of their sweeps, spread evenly, where there are more), by the rule of ``training.expectation``, and
tells the scores. The weights stay as they are.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fsmde_ros.backends import build_backend
from fsmde_ros.backends.torch_eager import choose_device
from fsmde_ros.checkpoint import check_ending, find_checkpoint, load_checkpoint, save_checkpoint, shipped_names
from fsmde_ros.errors import ConfigError, FsmdeError, ImageError, SourceError
from fsmde_ros.estimator import Estimator
from fsmde_ros.model_card import ModelCard
from fsmde_ros.network.student import Student
from fsmde_ros.sweep import Sweep
from training.batch import SweepBatch, collate, sample_from_sweep, with_lidar_between
from training.data_source import open_data
from training.draws import evenly
from training.evaluation.points import DepthRange, ImagePoints, points_of_sweep
from training.evaluation.sigma import KS, ONE_SIGMA, expected_inside
from training.expectation import MAX_BATCHES, best_power, score_powers, with_config
from training.writable import make_folder

Array = NDArray[np.float64]
Used = TypeVar("Used")

CELLS = 20  # of equal numbers of points, by sigma
MIN_POINTS = 50 * CELLS
EXPONENTS = (0.1, 10.0)  # beyond, sigma says nothing of the error
SCALES = (1e-3, 99.0)  # within what a student may have


@dataclass(frozen=True)
class SigmaPower:
    """sigma = scale * spread ^ exponent, both in metres."""

    scale: float
    exponent: float

    def __call__(self, spread: Array) -> Array:
        """Standard deviations of spreads, metres."""
        return np.asarray(self.scale * spread**self.exponent)

    def undo(self, stddev: Array) -> Array:
        """Spreads of standard deviations, metres."""
        return np.asarray((stddev / self.scale) ** (1 / self.exponent))


def fit_power(error: Array, stddev: Array) -> SigmaPower:
    """Fit errors [N] and standard deviations [N] above 0, metres.

    The exponent is the slope of a straight line, in logarithms, through the 68.3 % quantile of the errors in
    cells of sigma; the scale then brings 68.3 % of all errors inside 1 sigma'. Raises SourceError for too few
    points to fit.
    """
    if len(error) < MIN_POINTS:
        raise SourceError(f"sigma cannot be fitted to {len(error)} points, at least {MIN_POINTS} are needed")
    cells = np.array_split(np.argsort(stddev), CELLS)
    x = np.log([np.median(stddev[cell]) for cell in cells])
    y = np.log([max(np.quantile(np.abs(error[cell]), ONE_SIGMA), 1e-6) for cell in cells])
    # One sigma for all points leaves no slope to be seen, and a student that has hardly been trained is surer the more
    # it errs: then only the scale is fitted.
    exponent = float(np.polyfit(x, y, 1)[0]) if np.ptp(x) > 0.1 else 1.0
    if not EXPONENTS[0] <= exponent <= EXPONENTS[1]:
        exponent = 1.0
    scale = float(np.clip(np.quantile(np.abs(error) / stddev**exponent, ONE_SIGMA), *SCALES))
    return SigmaPower(scale, exponent)


def shares_inside(error: Array, stddev: Array) -> dict[str, float]:
    """Share of the errors inside k sigma, for the k of ``sigma.KS``."""
    return {f"{k:g}": float(np.mean(np.abs(error) <= k * stddev)) for k in KS}


def errors_of(estimator: Estimator, names: Sequence[str], left_out: dict[str, str]) -> tuple[Array, Array]:
    """Errors [N] and standard deviations [N], metres, at the LiDAR points of all sweeps of the drives.

    ``left_out``: the sweeps that cannot be used go in here, each with its reason.
    """

    def scored(sweep: Sweep, limits: DepthRange) -> tuple[ImagePoints, ...]:
        return points_of_sweep(sweep, estimator(sweep), limits)

    errors, stddevs = [np.zeros(0)], [np.zeros(0)]
    for images in _each_sweep(names, scored, left_out):
        for image in images:
            used = np.isfinite(image.predicted) & (image.stddev > 0)
            errors.append(image.predicted[used] - image.truth[used])
            stddevs.append(image.stddev[used])
    return np.concatenate(errors), np.concatenate(stddevs)


def batches_of(names: Sequence[str], size: tuple[int, int], left_out: dict[str, str]) -> Iterator[SweepBatch]:
    """The sweeps of drives, one a batch, at ``size`` (H, W), with the LiDAR points that count in an evaluation.

    Of more than ``MAX_BATCHES`` so many, spread evenly over all drives. ``left_out``: as for ``errors_of``; here a
    single view that cannot be decoded costs its sweep.
    """

    def batch(sweep: Sweep, limits: DepthRange) -> SweepBatch:
        return collate([with_lidar_between(sample_from_sweep(sweep, size), limits.min, limits.max)])

    return _each_sweep(names, batch, left_out, MAX_BATCHES)


def _each_sweep(
    names: Sequence[str],
    use: Callable[[Sweep, DepthRange], Used],
    left_out: dict[str, str],
    most: int | None = None,
) -> Iterator[Used]:
    """What ``use`` makes of each sweep of drives, or of ``most`` of them; what cannot be read is told, and left out."""
    drives = [open_data(name) for name in names]
    there = [(drive, index) for drive, data in enumerate(drives) for index in range(len(data.sweeps))]
    chosen = [there[place] for place in evenly(len(there), len(there) if most is None else most)]
    if len(chosen) < len(there):
        print(f"the power is chosen on {len(chosen)} of {len(there)} sweeps, spread evenly", file=sys.stderr)
    for drive, (name, data) in enumerate(zip(names, drives, strict=True)):
        limits = DepthRange(data.min_depth, data.max_depth)
        for index in tqdm([index for its_drive, index in chosen if its_drive == drive], desc=name, unit="sweep"):
            try:
                used = use(data.sweeps[index], limits)
            except (ImageError, SourceError) as error:
                sweep = f"{name}, sweep {index}"
                if sweep not in left_out:
                    tqdm.write(f"left out: {sweep}: {error}", file=sys.stderr)
                left_out[sweep] = str(error)
                continue
            yield used


@dataclass(frozen=True, eq=False)
class Calibration:
    """What came out: ``report`` for JSON, the fit and the shares inside k sigma before and after; the student with the
    fit, and its card."""

    report: dict[str, Any]
    student: Student
    card: ModelCard


def calibrate(
    checkpoint: Path,
    fit: Sequence[str],
    check: str,
    device: str = "auto",
    power: float | Literal["best"] | None = None,
) -> Calibration:
    """Fit on the drives ``fit``, and look at the fit on ``check``.

    ``power``: ``expectation_power`` of the student from now on, or "best"; none leaves it. With another power the depth
    is another, and the card's metrics go. A sweep whose files are missing or damaged is left out and counted, as in an
    evaluation. Raises CheckpointError, BackendError, ConfigError or SourceError for what cannot be used.
    """
    if check in fit:
        raise ConfigError(f"--check {check} is fitted on, too, and would confirm any fit; give it another drive")
    student, card = load_checkpoint(checkpoint)
    report: dict[str, Any] = {"weights_sha256": card.weights_sha256}
    left_out: dict[str, str] = {}
    if power == "best":
        batches = batches_of(fit, card.input_size, left_out)
        scores = score_powers(student.to(choose_device(device)), batches)
        report["powers"] = {f"{tried:g}": asdict(score) for tried, score in scores.items()}
        power = best_power(scores)
    if power is not None and power != student.config.expectation_power:
        student = with_config(student, expectation_power=power)
        card = replace(card, metrics={})
    report["power"] = student.config.expectation_power
    estimator = Estimator(build_backend("torch", student, device, card.input_size), card)
    published = SigmaPower(*student.config.stddev_power)
    error, stddev = errors_of(estimator, fit, left_out)
    sigma = fit_power(error, published.undo(stddev))
    report |= asdict(sigma)
    report["expected"] = {f"{k:g}": expected_inside(k) for k in KS}
    checked = errors_of(estimator, [check], left_out)
    if not len(checked[0]):
        raise SourceError(f"{check}: has no LiDAR point in any view to check the fit on; give --check another drive")
    for kind, (e, s) in {"fit": (error, stddev), "check": checked}.items():
        after = sigma(published.undo(s))
        report[kind] = {"n": len(e), "before": shares_inside(e, s), "after": shares_inside(e, after)}
    report["skipped_sweeps"] = len(left_out)
    report["skipped_because"] = [f"{sweep}: {why}" for sweep, why in left_out.items()][:20]
    return Calibration(report, with_power(student, sigma), card)


def with_power(student: Student, power: SigmaPower) -> Student:
    """A copy of ``student`` with ``power`` in its configuration."""
    return with_config(student, stddev_power=(power.scale, power.exponent))


def _power(text: str) -> float | str:
    try:
        return text if text == "best" else float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, or best, got '{text}'") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; a user's mistake is told without a traceback."""
    parser = argparse.ArgumentParser(prog="python -m training.calibrate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--checkpoint",
        type=find_checkpoint,
        required=True,
        help=f"file, or one of the package: {shipped_names()}",
    )
    parser.add_argument("--fit", nargs="+", required=True, help="drives to fit on, such as town:101 town:102")
    parser.add_argument("--check", default="town:7", help="another drive, to check the fit on")
    parser.add_argument("--output", type=Path, help="write the calibrated checkpoint here (.safetensors)")
    parser.add_argument(
        "--power", type=_power, help="how the bins are averaged: 1 in metres, 0 in log depth, best; none: as before"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    given = parser.parse_args(arguments)
    try:
        if given.output is not None:
            check_ending(given.output)
            make_folder("--output", given.output.parent)
        done = calibrate(given.checkpoint, given.fit, given.check, given.device, given.power)
        # first: what was fitted is not lost with a file that cannot be written
        print(json.dumps(done.report, indent=2), flush=True)
        if given.output is not None:
            save_checkpoint(given.output, done.student, done.card)
    except FsmdeError as error:
        print(f"calibrate: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
