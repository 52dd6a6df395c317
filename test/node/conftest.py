"""A tiny student, a rig, pictures and TF for the tests of the node."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from geometry_msgs.msg import TransformStamped
from rclpy.time import Time

from fsmde_ros.checkpoint import save_checkpoint
from fsmde_ros.geometry import rigid
from fsmde_ros.model_card import ModelCard
from fsmde_ros.network.encoder import EncoderConfig, StageConfig
from fsmde_ros.network.student import Student, StudentConfig
from fsmde_ros.rig import Camera, Rig

INPUT_SIZE = (64, 96)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised student of a few thousand weights."""
    torch.manual_seed(0)
    config = StudentConfig(
        encoder=EncoderConfig(
            stem_channels=8,
            stages=(
                StageConfig(3, 2, 1, 8, 1),
                StageConfig(3, 2, 2, 8, 1),
                StageConfig(5, 2, 2, 16, 1),
                StageConfig(3, 2, 2, 16, 2),
            ),
            frozen_stages=0,
        ),
        bins=8,
        attention_dim=16,
        attention_heads=2,
        attention_blocks=1,
        decoder_widths=(8, 8, 8),
    )
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    card = ModelCard(
        name="tiny",
        student=config,
        input_size=INPUT_SIZE,
        training_data="none",
        dataset_licence="none",
        weights_licence="Apache-2.0",
        metrics={},
    )
    save_checkpoint(path, Student(config), card)
    return path


def ring_of_cameras(names: tuple[str, ...], size: tuple[int, int]) -> Rig:
    """Cameras that look outward at equal angles, the first one forward."""
    height, width = size
    intrinsics = np.array([[0.6 * width, 0, width / 2], [0, 0.6 * width, height / 2], [0, 0, 1]])
    optical = rigid([0.5, -0.5, 0.5, -0.5], [0, 0, 0])
    cameras = []
    for index, name in enumerate(names):
        yaw = -2 * np.pi * index / len(names)
        turn = rigid([np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)], [0, 0, 1.5])
        cameras.append(Camera(name, size, intrinsics, turn @ optical))
    return Rig(tuple(cameras))


@pytest.fixture(scope="session")
def ring() -> Callable[[tuple[str, ...], tuple[int, int]], Rig]:
    """``ring_of_cameras``."""
    return ring_of_cameras


class FakeBuffer:
    """As that of tf2_ros, which has no wheel: counts how often it is cleared, and refuses frames with a slash."""

    def __init__(self):
        self.cleared = 0

    def clear(self):
        self.cleared += 1

    def get_latest_common_time(self, target, source):
        refuse_slash(target, source)
        if source != "base_link":
            raise RuntimeError(f'"{source}" passed to lookupTransform argument source_frame does not exist.')
        return Time(nanoseconds=17)

    def lookup_transform(self, target, source, time):
        refuse_slash(target, source)
        found = TransformStamped()
        found.transform.translation.z = 1.2
        return found


def refuse_slash(*frames):
    for frame in frames:
        if frame.startswith("/"):
            raise RuntimeError(f"Invalid argument \"{frame}\" - in tf2 frame_ids cannot start with a '/' like: ")


class FakeListener:
    def __init__(self, buffer, node, spin_thread):
        assert not spin_thread

    def unregister(self):
        pass


@pytest.fixture
def tf2(monkeypatch):
    """tf2_ros, as far as the node uses it; the real one has no wheel."""
    module = ModuleType("tf2_ros")
    module.TransformException, module.Buffer, module.TransformListener = RuntimeError, FakeBuffer, FakeListener
    monkeypatch.setitem(sys.modules, "tf2_ros", module)
