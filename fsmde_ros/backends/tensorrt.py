"""TensorRT: an engine built from the ONNX graph, kept for this weights, size, version and GPU."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fsmde_ros.backends.built_files import BuildKey, hash_student
from fsmde_ros.backends.onnx_graph import OUTPUTS, find_or_export
from fsmde_ros.backends.padded import Feed, PaddedBackend, Program, empty_feed
from fsmde_ros.backends.torch_eager import choose_device
from fsmde_ros.backends.torch_graph import current
from fsmde_ros.errors import BackendError
from fsmde_ros.network.student import Student

PIP = "pip install 'tensorrt>=10,<12'"


class TensorRtBackend(PaddedBackend):
    """An engine in float32, on tensor cores in TF32.

    Not with half-precision layers: the squares that GroupNorm sums overflow them, to finite and wrong depth, and
    TensorRT 11 has no such switch any more.
    """

    def __init__(self, student: Student, device: str = "auto", folders: Sequence[Path] = ()) -> None:
        """Raises BackendError without TensorRT or without a CUDA device."""
        super().__init__()
        if find_spec("tensorrt") is None:
            raise BackendError(f"backend tensorrt: the package is not installed; {PIP}, or use backend: auto")
        self._device = choose_device(device)
        if self._device.type != "cuda":
            raise BackendError("backend tensorrt needs a CUDA device; use backend: auto")
        self._student, self._folders = student, folders

    @property
    def name(self) -> str:
        """What runs where."""
        return f"tensorrt {self._device}"

    def compile(self, views: int, size: tuple[int, int]) -> tuple[Program, int]:
        """See ``PaddedBackend``; the first time on a machine this takes minutes."""
        import tensorrt

        gpu, version = torch.cuda.get_device_name(self._device), f"tensorrt {tensorrt.__version__}"
        graph, room = find_or_export(self._student, views, size, self._folders)
        key = BuildKey(hash_student(self._student), size, room, ".engine", "float32", version, gpu)
        with current(self._device):  # TensorRT builds for, and loads to, the current device
            path, room = key.find_or_build(self._folders, lambda path: build_engine(graph, path))
            runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.WARNING))
            engine = runtime.deserialize_cuda_engine(path.read_bytes())
            if engine is None:
                raise BackendError(f"{path}: TensorRT cannot read its own engine; delete the file and start again")
            return bind(engine, room, size, self._device), room


def build_engine(graph: Path, path: Path) -> None:
    """Build the engine of an ONNX file; raises BackendError where TensorRT refuses it."""
    import tensorrt

    logger = tensorrt.Logger(tensorrt.Logger.WARNING)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse(graph.read_bytes()):
        reasons = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise BackendError(f"{graph}: TensorRT {tensorrt.__version__} cannot read it: {reasons}; use backend: auto")
    engine = builder.build_serialized_network(network, builder.create_builder_config())
    if engine is None:
        raise BackendError(f"{graph}: TensorRT {tensorrt.__version__} cannot build an engine; use backend: auto")
    path.write_bytes(bytes(engine))


def bind(engine: Any, views: int, size: tuple[int, int], device: torch.device) -> Program:
    """A program that runs ``engine`` on buffers of its own."""
    context = engine.create_execution_context()
    if context is None:  # its log says why; it has no exceptions
        raise BackendError(f"backend tensorrt: out of memory on {device}, or another reason that its log names")
    feed = empty_feed(views, size)
    inputs: dict[str, Tensor] = {name: torch.from_numpy(array).to(device) for name, array in feed.items()}
    outputs = {name: torch.empty((1, views, *size), device=device) for name in OUTPUTS}
    for name, tensor in {**inputs, **outputs}.items():
        context.set_tensor_address(name, tensor.data_ptr())

    def run(feed: Feed) -> Sequence[Any]:
        with current(device):
            stream = torch.cuda.current_stream(device)
            for name, array in feed.items():
                inputs[name].copy_(torch.from_numpy(array), non_blocking=True)
            if not context.execute_async_v3(stream.cuda_stream):
                raise BackendError("backend tensorrt: the engine could not be started; see its log")
            return [outputs[name].cpu().numpy() for name in OUTPUTS]

    return run
