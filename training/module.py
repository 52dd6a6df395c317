"""What a training step does: student, teacher, losses, optimiser, averaged weights, validation."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from fsmde_ros.backends.torch_eager import full_precision
from fsmde_ros.errors import ConfigError
from fsmde_ros.metrics import DepthScore, ScoreBoard, score_depth
from fsmde_ros.network.student import Student, StudentConfig, StudentOutput
from training.batch import SweepBatch
from training.shared_bins import TeacherAdapter, ask_teacher, teacher_logits
from training.teachers.checkpoint import CheckpointTeacher
from training.teachers.teacher import Teacher
from training.terms import LossWeights, SharedBins, distillation_terms


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
        for name in ("rate", "encoder_rate", "clip_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"optimisation.{name} must be above 0, got {getattr(self, name)}")
        for name in ("weight_decay", "warmup_steps"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"optimisation.{name} must be at least 0, got {getattr(self, name)}")
        if not 0 <= self.final_share <= 1:
            raise ConfigError(f"optimisation.final_share must be in [0, 1], got {self.final_share}")
        if not 0 <= self.average_decay < 1:
            raise ConfigError(f"optimisation.average_decay must be in [0, 1), got {self.average_decay}")


def validation_metrics(score: DepthScore) -> dict[str, float]:
    """What the log and the card of a run have of a validation, by the names that they have there."""
    return {f"val/{name}": getattr(score, name) for name in ("abs_rel", "rmse", "d1")}


class DistillModule(lightning.LightningModule):
    """Distils a teacher and the LiDAR into a ``Student``.

    With a ``teacher``, whose features have ``teacher_channels``, by method A; without, by method B, from the
    disparity in the batch.
    """

    def __init__(
        self,
        student: Student,
        weights: LossWeights | None = None,
        optimisation: Optimisation | None = None,
        teacher: Teacher | CheckpointTeacher | None = None,
        teacher_channels: int = 0,
    ) -> None:
        super().__init__()
        self.student = student
        self.average = copy.deepcopy(student).requires_grad_(False)
        self.weights = weights or LossWeights()
        self.optimisation = optimisation or Optimisation()
        self.board = ScoreBoard()
        self.teacher = teacher  # no module: its weights are neither trained nor saved
        self.adapter: TeacherAdapter | None = None
        refuse_contradiction(self.weights, with_features=teacher is not None)
        if teacher is not None:
            self.adapter = TeacherAdapter(teacher_channels, student.config.decoder_widths[-1])

    def on_fit_start(self) -> None:
        """Have the teacher on the device of this process, where its settings name no other."""
        if self.teacher is not None:
            self.teacher.place(self.device)

    def on_train_start(self) -> None:
        """Have the rates of this run at once: a state holds those of the run that saved it, which had fewer steps."""
        schedule = self.lr_schedulers()
        assert isinstance(schedule, LambdaLR)
        shares = (share(schedule.last_epoch) for share in schedule.lr_lambdas)
        for group, rate, share in zip(schedule.optimizer.param_groups, schedule.base_lrs, shares, strict=True):
            group["lr"] = rate * share

    def training_step(self, batch: SweepBatch, batch_index: int) -> Tensor:
        """Weighted sum of the losses of a batch."""
        output = run_student(self.student, batch)
        shared = None
        if self.teacher is not None and self.adapter is not None:
            view = ask_teacher(self.teacher, batch, (output.logits.shape[-2], output.logits.shape[-1]))
            shared = SharedBins(teacher_logits(self.student, self.adapter, view, output, batch), view)
        terms = distillation_terms(output, batch, self.weights, self.student.config, shared)
        total = torch.stack([getattr(self.weights, name) * value for name, value in terms.items()]).sum()
        logged = {f"train/{name}": value.detach() for name, value in terms.items()}
        together = self.trainer.world_size > 1
        self.log_dict(logged, batch_size=len(batch.images), sync_dist=together)
        self.log("train/loss", total.detach(), prog_bar=True, batch_size=len(batch.images), sync_dist=together)
        return total

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """Step, then move the averaged weights towards the trained ones.

        Not in ``on_train_batch_end``: a state saved there would miss the last move.
        """
        super().optimizer_step(*arguments, **options)
        step = self.trainer.global_step + 1  # it is counted when this returns
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
        """Score the averaged student against the LiDAR, view by view; in float32, whatever is trained in."""
        device = batch.images.device
        with torch.autocast(device.type, enabled=False), full_precision(device):
            output = run_student(self.average.eval(), batch)
        for name, score in score_views(output.depth, batch, self.student.config):
            self.board.add(name, score)

    def on_validation_epoch_end(self) -> None:
        """Log the protocol's means over the images of all processes: image, camera, cameras."""
        self.board = board_of_all(self.board)
        for name, value in validation_metrics(self.board.overall()).items():
            self.log(name, value, prog_bar=name != "val/rmse", rank_zero_only=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW with a lower rate for the encoder and no decay for vectors; cosine by step."""
        settings = self.optimisation
        groups = parameter_groups(self.student, settings)
        if self.adapter is not None:
            groups.append({"params": list(self.adapter.parameters()), "lr": settings.rate, "weight_decay": 0.0})
        optimizer = torch.optim.AdamW(groups)
        total = max(int(self.trainer.max_steps), 1)
        scheduler = LambdaLR(
            optimizer, lambda step: rate_share(step, total, settings.warmup_steps, settings.final_share)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def refuse_contradiction(weights: LossWeights, with_features: bool) -> None:
    """ConfigError for losses that the method, a ``with_features`` of a teacher or b without, cannot train with."""
    if weights.vrkd_features > 0 and not with_features:
        raise ConfigError("losses.vrkd_features needs a teacher's features: set method to a, or the weight to 0")
    if weights.cross <= 0 and with_features:
        raise ConfigError("losses.cross must be above 0 with method a: nothing else trains the teacher's adapter")


def run_student(student: nn.Module, batch: SweepBatch) -> StudentOutput:
    """Call the student on a batch."""
    output: StudentOutput = student(
        batch.images, batch.intrinsics, batch.camera_to_vehicle, batch.ground_z, batch.present
    )
    return output


def score_views(depth: Tensor, batch: SweepBatch, config: StudentConfig) -> list[tuple[str, DepthScore]]:
    """Scores of the present views of a batch against its LiDAR; the name is the place in the rig."""
    scores = []
    predicted, truth = depth.float().cpu().numpy(), batch.lidar_depth.cpu().numpy()
    for b, v in batch.present.nonzero().tolist():
        score = score_depth(predicted[b, v], truth[b, v], config.d_min, config.d_max)
        scores.append((f"view_{v}", score))
    return scores


def board_of_all(board: ScoreBoard) -> ScoreBoard:
    """The scores of all processes that train together; the same in each of them."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return board
    boards: list[ScoreBoard] = [board] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(boards, board)
    whole = ScoreBoard()
    for part in boards:
        for camera, scores in part.images.items():
            for score in scores:
                whole.add(camera, score)
    return whole


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
