"""Too little memory: fewer views at a time, then another backend, then a clear error."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fsmde_ros.backends import memory_guard
from fsmde_ros.backends.backend import Prediction
from fsmde_ros.backends.memory_guard import MemoryGuard
from fsmde_ros.backends.padded import PaddedBackend
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
    RuntimeError("could not allocate tensor of 4 bytes"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
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


class SmallMemoryForPrograms(PaddedBackend):
    """A backend whose programs are of a fixed number of views, with room for so many."""

    name = "padded"

    def __init__(self, room):
        super().__init__()
        self.room, self.compiled = room, []

    def compile(self, views, size):
        self.compiled.append(views)

        def run(feed):
            if views > self.room:
                raise ERRORS[3]
            depth = feed["images"].mean(axis=2, dtype=np.float32)
            return depth, depth / 10, np.zeros_like(depth)

        return run, views


def test_a_program_for_all_views_is_given_up_where_only_fewer_fit():
    backend = SmallMemoryForPrograms(2)
    guard = MemoryGuard(backend)
    images, *rest = sweep()
    np.testing.assert_allclose(guard(images, *rest).depth, images.mean(axis=1), rtol=1e-5)
    assert backend.compiled == [6, 3, 2]
    guard(images, *rest)
    assert backend.compiled == [6, 3, 2]


@pytest.mark.parametrize("views", [1, 4, 6])
@pytest.mark.parametrize("by_pixels", [True, False])
def test_images_lie_in_the_feed_of_a_program_whatever_their_layout(by_pixels, views):
    images = np.random.default_rng(1).integers(0, 256, (views, 3, 8, 12), dtype=np.uint8)
    if by_pixels:
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    backend, fed = SmallMemoryForPrograms(6), []
    backend.compile = lambda n, size: (lambda feed: fed.append(feed) or [np.zeros((1, n, *size))] * 3, n)
    rest = np.tile(np.eye(3), (views, 1, 1)), np.tile(np.eye(4), (views, 1, 1)), 0.0, np.ones(views, dtype=bool)
    backend(images, *rest)
    np.testing.assert_array_equal(fed[0]["images"][0, :views], images)


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
