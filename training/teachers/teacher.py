"""What a teacher is, and what its numbers mean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from fsmde_ros.backends.torch_eager import choose_device
from fsmde_ros.errors import BackendError, ConfigError, TeacherError

Kind = Literal["disparity", "depth", "canonical"]
KINDS: tuple[Kind, ...] = ("disparity", "depth", "canonical")
MIN_DEPTH = 1e-3  # metres; a metric teacher that says nearer says nothing


class TeacherOutput(NamedTuple):
    """What a teacher says of M images.

    Attributes:
        disparity: [M, H, W] float32, higher is nearer, of the size of the images. By the teacher's kind: up to
            scale and shift ("disparity"); 1 / metres ("depth"); 1 / metres times focal length over width
            ("canonical", see ``metric_scale``).
        features: [M, C, h, w] float32 of its decoder, at its own resolution, where asked for.
    """

    disparity: Tensor
    features: Tensor | None


class TeacherView(NamedTuple):
    """What a teacher says of a batch: disparity [B, V, H, W] (NaN where not present), features [B, V, C, h, w]."""

    disparity: Tensor
    features: Tensor


class Teacher(Protocol):
    """A frozen depth network."""

    @property
    def identity(self) -> str:
        """Hash of everything that decides what the teacher says: weights, configuration, input size."""

    @property
    def kind(self) -> Kind:
        """What its disparity means; see ``TeacherOutput``."""

    @property
    def batch(self) -> int:
        """Images that it takes at once."""

    def place(self, auto: torch.device | None = None) -> Teacher:
        """Move the network to the device and into the precision of its settings.

        ``auto`` and errors: of ``TeacherSettings.chosen_device``.
        """

    def predict(self, images: Tensor, with_features: bool = False) -> TeacherOutput:
        """Disparity of images [M, 3, H, W] uint8 RGB, and the decoder's features if asked for; no gradient."""


@dataclass(frozen=True)
class TeacherSettings:
    """Which teacher, and how it is run."""

    # Hub name or local directory of a transformers depth model; empty: the town's own depth. For method a also a
    # checkpoint of fsmde_ros: a .safetensors file, or one of the package.
    name: str = ""
    revision: str = "main"  # of a hub name
    kind: str = "auto"  # auto, or disparity, depth, canonical where the model's configuration does not tell
    input_size: tuple[int, int] | None = None  # (H, W) the teacher sees; none: what its own files say
    device: str = "auto"  # auto: CUDA where there is one; by method a the device that its process trains on
    dtype: str = "auto"  # float32, float16 or bfloat16; auto: float16 on CUDA, else float32
    batch: int = 6  # images at once
    cache: Path = Path(".cache/teacher")  # what teachers said, shared by all runs

    def __post_init__(self) -> None:
        if self.kind not in ("auto", *KINDS):
            raise ConfigError(f"teacher.kind must be auto, {', '.join(KINDS)}, got {self.kind!r}")
        if self.dtype not in ("auto", "float32", "float16", "bfloat16"):
            raise ConfigError(f"teacher.dtype must be auto, float32, float16 or bfloat16, got {self.dtype!r}")
        if self.batch < 1:
            raise ConfigError(f"teacher.batch must be at least 1, got {self.batch}")
        if self.input_size is not None and min(self.input_size) < 1:
            raise ConfigError(f"teacher.input_size must be (H, W) above 0, got {self.input_size}")

    def chosen_device(self, auto: torch.device | None = None) -> torch.device:
        """Where the teacher runs: for auto on ``auto``, by default CUDA where there is one.

        Raises TeacherError for a device that is not there.
        """
        if self.device == "auto" and auto is not None:
            return auto
        try:
            return choose_device(self.device)
        except BackendError as error:
            raise TeacherError(f"teacher.device: {error}") from error

    def chosen_dtype(self, device: torch.device) -> torch.dtype:
        """In which precision the teacher runs on ``device``."""
        if self.dtype == "auto":
            return torch.float16 if device.type == "cuda" else torch.float32
        chosen: torch.dtype = getattr(torch, self.dtype)
        return chosen


def metric_scale(kind: Kind, focal_px: Tensor | None, width: int) -> Tensor | None:
    """Factor [M] that makes the disparity of M views comparable; none where it already is.

    A canonical teacher (Depth Pro: Bochkovskii et al., ICLR 2025) answers as if every image had a focal length
    equal to its width: ``1 / depth = disparity * width / focal length``. Views of one sweep differ in that, so
    that without it no one scale fits them all.

    Args:
        kind: of the teacher.
        focal_px: [M] focal lengths (x), pixels of images of ``width``; unknown: all views count as equal.
        width: pixels.
    """
    return width / focal_px if kind == "canonical" and focal_px is not None else None
