"""What a training step does: student, teacher, losses, optimiser, averaged weights, validation."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import lightning
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from fsmde_ros.errors import ConfigError
from fsmde_ros.metrics import DepthScore, ScoreBoard, score_depth
from fsmde_ros.network.student import Student, StudentConfig, StudentOutput
from training import losses
from training.batch import SweepBatch
from training.teachers.alignment import align_to_lidar, teacher_depth


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms of ``method.md``; a weight of 0 switches a term off and skips its work."""

    silog: float = 2.0  # against the sparse LiDAR: the metric scale
    ckd: float = 0.5  # towards the teacher's bin probabilities
    vrkd: float = 0.2  # towards the teacher's relations between adjacent views
    bins: float = 1.0  # a bin near every true depth: without it, CKD drives the centres out of range
    out_of_range: float = 0.5  # sky, where the teacher or the LiDAR knows
    gradient: float = 0.5  # edges of the teacher's log depth
    smoothness: float = 0.0
    overlap: float = 0.0
    silog_lam: float = 0.85
    ckd_temperature: float = 1.0
    vrkd_temperature: float = 0.1
    bin_sigma: float = 0.0  # width of the teacher's soft bins in log depth; 0 shares between two bins

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) >= 0:
                raise ConfigError(f"losses.{field.name} must be >= 0, got {getattr(self, field.name)}")


@dataclass(frozen=True)
class Optimisation:
    """AdamW with warm-up and cosine decay."""

    rate: float = 1e-3  # decoder and attention: they begin from nothing
    encoder_rate: float = 1e-4  # ImageNet features are worth keeping; bin centres move as slowly
    weight_decay: float = 0.01
    warmup_steps: int = 100
    final_share: float = 0.02  # of the rate, at the last step
    clip_norm: float = 1.0
    average_decay: float = 0.998  # of the averaged weights, which are what is validated and shipped

    def __post_init__(self) -> None:
        if min(self.rate, self.encoder_rate) <= 0 or not 0 <= self.average_decay < 1:
            raise ConfigError(
                "optimisation: rates must be above 0 and average_decay in [0, 1), got "
                f"{self.rate}, {self.encoder_rate}, {self.average_decay}"
            )


class TeacherTargets(NamedTuple):
    """Aligned teacher: depth [B, V, H, W] (m, +inf = beyond range, NaN = unknown), known [B, V, H, W] bool."""

    depth: Tensor
    known: Tensor


