"""PyTorch eager, in float32, on the CPU or a CUDA device."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fsmde_ros.backends.backend import Prediction
from fsmde_ros.backends.folding import freeze, place
from fsmde_ros.backends.heap import keep_freed_memory
from fsmde_ros.errors import BackendError
from fsmde_ros.network.student import Student


class TorchBackend:
    """The student itself, channels-last and with BatchNorm folded into the convolutions."""

    def __init__(self, student: Student, device: str = "auto") -> None:
        """Copy ``student`` to ``device`` (auto, cpu, cuda, cuda:N); raises BackendError where it is absent."""
        self.device = choose_device(device)
        if self.device.type == "cpu":
            keep_freed_memory()
        self._student = place(freeze(student), self.device, torch.float32)

    @property
    def name(self) -> str:
        """What runs where, such as ``torch cpu``."""
        return f"torch {self.device}"

    @torch.inference_mode()
    def __call__(
        self,
        images: NDArray[np.uint8],
        intrinsics: NDArray[np.float64],
        camera_to_vehicle: NDArray[np.float64],
        ground_z: float,
        present: NDArray[np.bool_],
    ) -> Prediction:
        """See ``Backend``."""
        with full_precision(self.device):
            output = self._student(
                torch.from_numpy(images).to(self.device)[None],
                self._float(intrinsics),
                self._float(camera_to_vehicle),
                self._float(np.array(ground_z)),
                torch.from_numpy(present).to(self.device)[None],
            )
        return Prediction(*(part[0].float().cpu().numpy() for part in output[:3]))

    def _float(self, array: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(array.astype(np.float32))[None].to(self.device)


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Float32 as it is written: on CUDA PyTorch's convolutions would be in TF32, and others are compared with this."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False) if device.type == "cuda" else nullcontext()


def choose_device(name: str) -> torch.device:
    """The device ``name``; ``auto`` is CUDA where there is one, else the CPU.

    Raises BackendError for an unknown device, or CUDA where there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BackendError(f"device must be auto, cpu, cuda or cuda:N, got '{name}'") from error
    if device.type not in ("cpu", "cuda"):
        raise BackendError(f"device must be auto, cpu, cuda or cuda:N, got '{name}'")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise BackendError(
            f"device '{name}' was asked for, but PyTorch {torch.__version__} sees {count} CUDA devices; "
            "use device: cpu or auto, or install a driver and a CUDA build of PyTorch"
        )
    return device
