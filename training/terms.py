"""The loss terms of a training step: which there are, how much they weigh, what each compares."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

from fsmde_ros.errors import ConfigError
from fsmde_ros.network.student import OUT_OF_RANGE, StudentConfig, StudentOutput
from training import losses
from training.batch import SweepBatch
from training.shared_bins import cross_loss
from training.teachers.alignment import align_to_lidar, teacher_depth
from training.teachers.teacher import TeacherView


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms of ``method.md``; a weight of 0 switches a term off and skips its work."""

    silog: float = 2.0  # against the sparse LiDAR: the metric scale
    ckd: float = 0.5  # towards the teacher's bin probabilities
    vrkd: float = 0.2  # towards the teacher's relations between adjacent views
    bins: float = 1.0  # a bin near every true depth: without it, CKD drives the centres out of range
    out_of_range: float = 0.5  # sky, where the teacher knows, or the LiDAR that there is none
    gradient: float = 0.5  # edges of the teacher's log depth
    cross: float = 1.0  # method a: the teacher's probabilities on the student's centres, against the LiDAR
    vrkd_features: float = 0.0  # method a: the relations of features as well
    smoothness: float = 0.0
    overlap: float = 0.0  # depths of one point in two views
    photometric: float = 0.0  # images of one point in two views, before each is recoloured on its own
    photometric_consecutive: float = 0.0  # images of one point in one camera at two moments, where poses are known
    silog_lam: float = 0.85
    ckd_temperature: float = 1.0
    vrkd_temperature: float = 0.1
    bin_sigma: float = 0.0  # width of the teacher's soft bins in log depth; 0 shares between two bins

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) >= 0:
                raise ConfigError(f"losses.{field.name} must be >= 0, got {getattr(self, field.name)}")
            if math.isinf(getattr(self, field.name)):
                raise ConfigError(f"losses.{field.name} must be finite, got inf; 0 switches a term off")
        for name in ("ckd_temperature", "vrkd_temperature"):
            if getattr(self, name) == 0:
                raise ConfigError(f"losses.{name} must be above 0, got 0")
        if self.silog_lam > 1:
            raise ConfigError(f"losses.silog_lam must be at most 1, got {self.silog_lam}")


class TeacherTargets(NamedTuple):
    """Aligned teacher: depth [B, V, H, W] (m, +inf = beyond range, NaN = unknown), known [B, V, H, W] bool."""

    depth: Tensor
    known: Tensor


class SharedBins(NamedTuple):
    """Method A: logits [B, V, N + 1, h, w] of the student's bin head on the teacher's features, and the latter."""

    logits: Tensor
    view: TeacherView


def distillation_terms(
    output: StudentOutput,
    batch: SweepBatch,
    weights: LossWeights,
    config: StudentConfig,
    shared: SharedBins | None = None,
) -> dict[str, Tensor]:
    """The loss terms whose weight is above 0, by name, unweighted scalars; with ``shared`` those of method A."""
    present = batch.present[:, :, None, None]
    lidar = batch.lidar_depth
    lidar_known = present & (lidar >= config.d_min) & (lidar <= config.d_max)
    terms: dict[str, Tensor] = {}
    if weights.silog > 0:
        terms["silog"] = losses.silog(output.depth, lidar, lidar_known, weights.silog_lam)
    if weights.bins > 0:
        terms["bins"] = losses.bin_coverage(output.centers, lidar, lidar_known)
    if shared is not None and weights.cross > 0:
        terms["cross"] = cross_loss(
            shared.logits, output.centers, lidar, lidar_known, weights.silog_lam, config.expectation_power
        )
    if weights.ckd or weights.vrkd or weights.gradient or weights.out_of_range:
        disparity = batch.teacher_disparity
        if shared is not None:  # what the cache holds was said of the clean image
            disparity = torch.where(torch.isnan(disparity), shared.view.disparity, disparity)
        disparity = torch.where(batch.usable, disparity, torch.nan)
        scale, shift = align_to_lidar(disparity, torch.where(lidar_known, lidar, torch.nan))
        targets = TeacherTargets(*teacher_depth(disparity, scale, shift, config.d_max))
        terms.update(_teacher_terms(output, batch, targets, lidar_known, weights, config, shared))
    if shared is not None and weights.vrkd_features > 0:
        teacher, student = (losses.centred(f, batch.usable) for f in (shared.view.features, output.features))
        pairs = batch.adjacent.nonzero()
        terms["vrkd_features"] = losses.vrkd(teacher, student, pairs, temperature=weights.vrkd_temperature)
    terms.update(_geometric_terms(output, batch, weights))
    return terms


def _teacher_terms(
    output: StudentOutput,
    batch: SweepBatch,
    targets: TeacherTargets,
    lidar_known: Tensor,
    weights: LossWeights,
    config: StudentConfig,
    shared: SharedBins | None,
) -> dict[str, Tensor]:
    present = batch.present[:, :, None, None]
    in_range = present & targets.known & (targets.depth >= config.d_min) & torch.isfinite(targets.depth)
    depth = around_centres(targets.depth, output.logits)
    known = around_centres(present & targets.known, output.logits)
    beyond = mean_where(torch.isinf(depth).float(), known)
    terms: dict[str, Tensor] = {}
    if weights.ckd > 0 or weights.vrkd > 0:
        if shared is None:
            # The centres learn from the metric truth alone: the teacher's part must not move them.
            centers = output.centers.detach()
            teacher, kept = teacher_bins(depth, around_centres(in_range, output.logits), centers, weights.bin_sigma)
        else:
            # it needs no alignment: also where that fails it says something, but not of what lies beyond the bins
            teacher = torch.softmax(shared.logits[:, :, :-1].detach().float(), dim=2)
            kept = around_centres(batch.usable, output.logits).all(0) & (beyond < 0.5)
        terms.update(_bin_terms(output, teacher, kept, batch.adjacent.nonzero(), weights))
    if weights.out_of_range > 0:
        hit = around_centres(lidar_known, output.logits).any(0)  # whatever the teacher says
        terms["out_of_range"] = _out_of_range_term(output.logits, beyond, known.any(0), hit)
    if weights.gradient > 0:
        terms["gradient"] = losses.gradient_matching(output.depth, targets.depth, in_range)
    return terms


