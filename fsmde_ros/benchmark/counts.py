"""What the network has to do, and what the machine can do: operations and bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fsmde_ros.backends.padded import empty_feed
from fsmde_ros.benchmark.timing import interleave
from fsmde_ros.network.student import Student, StudentConfig

GEMM_SIZE = 2048
COPY_BYTES = 2**27  # larger than any cache


@dataclass(frozen=True)
class Work:
    """Of one sweep: floating-point operations of convolutions and matrix products (a multiply-add counts two),
    bytes that go in and out of the layers in float32, and parameters."""

    gflop: float
    gigabytes: float
    parameters: int


@dataclass(frozen=True)
class Ceiling:
    """What the machine reaches in a large matrix product, by precision, and in a copy (read and write)."""

    gflop_per_s: dict[str, float]
    gigabytes_per_s: float


def count_work(config: StudentConfig, views: int, size: tuple[int, int]) -> Work:
    """Count without computing, on tensors that have a shape and no memory."""
    with torch.device("meta"):
        student = Student(config).eval()
    feed = {name: torch.from_numpy(array).to("meta") for name, array in empty_feed(views, size).items()}
    return count_module(student, lambda: student(**feed))


def count_module(module: nn.Module, call: Callable[[], object]) -> Work:
    """Work of ``call()``, in which ``module`` runs once."""
    moved = 0

    def count(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal moved
        tensors = [t for t in (*inputs, output, *layer.parameters(recurse=False)) if isinstance(t, Tensor)]
        moved += sum(4 * t.numel() for t in tensors)

    leaves = [layer for layer in module.modules() if not any(layer.children())]
    hooks = [layer.register_forward_hook(count) for layer in leaves]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    for hook in hooks:
        hook.remove()
    parameters = sum(p.numel() for p in module.parameters())
    return Work(counter.get_total_flops() / 1e9, moved / 1e9, parameters)


def measure_ceiling(device: torch.device, rounds: int = 5) -> Ceiling:
    """Measure the machine with PyTorch's own matrix product and copy."""
    subjects: dict[str, Callable[[], object]] = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a = torch.randn(GEMM_SIZE, GEMM_SIZE, device=device).to(dtype)
        subjects[name] = finished(lambda a=a: a @ a, device)  # type: ignore[misc]
    source = torch.zeros(COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)
    subjects["copy"] = finished(lambda: target.copy_(source), device)
    times = interleave(subjects, rounds)
    flops = 2 * GEMM_SIZE**3 / 1e9
    return Ceiling(
        {name: 1000 * flops / times[name].median_ms for name in ("float32", "bfloat16")},
        1000 * 2 * COPY_BYTES / 1e9 / times["copy"].median_ms,
    )


def finished(call: Callable[[], object], device: torch.device) -> Callable[[], object]:
    """``call``, ended only when the device has done it."""

    def run() -> None:
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run
