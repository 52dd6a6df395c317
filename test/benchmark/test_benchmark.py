"""The benchmark's own sums, and one whole run of it, tiny."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from fsmde_ros.backends.built_files import CACHE_VARIABLE
from fsmde_ros.benchmark import timing
from fsmde_ros.benchmark.__main__ import SCALED_VIEWS, main, scaled_shapes
from fsmde_ros.benchmark.check import BOUNDS, Check, check
from fsmde_ros.benchmark.counts import Ceiling, count_module, count_work, measure_ceiling, product_size
from fsmde_ros.benchmark.networks import measure, peer_subjects
from fsmde_ros.benchmark.node_run import make_bag
from fsmde_ros.benchmark.report import table
from fsmde_ros.benchmark.timing import Timing, interleave
from fsmde_ros.benchmark.workload import CAMERA_SIZE, encoded_sweep, prepared_sweep
from fsmde_ros.images import decode
from fsmde_ros.network.presets import PRESETS
from fsmde_ros.network.student import Student
from fsmde_ros.rig_file import read_rig
from fsmde_ros.sources import bag
from fsmde_ros.sweep import EncodedImage


def test_subjects_take_turns_and_the_warm_up_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    now = 0.0

    def first() -> None:
        nonlocal now
        counts = len(called) >= 4 and called[-1] == "a"  # of the second round on, and not the first of its turn
        now += 0.001 if counts else 1000.0
        called.append("a")

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now))
    times = interleave({"a": first, "b": lambda: called.append("b")}, rounds=3)
    assert called == ["a", "a", "b", "b"] * 4
    assert times["a"].calls == 3
    assert times["a"].high_ms == pytest.approx(1.0)


def test_a_subject_in_another_process_measures_itself() -> None:
    times = interleave({"far": lambda: 0.25, "near": lambda: None}, rounds=2)
    assert times["far"].median_ms == times["far"].high_ms == 250.0
    assert times["near"].median_ms < 100


def test_peers_on_the_cpu_are_not_compared_with_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--gpu", "--peers"]) == 1
    assert "--peers are measured on the CPU" in capsys.readouterr().err


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


@pytest.mark.slow
def test_a_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    paths = ["--json", str(tmp_path / "x.json"), "--markdown", str(tmp_path / "x.md")]
    amount = ["--views", "2", "--size", "64x96", "--rounds", "1"]
    assert main([*paths, *amount, "--backends", "torch", "openvino_int8", "cuda_graph"]) == 0
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
