"""Where two views see the same: which points those are, and how far the two depths disagree.

Two measures of the disagreement, both a share of the distance:

    at_lidar    the same 3-D point is known from the LiDAR. Views a and b estimate d_a and d_b for it, its
                true depths there are g_a and g_b: |d_a / g_a - d_b / g_b|.
    dense       no truth is needed. The depth of a pixel of view a puts a point into the world, whose depth
                in view b is z; view b itself says d_b at that place: |d_b - z| / z. At the rim of a nearer
                thing the two views rightly see different surfaces, so this is not 0 there for a true depth.

Vehicle poses, where they are known, take account of what the vehicle drove between the two exposures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.geometry import compose, invert, pixel_grid, project, transform, unproject
from fsmde_ros.metrics import sample_bilinear
from fsmde_ros.sweep import SurroundDepth, Sweep, lidar_in_view

Array = NDArray[np.float64]
Pair = tuple[str, str]

DENSE_STRIDE = 2  # pixels: neighbours say the same
AGREEING = 0.05  # of the distance: what two views may differ by


@dataclass(frozen=True, eq=False)
class Disagreement:
    """How far two views disagree about the points both see: [N] each a share of the distance, by pair of cameras."""

    at_lidar: dict[Pair, Array]
    dense: dict[Pair, Array]


class ViewAgreement:
    """Disagreement of the views of many sweeps."""

    def __init__(self) -> None:
        self._of: dict[str, dict[str, list[tuple[float, float, float, int]]]] = {"at_lidar": {}, "dense": {}}

    def add(self, found: Disagreement) -> None:
        """Take in that of one sweep."""
        for kind, pairs in (("at_lidar", found.at_lidar), ("dense", found.dense)):
            named = {f"{a}, {b}": shares for (a, b), shares in pairs.items()}
            if named:
                named["overall"] = np.concatenate(list(named.values()))
            for pair, s in named.items():
                figures = (float(s.mean()), float(np.median(s)), float((s < AGREEING).mean()), len(s))
                self._of[kind].setdefault(pair, []).append(figures)

    def as_dict(self) -> dict[str, Any]:
        """For JSON, by measure: mean over the sweeps of what each says of its points, ``overall`` and by pair."""
        return {kind: _means(pairs) for kind, pairs in self._of.items()}


def _means(of_pairs: Mapping[str, list[tuple[float, float, float, int]]]) -> dict[str, Any]:
    pairs = {}
    for pair, figures in of_pairs.items():
        mean, median, agreeing, _ = np.mean(figures, axis=0).tolist()
        n = sum(figure[3] for figure in figures)
        pairs[pair] = {"mean": mean, "median": median, "share_under_5_percent": agreeing, "n": n}
    return {"overall": pairs.pop("overall", None), "pairs": pairs}


def into_view(sweep: Sweep, a: str, b: str, pixels: Array, depth: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Take pixels [N, 2] of view ``a`` with depth [N] (metres) to view ``b``.

    Returns:
        pixels [N, 2] and depth [N] in view b, and [N] bool: whether they lie in front of b and within its
        image. Where the poses of both exposures are known, the world stands still and the vehicle moves.
    """
    camera_a, camera_b = sweep.rig[a], sweep.rig[b]
    pose_a, pose_b = sweep.views[a].vehicle_to_map, sweep.views[b].vehicle_to_map
    moved = np.eye(4) if pose_a is None or pose_b is None else compose(invert(pose_b), pose_a)
    a_to_b = compose(invert(camera_b.camera_to_vehicle), moved, camera_a.camera_to_vehicle)
    found, found_depth = project(camera_b.intrinsics, transform(a_to_b, unproject(camera_a.intrinsics, pixels, depth)))
    with np.errstate(invalid="ignore"):
        inside = ((found > -0.5) & (found < np.array(camera_b.size[::-1]) - 0.5)).all(-1)
    return found, found_depth, inside


def seen_by_another(sweep: Sweep, name: str, pixels: Array, depth: Array) -> NDArray[np.bool_]:
    """Which of the points at pixels [N, 2] and depth [N] of a view lie in the frustum of another: [N] bool."""
    seen = np.zeros(len(depth), dtype=np.bool_)
    for other in sweep.present:
        if other != name:
            seen |= into_view(sweep, name, other, pixels, depth)[2]
    return seen


def disagreement(sweep: Sweep, estimate: SurroundDepth, min_depth: float, max_depth: float) -> Disagreement:
    """Disagreement of all pairs of views of ``estimate`` that see something in common.

    Args:
        sweep: at the size of the estimate, with its views only.
        estimate: depth of the views; depth is clamped to the range.
        min_depth, max_depth: metres; points beyond do not count.
    """
    return Disagreement(
        dict(_at_lidar(sweep, estimate, min_depth, max_depth)), dict(_dense(sweep, estimate, min_depth, max_depth))
    )


def _at_lidar(sweep: Sweep, estimate: SurroundDepth, low: float, high: float) -> Iterator[tuple[Pair, Array]]:
    for a, b in combinations(sweep.present, 2):
        pixels_a, truth_a = lidar_in_view(sweep, a, low)
        pixels_b, truth_b, both = into_view(sweep, a, b, pixels_a, truth_a)
        both &= (truth_a <= high) & (truth_b >= low) & (truth_b <= high)
        said_a = np.clip(sample_bilinear(estimate.view(a)[0], pixels_a[both]), low, high)
        said_b = np.clip(sample_bilinear(estimate.view(b)[0], pixels_b[both]), low, high)
        shares = np.abs(said_a / truth_a[both] - said_b / truth_b[both])
        shares = shares[~np.isnan(shares)]
        if shares.size:
            yield (a, b), shares


def _dense(sweep: Sweep, estimate: SurroundDepth, low: float, high: float) -> Iterator[tuple[Pair, Array]]:
    sample = (slice(DENSE_STRIDE // 2, None, DENSE_STRIDE),) * 2
    for a, b in permutations(sweep.present, 2):
        depth = estimate.view(a)[0][sample].astype(np.float64)
        used = (depth >= low) & (depth <= high)  # neither NaN nor sky
        pixels = pixel_grid(sweep.rig[a].size)[sample][used]
        there, z, both = into_view(sweep, a, b, pixels, depth[used])
        said = sample_bilinear(estimate.view(b)[0], there[both])
        z = z[both]
        counted = np.isfinite(said) & (z >= low) & (z <= high)
        shares = np.abs(np.clip(said[counted], low, high) - z[counted]) / z[counted]
        if shares.size:
            yield (a, b), shares