def _out_of_range_term(logits: Tensor, beyond: Tensor, known: Tensor, hit: Tensor) -> Tensor:
    """Sky where a teacher is ``known`` to say ``beyond``, none where the LiDAR has ``hit``; all [B, V, h, w].

    A sweep without a teacher shows where no sky is and nowhere where it is. There a hit counts until it is called in
    range, and no longer: however small a gradient that always points away from the sky, AdamW makes whole steps of it.
    The mean stays one over all hits, so that the last few, at edges of things before the sky, weigh little.
    """
    has_teacher = known.flatten(1).any(1)[:, None, None, None]
    is_called_beyond = torch.softmax(logits.detach().float(), dim=2)[:, :, -1] > OUT_OF_RANGE
    given = known | hit
    open_ones = given & (has_teacher | is_called_beyond)
    share = open_ones.sum() / given.sum().clamp(min=1)
    return losses.out_of_range_loss(logits, beyond.masked_fill(hit, 0), open_ones) * share


def _bin_terms(
    output: StudentOutput, teacher: Tensor, kept: Tensor, pairs: Tensor, weights: LossWeights
) -> dict[str, Tensor]:
    """CKD and VRKD towards teacher probabilities [B, V, N, h, w] where ``kept`` [B, V, h, w]."""
    depth_logits = output.logits[:, :, :-1]
    terms: dict[str, Tensor] = {}
    if weights.ckd > 0:
        terms["ckd"] = losses.ckd(teacher, depth_logits, kept, weights.ckd_temperature)
    if weights.vrkd > 0:
        # both with the out-of-range pixels left out, so that the sky makes no relation
        inside = kept.unsqueeze(2)
        student = torch.softmax(depth_logits.float(), dim=2) * inside
        terms["vrkd"] = losses.vrkd(teacher * inside, student, pairs, temperature=weights.vrkd_temperature)
    return terms


def _geometric_terms(output: StudentOutput, batch: SweepBatch, weights: LossWeights) -> dict[str, Tensor]:
    """What needs no teacher and no LiDAR: smoothness, and agreement of the views where they overlap."""
    terms: dict[str, Tensor] = {}
    if weights.smoothness > 0:
        terms["smoothness"] = losses.edge_aware_smoothness(output.depth, batch.images, batch.usable)
    pairs = batch.adjacent.nonzero()
    if weights.overlap > 0:
        terms["overlap"] = losses.overlap_consistency(
            output.depth, batch.intrinsics, batch.camera_to_common, pairs, batch.usable
        )
    if weights.photometric > 0:
        b, i, j = pairs.unbind(1)
        i_to_j = losses.view_to_view(batch.camera_to_common[b, i], batch.camera_to_common[b, j])
        moved = losses.reproject(output.depth[b, i], batch.intrinsics[b, i], batch.intrinsics[b, j], i_to_j)
        moved = losses.among(moved, batch.usable[b, i], batch.usable[b, j])
        terms["photometric"] = losses.photometric(batch.clean[b, i], batch.clean[b, j], moved)
    if weights.photometric_consecutive > 0:
        terms["photometric_consecutive"] = _consecutive_term(output.depth, batch)
    return terms


def _consecutive_term(depth: Tensor, batch: SweepBatch) -> Tensor:
    """Every view against what its camera saw at the other moment, warped by depth [B, V, H, W] and motion."""
    b, v = batch.has_moments.nonzero().unbind(1)
    camera, intrinsics = batch.camera_to_vehicle[b, v], batch.intrinsics[b, v]
    first_to_second = losses.view_to_view(camera, camera, batch.motion[b, v])
    moved = losses.reproject(depth[b, v], intrinsics, intrinsics, first_to_second)
    moved = losses.among(moved, batch.usable[b, v], batch.usable[b, v])
    first, second = batch.moments[b, v].unbind(1)
    return losses.photometric(first, second, moved, ignore_still=True)


def teacher_bins(depth: Tensor, inside: Tensor, centers: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """What a teacher's depth says of the bins: probabilities [B, V, N, h, w], and where they count, [B, V, h, w] bool.

    Args:
        depth: [4, B, V, h, w] metres, of ``around_centres``; ``inside``: where it is known and within the bins.
        centers: [B, N] metres.
        sigma: width of the soft bins in log depth, see ``losses.soft_bins``.
    """
    shares = inside / inside.sum(0).clamp(min=1)
    parts = (losses.soft_bins(d, centers, sigma) * share.unsqueeze(2) for d, share in zip(depth, shares, strict=True))
    return sum(parts, start=torch.zeros(())), inside.any(0)


def around_centres(full: Tensor, logits: Tensor) -> Tensor:
    """[B, V, H, W] to [4, B, V, h, w]: the four pixels in whose middle lies the centre of each cell of the bin maps.

    One of them alone lies half a pixel off: of a road 60 m away it is 9 % nearer than the centre.
    """
    step = full.shape[-1] // logits.shape[-1]
    middle = (step // 2 - 1, step // 2)
    return torch.stack([full[..., y::step, x::step] for y in middle for x in middle])


def mean_where(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the first dimension of what is in the mask, 0 where nothing is."""
    count = mask.sum(0)
    return torch.where(mask, values, 0.0).sum(0) / count.clamp(min=1)
