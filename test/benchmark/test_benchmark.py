"""The benchmark's own sums, and one whole run of it, tiny."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores, get_typestore
from torch import nn

from fsmde_ros import motion_stereo
from fsmde_ros.backends import build_backend
from fsmde_ros.backends.built_files import CACHE_VARIABLE
from fsmde_ros.benchmark import __main__ as benchmark
from fsmde_ros.benchmark import networks, node_run, timing
from fsmde_ros.benchmark.__main__ import (
    SCALED_VIEWS,
    _device,
    _fastest,
    _measure_nodes,
    _parser,
    main,
    scaled_shapes,
)
from fsmde_ros.benchmark.check import BOUNDS, Check, check
from fsmde_ros.benchmark.counts import Ceiling, copy_bytes, count_module, count_work, measure_ceiling, product_size
from fsmde_ros.benchmark.networks import measure, peer_subjects
from fsmde_ros.benchmark.node_run import make_bag
from fsmde_ros.benchmark.report import _NODE, table
from fsmde_ros.benchmark.stages import measure_stages, spread_decoders, stage_motion_stereo
from fsmde_ros.benchmark.timing import Timing, interleave
from fsmde_ros.benchmark.workload import CAMERA_SIZE, encoded_sweep, prepared_sweep
from fsmde_ros.checkpoint import find_checkpoint, load_checkpoint, save_checkpoint
from fsmde_ros.errors import BackendError
from fsmde_ros.estimator import Estimator
from fsmde_ros.images import decode
from fsmde_ros.motion_stereo import MotionStereo
from fsmde_ros.network.presets import PRESETS
from fsmde_ros.network.student import Student
from fsmde_ros.node.rehearsal import untrained_checkpoint
from fsmde_ros.parallax import Sight, correct
from fsmde_ros.rig_file import read_rig
from fsmde_ros.sources import bag
from fsmde_ros.sweep import EncodedImage, SurroundDepth


def test_subjects_take_turns_and_the_warm_up_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    now = 0.0

    def first() -> None:
        nonlocal now
        counts = len(called) >= 4 and called[-1] == "a"  # of the second round on, and not the first of its turn
        now += 0.001 if counts else 1000.0
        called.append("a")

    def second() -> None:
        nonlocal now
        now += 1 / 64
        called.append("b")

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now))
    times = interleave({"a": first, "b": second}, rounds=3)
    assert called == ["a", "a", "b", "b", "b", "b", "b"] * 4  # for 50 ms, or once, before what is timed
    assert times["a"].calls == 3
    assert times["a"].high_ms == pytest.approx(1.0)


def test_a_subject_in_another_process_measures_itself() -> None:
    times = interleave({"far": lambda: 0.25, "near": lambda: None}, rounds=2)
    assert times["far"].median_ms == times["far"].high_ms == 250.0
    assert times["near"].median_ms < 100


def test_peers_on_the_cpu_are_not_compared_with_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--gpu", "--peers"]) == 1
    assert "--peers are measured on the CPU" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind a thread to a core")
def test_decoders_have_cores_of_their_own_only_while_that_is_measured() -> None:
    cores = os.sched_getaffinity(0)
    with ThreadPoolExecutor(len(cores), thread_name_prefix="decode of a test") as pool:
        list(pool.map(time.sleep, [0.05] * len(cores)))  # so that all of its threads are there
        numbers = [thread.native_id or 0 for thread in threading.enumerate() if "of a test" in thread.name]
        assert len(numbers) == len(cores)
        meanwhile = spread_decoders(lambda: [os.sched_getaffinity(number) for number in numbers])
        assert meanwhile is not None
        assert sorted(map(sorted, meanwhile)) == [[core] for core in sorted(cores)]
        assert all(os.sched_getaffinity(number) == cores for number in numbers)


def test_motion_stereo_is_measured_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every view is compared with both earlier sweeps."""
    compared: list[list[float]] = []

    def record(depth: np.ndarray, stddev: np.ndarray, now: Sight, earlier: list[Sight]) -> Any:
        compared.append([float(np.linalg.norm((then.camera_to_map - now.camera_to_map)[:3, 3])) for then in earlier])
        return correct(depth, stddev, now, earlier)

    monkeypatch.setattr(motion_stereo, "correct", record)
    prepared = prepared_sweep(2, (48, 80))
    depth = np.full((2, 48, 80), 8.0, np.float32)
    estimate = SurroundDepth(prepared.rig, 0, depth, depth / 4)
    with closing(MotionStereo()) as stereo:
        result = stage_motion_stereo(stereo, estimate, prepared.colors())()
    np.testing.assert_allclose(compared, [[1, 4]] * 2)
    assert all(not np.array_equal(result.depth[view], depth[view]) for view in range(2))


