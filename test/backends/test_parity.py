"""Every backend against eager PyTorch in float32, on the shipped student."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch

from fsmde_ros.backends import Backend, Prediction, build_backend
from fsmde_ros.network.encoder import EncoderConfig, StageConfig
from fsmde_ros.network.student import Student, StudentConfig
from training.expectation import with_config

Make = Callable[..., Any]  # the fixture make
SIZE = (192, 320)

# Largest median difference of the depth, as a share of it, and the package without which a backend is not there.
BACKENDS = {
    "onnxruntime": (0.001, "onnxruntime"),
    "openvino": (0.001, "openvino"),
    "openvino_bf16": (0.02, "openvino"),
}


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest, trained: Student, make: Make) -> Backend:
    """One backend after another, each compiled for six views first."""
    package = BACKENDS[request.param][1]
    for needed in (package, "onnx"):
        if find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed; pip install -r requirements/backends.txt")
    built = build_backend(request.param, trained, "cpu", SIZE)
    built(*make(6))
    return built


@pytest.fixture(scope="module")
def eager(trained: Student) -> Backend:
    return build_backend("torch", trained, "cpu")


def check(backend: Backend, found: Prediction, expected: Prediction, views: slice | np.ndarray = slice(None)) -> None:
    limit = BACKENDS[backend.name.split()[0]][0]
    for part in found:
        assert part.dtype == np.float32
        assert part.shape == expected.depth.shape
    relative = np.abs(found.depth[views] / expected.depth[views] - 1)
    assert np.median(relative) < limit
    assert np.quantile(relative, 0.99) < 10 * limit
    assert np.median(np.abs(found.stddev[views] / expected.stddev[views] - 1)) < 5 * limit
    assert np.abs(found.out_of_range[views] - expected.out_of_range[views]).mean() < limit


@pytest.mark.parametrize("views", [6, 5, 1, 7])
def test_any_number_of_views(backend: Backend, eager: Backend, views: int, make: Make) -> None:
    """Fewer than it was compiled for are padded, more compile anew."""
    inputs = make(views, first=views)
    check(backend, backend(*inputs), eager(*inputs))


def test_missing_views_are_ignored(backend: Backend, eager: Backend, make: Make) -> None:
    inputs = make(6)
    present = np.array([True, False, True, True, False, True])
    garbled = inputs.images.copy()
    garbled[~present] = 255 - garbled[~present]
    expected = eager(*inputs._replace(present=present))
    found = backend(*inputs._replace(present=present, images=garbled))
    check(backend, found, expected, np.flatnonzero(present))
    complete = backend(*inputs)  # and the sweep after it is whole again
    check(backend, complete, eager(*inputs))


def test_permuted_views_give_permuted_depth(backend: Backend, make: Make) -> None:
    inputs = make(6)
    order = np.array([3, 0, 5, 1, 4, 2])
    permuted = [part if isinstance(part, float) else part[order] for part in inputs]
    expected = Prediction(*(part[order] for part in backend(*inputs)))
    check(backend, backend(*permuted), expected)


def test_a_prediction_outlives_the_next_sweep(backend: Backend, make: Make) -> None:
    first = backend(*make(6, first=1)).depth
    kept = first.copy()
    backend(*make(6, first=2))
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_student_whose_encoder_sees_half_the_size(name: str, trained: Student, make: Make) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip(BACKENDS[name][1])
    reduced = with_config(trained, input_reduction=2)
    built = build_backend(name, reduced, "cpu", SIZE)
    check(built, built(*make(2)), build_backend("torch", reduced, "cpu")(*make(2)))


@pytest.mark.parametrize("name", BACKENDS)
def test_a_size_whose_last_tokens_lie_half_outside(name: str, trained: Student, eager: Backend, make: Make) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip(BACKENDS[name][1])
    inputs = make(6)
    rows, columns = 176, 304  # 5.5 and 9.5 tokens
    cut = inputs._replace(images=np.ascontiguousarray(inputs.images[:, :, :rows, :columns]))
    expected = eager(*cut)
    built = build_backend(name, trained, "cpu", (rows, columns))
    check(built, built(*cut), expected)
    whole = eager(*inputs).depth[:, :rows, :columns]
    assert np.median(np.abs(expected.depth / whole - 1)) < 0.05


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("name", ["cuda_graph", "torch_compile", "tensorrt"])
def test_cuda_backends_agree_with_the_cpu(trained: Student, eager: Backend, name: str, make: Make) -> None:
    if name == "tensorrt" and find_spec("tensorrt") is None:
        pytest.skip("tensorrt is not installed")
    built = build_backend(name, trained, "cuda")
    for views in (6, 5):
        inputs = make(views)
        assert np.median(np.abs(built(*inputs).depth / eager(*inputs).depth - 1)) < 0.02


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_torch_compile_agrees_on_the_cpu(make: Make) -> None:
    torch.manual_seed(0)
    stages = (StageConfig(3, 1, 1, 8, 1), *(StageConfig(3, 2, 4, width, 1) for width in (16, 24, 48, 96)))
    encoder = EncoderConfig(stem_channels=16, stages=stages, frozen_stages=0)
    # not a shipped one: those take a minute to compile
    student = Student(StudentConfig(encoder, 32, attention_dim=32, attention_blocks=1, input_reduction=2)).eval()
    inputs = make(2)
    expected = build_backend("torch", student, "cpu")(*inputs).depth
    assert np.median(np.abs(build_backend("torch_compile", student, "cpu")(*inputs).depth / expected - 1)) < 0.01
