"""Distillation end to end on a cache of small made-up sweeps: export, resume after SIGTERM, user errors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from fsmde_ros.checkpoint import load_checkpoint
from fsmde_ros.errors import ConfigError
from training.batch import Sample
from training.configuration import DistillConfig, config_hash, read_command_line
from training.datasets import TownData
from training.sample_file import save_sample

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "train": {"drives": 3, "sweeps_per_drive": 1, "size": [64, 96]},
    "val": {"drives": 1, "sweeps_per_drive": 1, "size": [64, 96], "held_out": True},
    "student": {"bins": 16, "attention_dim": 32, "attention_blocks": 1, "decoder_widths": [32, 16, 16]},
    "steps": 12,
    "optimisation": {"rate": 0.01, "warmup_steps": 2, "average_decay": 0.5},
    "val_every": 6,
    "save_every": 4,
    "loader_workers": 0,
    "threads": 1,
    "imagenet": False,
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


def _start(config: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "training.distill", "--config", str(config), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def _finish(process: subprocess.Popen[str]) -> str:
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return errors


@pytest.mark.slow
def test_a_run_stopped_by_sigterm_ends_with_the_same_weights_as_one_that_was_not(
    tmp_path: Path, sample: Sample
) -> None:
    whole, whole_config = _configure(tmp_path / "whole", sample)
    _finish(_start(whole))
    broken, broken_config = _configure(tmp_path / "broken", sample)
    process = _start(broken)
    state = broken_config.work / "last.ckpt"
    deadline = time.monotonic() + 120
    while not state.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    stopped_at = torch.load(state, map_location="cpu", weights_only=True)["global_step"]
    assert 4 <= stopped_at < 12
    assert not broken_config.output.exists()
    _finish(_start(broken))

    expected, card = load_checkpoint(whole_config.output)
    got, _ = load_checkpoint(broken_config.output)
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(got.state_dict()[name], tensor, rtol=0, atol=2e-4, msg=name)
    assert card.input_size == (64, 96)
    assert set(card.metrics) == {"held_out_town/abs_rel", "held_out_town/rmse", "held_out_town/d1"}
    assert "12 steps" in card.training_data
    assert list((whole_config.work / "pictures").glob("*.png"))


def test_command_line_wins_over_yaml(tmp_path: Path, sample: Sample) -> None:
    path, config = _configure(tmp_path, sample)
    assert config.steps == 12
    assert config.train.size == (64, 96)
    assert config.student.decoder_widths == (32, 16, 16)
    changed, _ = read_command_line(["--config", str(path), "--steps", "5", "--losses.vrkd", "0"])
    assert (changed.steps, changed.losses.vrkd) == (5, 0)
    assert config_hash(changed) != config_hash(config)


CONFIGS = ROOT / "training" / "configs"


@pytest.mark.parametrize(
    "path", sorted({*CONFIGS.glob("*.yaml")} - {*CONFIGS.glob("ablation*.yaml")}), ids=lambda path: path.stem
)
def test_shipped_configurations_are_valid(path: Path) -> None:
    config, _ = read_command_line(["--config", str(path)])
    assert config.train.first_seed != config.val.first_seed
    assert config.val.held_out


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"steps": 0}, "steps"), ({"train": TownData(size=(100, 96))}, "size"), ({"batch_size": -1}, "batch_size")],
)
def test_settings_out_of_range_are_refused_by_name(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        DistillConfig(**changes)


def test_a_wrong_setting_or_missing_state_ends_with_a_message_and_no_traceback(tmp_path: Path, sample: Sample) -> None:
    path, _ = _configure(tmp_path, sample)
    for arguments, named in ((["--export-only"], "last.ckpt"), (["--steps", "0"], "steps")):
        process = _start(path, *arguments)
        _, errors = process.communicate(timeout=120)
        assert process.returncode != 0
        assert named in errors
        assert "Traceback" not in errors
