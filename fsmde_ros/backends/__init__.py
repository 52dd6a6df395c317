"""Ways to run the student, behind one call (``backend.Backend``)."""

from __future__ import annotations

from collections.abc import Callable

from fsmde_ros.backends.backend import Backend, Prediction
from fsmde_ros.backends.torch_eager import TorchBackend
from fsmde_ros.errors import BackendError
from fsmde_ros.network.student import Student

__all__ = ["BUILDERS", "Backend", "Prediction", "build_backend"]

BUILDERS: dict[str, Callable[[Student, str], Backend]] = {"torch": TorchBackend}


def build_backend(name: str, student: Student, device: str = "auto") -> Backend:
    """The backend ``name`` (``auto``: the fastest that is there) for ``student`` on ``device``.

    Raises BackendError for an unknown backend, or a device that is not there.
    """
    builder = BUILDERS.get("torch" if name == "auto" else name)
    if builder is None:
        raise BackendError(f"backend must be auto or one of {', '.join(sorted(BUILDERS))}, got '{name}'")
    return builder(student, device)
