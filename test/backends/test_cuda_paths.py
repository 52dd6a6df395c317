"""What of the CUDA backends can be looked at without a GPU."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fsmde_ros.backends import build_backend, tensorrt, torch_graph
from fsmde_ros.backends.folding import freeze, place
from fsmde_ros.backends.memory_guard import is_out_of_memory
from fsmde_ros.backends.padded import empty_feed
from fsmde_ros.backends.torch_graph import dtype_of
from fsmde_ros.errors import BackendError
from fsmde_ros.network.student import Student
from training.expectation import with_config


class OnOneDevice(TorchDispatchMode):
    """Notes operations with a tensor on the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.count, self.elsewhere = 0, list[str]()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count the operation, and run it."""
        result = operation(*args, **(kwargs or {}))
        self.count += 1
        if any(isinstance(leaf, torch.Tensor) and leaf.is_cpu for leaf in tree_leaves((args, kwargs, result))):
            self.elsewhere.append(str(operation))
        return result


@pytest.mark.parametrize("reduction", [1, 2])
def test_the_student_asks_for_nothing_that_a_cuda_graph_cannot_hold(trained: Student, reduction: int) -> None:
    """No copy between devices, and no value that Python waits for: the device ``meta`` has none to give."""
    meta = torch.device("meta")
    student = place(freeze(with_config(trained, input_reduction=reduction)), meta, torch.bfloat16)
    inputs = {name: torch.from_numpy(array).to(meta) for name, array in empty_feed(6, (192, 320)).items()}
    with torch.inference_mode(), OnOneDevice() as watched:
        output = student(**inputs)
    assert watched.count > 300
    assert not watched.elsewhere
    assert {part.dtype for part in output[:3]} == {torch.float32}


@torch.inference_mode()
def test_bfloat16_costs_the_depth_little(trained: Student, make: Callable[..., Any]) -> None:
    """What ``cuda_graph`` computes, on the CPU."""
    sweep = make(2)
    student = place(freeze(trained), torch.device("cpu"), torch.bfloat16)
    inputs = {
        "images": torch.from_numpy(np.ascontiguousarray(sweep.images)),
        "intrinsics": torch.from_numpy(sweep.intrinsics).float(),
        "camera_to_vehicle": torch.from_numpy(sweep.camera_to_vehicle).float(),
        "ground_z": torch.tensor(float(sweep.ground_z)),
        "present": torch.from_numpy(sweep.present),
    }
    found = student(**{name: tensor[None] for name, tensor in inputs.items()}).depth[0].numpy()
    expected = build_backend("torch", trained, "cpu")(*sweep).depth
    relative = np.abs(found / expected - 1)
    assert np.median(relative) < 0.01
    assert np.quantile(relative, 0.99) < 0.05


def test_the_precision_is_that_of_the_device_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch asks the current device; of two, the second may be older."""
    chosen = [torch.device("cuda:0")]

    @contextmanager
    def current(device: torch.device) -> Iterator[None]:
        chosen.append(device)
        yield
        chosen.pop()

    monkeypatch.setattr(torch_graph, "current", current)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: chosen[-1].index == 0)
    assert dtype_of(torch.device("cuda:0")) == torch.bfloat16
    assert dtype_of(torch.device("cuda:1")) == torch.float32
    assert dtype_of(torch.device("cpu")) == torch.float32


def test_an_engine_without_room_to_run_is_short_of_memory() -> None:
    """TensorRT has no exceptions; a guard of memory then tries fewer views."""
    engine = SimpleNamespace(create_execution_context=lambda: None)
    with pytest.raises(BackendError, match="backend tensorrt: out of memory on cpu") as caught:
        tensorrt.bind(engine, 2, (64, 96), torch.device("cpu"))
    assert is_out_of_memory(caught.value)


class Recorder:
    """CUDA as far as a graph needs it: what is done while one is recorded is done again in ``replay``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, compute: Callable[..., torch.Tensor]) -> None:
        self.compute, self.calls, self.synchronised = compute, list[dict[str, torch.Tensor]](), 0
        self.output = torch.zeros(0)
        stream = SimpleNamespace(wait_stream=lambda other: None, synchronize=self.synchronise)
        for name, value in {
            "Stream": lambda device: stream,
            "current_stream": lambda device: stream,
            "stream": lambda chosen: nullcontext(),
            "CUDAGraph": lambda: SimpleNamespace(replay=self.replay),
            "graph": lambda graph, stream: nullcontext(),
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
        empty = torch.empty
        monkeypatch.setattr(torch, "empty", lambda shape, pin_memory: empty(shape))

    def estimate(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Called for each warm-up and once while the graph is recorded, always with the same tensors."""
        self.calls.append(inputs)
        self.output = self.compute(**inputs)
        return self.output

    @torch.inference_mode()
    def replay(self) -> None:
        """As the device: the same operations, on the memory that they were recorded with."""
        self.output.copy_(self.compute(**self.calls[-1]))

    def synchronise(self) -> None:
        self.synchronised += 1


def test_a_replayed_sweep_is_computed_from_its_own_images(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(monkeypatch, lambda images, present: images.float() * present)
    inputs = {"images": torch.zeros(2, 3, dtype=torch.uint8), "present": torch.zeros(2, 1, dtype=torch.bool)}
    run = torch_graph.record(recorder.estimate, inputs)
    assert len(recorder.calls) == torch_graph.WARM_UP_RUNS + 1
    found = []
    for value in (1, 2):
        feed = {"images": np.full((2, 3), value, np.uint8), "present": np.array([[True], [False]])}
        found.append(run(feed))
    assert recorder.synchronised == 2
    for value, result in zip((1, 2), found, strict=True):  # the first outlives the second
        np.testing.assert_array_equal(result, [[value] * 3, [0] * 3])


def test_a_graph_holds_what_it_was_recorded_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads weights and inputs where they lay; freed, that memory is another's, or nobody's."""

    class Network:
        weights = torch.ones(3)

        def estimate(self, images: torch.Tensor) -> torch.Tensor:
            return images * self.weights

    Recorder(monkeypatch, Network().estimate)
    network, inputs = Network(), {"images": torch.zeros(3)}
    owners = [weakref.ref(network), weakref.ref(inputs["images"])]
    call = torch_graph.replay(network.estimate, inputs)
    del network, inputs
    gc.collect()
    assert all(owner() is not None for owner in owners)
    del call
    gc.collect()
    assert all(owner() is None for owner in owners)
