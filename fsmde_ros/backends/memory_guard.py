"""A backend that lives with too little memory: fewer views at a time, then another backend."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from fsmde_ros.backends.backend import Backend, Prediction
from fsmde_ros.errors import BackendError

RETRY_AFTER = 600  # calls with fewer views, after which all are tried at once again
# PyTorch's CPU allocator and OpenVINO raise plain RuntimeErrors, ONNX Runtime its own kind, with words such as these;
# of CUDA's libraries PyTorch tells the status alone, such as CUBLAS_STATUS_ALLOC_FAILED.
_WORDS = (
    "out of memory",
    "can't allocate",
    "could not allocate",
    "failed to allocate",
    "not enough memory",
    "bad_alloc",
    "alloc_failed",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out, on whatever device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return any(word in str(error).lower() for word in _WORDS)


class MemoryGuard:
    """Runs a backend; where memory runs out, again with half as many views at a time, down to one.

    Views that are run apart do not see each other, so that their depth is a little worse than that
    of the whole sweep. If one view alone is too much, the fallback takes over for good.

    Attributes:
        problem: what had to be given up; empty while all is well.
    """

    def __init__(self, backend: Backend, fallback: Callable[[], Backend] | None = None) -> None:
        """``fallback`` makes the backend that takes over; without one BackendError is raised instead."""
        self._backend, self._fallback = backend, fallback
        self._at_a_time: int | None = None  # None: all views
        self._calls = 0
        self.problem = ""

    @property
    def name(self) -> str:
        """What runs where, such as ``torch cpu``."""
        return self._backend.name

    def __call__(
        self,
        images: NDArray[np.uint8],
        intrinsics: NDArray[np.float64],
        camera_to_vehicle: NDArray[np.float64],
        ground_z: float,
        present: NDArray[np.bool_],
    ) -> Prediction:
        """See ``Backend``. Raises BackendError where memory does not suffice in any way."""
        self._calls += 1
        if self._at_a_time is not None and self._calls > RETRY_AFTER:
            self._at_a_time, self._calls, self.problem = None, 0, ""
        views = len(images)
        while True:
            size = min(self._at_a_time or views, views)
            try:
                parts = [
                    self._backend(
                        images[i : i + size],
                        intrinsics[i : i + size],
                        camera_to_vehicle[i : i + size],
                        ground_z,
                        present[i : i + size],
                    )
                    for i in range(0, views, size)
                ]
                return parts[0] if len(parts) == 1 else Prediction(*map(np.concatenate, zip(*parts, strict=True)))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error).partition("\n")[0]
            # Out here the exception, whose frames hold tensors, is gone and its memory can be given back.
            self._retreat(size, reason)

    def _retreat(self, size: int, reason: str) -> None:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self._calls = 0
        if size > 1:
            self._at_a_time = (size + 1) // 2
            self.problem = f"out of memory on {self.name}: {self._at_a_time} views at a time ({reason})"
            return
        if self._fallback is None:
            self.problem = f"out of memory on {self.name} with one view at a time ({reason})"
            raise BackendError(f"{self.problem}; free memory, choose device cpu, or use a smaller checkpoint")
        lost = self.name
        self._backend, self._fallback, self._at_a_time = self._fallback(), None, None
        self.problem = f"out of memory on {lost}: now on {self.name} ({reason})"
