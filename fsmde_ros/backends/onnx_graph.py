"""The student as an ONNX graph that other programs can run too.

It takes the images as they come and the rig; normalisation, rays, bins and upsampling are inside.
V, H and W are fixed in the file; a sweep with fewer views has missing ones:

    images            [1, V, 3, H, W] uint8, RGB
    intrinsics        [1, V, 3, 3] float32, pixels
    camera_to_vehicle [1, V, 4, 4] float32, metres
    ground_z          [1] float32, height of the road in the vehicle frame, metres
    present           [1, V] bool; false: the view is missing, its image is ignored and its depth means nothing
    depth, stddev     [1, V, H, W] float32, metres
    out_of_range      [1, V, H, W] float32, probability of sky or of a depth beyond the range
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from fsmde_ros.backends.built_files import BuildKey, hash_student
from fsmde_ros.backends.folding import freeze
from fsmde_ros.backends.padded import empty_feed
from fsmde_ros.errors import BackendError
from fsmde_ros.network.student import Student

OUTPUTS = ("depth", "stddev", "out_of_range")
OPSET = 18
PIP_EXPORT = "pip install onnx==1.23.2"


class _Graph(nn.Module):
    """The part of the student's output that is used when it runs."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = freeze(student)

    def forward(
        self, images: Tensor, intrinsics: Tensor, camera_to_vehicle: Tensor, ground_z: Tensor, present: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See ``Student.forward``."""
        output = self.student(images, intrinsics, camera_to_vehicle, ground_z, present)
        return output.depth, output.stddev, output.out_of_range


def graph_key(student: Student, views: int, size: tuple[int, int]) -> BuildKey:
    """Key of the ONNX file of ``student`` for ``views`` images of ``size`` (H, W)."""
    return BuildKey(hash_student(student), size, views, ".onnx", versions=f"opset {OPSET}")


def export(
    student: Student, views: int, size: tuple[int, int], path: Path, facts: Mapping[str, str] | None = None
) -> None:
    """Write the ONNX graph of ``student`` for ``views`` images of ``size`` (H, W), with ``facts`` as its metadata.

    Raises BackendError where the package for it is not installed.
    """
    if find_spec("onnx") is None:
        raise BackendError(
            f"making the ONNX file of this checkpoint needs one more package: {PIP_EXPORT}; or make it on another "
            f"machine with {export_command(views, size)}, and lay it beside the checkpoint"
        )
    import onnx

    arguments = {name: torch.from_numpy(array) for name, array in empty_feed(views, size).items()}
    with _quiet(), torch.inference_mode(False):
        # By tracing: PyTorch's newer exporter makes the same graph in six times the time, which a node that
        # starts has to wait for.
        torch.onnx.export(
            _Graph(student),
            tuple(arguments.values()),
            path,
            dynamo=False,
            input_names=list(arguments),
            output_names=list(OUTPUTS),
            opset_version=OPSET,
        )
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, dict(facts or {}))
    onnx.save(model, str(path))


def export_command(views: int, size: tuple[int, int], *options: str) -> str:
    """The command that makes the file for ``views`` images of ``size`` (H, W)."""
    shape = f"--views {views} --size {size[0]}x{size[1]}"
    return " ".join(["python -m training.export --checkpoint CHECKPOINT", *options, shape])


def find_or_export(student: Student, views: int, size: tuple[int, int], folders: Sequence[Path]) -> tuple[Path, int]:
    """The ONNX file of ``student``, made where it is nowhere yet, and its views; raises BackendError."""
    key = graph_key(student, views, size)
    return key.find_or_build(folders, lambda path: export(student, views, size, path))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the tracer's warnings, on constants that are constant here, out of the node's log."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