def test_motion_stereo_is_a_stage_of_its_own() -> None:
    student, card = load_checkpoint(find_checkpoint("nano"))
    backend = build_backend("torch", student, "cpu", (64, 96))
    with closing(Estimator(backend, replace(card, input_size=(64, 96)))) as estimator:
        rows = measure_stages(estimator, views=2, rounds=1)
    names = [row["stage"] for row in rows]
    assert names.count("motion stereo, two earlier sweeps") == 1
    assert all(row["median_ms"] > 0 and row["share_of_network"] > 0 for row in rows)


def test_quantiles_of_times() -> None:
    times = Timing.of([i / 1000 for i in range(11)])
    assert (times.low_ms, times.median_ms, times.high_ms) == pytest.approx((1.0, 5.0, 9.0))


def test_operations_and_bytes_of_a_convolution_by_hand() -> None:
    layer = nn.Conv2d(3, 8, 3, padding=1)
    image = torch.zeros(2, 3, 10, 20, device="meta")
    work = count_module(layer.to("meta"), lambda: layer(image))
    assert work.gflop * 1e9 == 2 * (2 * 10 * 20) * 8 * (3 * 3 * 3)
    assert work.parameters == 8 * 3 * 9 + 8
    assert work.gigabytes * 1e9 == 4 * (2 * 3 * 200 + 2 * 8 * 200 + work.parameters)


def test_the_work_grows_with_views_and_pixels() -> None:
    one, six = (count_work(PRESETS["nano"], views, (64, 128)) for views in (1, 6))
    assert six.parameters == one.parameters == sum(p.numel() for p in Student(PRESETS["nano"]).parameters())
    assert 5.9 < six.gflop / one.gflop < 6.5  # attention between the views grows faster
    assert 3.5 < count_work(PRESETS["small"], 6, (64, 128)).gflop / six.gflop < 4.5


def test_ceiling_is_positive() -> None:
    ceiling = measure_ceiling(torch.device("cpu"), rounds=1)
    assert set(ceiling.gflop_per_s) == {"float32", "bfloat16"}
    assert min(*ceiling.gflop_per_s.values(), ceiling.gigabytes_per_s) > 0


@pytest.mark.parametrize(
    ("seconds", "size"),
    [(1e-5, 2048), (0.5 / 512, 2048), (0.6 / 512, 1024), (0.02, 512), (0.5, 256), (60.0, 256)],
)
def test_the_ceiling_takes_no_product_that_would_keep_the_machine_busy(seconds: float, size: int) -> None:
    """In CPUs without instructions for bfloat16, 256 takes 0.02 s and 2048 half a minute."""
    assert product_size(seconds) == size


def test_the_pictures_are_as_hard_to_decode_as_photographs() -> None:
    """nuScenes has about 150 kB for an image of this size."""
    image = encoded_sweep(1).views["cam_0"].image
    assert isinstance(image, EncodedImage)
    assert 60_000 < len(image.data) < 400_000
    assert decode(image).shape == (*CAMERA_SIZE, 3)
    assert prepared_sweep(2, (64, 96)).images.shape == (2, 3, 64, 96)


