"""PyTorch compiled, and on CUDA replayed as one CUDA graph, in bfloat16.

Six small views leave a large GPU waiting for the next kernel to be launched: a graph launches all
of them at once. Inputs and outputs stay where the graph was recorded with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fsmde_ros.backends.folding import freeze, place
from fsmde_ros.backends.padded import Feed, PaddedBackend, Program, empty_feed
from fsmde_ros.backends.torch_eager import choose_device
from fsmde_ros.errors import BackendError
from fsmde_ros.network.student import Student

SHAPES = 64  # at least, that torch.compile may compile in one process; beyond its own 8 it would run eagerly
WARM_UP_RUNS = 3  # libraries choose their kernels and allocate before anything is recorded
Inputs = dict[str, Tensor]


def dtype_of(device: torch.device) -> torch.dtype:
    """In which precision the student runs there; before Ampere GPUs emulate bfloat16."""
    if device.type != "cuda":
        return torch.float32
    with current(device):  # PyTorch asks the current one, and the machine may have others
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32


class TorchGraphBackend(PaddedBackend):
    """The student in bfloat16 on CUDA (float32 on the CPU and old GPUs), by ``torch.compile`` or as it is."""

    def __init__(self, student: Student, device: str = "auto", compiled: bool = True) -> None:
        """``compiled`` false replays the eager kernels, which needs CUDA; raises BackendError without it."""
        super().__init__()
        self.device, self._compiled_kernels = choose_device(device), compiled
        is_cuda = self.device.type == "cuda"
        if not compiled and not is_cuda:
            raise BackendError("backend cuda_graph needs a CUDA device; use backend: torch or auto")
        self._student = place(freeze(student), self.device, dtype_of(self.device))

    @property
    def name(self) -> str:
        """What runs where."""
        return f"{'torch_compile' if self._compiled_kernels else 'cuda_graph'} {self.device}"

    def compile(self, views: int, size: tuple[int, int]) -> tuple[Program, int]:
        """See ``PaddedBackend``; raises BackendError where the compiler fails, as without a C++ compiler."""
        inputs = {name: torch.from_numpy(array).to(self.device) for name, array in empty_feed(views, size).items()}
        estimate: Callable[..., Tensor] = self.estimate
        if self._compiled_kernels:
            torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, SHAPES)
            estimate = torch.compile(estimate, dynamic=False)
        try:
            with torch.inference_mode(), current(self.device):
                estimate(**inputs)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise BackendError(f"backend torch_compile: {error}; use backend: torch") from error
        if self.device.type == "cuda":
            return record(estimate, inputs), views

        @torch.inference_mode()
        def run(feed: Feed) -> Sequence[NDArray[np.float32]]:
            return list(estimate(**{name: torch.from_numpy(array) for name, array in feed.items()}).numpy())

        return run, views

    def estimate(self, **inputs: Tensor) -> Tensor:
        """Depth, stddev and out_of_range, [3, 1, V, H, W] float32."""
        output = self._student(**inputs)
        return torch.stack([part.float() for part in output[:3]])


def current(device: torch.device) -> AbstractContextManager[object]:
    """Makes a CUDA device the current one, whose streams and graphs all calls without a device mean."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def record(estimate: Callable[..., Tensor], inputs: Inputs) -> Program:
    """A program that copies a sweep to ``inputs``, replays ``estimate(**inputs)`` and copies the result out."""
    device = next(iter(inputs.values())).device
    call = replay(estimate, inputs)
    with current(device):
        output = call()
        staging = {name: torch.empty_like(tensor, device="cpu").pin_memory() for name, tensor in inputs.items()}

    @torch.inference_mode()
    def run(feed: Feed) -> Sequence[Any]:
        with current(device):
            for name, array in feed.items():
                staging[name].copy_(torch.from_numpy(array))
                inputs[name].copy_(staging[name], non_blocking=True)
            result = torch.empty(output.shape, pin_memory=True)  # anew for each sweep, from what PyTorch keeps pinned
            result.copy_(call(), non_blocking=True)
            torch.cuda.current_stream(device).synchronize()
        return list(result.numpy())

    return run


@torch.inference_mode()
def replay(estimate: Callable[..., Tensor], inputs: Inputs) -> Callable[[], Tensor]:
    """Record ``estimate(**inputs)`` as a CUDA graph: a call that computes it anew from what the inputs hold then.

    It returns before the device is done, always the same tensor, and holds on to ``estimate`` and its inputs.
    """
    device = next(iter(inputs.values())).device
    with current(device):
        # Recorded on this one too: torch.cuda.graph by itself takes one for all graphs, on the device of the first.
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_RUNS):
                estimate(**inputs)
        torch.cuda.current_stream(device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            output = estimate(**inputs)

    def call(*_: object) -> Tensor:
        with current(device):
            graph.replay()
        return output

    # The graph reads weights and inputs where they lay, and owns none of them.
    return partial(call, estimate, inputs)
