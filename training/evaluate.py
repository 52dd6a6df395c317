"""Score a checkpoint against the LiDAR of a drive.

    python -m training.evaluate --checkpoint fsmde_ros/models/small.safetensors --data town:7
    python -m training.evaluate --checkpoint ... --data nuscenes:PATH --teacher DIR --output out/evaluation

Writes report.json and report.html, a page that stands alone, to the output folder.

Protocol (SurroundDepth's): single LiDAR scan moved to each view's stamp; a score for each image, the
mean over the images of a camera, the mean over the cameras; no crop, no mask. Rows: ``metric`` without
any scaling, ``median`` scaled per image, ``median_sweep`` scaled once per sweep, ``affine`` with scale
and shift fitted in disparity per image, the flat ground plane, the rows of a teacher where one is given, with
``--mirror`` ``mirrored``, the mean with what is said of the mirrored images, as SurroundDepth has it, and with
``--motion-stereo`` ``motion_stereo``, corrected by the sweeps before each.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from fsmde_ros.checkpoint import find_checkpoint, shipped_names
from fsmde_ros.errors import ConfigError, FsmdeError, ImageError, SourceError
from fsmde_ros.estimator import Estimator, PreparedSweep
from fsmde_ros.network_view import take_all
from fsmde_ros.option_types import image_size
from training.data_source import DataSource, open_data
from training.evaluation.corrected import CorrectedTally, Correction
from training.evaluation.page import render_page
from training.evaluation.pictures import PictureBook, SweepPicture
from training.evaluation.points import DepthRange
from training.evaluation.report import FORMAT, DataHash, describe, table, verdict, without_folders
from training.evaluation.tally import Tally
from training.mirrored import MirroredBackend
from training.mounting_error import NONE, MountingError
from training.teachers.teacher import KINDS, Teacher, TeacherSettings, metric_scale
from training.writable import make_folder


@dataclass(frozen=True, eq=False)
class NamedTeacher:
    """A teacher to be scored beside the student, and what the report calls it."""

    name: str
    network: Teacher


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What came out: ``report`` as in report.json, and titled pictures of some sweeps."""

    report: dict[str, Any]
    pictures: list[tuple[str, SweepPicture]]


def evaluate(
    checkpoint: Path,
    data: DataSource,
    device: str = "auto",
    pictures: int = 2,
    teacher: NamedTeacher | None = None,
    backend: str = "torch",
    mounting_error: MountingError = NONE,
    mirror: bool = False,
    motion_stereo: bool = False,
) -> Evaluation:
    """Run a checkpoint over all sweeps of ``data`` and score it.

    A sweep whose files are missing or damaged, or none of whose images can be read, is left out and counted.

    Args:
        checkpoint: ``.safetensors`` file.
        data: what to score on.
        device: auto, cpu, cuda or cuda:N.
        pictures: how many sweeps are kept to be shown, besides the worst.
        teacher: scored on the same images, at the size the student sees.
        backend: as of the node; what a lower precision costs is the difference to torch.
        mounting_error: of the rig that the network is told; the score is of the true one.
        mirror: ask for the mirrored images too, for the row ``mirrored``; twice the time.
        motion_stereo: correct by the sweeps before each too, which are read for it, for the row ``motion_stereo``.

    Raises CheckpointError, BackendError, and SourceError where nothing could be scored.
    """
    estimator = Estimator.from_checkpoint(checkpoint, device=device, backend=backend)
    mirrored = Estimator(MirroredBackend(estimator.backend), estimator.card) if mirror else None
    limits = DepthRange(data.min_depth, data.max_depth)
    tally = Tally(limits, teacher_is_metric=teacher is not None and teacher.network.kind != "disparity")
    book, digest = PictureBook(pictures, len(data.sweeps), limits), DataHash()
    corrections = CorrectedTally(limits, tally.bands)
    skipped: list[str] = []

    def told_of(prepared: PreparedSweep) -> PreparedSweep:
        return replace(prepared, rig=mounting_error.told(prepared.rig))

    correcting: AbstractContextManager[Correction | None] = nullcontext()
    if motion_stereo:
        correcting = closing(Correction(data, lambda sweep: told_of(estimator.prepare(sweep))))
    with correcting as correct:
        for index in tqdm(range(len(data.sweeps)), desc="evaluating", unit="sweep"):
            try:
                sweep = data.sweeps[index]
                prepared = estimator.prepare(sweep)
            except (ImageError, SourceError) as error:
                skipped.append(f"sweep {index}: {error}")
                continue
            told = told_of(prepared)
            estimate = replace(estimator.infer(told), rig=prepared.rig)
            said = None if teacher is None else teacher_disparity(teacher.network, prepared)
            second = None if mirrored is None else mirrored.infer(told)
            corrected = None if correct is None else correct(index, sweep, told, estimate)
            points = tally.add(sweep, estimate, said, second, corrected)
            if corrected is not None:
                corrections.add(sweep, estimate, corrected, points)
            book.add(index, prepared, estimate, points)
            if points:
                digest.add(sweep)
    figures = _figures(tally, data, skipped)
    name = without_folders(str(data.name))
    report = {
        "format": FORMAT,
        "verdict": verdict(figures, name),
        "made": describe(checkpoint, estimator.card, str(data.name), digest.hex(), estimator.backend.name),
        "skipped_sweeps": len(skipped),
        "skipped_because": skipped[:20],
        **figures,
    }
    if motion_stereo:
        report["motion_stereo"] = corrections.report()
    if mounting_error != NONE:
        report["made"]["mounting_error"] = asdict(mounting_error)
    if teacher is not None:
        network = teacher.network
        report["made"]["teacher"] = {"name": teacher.name, "kind": network.kind, "identity": network.identity}
    return Evaluation(report, book.chosen())


