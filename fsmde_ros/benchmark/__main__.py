"""Measure how fast everything is, on this machine.

    python -m fsmde_ros.benchmark                           networks and stages
    python -m fsmde_ros.benchmark --peers --scaling --node  everything, with other people's networks beside
    python -m fsmde_ros.benchmark --gpu --node              all of it on a CUDA device, with batches
    python -m fsmde_ros.benchmark --check                   exit status 1 where something has become much slower

With ROS installed: ``ros2 run fsmde_ros benchmark``.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fsmde_ros.backends import BUILDERS, build_backend
from fsmde_ros.backends.torch_eager import choose_device
from fsmde_ros.benchmark.check import check
from fsmde_ros.benchmark.counts import measure_ceiling
from fsmde_ros.benchmark.networks import batch_rows, measure, network_subjects, peer_subjects, scaling
from fsmde_ros.benchmark.report import to_markdown
from fsmde_ros.benchmark.stages import measure_stages
from fsmde_ros.checkpoint import default_checkpoint, find_checkpoint, load_checkpoint
from fsmde_ros.errors import BackendError, ConfigError, FsmdeError, one_line
from fsmde_ros.estimator import Estimator
from fsmde_ros.interruption import INTERRUPTED, end_on_signals
from fsmde_ros.network.student import StudentConfig
from fsmde_ros.option_types import above_0, image_size, whole
from fsmde_ros.provenance import describe_machine, describe_versions, hash_sources, sha256_of

CPU_BACKENDS = ("torch", "onnxruntime", "openvino", "openvino_bf16", "openvino_int8")
CUDA_BACKENDS = ("torch", "cuda_graph", "torch_compile", "onnxruntime", "tensorrt")
SCALED_VIEWS, SCALED_SIZES = (1, 2, 4, 6, 8, 12), ((192, 320), (256, 448), (352, 640))
BATCHES, CPU_BATCHES = (1, 2, 4, 8, 16), (1, 2, 4)
CUDA_RATES_HZ = (12.0, 24.0, 48.0, 60.0, 90.0)
NODE = "node with "
RATES_HZ = (2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 18.0, 24.0, 36.0, 48.0, 60.0, 90.0)

Keep = Callable[[Mapping[str, Any]], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 measured, 1 something is wrong or much slower than it was (said on stderr), 130 interrupted."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(given)
    end_on_signals()
    try:
        if options.check:
            return _check(options.rounds)
        command = f"python -m fsmde_ros.benchmark {shlex.join(given)}".strip()
        report = build_report(options, command, partial(_keep, options.json))
        text = to_markdown(report)
        print(text)
        if options.markdown:
            options.markdown.parent.mkdir(parents=True, exist_ok=True)
            options.markdown.write_text(f"# Benchmark\n\n{text}", encoding="utf-8")
    except FsmdeError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"benchmark: {error.filename or 'a file'}: cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return int(any(name.startswith(NODE) for name in report["left_out"]))


def _keep(path: Path | None, report: Mapping[str, Any]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def build_report(options: argparse.Namespace, command: str, keep: Keep) -> dict[str, Any]:
    """Measure what was asked for; the report that is written as JSON.

    ``keep`` takes it at once, and after each part, as far as it has come: what fails late, or is ended, leaves what was
    measured. Raises OSError where ``keep`` cannot.
    """
    device = _device(options)
    checkpoint: Path = options.checkpoint or default_checkpoint()
    small, card = load_checkpoint(checkpoint)
    size = options.size or card.input_size
    report: dict[str, Any] = {
        "command": command,
        "machine": describe_machine(),
        "versions": describe_versions(),
        "hashes": {"checkpoint": sha256_of(checkpoint), "sources": hash_sources()},
        "views": options.views,
        "size": size,
        "device": str(device),
    }
    keep(report)
    _say("ceiling of the machine")
    ceiling = measure_ceiling(device)
    report["ceiling"] = asdict(ceiling)
    _give_back(device)
    _say("networks")
    torch.manual_seed(0)
    files = {card.name: checkpoint}
    files.setdefault("nano", find_checkpoint("nano"))  # unless the one that was asked for has this name
    backends = options.backends or (CUDA_BACKENDS if device.type == "cuda" else CPU_BACKENDS)
    with ExitStack() as processes:
        peers = processes.enter_context(peer_subjects(options.views, size)) if options.peers else {}
        subjects = network_subjects(files, backends, str(device), options.views, options.size)
        own, report["left_out"] = processes.enter_context(subjects)
        report["networks"] = measure({**peers, **own}, options.rounds, ceiling)
    keep(report)
    best = options.backend or _fastest(report, card.name, backends)
    _say(f"stages with {best}")
    report["stages"] = []
    for shape in dict.fromkeys((card.input_size, card.student.fitting(size))):
        report["stages"] += _stages(best, str(device), checkpoint, shape, options)
    keep(report)
    if options.scaling:
        _say(f"scaling with {best}")
        shapes = scaled_shapes(card.student, options.views, size)
        report["scaling"], missing = scaling(small, best, str(device), shapes, options.rounds, [checkpoint.parent])
        report["left_out"] |= missing
        keep(report)
    if options.gpu or options.scaling:
        _say("batches")
        batches = BATCHES if options.gpu else CPU_BATCHES
        loaded = {name: load_checkpoint(file) for name, file in files.items()}
        sized = {
            name: (student, student.config.fitting(options.size or card.input_size))
            for name, (student, card) in loaded.items()
        }
        report["batches"] = batch_rows(sized, device, batches, options.views, options.rounds)
        keep(report)
    if options.node:
        _give_back(device)
        _measure_nodes(options, report, files, backends, keep)
    return report


def _stages(
    backend: str, device: str, checkpoint: Path, size: tuple[int, int], options: argparse.Namespace
) -> list[dict[str, Any]]:
    student, card = load_checkpoint(checkpoint)
    built = build_backend(backend, student, device, size, [checkpoint.parent])
    with closing(Estimator(built, replace(card, input_size=size))) as estimator:
        return measure_stages(estimator, options.views, options.rounds)


def _measure_nodes(
    options: argparse.Namespace, report: dict[str, Any], files: Mapping[str, Path], backends: Sequence[str], keep: Keep
) -> None:
    """Rows of the whole node with each checkpoint; where one cannot be measured, why."""
    # Not where it is not asked for: it needs rosbags and rclpy, which a machine for networks alone may lack.
    from fsmde_ros.benchmark.node_run import NodeOptions, measure_node

    rates = sorted(options.rates or (CUDA_RATES_HZ if report["device"].startswith("cuda") else RATES_HZ))
    report["node"] = []
    for name, file in files.items():
        try:
            backend = options.backend or _fastest(report, name, backends)
            _say(f"{NODE}{name}, {backend}")
            node = NodeOptions(file, backend, report["device"], options.views)
            with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
                rows = measure_node(node, Path(folder), rates, options.seconds)
            report["node"] += [{"name": name, "backend": backend, **row} for row in rows]
        except FsmdeError as error:  # the others are still worth measuring
            print(f"benchmark: {NODE}{name}: {error}", file=sys.stderr)
            report["left_out"][f"{NODE}{name}"] = one_line(error)
        keep(report)


def _device(options: argparse.Namespace) -> torch.device:
    """Raises ConfigError for options that contradict each other, BackendError for a device that is not there."""
    if options.gpu and options.peers:
        raise ConfigError("--peers are measured on the CPU, and would be compared with a GPU; leave out one of them")
    device = choose_device(options.device or ("cuda" if options.gpu else "cpu"))
    if options.gpu and device.type != "cuda":
        raise ConfigError(f"--gpu is for a CUDA device, and --device {options.device} is none; leave out one of them")
    return device


def _give_back(device: torch.device) -> None:
    """What PyTorch keeps of the memory of a GPU for this process, the others need."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _fastest(report: Mapping[str, Any], model: str, backends: Sequence[str]) -> str:
    """The fastest backend of a student; raises BackendError where none could run."""
    times = {row["name"]: float(row["median_ms"]) for row in report["networks"]}
    own = {name: times[f"{model} {name}"] for name in backends if f"{model} {name}" in times}
    if not own:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in report["left_out"].items())
        raise BackendError(f"no backend could run {model} here: {reasons}")
    return min(own, key=own.__getitem__)