class DistillModule(lightning.LightningModule):
    """Distils a teacher and the LiDAR into a ``Student``."""

    def __init__(
        self, student: Student, weights: LossWeights | None = None, optimisation: Optimisation | None = None
    ) -> None:
        super().__init__()
        self.student = student
        self.average = copy.deepcopy(student).requires_grad_(False)
        self.weights = weights or LossWeights()
        self.optimisation = optimisation or Optimisation()
        self.board = ScoreBoard()

    def training_step(self, batch: SweepBatch, batch_index: int) -> Tensor:
        """Weighted sum of the losses of a batch."""
        terms = distillation_terms(run_student(self.student, batch), batch, self.weights, self.student.config)
        total = torch.stack([getattr(self.weights, name) * value for name, value in terms.items()]).sum()
        logged = {f"train/{name}": value.detach() for name, value in terms.items()}
        self.log_dict(logged, batch_size=len(batch.images))
        self.log("train/loss", total.detach(), prog_bar=True, batch_size=len(batch.images))
        return total

    def on_train_batch_end(self, outputs: Any, batch: SweepBatch, batch_index: int) -> None:
        """Move the averaged weights towards the trained ones."""
        step = self.trainer.global_step
        # a short memory at first, or the untrained weights would linger
        decay = min(self.optimisation.average_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, current in zip(self.average.parameters(), self.student.parameters(), strict=True):
                mean.lerp_(current, 1 - decay)
            for kept, buffer in zip(self.average.buffers(), self.student.buffers(), strict=True):
                kept.copy_(buffer)

    def on_validation_epoch_start(self) -> None:
        """Begin a new board."""
        self.board = ScoreBoard()

    def validation_step(self, batch: SweepBatch, batch_index: int) -> None:
        """Score the averaged student against the LiDAR, view by view."""
        output = run_student(self.average.eval(), batch)
        for name, score in score_views(output.depth, batch, self.student.config):
            self.board.add(name, score)

    def on_validation_epoch_end(self) -> None:
        """Log the protocol's means: image, camera, cameras."""
        overall = self.board.overall()
        for name in ("abs_rel", "rmse", "d1"):
            self.log(f"val/{name}", getattr(overall, name), prog_bar=name != "rmse")

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW with a lower rate for the encoder and no decay for vectors; cosine by step."""
        settings = self.optimisation
        optimizer = torch.optim.AdamW(parameter_groups(self.student, settings))
        total = max(int(self.trainer.max_steps), 1)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: rate_share(step, total, settings.warmup_steps, settings.final_share)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def run_student(student: nn.Module, batch: SweepBatch) -> StudentOutput:
    """Call the student on a batch."""
    output: StudentOutput = student(
        batch.images, batch.intrinsics, batch.camera_to_vehicle, batch.ground_z, batch.present
    )
    return output


def distillation_terms(
    output: StudentOutput, batch: SweepBatch, weights: LossWeights, config: StudentConfig
) -> dict[str, Tensor]:
    """The loss terms whose weight is above 0, by name, unweighted scalars."""
    present = batch.present[:, :, None, None]
    lidar = batch.lidar_depth
    lidar_known = present & (lidar >= config.d_min) & (lidar <= config.d_max)
    terms: dict[str, Tensor] = {}
    if weights.silog > 0:
        terms["silog"] = losses.silog(output.depth, lidar, lidar_known, weights.silog_lam)
    if weights.bins > 0:
        terms["bins"] = losses.bin_coverage(output.centers, lidar, lidar_known)
    if weights.ckd or weights.vrkd or weights.gradient or weights.out_of_range:
        scale, shift = align_to_lidar(batch.teacher_disparity, torch.where(lidar_known, lidar, torch.nan))
        targets = TeacherTargets(*teacher_depth(batch.teacher_disparity, scale, shift, config.d_max))
        terms.update(_teacher_terms(output, batch, targets, weights, config))
    if weights.smoothness > 0:
        mask = present.expand_as(output.depth)
        terms["smoothness"] = losses.edge_aware_smoothness(output.depth, batch.images, mask)
    if weights.overlap > 0:
        pairs = batch.adjacent.nonzero()
        terms["overlap"] = losses.overlap_consistency(output.depth, batch.intrinsics, batch.camera_to_vehicle, pairs)
    return terms


def _teacher_terms(
    output: StudentOutput, batch: SweepBatch, targets: TeacherTargets, weights: LossWeights, config: StudentConfig
) -> dict[str, Tensor]:
    present = batch.present[:, :, None, None]
    in_range = present & targets.known & (targets.depth >= config.d_min) & torch.isfinite(targets.depth)
    coarse_depth = at_bin_size(targets.depth, output.logits)
    coarse_known = present & at_bin_size(targets.known, output.logits)
    coarse_in_range = at_bin_size(in_range, output.logits)
    depth_logits = output.logits[:, :, :-1]
    terms: dict[str, Tensor] = {}
    if weights.ckd > 0 or weights.vrkd > 0:
        # The centres learn from the metric truth alone: the teacher's part must not move them.
        teacher = losses.soft_bins(coarse_depth, output.centers.detach(), weights.bin_sigma)
        if weights.ckd > 0:
            terms["ckd"] = losses.ckd(teacher, depth_logits, coarse_in_range, weights.ckd_temperature)
        if weights.vrkd > 0:
            # both with the out-of-range pixels left out, so that the sky makes no relation
            kept = coarse_in_range.unsqueeze(2)
            student = torch.softmax(depth_logits.float(), dim=2) * kept
            pairs = batch.adjacent.nonzero()
            terms["vrkd"] = losses.vrkd(teacher * kept, student, pairs, temperature=weights.vrkd_temperature)
    if weights.out_of_range > 0:
        beyond = coarse_known & torch.isinf(coarse_depth)
        terms["out_of_range"] = losses.out_of_range_loss(output.logits, beyond, coarse_known)
    if weights.gradient > 0:
        terms["gradient"] = losses.gradient_matching(output.depth, targets.depth, in_range)
    return terms


def at_bin_size(full: Tensor, logits: Tensor) -> Tensor:
    """[B, V, H, W] at the size of the bin maps: the pixel nearest to each cell's centre, never a mixture."""
    resized = F.interpolate(full.float(), size=logits.shape[-2:], mode="nearest-exact")
    return resized > 0.5 if full.dtype == torch.bool else resized


def score_views(depth: Tensor, batch: SweepBatch, config: StudentConfig) -> list[tuple[str, DepthScore]]:
    """Scores of the present views of a batch against its LiDAR; the name is the place in the rig."""
    scores = []
    predicted, truth = depth.float().cpu().numpy(), batch.lidar_depth.cpu().numpy()
    for b, v in batch.present.nonzero().tolist():
        score = score_depth(predicted[b, v], truth[b, v], config.d_min, config.d_max)
        scores.append((f"view_{v}", score))
    return scores


def parameter_groups(student: Student, settings: Optimisation) -> list[dict[str, Any]]:
    """Trainable parameters in four groups: slow (encoder, bin centres) or not, matrices (decayed) or vectors (not).

    A step of the centres moves the depth of every pixel of every view.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in student.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name.startswith(("encoder.", "bin_centres.")), parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": settings.encoder_rate if slow else settings.rate,
            "weight_decay": settings.weight_decay if decayed else 0.0,
        }
        for (slow, decayed), parameters in groups.items()
    ]


def rate_share(step: int, total: int, warmup: int, final_share: float) -> float:
    """Factor of the learning rate: linear to 1 over ``warmup`` steps, then a cosine to ``final_share``."""
    if step < warmup:
        return (step + 1) / warmup
    progress = min((step - warmup) / max(total - warmup, 1), 1.0)
    return final_share + (1 - final_share) * 0.5 * (1 + math.cos(math.pi * progress))
