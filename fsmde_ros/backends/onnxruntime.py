"""ONNX Runtime, on the CPU or, where its CUDA build is installed, a CUDA device."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fsmde_ros.backends.onnx_graph import OUTPUTS, find_or_export
from fsmde_ros.backends.padded import Feed, PaddedBackend, Program
from fsmde_ros.backends.torch_eager import choose_device
from fsmde_ros.errors import BackendError, one_line
from fsmde_ros.network.student import Student

VERSION = "1.32.0" if sys.version_info >= (3, 11) else "1.23.2"  # the last for Python 3.10
PIP, PIP_CUDA = f"pip install onnxruntime=={VERSION}", f"pip install onnxruntime-gpu=={VERSION}"


class OnnxRuntimeBackend(PaddedBackend):
    """The ONNX graph in float32."""

    def __init__(self, student: Student, device: str = "auto", folders: Sequence[Path] = ()) -> None:
        """Raises BackendError where the package, or its support of the device, is not installed."""
        super().__init__()
        self._student, self._folders = student, folders
        if find_spec("onnxruntime") is None:
            raise BackendError(f"backend onnxruntime: the package is not installed; {PIP}, or use backend: torch")
        import onnxruntime

        self._device = choose_device(device)
        provider: Any = "CPUExecutionProvider"
        if self._device.type == "cuda":
            if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
                raise BackendError(
                    f"backend onnxruntime: the installed build has no CUDA; {PIP_CUDA} in its place, "
                    "or use device: cpu, or backend: torch"
                )
            provider = ("CUDAExecutionProvider", {"device_id": self._device.index or 0})
        self._providers = [provider]

    @property
    def name(self) -> str:
        """What runs where."""
        return f"onnxruntime {self._device}"

    def compile(self, views: int, size: tuple[int, int]) -> tuple[Program, int]:
        """See ``PaddedBackend``."""
        import onnxruntime

        path, room = find_or_export(self._student, views, size, self._folders)
        options = onnxruntime.SessionOptions()
        # Its threads would otherwise burn the cores that decode images, between two sweeps.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=self._providers)
        except Exception as error:  # of many kinds, none of which is a RuntimeError
            raise BackendError(
                f"backend onnxruntime: {path} cannot be loaded: {one_line(error)}; delete the file, and it is made anew"
            ) from error

        if self._device.type == "cuda" and session.get_providers()[0] != "CUDAExecutionProvider":
            # It goes on on the CPU where a library of CUDA is missing, and tells its log alone.
            raise BackendError(f"backend onnxruntime: CUDA cannot be loaded, see its log; {PIP_CUDA}, or device: cpu")

        def run(feed: Feed) -> Sequence[Any]:
            return session.run(list(OUTPUTS), dict(feed))

        return run, room