def _check(rounds: int) -> int:
    results = check(rounds)
    for result in results:
        verdict = "" if result.passes else "  much slower than it was"
        print(f"{result.name}: {result.ratio:.2f} times the reference, at most {result.bound:g}{verdict}")
    return 0 if all(result.passes for result in results) else 1


def _say(what: str) -> None:
    print(f"==> {what}", file=sys.stderr, flush=True)


def scaled_shapes(student: StudentConfig, views: int, size: tuple[int, int]) -> list[tuple[int, tuple[int, int]]]:
    """Views and sizes (H, W) to show the cost by: other numbers of views at ``size``, ``views`` at other sizes.

    Each size is one that the student can take, no shape comes twice.
    """
    shapes = [(number, student.fitting(size)) for number in SCALED_VIEWS]
    shapes += [(views, student.fitting(other)) for other in SCALED_SIZES]
    return list(dict.fromkeys(shapes))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmark", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=find_checkpoint, help="a .safetensors file, or one of the package (small)")
    parser.add_argument("--views", type=whole(1), default=6, help="cameras (6)")
    parser.add_argument(
        "--size",
        type=image_size(multiple=32),
        metavar="HxW",
        help="input of the network (that of the checkpoint)",
    )
    parser.add_argument("--device", help="cpu, cuda or cuda:N (cpu; cuda with --gpu)")
    parser.add_argument("--gpu", action="store_true", help="everything that concerns a CUDA device, in one go")
    names = ("auto", *BUILDERS)
    parser.add_argument("--backends", nargs="+", choices=names, help="only these (all of the device)")
    parser.add_argument("--backend", choices=names, help="for stages, scaling and node (the fastest)")
    parser.add_argument("--rounds", type=whole(1), default=7, help="repetitions, interleaved (7)")
    parser.add_argument("--peers", action="store_true", help="networks of transformers beside the student")
    parser.add_argument("--scaling", action="store_true", help="numbers of views, image sizes, batches")
    parser.add_argument("--node", action="store_true", help="the whole node over DDS at rising rates")
    parser.add_argument("--rates", type=above_0(), nargs="+", help="sweeps a second, for --node (rising)")
    parser.add_argument("--seconds", type=above_0(), default=10.0, help="of the bag at 12 Hz, for --node (10)")
    parser.add_argument("--json", type=Path, help="write the report here")
    parser.add_argument("--markdown", type=Path, help="write the tables here")
    parser.add_argument("--check", action="store_true", help="only the regression guard")
    return parser


if __name__ == "__main__":
    sys.exit(main())
