"""A recorded drive without dense depth, distilled from a teacher of transformers."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fsmde_ros.rig import Rig
from fsmde_ros.sources.bag_writer import write_bag
from fsmde_ros.sweep import EncodedImage, Sweep
from training.augment import AugmentSettings
from training.datasets import CachedSweeps
from training.distill import main
from training.teachers.cache import CachedTeacher

SETTINGS = {
    "size": "[64, 96]",
    "steps": "2",
    "batch_size": "2",
    "val_every": "2",
    "save_every": "2",
    "log_every": "1",
    "loader_workers": "0",
    "accelerator": "cpu",
    "tensorboard": "true",
    "losses.ckd": "1.0",
    "losses.photometric_consecutive": "0.1",
    "student.bins": "16",
    "student.attention_dim": "32",
    "student.attention_blocks": "1",
    "student.decoder_widths": "[32, 16, 16]",
    "augment.drop_view": "0",
}


def test_a_bag_is_distilled_from_a_teacher(
    tmp_path: Path,
    made_up_rig: Rig,
    standing_drive: Callable[..., list[Sweep]],
    depth_anything: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One picture of the bag is spoilt: its sweep is named, left out and counted."""
    sweeps = standing_drive(made_up_rig, 8)
    view = sweeps[2].views["cam_1"]
    assert isinstance(view.image, EncodedImage)
    broken = replace(view, image=EncodedImage(view.image.data[:20] + b"\x00" * 99 + view.image.data[-2:]))
    sweeps[2] = replace(sweeps[2], views={**sweeps[2].views, "cam_1": broken})
    write_bag(tmp_path / "bag", sweeps)
    places = {
        "data": f"bag:{tmp_path / 'bag'},samples=:6",
        "val_data": f"bag:{tmp_path / 'bag'},samples=6:",
        "output": str(tmp_path / "own.safetensors"),
        "work": str(tmp_path / "work"),
        "cache": str(tmp_path / "cache"),
        "teacher.name": str(depth_anything),
        "teacher.cache": str(tmp_path / "teacher"),
    }
    arguments = [part for name, value in (places | SETTINGS).items() for part in (f"--{name}", value)]
    assert main(arguments) == 0

    said = capsys.readouterr()
    assert "1 sweeps could not be used and were left out" in said.out
    assert "sweep 2: the JPEG is truncated or corrupt" in said.err
    with (tmp_path / "work" / "log" / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["train/ckd"]]
    assert len(rows) == 2
    assert all(0 <= float(row["train/photometric_consecutive"]) < 1 for row in rows)
    entries = list((tmp_path / "teacher").rglob("*.disparity"))
    assert len(entries) == 5  # of the five sweeps that are left: all views of one are the same picture
    files = sorted((tmp_path / "cache").rglob("*.npz"))  # training and validation, in any order
    teacher = CachedTeacher(tmp_path / "teacher", entries[0].parts[-3], "disparity")
    samples = CachedSweeps(files, AugmentSettings(drop_view=0), 0.0, 0, teacher)
    known = [np.isfinite(samples[index, 0].teacher_disparity) for index in range(len(files))]
    assert sorted((view.all(), view.any()) for view in known) == [(False, False)] * 2 + [(True, True)] * 5
    assert list((tmp_path / "work" / "tensorboard").glob("events*"))
    card = json.loads((tmp_path / "own.json").read_text())
    assert "a recorded bag, 2 steps of 2" in card["training_data"]
    assert f"distilled from {depth_anything}" in card["training_data"]
    assert set(card["metrics"]) == {"validation/abs_rel", "validation/rmse", "validation/d1"}
