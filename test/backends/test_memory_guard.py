"""Too little memory: fewer views at a time, then another backend, then a clear error."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fsmde_ros.backends import memory_guard
from fsmde_ros.backends.backend import Prediction
from fsmde_ros.backends.memory_guard import MemoryGuard
from fsmde_ros.errors import BackendError

VIEWS = 6


class SmallMemory:
    """A backend with room for so many views; its depth is the mean of each image."""

    def __init__(self, room, error, name="small"):
        self.room, self.error, self.name, self.sizes = room, error, name, []

    def __call__(self, images, intrinsics, camera_to_vehicle, ground_z, present):
        assert len(images) == len(intrinsics) == len(camera_to_vehicle) == len(present)
        self.sizes.append(len(images))
        if len(images) > self.room:
            raise self.error
        depth = images.mean(axis=1).astype(np.float32) + intrinsics[:, :1, :1] + ground_z
        return Prediction(depth, depth / 10, np.zeros_like(depth))


def sweep():
    images = np.random.default_rng(0).integers(0, 256, (VIEWS, 3, 4, 5), dtype=np.uint8)
    intrinsics = np.arange(VIEWS)[:, None, None] * np.ones((VIEWS, 3, 3))
    return images, intrinsics, np.tile(np.eye(4), (VIEWS, 1, 1)), 0.5, np.ones(VIEWS, dtype=bool)


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    MemoryError("no room"),
    RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    type("RuntimeException", (Exception,), {})("Failed to allocate memory for requested buffer"),  # ONNX Runtime's
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_fewer_views_at_a_time_give_the_same_depth(error):
    whole = SmallMemory(VIEWS, error)(*sweep())
    backend = SmallMemory(2, error)
    guard = MemoryGuard(backend)
    for _ in range(2):
        for part, expected in zip(guard(*sweep()), whole, strict=True):
            np.testing.assert_array_equal(part, expected)
    assert backend.sizes == [6, 3, 2, 2, 2, 2, 2, 2]  # it remembers
    assert "2 views at a time" in guard.problem


def test_the_fallback_takes_over_for_good():
    backend, other = SmallMemory(0, ERRORS[0]), SmallMemory(VIEWS, ERRORS[0], "other")
    guard = MemoryGuard(backend, lambda: other)
    guard(*sweep())
    guard(*sweep())
    assert backend.sizes == [6, 3, 2, 1]
    assert other.sizes == [6, 6]
    assert guard.name == "other"
    assert "out of memory on small: now on other" in guard.problem


def test_without_a_fallback_the_reason_and_the_remedy_are_told():
    guard = MemoryGuard(SmallMemory(0, ERRORS[0]))
    with pytest.raises(BackendError, match=r"out of memory on small with one view.*2\.00 GiB.*choose device cpu"):
        guard(*sweep())


def test_all_views_are_tried_again_later(monkeypatch):
    monkeypatch.setattr(memory_guard, "RETRY_AFTER", 3)
    backend = SmallMemory(3, ERRORS[0])
    guard = MemoryGuard(backend)
    guard(*sweep())
    backend.room = VIEWS
    for _ in range(4):
        guard(*sweep())
    assert backend.sizes[-1] == 6
    assert guard.problem == ""


def test_other_errors_are_not_swallowed():
    guard = MemoryGuard(SmallMemory(0, RuntimeError("shapes do not fit")))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        guard(*sweep())
