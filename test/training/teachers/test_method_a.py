"""Distillation by method A with a model of transformers, from the configuration to the checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fsmde_ros.checkpoint import load_checkpoint
from fsmde_ros.errors import ConfigError
from fsmde_ros.network.student import StudentConfig
from training.batch import Sample
from training.configuration import DistillConfig
from training.datasets import TownData
from training.distill import distill
from training.sample_file import save_sample
from training.teachers.teacher import TeacherSettings

DATA = TownData(drives=1, sweeps_per_drive=1, size=(64, 96))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["depth_anything", "checkpoint"])
def test_method_a_trains_with_a_saved_model_and_exports_the_student_alone(
    kind: str, request: pytest.FixtureRequest, sample: Sample, tmp_path: Path
) -> None:
    saved: Path = request.getfixturevalue(kind)
    config = DistillConfig(
        output=tmp_path / "tiny.safetensors",
        work=tmp_path / "work",
        cache=tmp_path / "cache",
        train=DATA,
        val=replace(DATA, held_out=True),
        student=StudentConfig(bins=16, attention_dim=32, attention_blocks=1, decoder_widths=(32, 16, 16)),
        method="a",
        teacher=TeacherSettings(str(saved), device="cpu", cache=tmp_path / "teacher"),
        steps=2,
        val_every=2,
        save_every=1,
        loader_workers=0,
        accelerator="cpu",
    )
    for data in (config.train, config.val):
        drive = data.cache_folder(config.cache) / "drive-00000"
        drive.mkdir(parents=True)
        save_sample(drive / "0.npz", sample)
    distill(config)
    student, card = load_checkpoint(config.output)
    assert all(torch.isfinite(parameter).all() for parameter in student.parameters())
    assert str(saved) in card.training_data
    state = torch.load(config.work / "last.ckpt", map_location="cpu", weights_only=True)["state_dict"]
    parts = {name.split(".")[0] for name in state}
    assert parts == {"student", "average", "adapter"}


def test_method_a_without_a_teacher_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"teacher\.name"):
        DistillConfig(method="a")
