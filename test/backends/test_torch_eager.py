"""The eager backend against the student it was made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fsmde_ros.backends import build_backend
from fsmde_ros.backends.folding import fold_batch_norm, freeze, place
from fsmde_ros.errors import BackendError
from fsmde_ros.network.student import Student, StudentConfig

V, H, W = 3, 64, 96


@pytest.fixture(scope="module")
def student() -> Student:
    torch.manual_seed(0)
    student = Student(StudentConfig()).eval()
    with torch.no_grad():
        student.bin_logits.to_logits.weight.normal_(std=0.2)
        for module in student.modules():
            if isinstance(module, torch.nn.BatchNorm2d):  # statistics that folding must not lose
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.8, 1.2)
    return student


def sweep() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (V, H, W, 3), dtype=np.uint8).transpose(0, 3, 1, 2)
    intrinsics = np.tile(np.array([[70.0, 0, 47.5], [0, 70.0, 31.5], [0, 0, 1]]), (V, 1, 1))
    pose = np.array([[0.0, 0, 1, 1.5], [-1, 0, 0, 0], [0, -1, 0, 1.4], [0, 0, 0, 1]])
    return images, intrinsics, np.tile(pose, (V, 1, 1))


def test_bins_are_never_rounded_where_the_rest_is(student: Student) -> None:
    placed = place(freeze(student), torch.device("cpu"), torch.bfloat16)
    assert placed.decoder.state_dict()[next(iter(placed.decoder.state_dict()))].dtype == torch.bfloat16
    for part in ("bin_centres", "bin_logits"):
        own = getattr(placed, part).state_dict()
        for name, tensor in getattr(student, part).state_dict().items():
            assert torch.equal(own[name], tensor), f"{part}.{name}"


@torch.no_grad()
def test_it_gives_what_the_student_gives(student: Student) -> None:
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    images, intrinsics, poses = sweep()
    present = np.array([True, False, True])
    result = build_backend("auto", student, "cpu")(images, intrinsics, poses, -0.3, present)
    expected = student(
        torch.from_numpy(np.ascontiguousarray(images))[None],
        torch.from_numpy(intrinsics).float()[None],
        torch.from_numpy(poses).float()[None],
        torch.tensor([-0.3]),
        torch.from_numpy(present)[None],
    )
    for part, tensor in zip(result, expected[:3], strict=True):
        assert part.dtype == np.float32
        assert part.shape == (V, H, W)
        np.testing.assert_allclose(part, tensor[0].numpy(), rtol=2e-3, atol=1e-4)
    assert {name for name in before if not torch.equal(before[name], student.state_dict()[name])} == set()


def test_folding_leaves_no_batch_norm(student: Student) -> None:
    copy = Student(student.config).eval()
    fold_batch_norm(copy)
    assert not [m for m in copy.modules() if isinstance(m, torch.nn.BatchNorm2d)]


def test_the_name_says_what_runs_where(student: Student) -> None:
    assert build_backend("torch", student, "cpu").name == "torch cpu"


@pytest.mark.parametrize("device", ["gpu", "meta", "", "cpu:x"])
def test_an_unknown_device_is_refused(student: Student, device: str) -> None:
    with pytest.raises(BackendError, match="device must be"):
        build_backend("torch", student, device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_that_is_absent_is_refused(student: Student, device: str) -> None:
    with pytest.raises(BackendError, match=rf"'{device}'.*0 CUDA devices"):
        build_backend("torch", student, device)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_agrees_with_the_cpu(student: Student) -> None:
    images, intrinsics, poses = sweep()
    present = np.ones(V, dtype=bool)
    cpu = build_backend("torch", student, "cpu")(images, intrinsics, poses, 0.0, present)
    cuda = build_backend("torch", student, "auto")(images, intrinsics, poses, 0.0, present)
    assert np.median(np.abs(cuda.depth / cpu.depth - 1)) < 0.01
