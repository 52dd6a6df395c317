"""One of this package's own students as a teacher of another, by method A.

It knows the rig and speaks of all views of a sweep at once, where a model of ``transformers`` sees one image: so it
is asked about a batch of sweeps.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fsmde_ros.checkpoint import find_checkpoint, load_checkpoint, shipped_checkpoints
from fsmde_ros.errors import ConfigError
from fsmde_ros.geometry import scale_intrinsics
from fsmde_ros.network.student import OUT_OF_RANGE, Student
from training.batch import SweepBatch
from training.teachers.teacher import TeacherSettings, TeacherView


class CheckpointTeacher:
    """A frozen student; see ``load_checkpoint_teacher``."""

    def __init__(self, student: Student, input_size: tuple[int, int], settings: TeacherSettings | None = None) -> None:
        """``input_size``: (H, W) that it sees, whatever the size of the images it is asked about."""
        self.student = student.eval().requires_grad_(False)
        self.input_size = input_size
        self.settings = settings or TeacherSettings()

    @property
    def feature_channels(self) -> int:
        """Channels of the decoder's features."""
        return self.student.config.decoder_widths[-1]

    def place(self, auto: torch.device | None = None) -> CheckpointTeacher:
        """Move the network to the device of its settings, in float32; see ``TeacherSettings.chosen_device``."""
        self.student.to(self.settings.chosen_device(auto))
        return self

    @torch.no_grad()
    def view(self, batch: SweepBatch, size: tuple[int, int]) -> TeacherView:
        """What it says of a batch: disparity in 1 / metres, 0 where out of range; features at ``size`` (h, w)."""
        batch_size, views, _, *size_of_images = batch.images.shape
        image_size = (size_of_images[0], size_of_images[1])
        device = next(self.student.parameters()).device
        with torch.autocast(device.type, enabled=False):  # its own precision, whatever the student's
            images = _resized(batch.images.flatten(0, 1).float().to(device), self.input_size)
            output = self.student(
                images.reshape(batch_size, views, 3, *self.input_size),
                _scaled(batch.intrinsics, image_size, self.input_size).to(device),
                batch.camera_to_vehicle.to(device),
                batch.ground_z.to(device),
                batch.present.to(device),
            )
            # the depth of its sky is a number, too: taught as such, it would undo what the student knows of the sky
            inverse = torch.where(output.out_of_range > OUT_OF_RANGE, 0.0, 1 / output.depth)
            disparity = _resized(inverse, image_size)
            features = _resized(output.features.flatten(0, 1), size).reshape(batch_size, views, -1, *size)
        known = batch.present[..., None, None].to(device)
        disparity = torch.where(known, disparity, torch.nan).to(batch.images.device)
        return TeacherView(disparity, features.to(batch.images.device))


def names_checkpoint(name: str) -> bool:
    """Whether a teacher's name is that of a checkpoint of this package's format, a file or a shipped one."""
    return name in shipped_checkpoints() or name.endswith(".safetensors")


def load_checkpoint_teacher(settings: TeacherSettings) -> CheckpointTeacher:
    """Load the checkpoint that the settings name, on the CPU; of these, ``input_size`` and ``device`` count.

    Raises CheckpointError for a file that cannot be used, ConfigError for a size that does not fit, TeacherError for
    a device that is not there.
    """
    student, card = load_checkpoint(find_checkpoint(Path(settings.name).expanduser()))
    size = settings.input_size or card.input_size
    if student.config.fitting(size) != size:
        raise ConfigError(f"teacher.input_size must be multiples of {student.config.stride}, got {size}")
    settings.chosen_device()  # refused here, not when a training has begun
    return CheckpointTeacher(student, size, settings)


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size, mode="bilinear", antialias=True, align_corners=False)


def _scaled(intrinsics: Tensor, from_size: tuple[int, int], to_size: tuple[int, int]) -> Tensor:
    """[B, V, 3, 3] of images that are resized from ``from_size`` to ``to_size``, both (H, W)."""
    matrices = [scale_intrinsics(matrix, from_size, to_size) for matrix in intrinsics.reshape(-1, 3, 3).cpu().numpy()]
    return torch.from_numpy(np.stack(matrices)).float().reshape(intrinsics.shape)
