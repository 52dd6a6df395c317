"""Method A: the teacher's decoder features feed the very bin head of the student.

Our reading of the shared binning module of Hwang et al., RA-L 2026. An adapter takes the features to the width
of the student's own; the student's ``bin_logits`` then give the teacher's probabilities p_T on the student's
centres c_S. Three terms tie them together: SILog(sum p_T c_S, gt) trains adapter, head and centres, SILog(sum p_S
c_S, gt) the student, and KL(p_T || p_S) lets the student follow. The teacher itself stays as it is.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsmde_ros.network.bins import depth_from_bins
from fsmde_ros.network.decoder import NORM_GROUPS
from fsmde_ros.network.student import BIN_STRIDE, Student, StudentOutput
from training import losses
from training.batch import SweepBatch
from training.teachers.checkpoint import CheckpointTeacher
from training.teachers.teacher import Teacher, TeacherView, metric_scale


class TeacherAdapter(nn.Module):
    """1x1 convolution and GroupNorm from a teacher's features to those that the bin head expects."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, width, 1, bias=False)
        self.norm = nn.GroupNorm(NORM_GROUPS, width)

    def forward(self, features: Tensor) -> Tensor:
        """Features [B, V, C, h, w] to [B, V, width, h, w]."""
        adapted = F.relu(self.norm(self.project(features.flatten(0, 1))))
        return adapted.reshape(*features.shape[:2], *adapted.shape[1:])


def ask_teacher(teacher: Teacher | CheckpointTeacher, batch: SweepBatch, size: tuple[int, int]) -> TeacherView:
    """The teacher's view of the present images of a batch, as they are, in batches of its own size.

    Its features come at ``size`` (h, w), that of the bin maps: at their own, Depth Pro's fill gigabytes.
    """
    if isinstance(teacher, CheckpointTeacher):
        return teacher.view(batch, size)
    shown = batch.images[batch.present]  # [M, 3, H, W]
    disparities, reduced = [], []
    for part in torch.split(shown, teacher.batch):
        answer = teacher.predict(part, with_features=True)
        assert answer.features is not None  # they were asked for
        disparities.append(answer.disparity)
        features = F.interpolate(answer.features.float(), size, mode="bilinear", antialias=True, align_corners=False)
        reduced.append(features.to(shown.device))  # the teacher may run on another
    disparity, features = torch.cat(disparities), torch.cat(reduced)
    scale = metric_scale(teacher.kind, batch.intrinsics[batch.present][:, 0, 0], shown.shape[-1])
    if scale is not None:
        disparity = disparity * scale[:, None, None]
    views = batch.present.shape
    all_features = features.new_zeros((*views, *features.shape[1:]))
    all_disparity = disparity.new_full((*views, *disparity.shape[1:]), torch.nan)
    all_features[batch.present], all_disparity[batch.present] = features, disparity
    return TeacherView(all_disparity, all_features)


def teacher_logits(
    student: Student, adapter: TeacherAdapter, view: TeacherView, output: StudentOutput, batch: SweepBatch
) -> Tensor:
    """The student's bin head on the teacher's features: logits [B, V, N + 1, h, w] like those of ``output``."""
    size = (output.logits.shape[-2], output.logits.shape[-1])
    rig = (batch.intrinsics, batch.camera_to_vehicle, batch.ground_z)
    maps = student.rays(rig, size, BIN_STRIDE)
    logits: Tensor = student.bin_logits(
        adapter(view.features), output.centers, maps.log_ground_depth, maps.meets_ground
    )
    return logits


def cross_loss(logits: Tensor, centers: Tensor, lidar: Tensor, mask: Tensor, lam: float, power: float = 1.0) -> Tensor:
    """SILog(sum p_T c_S, gt): the teacher's probabilities on the student's centres against the LiDAR.

    Args:
        logits: [B, V, N + 1, h, w], of ``teacher_logits``. centers: [B, N] metres.
        lidar: [B, V, H, W] metres. mask: [B, V, H, W] bool, where the LiDAR counts.
        lam: of ``losses.silog``. power: of ``depth_from_bins``, as the student takes it.
    """
    depth = depth_from_bins(logits, centers, power).depth  # [B, V, h, w]
    full = F.interpolate(depth, lidar.shape[-2:], mode="bilinear", align_corners=False)
    return losses.silog(full, lidar, mask, lam)