def test_the_bag_holds_sweeps_at_12_hz(tmp_path: Path) -> None:
    path, rig_file, rig = make_bag(tmp_path, views=2, seconds=0.5)
    sweeps = list(bag.sweeps(path, read_rig(rig_file)))
    assert len(sweeps) == 6
    assert all(sweep.present == rig.names for sweep in sweeps)
    assert np.diff([sweep.stamp_ns for sweep in sweeps]) / 1e9 == pytest.approx(1 / 12, abs=1e-6)


@pytest.mark.parametrize("name", ["small", "nano"])
def test_the_scaling_asks_a_student_only_for_what_it_can_take(name: str) -> None:
    config = PRESETS[name]
    shapes = scaled_shapes(config, 6, (360, 640))
    assert [views for views, size in shapes if size == shapes[0][1]] == list(SCALED_VIEWS)
    assert len(shapes) == len(set(shapes)) == len(SCALED_VIEWS) + 3
    assert all(side % config.stride == 0 for _, size in shapes for side in size)
    assert shapes[0][1] == ((368, 640) if name == "small" else (384, 640))


def test_a_table() -> None:
    rows = [{"name": "x", "ms": 1.25}, {"name": "y"}]
    columns = [("name", lambda r: str(r["name"])), ("ms", lambda r: "" if "ms" not in r else f"{r['ms']:.1f}")]
    assert table(rows, columns).splitlines() == ["| name | ms |", "| --- | --- |", "| x | 1.2 |", "| y |  |"]


def test_the_guard_fails_what_is_beyond_its_bound() -> None:
    assert Check("x", 2.0, 2.0).passes
    assert not Check("x", 2.1, 2.0).passes


def test_the_guard_measures_ratios() -> None:
    results = check(rounds=1)
    assert {result.name: result.bound for result in results} == BOUNDS
    assert all(np.isfinite(result.ratio) and result.ratio > 0 for result in results)


TINY = ["--views", "2", "--size", "64x96", "--rounds", "1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--views", "0"], "argument --views: must be a whole number of at least 1, got '0'"),
        (["--rounds", "0"], "argument --rounds: must be a whole number of at least 1, got '0'"),
        (["--size", "0x0"], "argument --size: must be HEIGHTxWIDTH in multiples of 32"),
        (["--rates", "8", "0"], "argument --rates: must be a number above 0 and finite, got '0'"),
        (["--seconds", "nan"], "argument --seconds: must be a number above 0 and finite, got 'nan'"),
        (["--backend", "abacus"], "argument --backend: invalid choice: 'abacus'"),
        (["--backends", "torch", "abacus"], "argument --backends: invalid choice: 'abacus'"),
    ],
)
def test_options_out_of_range_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err


def test_the_gpu_is_the_one_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--gpu", "--device", "cpu"]) == 1
    assert "--gpu is for a CUDA device, and --device cpu is none" in capsys.readouterr().err
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for given, device in (([], "cuda"), (["--device", "cuda:1"], "cuda:1")):
        assert _device(_parser().parse_args(["--gpu", *given])) == torch.device(device)


def test_the_memory_of_a_gpu_is_that_of_the_one_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: Any = networks.Loaded(None, None)  # type: ignore[arg-type]
    assert loaded.gpu_memory_mb() is None or torch.cuda.is_available()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda index=0: (0, 3e6)[index])
    assert loaded.gpu_memory_mb() == 3.0


def test_a_report_that_cannot_be_written_is_told_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "measure_ceiling", None)
    assert main(["--json", "/proc/none/x.json"]) == 1
    assert "benchmark: /proc/none: cannot be written" in capsys.readouterr().err


class Measured(Exception):
    """The networks were about to be measured."""


@contextmanager
def asked_for(files: dict[str, Path], backends: list[str], *_: object) -> Iterator[None]:
    raise Measured(files)
    yield


