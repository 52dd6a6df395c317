"""Write the files that other runtimes need of a checkpoint.

    python -m training.export --checkpoint fsmde_ros/models/small.safetensors
    python -m training.export --checkpoint ... --format openvino-int8
    python -m training.export --checkpoint ... --output DIR --views 8 --size 352x640

Left beside the checkpoint, they are found by the node: ``backend: auto`` then takes the fastest
runtime that is installed. The ONNX file serves up to ``--views`` views and takes the rig as an
input; ``fsmde_ros/backends/onnx_graph.py`` lists its inputs and outputs. int8 is calibrated on
sweeps of the town, which are rendered for it (a minute or two).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fsmde_ros.backends import build_backend
from fsmde_ros.backends.built_files import write_whole
from fsmde_ros.backends.onnx_graph import export, find_or_export, graph_key
from fsmde_ros.backends.openvino import int8_key
from fsmde_ros.backends.padded import Feed
from fsmde_ros.checkpoint import default_checkpoint, find_checkpoint, load_checkpoint
from fsmde_ros.errors import ConfigError, FsmdeError
from fsmde_ros.estimator import Estimator
from fsmde_ros.model_card import ModelCard
from fsmde_ros.network.student import Student
from fsmde_ros.option_types import image_size, whole
from training.quantise import feed_of, quantise
from training.town.drive import nuscenes_drive

FORMATS = ("onnx", "openvino-int8")
MOST_VIEWS = 64
CALIBRATION_SEED = 1_000_000  # the first of the towns that were trained on


@dataclass(frozen=True)
class ExportOptions:
    """What to write: ``size`` (H, W) None is the checkpoint's own; ``sweeps`` are for int8."""

    views: int = 6
    size: tuple[int, int] | None = None
    form: str = "onnx"
    sweeps: int = 12


def export_checkpoint(checkpoint: Path, output: Path | None, options: ExportOptions) -> Path:
    """Write the file of ``checkpoint`` into the folder ``output`` (None: beside it); returns its path.

    It is there when it is whole. Raises CheckpointError, BackendError, or ConfigError for a folder that cannot be made
    or written to.
    """
    student, card = load_checkpoint(checkpoint)
    size = options.size or card.input_size
    folder = output or checkpoint.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output {folder}: is no folder ({error.strerror}); give another") from error
    try:
        if options.form == "onnx":
            path = folder / graph_key(student, options.views, size).file_name
            facts = {"card": card.to_json()}
            write_whole(path, lambda made: export(student, options.views, size, made, facts))
        else:
            graph, views = find_or_export(student, options.views, size, [folder])
            path = folder / int8_key(student, views, size).file_name
            feeds = town_feeds(student, replace(card, input_size=size), views, options.sweeps)
            write_whole(path, lambda made: quantise(graph, feeds, made))
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written to ({error.strerror}); give another by --output") from error
    return path


def town_feeds(student: Student, card: ModelCard, views: int, sweeps: int) -> Iterator[Feed]:
    """Inputs of the graph from ``sweeps`` sweeps, each of another town."""
    estimator = Estimator(build_backend("torch", student, "cpu"), card)
    for seed in range(CALIBRATION_SEED, CALIBRATION_SEED + sweeps):
        drive = nuscenes_drive(seed, (180, 320), duration_s=1.0, camera_rate_hz=1.0)
        yield feed_of(estimator.prepare(next(iter(drive))), views)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 written, 1 something is wrong (said on stderr)."""
    options = _parser().parse_args(arguments)
    chosen = ExportOptions(options.views, options.size, options.format, options.sweeps)
    try:
        print(export_checkpoint(options.checkpoint, options.output, chosen))
    except FsmdeError as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=find_checkpoint, default=default_checkpoint(), help="a .safetensors file")
    parser.add_argument("--format", choices=FORMATS, default="onnx", help="what to write (onnx)")
    parser.add_argument("--output", type=Path, help="folder (that of the checkpoint)")
    parser.add_argument(
        "--views",
        type=whole(1, MOST_VIEWS),
        default=6,
        metavar="V",
        help=f"at most, up to {MOST_VIEWS} (6)",
    )
    parser.add_argument(
        "--size",
        type=image_size(multiple=32),
        metavar="HxW",
        help="of the images (that of the checkpoint)",
    )
    parser.add_argument("--sweeps", type=whole(1), default=12, help="to calibrate int8 on (12)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
