"""A student of this package as the teacher of another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fsmde_ros.errors import CheckpointError, ConfigError, TeacherError
from fsmde_ros.network.student import Student, StudentConfig
from training.batch import Sample, collate
from training.configuration import DistillConfig
from training.distill import make_module
from training.loaders import ask_teacher as ask_about_files
from training.module import run_student
from training.sample_file import save_sample
from training.shared_bins import ask_teacher
from training.teachers.alignment import align_to_lidar, teacher_depth
from training.teachers.checkpoint import CheckpointTeacher, load_checkpoint_teacher, names_checkpoint
from training.teachers.teacher import TeacherSettings

CONFIG = StudentConfig(bins=16, attention_dim=32, attention_blocks=1, decoder_widths=(32, 16, 16))


def test_a_tilde_is_the_home_folder(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(checkpoint.parent))
    load_checkpoint_teacher(TeacherSettings(f"~/{checkpoint.name}", device="cpu"))


def test_it_says_what_the_student_says(checkpoint: Path, sample: Sample) -> None:
    teacher = load_checkpoint_teacher(TeacherSettings(str(checkpoint), device="cpu"))
    batch = collate([sample, sample])._replace(present=torch.tensor([[True] * 5, [True, False, True, True, True]]))
    output = run_student(teacher.student, batch)
    view = ask_teacher(teacher, batch, (16, 24))
    said = torch.where(output.out_of_range > 0.5, 0.0, 1 / output.depth)
    torch.testing.assert_close(view.disparity[batch.present], said[batch.present])
    assert torch.isnan(view.disparity[1, 1]).all()
    torch.testing.assert_close(view.features, output.features)
    assert teacher.feature_channels == view.features.shape[2] == 16
    assert not any(parameter.requires_grad for parameter in teacher.student.parameters())
    assert ask_teacher(teacher, batch, (8, 12)).features.shape == (2, 5, 16, 8, 12)


def test_its_sky_is_taught_as_sky(checkpoint: Path, sample: Sample) -> None:
    """The depth of a student is a number in its sky, too; the shift that is fitted must not bring the sky nearer."""
    teacher = load_checkpoint_teacher(TeacherSettings(str(checkpoint), device="cpu"))
    bias = teacher.student.bin_logits.to_logits.bias
    assert bias is not None
    bias[-1] = 12.0  # the ground prior weighs about as much: sky above the horizon
    batch = collate([sample])
    output = run_student(teacher.student, batch)
    sky = output.out_of_range > 0.5
    assert 0.1 < sky.float().mean() < 0.9
    assert (output.depth[sky] < teacher.student.config.d_max).all()
    disparity = ask_teacher(teacher, batch, (16, 24)).disparity
    assert (disparity[sky] == 0).all()
    lidar = torch.where(sky, torch.nan, 1 / (0.5 / output.depth + 0.01))  # it is off by a scale and a shift
    depth, _ = teacher_depth(disparity, *align_to_lidar(disparity, lidar), teacher.student.config.d_max)
    assert torch.isinf(depth[sky]).all()
    torch.testing.assert_close(depth[~sky], lidar[~sky], rtol=1e-3, atol=0)


def test_images_of_another_size_keep_their_geometry(checkpoint: Path, sample: Sample) -> None:
    """An untrained student sees the ground plane: of images twice as large at twice the pixels."""
    torch.manual_seed(0)
    teacher = CheckpointTeacher(Student(CONFIG), (64, 96))
    batch = collate([sample])
    plain = teacher.view(batch, (16, 24)).disparity
    intrinsics = batch.intrinsics.clone()
    intrinsics[..., :2, :] *= 2
    intrinsics[..., :2, 2] += 0.5
    larger = batch._replace(
        images=batch.images.repeat_interleave(2, -1).repeat_interleave(2, -2), intrinsics=intrinsics
    )
    found = teacher.view(larger, (16, 24)).disparity
    assert found.shape == (1, 5, 128, 192)
    expected = torch.nn.functional.interpolate(plain, scale_factor=2, mode="bilinear", antialias=True)
    torch.testing.assert_close(found, expected, rtol=0.02, atol=1e-3)  # the pixels are not quite the same


def test_a_run_of_method_a_takes_it_and_asks_no_cache(checkpoint: Path, sample: Sample, tmp_path: Path) -> None:
    settings = TeacherSettings(str(checkpoint), device="cpu")
    module = make_module(DistillConfig(student=CONFIG, method="a", teacher=settings, imagenet=False))
    assert isinstance(module.teacher, CheckpointTeacher)
    assert not any(name.startswith("teacher") for name in module.state_dict())
    save_sample(tmp_path / "0.npz", sample)
    assert ask_about_files(settings, [tmp_path / "0.npz"], "a") is None
    recorded = replace(sample, dense_depth=sample.dense_depth * torch.nan)
    save_sample(tmp_path / "1.npz", recorded)
    with pytest.raises(ConfigError, match="expected method a"):
        ask_about_files(settings, [tmp_path / "1.npz"], "b")


@pytest.mark.parametrize(("device", "expected"), [("auto", "meta"), ("cpu", "cpu")])
def test_by_method_a_it_runs_where_its_process_trains_or_where_it_is_told(
    checkpoint: Path, device: str, expected: str
) -> None:
    """Here "meta" stands for the GPU of one of several processes."""
    settings = TeacherSettings(str(checkpoint), device=device)
    module = make_module(DistillConfig(student=CONFIG, method="a", teacher=settings, imagenet=False))
    assert isinstance(module.teacher, CheckpointTeacher)
    network = module.teacher.student
    assert {parameter.device.type for parameter in network.parameters()} == {"cpu"}
    module.to("meta").on_fit_start()
    assert {parameter.device.type for parameter in network.parameters()} == {expected}


def test_names_and_what_cannot_be_used(checkpoint: Path, tmp_path: Path) -> None:
    assert names_checkpoint("small")
    assert names_checkpoint("/models/mine.safetensors")
    assert not names_checkpoint("depth-anything/Depth-Anything-V2-Small-hf")
    with pytest.raises(CheckpointError, match="nowhere"):
        load_checkpoint_teacher(TeacherSettings(str(tmp_path / "nowhere.safetensors")))
    with pytest.raises(ConfigError, match="multiples of 16"):
        load_checkpoint_teacher(TeacherSettings(str(checkpoint), input_size=(60, 96)))
    with pytest.raises(TeacherError, match=r"teacher\.device"):
        load_checkpoint_teacher(TeacherSettings(str(checkpoint), device="tpu"))