def test_an_own_checkpoint_of_the_name_of_a_shipped_one_is_the_one_that_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.safetensors"
    student, card = load_checkpoint(find_checkpoint("nano"))
    save_checkpoint(own, student, card)
    monkeypatch.setattr(benchmark, "measure_ceiling", lambda _: Ceiling({"float32": 100.0}, 10.0))
    monkeypatch.setattr(benchmark, "network_subjects", asked_for)
    for checkpoint, files in ((own, {"nano": own}), ("small", {n: find_checkpoint(n) for n in ("small", "nano")})):
        with pytest.raises(Measured) as caught:
            main(["--checkpoint", str(checkpoint)])
        assert caught.value.args == (files,)


@pytest.mark.slow
def test_where_no_backend_can_run_the_reasons_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "measure_ceiling", lambda _: Ceiling({"float32": 100.0}, 10.0))
    assert main([*TINY, "--backends", "cuda_graph", "--device", "cpu"]) == 1
    said = capsys.readouterr().err
    assert (
        "benchmark: no backend could run small here: small cuda_graph: backend cuda_graph needs a CUDA device" in said
    )


def report_of(*names: str) -> dict[str, Any]:
    rows = [{"name": name, "median_ms": float(len(names) - i)} for i, name in enumerate(names)]
    return {"networks": rows, "left_out": {}, "device": "cpu"}


def test_the_fastest_is_that_of_the_student_alone() -> None:
    report = report_of("nano torch", "nano openvino", "nano two torch_compile")
    assert _fastest(report, "nano", ["torch", "openvino", "torch_compile"]) == "openvino"


def test_a_node_that_fails_leaves_the_others_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure_node(options: node_run.NodeOptions, folder: Path, rates: list[float], seconds: float) -> list[Any]:
        if options.backend == "openvino":
            raise BackendError("the node did not start:\nlast words")
        return [{"rates": rates, "seconds": seconds}]

    monkeypatch.setattr(node_run, "measure_node", measure_node)
    report, kept = report_of("small openvino", "nano torch"), list[Any]()
    options = _parser().parse_args(["--node", "--rates", "36", "8", "12", "--seconds", "3"])
    _measure_nodes(options, report, dict.fromkeys(["small", "nano"], Path()), ["torch", "openvino"], kept.append)
    assert report["node"] == [{"name": "nano", "backend": "torch", "rates": [8, 12, 36], "seconds": 3}]
    assert report["left_out"] == {"node with small": "the node did not start: last words"}
    assert "benchmark: node with small: the node did not start" in capsys.readouterr().err
    assert len(kept) == 2


