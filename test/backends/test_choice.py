"""Which backend is taken, and what is said where one cannot be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import fsmde_ros.backends
from fsmde_ros.backends import (
    BUILDERS,
    OrTorch,
    Prediction,
    build_backend,
    fastest_ready,
    onnx_graph,
    onnxruntime,
    openvino,
    tensorrt,
)
from fsmde_ros.backends.built_files import CACHE_VARIABLE
from fsmde_ros.backends.onnx_graph import graph_key
from fsmde_ros.errors import BackendError
from fsmde_ros.network.student import Student

CPU = torch.device("cpu")
SIZE = (192, 320)


def installed(*names: str) -> Callable[[str], object]:
    """``find_spec`` of a machine where only these packages are installed."""
    return lambda name: object() if name in names else None


@pytest.mark.parametrize(
    ("name", "module", "pip"),
    [
        ("onnxruntime", onnxruntime, r"pip install onnxruntime==\S+"),
        ("openvino", openvino, r"pip install openvino==\S+"),
        ("openvino_bf16", openvino, r"openvino_bf16.*pip install openvino"),
        ("openvino_int8", openvino, r"openvino_int8.*pip install openvino"),
        ("tensorrt", tensorrt, "pip install .tensorrt"),
    ],
)
def test_a_package_that_is_absent_is_named_with_its_remedy(
    trained: Student, name: str, module: ModuleType, pip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_spec", installed())
    with pytest.raises(BackendError, match=pip):
        build_backend(name, trained)


def test_a_file_that_cannot_be_made_is_asked_for(
    trained: Student, tmp_path: Path, make: Callable[..., tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(onnx_graph, "find_spec", installed())
    command = r"pip install onnx==\S+.*training\.export --checkpoint CHECKPOINT --views 1 --size 192x320, "
    with pytest.raises(BackendError, match=command):
        build_backend("onnxruntime", trained, "cpu")(*make(1))


def test_an_uncalibrated_int8_is_refused_with_the_command(
    trained: Student, tmp_path: Path, make: Callable[..., tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    with pytest.raises(BackendError, match=r"--format openvino-int8 --views 1 --size 192x320, "):
        build_backend("openvino_int8", trained)(*make(1))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize("name", ["cuda_graph", "tensorrt"])
def test_backends_of_cuda_say_that_it_is_absent(trained: Student, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "find_spec", installed("tensorrt"))
    with pytest.raises(BackendError, match=f"{name} needs a CUDA device"):
        build_backend(name, trained)


def test_openvino_leaves_the_gpu_to_others(trained: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "find_spec", installed("openvino"))
    with pytest.raises(BackendError, match="'cuda'"):
        build_backend("openvino", trained, "cuda")


def test_openvino_takes_the_cpu_by_any_name_of_it(trained: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "find_spec", installed("openvino"))
    assert build_backend("openvino", trained, "cpu:0").name == "openvino cpu"


def test_auto_without_a_runtime_is_torch_and_builds_nothing(
    trained: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    for packages in ((), ("onnx",), ("openvino", "onnxruntime")):  # the last: no graph, and nothing to make it with
        monkeypatch.setattr(fsmde_ros.backends, "find_spec", installed(*packages))
        assert fastest_ready(trained, CPU, SIZE) == "torch"
    monkeypatch.undo()
    assert fastest_ready(trained, CPU, None) == "torch"
    assert list(tmp_path.iterdir()) == []


def test_auto_makes_the_graph_it_needs_once(
    trained: Student, tmp_path: Path, make: Callable[..., tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("openvino")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    inputs = make(1)
    height, width = inputs[0].shape[-2:]
    build_backend("auto", trained, "cpu", (height, width))(*inputs)
    made = [path.name for path in tmp_path.iterdir()]
    assert len(made) == 1
    assert build_backend("auto", trained, "cpu", (height, width)).name.startswith("openvino")
    assert [path.name for path in tmp_path.iterdir()] == made


def test_auto_runs_pytorch_where_its_cache_cannot_be_written_and_says_so(
    trained: Student,
    tmp_path: Path,
    make: Callable[..., tuple[object, ...]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(fsmde_ros.backends, "find_spec", installed("onnx", "onnxruntime"))
    (tmp_path / "file").touch()
    cache = tmp_path / "file" / "cache"  # not even root can make it
    monkeypatch.setenv(CACHE_VARIABLE, str(cache))
    inputs = make(1)
    built = build_backend("auto", trained, "cpu", inputs[0].shape[-2:])
    assert built.name == "onnxruntime cpu"
    expected = build_backend("torch", trained, "cpu")(*inputs)
    for _ in range(2):
        np.testing.assert_array_equal(built(*inputs).depth, expected.depth)
    assert built.name == "torch cpu"
    (warning,) = caplog.messages
    assert str(cache) in warning
    assert CACHE_VARIABLE in warning
    with pytest.raises(BackendError, match="cannot be written"):
        build_backend("onnxruntime", trained, "cpu")(*inputs)


def test_auto_runs_pytorch_where_the_graph_is_for_fewer_cameras_and_says_so(
    trained: Student,
    tmp_path: Path,
    make: Callable[..., tuple[object, ...]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As where a graph for two lies beside the checkpoint, and without onnx none for three can be made."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    onnx_graph.export(trained, 2, SIZE, tmp_path / graph_key(trained, 2, SIZE).file_name)
    for module in (fsmde_ros.backends, onnx_graph):
        monkeypatch.setattr(module, "find_spec", installed("onnxruntime"))
    built = build_backend("auto", trained, "cpu", SIZE, [tmp_path])
    built(*make(2))
    assert (built.name, caplog.messages) == ("onnxruntime cpu", [])
    inputs = make(3)
    np.testing.assert_array_equal(built(*inputs).depth, build_backend("torch", trained, "cpu")(*inputs).depth)
    assert built.name == "torch cpu"
    (warning,) = caplog.messages
    assert "--views 3" in warning
    with pytest.raises(BackendError, match="one more package"):
        build_backend("onnxruntime", trained, "cpu", SIZE, [tmp_path])(*inputs)


def test_auto_leaves_too_little_memory_to_the_guard(trained: Student) -> None:
    def full(*_: object) -> Prediction:
        raise BackendError("backend openvino: could not allocate memory")

    full.name = "openvino cpu"  # type: ignore[attr-defined]
    with pytest.raises(BackendError, match="could not allocate"):
        OrTorch(full, lambda: build_backend("torch", trained, "cpu"))(*[None] * 5)  # type: ignore[arg-type]


def test_auto_takes_the_fastest_that_is_ready(
    trained: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / graph_key(trained, 6, SIZE).file_name).touch()
    choices = [
        ((), True, "torch"),
        (("onnxruntime",), True, "onnxruntime"),
        (("onnxruntime", "openvino"), False, "openvino"),
        (("onnxruntime", "openvino"), True, "openvino_bf16"),
    ]
    for packages, has_bfloat16, expected in choices:
        monkeypatch.setattr(fsmde_ros.backends, "computes_bfloat16", lambda has=has_bfloat16: has)
        monkeypatch.setattr(fsmde_ros.backends, "find_spec", installed(*packages))
        assert fastest_ready(trained, CPU, SIZE, [tmp_path]) == expected
        assert fastest_ready(trained, CPU, (96, 64), [tmp_path]) == "torch", "no file for that size"
        monkeypatch.setattr(fsmde_ros.backends, "find_spec", installed("onnx", *packages))
        assert fastest_ready(trained, CPU, (96, 64), [tmp_path]) == expected
    assert fastest_ready(trained, torch.device("cuda"), SIZE) == "cuda_graph"


def test_a_processor_with_bfloat16_is_known_by_its_flags() -> None:
    pytest.importorskip("openvino")
    flags = set(Path("/proc/cpuinfo").read_text().split())
    if not flags & {"avx2", "avx512_bf16", "amx_bf16"}:
        pytest.skip("not an x86 processor")
    assert openvino.computes_bfloat16() == bool(flags & {"avx512_bf16", "amx_bf16"})


def test_onnxruntime_that_cannot_load_cuda_does_not_go_on_on_the_cpu_in_silence(
    trained: Student, tmp_path: Path, make: Callable[..., tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a build for another version of CUDA does: it lists the provider, and makes a session without it."""
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(onnxruntime, "choose_device", lambda name: torch.device("cuda"))
    listed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(runtime, "get_available_providers", lambda: listed)
    with pytest.raises(BackendError, match="CUDA cannot be loaded"):
        build_backend("onnxruntime", trained, "cuda")(*make(2))


def test_an_unknown_backend_is_refused(trained: Student) -> None:
    with pytest.raises(BackendError, match=r"auto or one of .*onnxruntime.*torch.*'tpu'"):
        build_backend("tpu", trained)
    assert {"torch", "onnxruntime", "openvino", "tensorrt"} <= set(BUILDERS)
