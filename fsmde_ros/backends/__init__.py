"""Ways to run the student, behind one call (``backend.Backend``)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fsmde_ros.backends.backend import Backend, Prediction
from fsmde_ros.backends.memory_guard import is_out_of_memory
from fsmde_ros.backends.onnx_graph import graph_key
from fsmde_ros.backends.onnxruntime import OnnxRuntimeBackend
from fsmde_ros.backends.openvino import OpenVinoBackend, computes_bfloat16
from fsmde_ros.backends.tensorrt import TensorRtBackend
from fsmde_ros.backends.torch_eager import TorchBackend, choose_device
from fsmde_ros.backends.torch_graph import TorchGraphBackend
from fsmde_ros.errors import BackendError
from fsmde_ros.network.student import Student

__all__ = ["BUILDERS", "Backend", "Prediction", "build_backend", "fastest_ready"]

_LOG = logging.getLogger(__name__)

Builder = Callable[[Student, str, Sequence[Path]], Backend]

# Of student, device and the folders where files that were built of it may lie.
BUILDERS: dict[str, Builder] = {
    "torch": lambda student, device, folders: TorchBackend(student, device),
    "torch_compile": lambda student, device, folders: TorchGraphBackend(student, device),
    "cuda_graph": lambda student, device, folders: TorchGraphBackend(student, device, compiled=False),
    "onnxruntime": OnnxRuntimeBackend,
    "openvino": OpenVinoBackend,
    "openvino_bf16": partial(OpenVinoBackend, precision="bfloat16"),
    "openvino_int8": partial(OpenVinoBackend, precision="int8"),
    "tensorrt": TensorRtBackend,
}


def build_backend(
    name: str,
    student: Student,
    device: str = "auto",
    input_size: tuple[int, int] | None = None,
    folders: Sequence[Path] = (),
) -> Backend:
    """The backend ``name`` for ``student`` on ``device``.

    Args:
        name: of ``BUILDERS``, or auto: the fastest that is ready, see ``fastest_ready``.
        student: stays as it is.
        device: auto, cpu, cuda or cuda:N.
        input_size: (H, W) that it will run at; without it auto is PyTorch.
        folders: where files built of the student may lie, beside the cache.

    Raises BackendError for an unknown backend, one that is not installed, or a device that is not there.
    """
    is_choice = name == "auto"
    if is_choice:
        name = fastest_ready(student, choose_device(device), input_size, folders)
    builder = BUILDERS.get(name)
    if builder is None:
        raise BackendError(f"backend must be auto or one of {', '.join(sorted(BUILDERS))}, got '{name}'")
    backend = builder(student, device, folders)
    if is_choice and isinstance(backend, (OnnxRuntimeBackend, OpenVinoBackend)):
        return OrTorch(backend, lambda: TorchBackend(student, device))
    return backend


class OrTorch:
    """The choice of auto: where the file that it needs cannot be had, PyTorch, with a warning.

    Its cache cannot be written, say, or the file that lies there is for fewer cameras and cannot be made anew without
    the package for it. Nobody asked for that file. Who names a backend, however, is told that it cannot be had.
    """

    def __init__(self, chosen: Backend, torch_instead: Callable[[], Backend]) -> None:
        self._backend, self._torch_instead = chosen, torch_instead

    @property
    def name(self) -> str:
        """What runs where, such as ``torch cpu``."""
        return self._backend.name

    def __call__(
        self,
        images: NDArray[np.uint8],
        intrinsics: NDArray[np.float64],
        camera_to_vehicle: NDArray[np.float64],
        ground_z: float,
        present: NDArray[np.bool_],
    ) -> Prediction:
        """See ``Backend``."""
        try:
            return self._backend(images, intrinsics, camera_to_vehicle, ground_z, present)
        except BackendError as error:
            if is_out_of_memory(error):  # fewer views at a time may do, see ``MemoryGuard``
                raise
            _LOG.warning(f"{error}; until then PyTorch runs instead of {self.name}, which is faster")
        self._backend = self._torch_instead()
        return self._backend(images, intrinsics, camera_to_vehicle, ground_z, present)


def fastest_ready(
    student: Student, device: torch.device, input_size: tuple[int, int] | None, folders: Sequence[Path] = ()
) -> str:
    """The fastest backend that is installed, costs no accuracy, and is ready in seconds.

    In bfloat16, where the processor or GPU has it, AbsRel and delta1 are those of float32 (docs/evaluation.md).
    A node that was started with ``auto`` must not spend minutes on a build that nobody asked for. The ONNX graph
    of a checkpoint takes a few seconds, once: it is made where ``onnx`` is installed, or found where
    ``python -m training.export`` has left it.
    """
    if device.type == "cuda":
        return "cuda_graph"
    if input_size is None:
        return "torch"
    if find_spec("onnx") is None and graph_key(student, 1, input_size).find(folders) is None:
        return "torch"
    if find_spec("openvino") is not None:
        return "openvino_bf16" if computes_bfloat16() else "openvino"
    return "onnxruntime" if find_spec("onnxruntime") is not None else "torch"
