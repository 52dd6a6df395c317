"""The network alone: by backend, by number of views, by image size, in batches, beside its peers."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fsmde_ros.backends import Backend, build_backend
from fsmde_ros.backends.folding import freeze, place
from fsmde_ros.backends.memory_guard import is_out_of_memory
from fsmde_ros.backends.padded import empty_feed
from fsmde_ros.backends.torch_graph import TorchGraphBackend, dtype_of, replay
from fsmde_ros.benchmark.apart import apart
from fsmde_ros.benchmark.counts import Ceiling, Work, count_work, finished
from fsmde_ros.benchmark.timing import Timing, interleave
from fsmde_ros.benchmark.workload import prepared_sweep
from fsmde_ros.checkpoint import load_checkpoint
from fsmde_ros.errors import BackendError, one_line
from fsmde_ros.estimator import PreparedSweep, run_network
from fsmde_ros.network.student import Student

PEERS = "training.benchmark_peers"


@dataclass(frozen=True)
class Subject:
    """Something that estimates the depth of a sweep.

    Attributes:
        call: one sweep.
        work: what it has to do.
        depth_change: median change of the depth against eager float32, as a share; None for a peer.
        size: (H, W) of the input of a student; None for a peer, whose name tells it.
        gpu_memory_mb: asks for what it has held on the GPU; None for a peer.
        precision: of its products, one of ``Ceiling.gflop_per_s``.
    """

    call: Callable[[], object]
    work: Work
    depth_change: float | None = None
    size: tuple[int, int] | None = None
    gpu_memory_mb: Callable[[], float | None] | None = None
    precision: str = "float32"


@dataclass(frozen=True, eq=False)
class Loaded:
    """A student on a backend, with the sweep that it is to run on."""

    backend: Backend
    sweep: PreparedSweep

    def run(self) -> float:
        """One sweep; the seconds it took."""
        start = time.perf_counter()
        run_network(self.backend, self.sweep)
        return time.perf_counter() - start

    def runs_as(self) -> str:
        """What runs where, such as ``torch cpu``: of auto what it has chosen, known for sure after the first sweep."""
        return self.backend.name

    def gpu_memory_mb(self) -> float | None:
        """Most that PyTorch has held on the GPU in this process, MB, other runtimes not counted; None without a GPU."""
        if not torch.cuda.is_available():
            return None
        return max(torch.cuda.max_memory_allocated(index) for index in range(torch.cuda.device_count())) / 1e6

    def depth(self) -> NDArray[np.float32]:
        """Depth of the sweep [V, H, W], m."""
        return run_network(self.backend, self.sweep).depth


def load(checkpoint: Path, backend: str, device: str, views: int, size: tuple[int, int]) -> Loaded:
    """A checkpoint on ``backend``, in this process; raises BackendError where it cannot run here."""
    student, _ = load_checkpoint(checkpoint)
    built = build_backend(backend, student, device, size, [checkpoint.parent])
    return Loaded(built, prepared_sweep(views, size))


@contextmanager
def network_subjects(
    checkpoints: Mapping[str, Path], backends: Sequence[str], device: str, views: int, size: tuple[int, int] | None
) -> Iterator[tuple[dict[str, Subject], dict[str, str]]]:
    """Every checkpoint on every backend, by the name ``student backend``, and why others cannot run here.

    Without ``size`` each has its own; one that cannot take it has the next larger one that it can. Each runs in a
    process of its own until the context is left: alone, as in a node.
    """
    subjects: dict[str, Subject] = {}
    left_out: dict[str, str] = {}
    with ExitStack() as processes:
        for model, checkpoint in checkpoints.items():
            card = load_checkpoint(checkpoint)[1]
            config, own = card.student, card.student.fitting(size or card.input_size)
            work = count_work(config, views, own)
            expected = load(checkpoint, "torch", device, views, own).depth()
            for name in backends:
                try:
                    loaded = processes.enter_context(apart(load, checkpoint, name, device, views, own))
                    found = loaded.ask(Loaded.depth)
                    precision = precision_of(loaded.ask(Loaded.runs_as))
                except Exception as error:  # of any kind: the others are still worth measuring
                    kind = "" if isinstance(error, BackendError) else f"{type(error).__name__}: "
                    left_out[f"{model} {name}"] = f"{kind}{one_line(error)}"
                    continue
                change = float(np.median(np.abs(found / expected - 1)))
                call, memory = partial(loaded.ask, Loaded.run), partial(loaded.ask, Loaded.gpu_memory_mb)
                subjects[f"{model} {name}"] = Subject(call, work, change, own, memory, precision)
        yield subjects, left_out


def precision_of(runs_as: str) -> str:
    """In which precision a backend multiplies that has the name ``runs_as``, such as ``torch cpu``.

    What int8 could reach is not measured, and counts as float32.
    """
    backend, device = runs_as.split()
    if backend in ("cuda_graph", "torch_compile"):
        return str(dtype_of(torch.device(device))).removeprefix("torch.")
    return "bfloat16" if backend == "openvino_bf16" else "float32"


@contextmanager
def peer_subjects(views: int, size: tuple[int, int]) -> Iterator[dict[str, Subject]]:
    """Other networks, from the checkout, each in processes of its own until the context is left.

    Raises BackendError where the checkout, or ``transformers``, is not there.
    """
    try:
        module = importlib.import_module(PEERS)
    except ImportError as error:
        raise BackendError(
            f"--peers needs {PEERS} and transformers ({error}); run python -m fsmde_ros.benchmark from the checkout "
            "with requirements/train.txt installed"
        ) from error
    with module.peers(views, size) as found:
        yield {name: Subject(call, work) for name, (work, call) in found.items()}


def measure(subjects: Mapping[str, Subject], rounds: int, ceiling: Ceiling) -> list[dict[str, Any]]:
    """Rows of the table, in the order of the subjects; the first is the one that the others are compared with."""
    times = interleave({name: subject.call for name, subject in subjects.items()}, rounds)
    rows = []
    for name, subject in subjects.items():
        timing, work = times[name], subject.work
        rate = 1000 * work.gflop / timing.median_ms
        row: dict[str, Any] = {"name": name, **asdict(timing), **asdict(work)}
        row |= {"gflop_per_s": rate, "share_of_float32_ceiling": rate / ceiling.gflop_per_s["float32"]}
        row["share_of_own_ceiling"] = rate / ceiling.gflop_per_s[subject.precision]
        row |= {"depth_change": subject.depth_change, "size": subject.size}
        row["gpu_memory_mb"] = None if subject.gpu_memory_mb is None else subject.gpu_memory_mb()
        row["times_faster"] = times[next(iter(subjects))].median_ms / timing.median_ms
        rows.append(row)
    return rows


def batch_rows(
    students: Mapping[str, tuple[Student, tuple[int, int]]],
    device: torch.device,
    batches: Sequence[int],
    views: int,
    rounds: int,
) -> list[dict[str, Any]]:
    """Rows of student, size (H, W), sweeps in a batch, time and sweeps per second; ``students`` with their sizes.

    In ascending order of ``batches``, up to the largest for which there is memory.
    """
    rows = []
    for name, (student, size) in students.items():
        for sweeps in batches:
            timing = _batch_timing(student, device, sweeps, views, size, rounds)
            if timing is None:
                break
            rate = 1000 * sweeps / timing.median_ms
            rows.append({"name": name, "size": size, "sweeps": sweeps, **asdict(timing), "sweeps_per_s": rate})
    return rows


def _batch_timing(
    student: Student, device: torch.device, sweeps: int, views: int, size: tuple[int, int], rounds: int
) -> Timing | None:
    """None where memory does not suffice."""
    try:
        call = finished(batched(student, device, sweeps, views, size), device)
        return interleave({"batch": call}, rounds)["batch"]
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None


def batched(
    student: Student, device: torch.device, sweeps: int, views: int, size: tuple[int, int]
) -> Callable[[], object]:
    """A call that estimates ``sweeps`` sweeps as one batch from inputs that lie on the device.

    In bfloat16 by a CUDA graph on CUDA, in eager float32 on the CPU.
    """
    one = {name: torch.from_numpy(array) for name, array in empty_feed(views, size).items()}
    one["present"] = torch.ones_like(one["present"])
    inputs = {name: tensor.repeat(sweeps, *[1] * (tensor.ndim - 1)).to(device) for name, tensor in one.items()}
    if device.type == "cuda":
        graph_backend = TorchGraphBackend(student, str(device), compiled=False)
        return replay(graph_backend.estimate, inputs)
    frozen = place(freeze(student), device, torch.float32)

    @torch.inference_mode()
    def call() -> Tensor:
        return torch.stack(tuple(frozen(**inputs)[:3]))

    return call


def scaling(
    student: Student,
    backend: str,
    device: str,
    shapes: Sequence[tuple[int, tuple[int, int]]],
    rounds: int,
    folders: Sequence[Path] = (),
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Time of ``backend`` for each number of views and size (H, W), and why others cannot run here.

    ``folders``: where files built of the student may lie.
    """
    calls: dict[tuple[int, tuple[int, int]], Callable[[], object]] = {}
    left_out: dict[str, str] = {}
    for views, size in shapes:
        built, sweep = build_backend(backend, student, device, size, folders), prepared_sweep(views, size)
        call = partial(run_network, built, sweep)
        try:
            call()  # here it is compiled
        except BackendError as error:  # as where int8 was calibrated for fewer views
            left_out[f"{backend}, {views} views of {size[0]}x{size[1]}"] = one_line(error)
            continue
        calls[views, size] = call
    times = interleave(calls, rounds)
    rows = [
        {"views": views, "height": size[0], "width": size[1], **asdict(timing)}
        for (views, size), timing in times.items()
    ]
    return rows, left_out
