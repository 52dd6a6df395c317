"""OpenVINO on the CPU: float32, bfloat16, or int8 from a calibrated file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.backends.built_files import BuildKey, hash_student
from fsmde_ros.backends.onnx_graph import OUTPUTS, export_command, find_or_export
from fsmde_ros.backends.padded import Feed, PaddedBackend, Program
from fsmde_ros.backends.torch_eager import choose_device
from fsmde_ros.errors import BackendError, one_line
from fsmde_ros.network.student import Student

PIP = "pip install openvino==2026.4.1"
PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVinoBackend(PaddedBackend):
    """The ONNX graph, or its quantised form, on the CPU."""

    def __init__(
        self, student: Student, device: str = "auto", folders: Sequence[Path] = (), precision: str = "float32"
    ) -> None:
        """``precision``: a key of ``PRECISIONS``, or int8; raises BackendError where OpenVINO cannot run it here."""
        super().__init__()
        name = backend_name(precision)
        if device != "auto" and choose_device(device).type != "cpu":
            raise BackendError(f"backend {name} runs on the CPU, got device '{device}'; use device: cpu or auto")
        if find_spec("openvino") is None:
            raise BackendError(f"backend {name}: the package is not installed; {PIP}, or use backend: torch")
        self._student, self._folders, self._precision = student, folders, precision

    @property
    def name(self) -> str:
        """What runs where."""
        return f"{backend_name(self._precision)} cpu"

    def compile(self, views: int, size: tuple[int, int]) -> tuple[Program, int]:
        """See ``PaddedBackend``."""
        from openvino import Tensor

        path, room = self._file(views, size)
        hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": self._hint()}
        try:
            program = _core().compile_model(path, "CPU", hints)
            request = program.create_infer_request()
        except RuntimeError as error:
            raise BackendError(
                f"backend {backend_name(self._precision)}: {path} cannot be loaded: {one_line(error)}; delete the "
                "file, and it is made anew"
            ) from error

        shapes = {name: tuple(program.output(name).shape) for name in OUTPUTS}
        written: list[NDArray[np.float32]] = []  # held for as long as the request points to them

        def run(feed: Feed) -> Sequence[NDArray[np.float32]]:
            # Into arrays that the next sweep leaves alone; to copy them out costs nano 5 % of its time.
            written[:] = [np.empty(shapes[name], np.float32) for name in OUTPUTS]
            for name, array in zip(OUTPUTS, written, strict=True):
                request.set_tensor(name, Tensor(array, shared_memory=True))
            request.infer(dict(feed), share_inputs=True, share_outputs=True)
            return list(written)

        return run, room

    def _hint(self) -> str:
        if self._precision == "int8":  # for what is not quantised
            return "bf16" if computes_bfloat16() else "f32"
        return PRECISIONS[self._precision]

    def _file(self, views: int, size: tuple[int, int]) -> tuple[Path, int]:
        if self._precision != "int8":
            return find_or_export(self._student, views, size, self._folders)
        key = int8_key(self._student, views, size)
        found = key.find(self._folders)
        if found is None:
            raise BackendError(
                f"backend openvino_int8 needs the calibrated file {key.file_name} beside the checkpoint; make it with "
                f"{export_command(views, size, '--format openvino-int8')}, or use backend: openvino"
            )
        return found


@cache
def _core() -> Any:
    """OpenVINO, once in this process.

    Each CPU plugin gives the thread that loads it a stack for signal handlers. Freed before a younger one, it leaves
    that one a stack to restore which is no more, and the signal after that ends the process (OpenVINO 2026.4.1).
    """
    import openvino

    return openvino.Core()


def computes_bfloat16() -> bool:
    """Whether this processor has instructions for bfloat16, by OpenVINO's word; without them it would be slower."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def backend_name(precision: str) -> str:
    """Name of the backend for a precision: float32 has the plain one."""
    return {"float32": "openvino", "bfloat16": "openvino_bf16", "int8": "openvino_int8"}[precision]


def int8_key(student: Student, views: int, size: tuple[int, int]) -> BuildKey:
    """Key of the quantised file of ``student`` for ``views`` images of ``size`` (H, W)."""
    return BuildKey(hash_student(student), size, views, ".xml", "int8")
