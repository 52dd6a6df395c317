"""Losses of the distillation, each a small pure function.

Letters: B sweeps, V views, N depth bins, H W image size, h w size of the bin maps, P pairs.
All are computed in float32 whatever autocast says (SILog under half precision gives NaN), return
a scalar, and are exactly 0 with a zero gradient where their mask is empty. "Our reading" marks what
is reconstructed in ``method.md`` from the abstract of Hwang et al., RA-L 2026.
"""

from __future__ import annotations

from training.losses.bins import bin_coverage, ckd, out_of_range_loss, soft_bins
from training.losses.depth import edge_aware_smoothness, gradient_matching, silog
from training.losses.masked import masked_mean
from training.losses.relations import centred, relation, vrkd
from training.losses.views import Reprojection, among, overlap_consistency, photometric, reproject, view_to_view

__all__ = [
    "Reprojection",
    "among",
    "bin_coverage",
    "centred",
    "ckd",
    "edge_aware_smoothness",
    "gradient_matching",
    "masked_mean",
    "out_of_range_loss",
    "overlap_consistency",
    "photometric",
    "relation",
    "reproject",
    "silog",
    "soft_bins",
    "view_to_view",
    "vrkd",
]