def test_batches_end_where_memory_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def batched(student: object, device: torch.device, sweeps: int, *_: object) -> Callable[[], object]:
        if sweeps > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return lambda: 0.001 * sweeps

    monkeypatch.setattr(networks, "batched", batched)
    monkeypatch.setattr(networks, "finished", lambda call, device: call)
    students: Any = {"small": (None, (64, 96)), "nano": (None, (64, 96))}
    rows = networks.batch_rows(students, torch.device("cuda"), (1, 2, 4, 8, 16), 6, 1)
    assert [(row["name"], row["sweeps"]) for row in rows] == [(name, n) for name in students for n in (1, 2, 4)]
    assert [row["sweeps_per_s"] for row in rows] == pytest.approx([1000.0] * 6)
    monkeypatch.setattr(networks, "batched", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        networks.batch_rows(students, torch.device("cuda"), (1,), 6, 1)


def test_the_copy_fits_into_a_small_gpu() -> None:
    assert copy_bytes(140 * 2**30) == 2**31
    assert 2 * copy_bytes(3 * 2**30) < 2**30


def test_the_scaling_leaves_out_what_a_backend_cannot_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As int8, whose file is for a number of views and lies beside the checkpoint."""

    def build(name: str, student: object, device: str, size: tuple[int, int], folders: list[Path]) -> Any:
        assert folders == [tmp_path]

        def backend(images: np.ndarray, *_: object) -> None:
            if len(images) > 2:
                raise BackendError("needs the calibrated file\nbeside the checkpoint")

        return backend

    monkeypatch.setattr(networks, "build_backend", build)
    shapes = [(1, (64, 96)), (3, (64, 96)), (2, (32, 64))]
    rows, left_out = networks.scaling(Student(), "openvino_int8", "cpu", shapes, 1, [tmp_path])
    assert [(row["views"], row["height"], row["width"]) for row in rows] == [(1, 64, 96), (2, 32, 64)]
    assert left_out == {"openvino_int8, 3 views of 64x96": "needs the calibrated file beside the checkpoint"}


@pytest.mark.ros
@pytest.mark.slow
def test_the_whole_node_at_a_rate(tmp_path: Path) -> None:
    options = node_run.NodeOptions(untrained_checkpoint(tmp_path / "tiny.safetensors"), "torch", "cpu", 2)
    (row,) = node_run.measure_node(options, tmp_path / "work", [4.0], 1.0)
    assert row["sent"] == 12
    assert row["lost"] == pytest.approx(1 - row["complete"] / 12)
    if row["complete"]:  # a busy machine may lose any
        assert row["latency_p50_ms"] <= row["latency_p95_ms"] <= row["latency_p99_ms"]
    assert row["memory_mb"] > 50
    assert not [path for path in (tmp_path / "work").iterdir() if path.name.startswith("out")], "gigabytes of all rates"


def test_a_node_that_publishes_nothing_has_no_latency(tmp_path: Path) -> None:
    with Writer(tmp_path / "out", version=9) as writer:
        writer.add_connection("/other", "std_msgs/msg/Empty", typestore=get_typestore(Stores.ROS2_JAZZY))
    row = node_run._summary(tmp_path / "out", 10)
    assert (row["sent"], row["complete"], row["lost"]) == (10, 0, 1.0)
    assert row["latency_p99_ms"] is None, "nan is no JSON"
    assert "| nano, torch | 8.0 | 10 | 100.0 % |  |  |  |" in table(
        [{"name": "nano", "backend": "torch", "rate_hz": 8.0, **row}], _NODE
    )


@pytest.mark.slow
def test_a_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    paths = ["--json", str(tmp_path / "x.json"), "--markdown", str(tmp_path / "x.md")]
    assert main([*paths, *TINY, "--backends", "torch", "openvino_int8", "cuda_graph"]) == 0
    report = json.loads((tmp_path / "x.json").read_text())
    assert [row["name"] for row in report["networks"]] == ["small torch", "nano torch"]
    assert report["networks"][0]["gpu_memory_mb"] is None or torch.cuda.is_available()
    assert report["networks"][0]["depth_change"] == pytest.approx(0, abs=1e-5)
    assert report["networks"][0]["times_faster"] == pytest.approx(1.0)
    assert len(report["hashes"]["checkpoint"]) == 64
    text = (tmp_path / "x.md").read_text()
    assert "| small torch |" in text
    assert "small openvino_int8" in report["left_out"]
    assert text.endswith(capsys.readouterr().out.rstrip("\n") + "\n")


def test_a_checkpoint_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--checkpoint", "nowhere.safetensors"]) == 1
    assert "nowhere.safetensors" in capsys.readouterr().err


@pytest.mark.slow
def test_peers_run_in_processes_of_their_own() -> None:
    pytest.importorskip("transformers")
    with peer_subjects(1, (28, 56)) as subjects:
        assert [*subjects] == [
            "Depth Anything V2 Small, 28x56",
            "Depth Anything V2 Small, 28x56, memory kept",
            "DPT, ViT-B/16, 32x32",
        ]
        assert len(multiprocessing.active_children()) == 3
        plain, kept, *_ = subjects.values()
        assert plain.work == kept.work
        assert plain.work.parameters == pytest.approx(24.8e6, rel=0.01)  # as published
        assert measure({"plain": plain, "kept": kept}, 1, Ceiling({"float32": 100.0}, 10.0))[1]["times_faster"] > 0
    assert not multiprocessing.active_children()
