from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fsmde_ros.backends import build_backend
from fsmde_ros.backends.built_files import CACHE_VARIABLE
from fsmde_ros.backends.onnx_graph import graph_key
from fsmde_ros.errors import BackendError
from fsmde_ros.network.student import Student

SIZE, VIEWS = (192, 320), 1


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_graph_that_was_cut_off_is_named(
    name: str, trained: Student, make: Callable[[int], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(name)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    graph = tmp_path / graph_key(trained, VIEWS, SIZE).file_name
    graph.write_bytes(b"\x08\x08\x12\x07pytorch\x1a")
    backend = build_backend(name, trained, "cpu", SIZE, [tmp_path])
    with pytest.raises(BackendError, match=rf"backend {name}: \S*{graph.name} cannot be loaded.*delete the file"):
        backend(*make(VIEWS))