def _figures(tally: Tally, data: DataSource, skipped: Sequence[str]) -> dict[str, Any]:
    """The figures of a tally; raises SourceError where there are none."""
    if not tally.images:
        low, high = tally.limits.min, tally.limits.max
        reason = skipped[0] if skipped else f"no LiDAR point between {low:g} and {high:g} m fell into a view"
        raise SourceError(f"{data.name}: nothing could be scored: {reason}; give a drive with images and LiDAR")
    figures = tally.report()
    if not figures["rows"]["metric"]["overall"]["n"]:
        raise SourceError(
            f"{data.name}: nothing could be scored: the depth has no value (NaN) at any LiDAR point; try another "
            "backend or device, or check the checkpoint"
        )
    return figures


def teacher_disparity(teacher: Teacher, prepared: PreparedSweep) -> NDArray[np.float32]:
    """Disparity [V, H, W] of the views of a sweep: 1 / metres where the teacher is metric."""
    said = teacher.predict(torch.from_numpy(prepared.images.copy())).disparity.float().cpu()
    focal = torch.from_numpy(prepared.network_rig.intrinsics()[:, 0, 0]).float()
    scale = metric_scale(teacher.kind, focal, said.shape[-1])
    disparity: NDArray[np.float32] = (said if scale is None else said * scale[:, None, None]).numpy()
    return take_all(prepared.views, disparity)


def write_report(evaluation: Evaluation, folder: Path) -> None:
    """Write report.json and report.html; raises ConfigError where ``folder`` cannot be written."""
    texts = {
        "report.json": json.dumps(evaluation.report, indent=2, allow_nan=False) + "\n",
        "report.html": render_page(evaluation.report, evaluation.pictures),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            scratch = folder / f"{name}.partial"
            scratch.write_text(text, encoding="utf-8")
            os.replace(scratch, folder / name)
    except OSError as error:
        raise ConfigError(f"--output {folder}: cannot be written ({error.strerror}); give another folder") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; a user's mistake is told without a traceback."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--checkpoint",
        type=find_checkpoint,
        required=True,
        help=f"file, or one of the package: {shipped_names()}",
    )
    parser.add_argument("--data", required=True, help="nuscenes:PATH, ddad:PATH, bag:PATH or town:SEED, with options")
    parser.add_argument("--teacher", help="transformers depth model, directory or hub name, to be scored as well")
    parser.add_argument(
        "--teacher-kind",
        choices=("auto", *KINDS),
        help="what its numbers mean where its files do not tell, as teacher.kind of a training (auto)",
    )
    parser.add_argument(
        "--teacher-size",
        type=image_size(),
        metavar="HxW",
        help="of the images that it sees, as teacher.input_size of a training (that of its files)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument(
        "--backend", default="torch", help="that of the node to be scored, such as openvino_bf16 (torch)"
    )
    parser.add_argument("--pitch-error", type=float, default=0.0, metavar="DEG", help="tell the network a rig that is")
    parser.add_argument("--roll-error", type=float, default=0.0, metavar="DEG", help="... this much wrong (degrees)")
    parser.add_argument("--road-error", type=float, default=0.0, metavar="M", help="... and a road so much too high")
    parser.add_argument(
        "--mirror",
        action="store_true",
        help="score the mean with the mirrored images too, row mirrored: twice the time",
    )
    parser.add_argument(
        "--motion-stereo",
        action="store_true",
        help="correct by the sweeps before each too, row motion_stereo: these are read for it",
    )
    parser.add_argument("--output", type=Path, default=Path("out/evaluation"), help="folder for the report")
    given = parser.parse_args(arguments)
    try:
        teacher = _load_teacher(given.teacher, given.teacher_kind, given.teacher_size, given.device)
        data = open_data(given.data)
        pitch, roll = np.radians([given.pitch_error, given.roll_error]).tolist()
        wrong = MountingError(pitch, roll, given.road_error)
        make_folder("--output", given.output)
        evaluation = evaluate(
            given.checkpoint,
            data,
            given.device,
            teacher=teacher,
            backend=given.backend,
            mounting_error=wrong,
            mirror=given.mirror,
            motion_stereo=given.motion_stereo,
        )
        # first: what was measured is not lost with a file that cannot be written
        print(f"{table(evaluation.report)}\n\n{evaluation.report['verdict']}", flush=True)
        write_report(evaluation, given.output)
    except FsmdeError as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    print(f"report: {given.output / 'report.html'}")
    return 0


def _load_teacher(name: str | None, kind: str | None, size: tuple[int, int] | None, device: str) -> NamedTeacher | None:
    if name is None:
        if kind is not None or size is not None:
            raise ConfigError("--teacher-kind and --teacher-size are of a teacher, and there is none; give --teacher")
        return None
    from training.teachers.hub import load_teacher  # transformers takes seconds, and only a teacher needs it

    settings = TeacherSettings(name=name, kind=kind or "auto", input_size=size, device=device)
    return NamedTeacher(Path(name).name, load_teacher(settings))


if __name__ == "__main__":
    sys.exit(main())
