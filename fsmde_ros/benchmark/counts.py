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

PRODUCT_SIZES = (256, 512, 1024, 2048)  # edges of the matrices; the larger, the nearer to the ceiling
CUDA_PRODUCT, CUDA_COPY_BYTES = 8192, 2**31  # smaller ones are over before the next one has been launched
PRODUCT_S = 0.5
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
    sizes: dict[str, int] = {}
    is_cuda = device.type == "cuda"
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        if is_cuda:
            sizes[name] = CUDA_PRODUCT
        else:
            smallest = _product(PRODUCT_SIZES[0], dtype, device)
            sizes[name] = product_size(interleave({name: smallest}, rounds=1)[name].median_ms / 1000)
        subjects[name] = _product(sizes[name], dtype, device)
    copied = copy_bytes(torch.cuda.mem_get_info(device)[0]) if is_cuda else COPY_BYTES
    source = torch.zeros(copied // 4, device=device)
    target = torch.empty_like(source)
    subjects["copy"] = finished(lambda: target.copy_(source), device)
    times = interleave(subjects, rounds)
    return Ceiling(
        {name: 1000 * 2 * size**3 / 1e9 / times[name].median_ms for name, size in sizes.items()},
        1000 * 2 * copied / 1e9 / times["copy"].median_ms,
    )


def copy_bytes(free: int) -> int:
    """Bytes to copy on a GPU with so many ``free``: there and back again, beside the matrices, must fit."""
    return min(CUDA_COPY_BYTES, free // 8)


def product_size(seconds: float) -> int:
    """Edge of the largest product that takes no longer than ``PRODUCT_S``, going by the ``seconds`` of the smallest.

    A CPU without instructions for bfloat16 takes 25 s for the largest, and would be busy with it for minutes.
    """
    smallest = PRODUCT_SIZES[0]
    fitting = [size for size in PRODUCT_SIZES if seconds * (size / smallest) ** 3 <= PRODUCT_S]
    return max(fitting, default=smallest)


def _product(size: int, dtype: torch.dtype, device: torch.device) -> Callable[[], object]:
    a = torch.randn(size, size, device=device).to(dtype)
    return finished(lambda: a @ a, device)


def finished(call: Callable[[], object], device: torch.device) -> Callable[[], object]:
    """``call``, ended only when the device has done it."""

    def run() -> None:
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run
