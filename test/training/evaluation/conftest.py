"""A small student and synthetic sweeps with LiDAR, for the tests of the evaluation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fsmde_ros.checkpoint import save_checkpoint
from fsmde_ros.model_card import ModelCard
from fsmde_ros.network.encoder import EncoderConfig, StageConfig
from fsmde_ros.network.student import Student, StudentConfig
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.sweep import LidarScan, Sweep, View

SIZE = (36, 61)  # (H, W): odd, and W is not H
FORWARD = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


def turned_camera(name: str, yaw: float, place: tuple[float, float, float], focal: float = 30.0) -> Camera:
    """A camera that looks ``yaw`` radians to the left of forward."""
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn @ FORWARD, place
    return Camera(name, SIZE, np.array([[focal, 0, 29.0], [0, focal + 1, 17.5], [0, 0, 1]]), matrix)


def random_sweep(rng: np.random.Generator, views: int = 5, absent: tuple[str, ...] = ()) -> Sweep:
    """A ring of overlapping cameras among 3000 random points; the vehicle stands still."""
    cameras = tuple(turned_camera(f"cam_{i}", 2 * np.pi * i / views, (0.3, 0.1 * i, 1.5)) for i in range(views))
    azimuth, distance = rng.uniform(-np.pi, np.pi, 3000), np.exp(rng.uniform(np.log(0.5), np.log(120), 3000))
    height = 1.5 + distance * rng.uniform(-0.5, 0.5, 3000)
    points = np.column_stack([distance * np.cos(azimuth), distance * np.sin(azimuth), height])
    image = np.zeros((*SIZE, 3), np.uint8)
    present = {c.name: View(image, 0) for c in cameras if c.name not in absent}
    return Sweep(Rig(cameras), 0, present, LidarScan(points, 0))


@pytest.fixture
def make_sweep() -> Callable[..., Sweep]:
    """``random_sweep``."""
    return random_sweep


@pytest.fixture
def make_camera() -> Callable[..., Camera]:
    """``turned_camera``."""
    return turned_camera


@pytest.fixture(scope="session")
def small_student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of a randomly initialised student of a few thousand weights."""
    torch.manual_seed(0)
    stages = (StageConfig(3, 2, 1, 8, 1), StageConfig(3, 2, 2, 8, 1), StageConfig(5, 2, 2, 16, 1))
    config = StudentConfig(
        encoder=EncoderConfig(stem_channels=8, stages=(*stages, StageConfig(3, 2, 2, 16, 1)), frozen_stages=0),
        bins=8,
        attention_dim=16,
        attention_heads=2,
        attention_blocks=1,
        decoder_widths=(8, 8, 8),
    )
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    words = dict.fromkeys(("training_data", "dataset_licence", "weights_licence"), "none")
    save_checkpoint(path, Student(config), ModelCard(name="tiny", student=config, input_size=(64, 96), **words))
    return path
