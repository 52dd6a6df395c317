"""The rig from above: where the cameras are, where they look, and what none of them sees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Polygon

from fsmde_ros.adjacency import adjacent_pairs
from fsmde_ros.check_rig.coverage import Coverage, road_counts
from fsmde_ros.check_rig.findings import Finding
from fsmde_ros.mounting import Mounting, mountings
from fsmde_ros.rig import Rig

RADIUS = 30.0  # metres, half the side of the picture of the road
CELLS = 300
REACH = 4.0  # metres of a field of view in the close picture
COUNT_COLORS = ("#b23a48", "#dfe7d8", "#9cc69b", "#4f8a6e")  # none, one, two, three and more cameras
CAMERA_COLORS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#17becf")
LABEL = {"boxstyle": "round", "facecolor": "white", "alpha": 0.8}
SHOWN_FINDINGS, LINE = 8, 170


def draw_rig(rig: Rig, coverages: Sequence[Coverage], findings: Sequence[Finding], path: Path) -> None:
    """Write the picture of a rig as PNG; the vehicle looks up, its left is on the left.

    Raises OSError where it cannot be written.
    """
    lines = [_coverage_line(coverage) for coverage in coverages]
    lines += [fill(str(finding), LINE) for finding in findings[:SHOWN_FINDINGS]]
    if len(findings) > SHOWN_FINDINGS:
        lines.append(f"... and {len(findings) - SHOWN_FINDINGS} more")
    with rc_context({"text.parse_math": False}):  # a name may hold dollars, as ${prefix}front
        figure = Figure(figsize=(15, 9), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        close, road = figure.subplots(1, 2)
        _draw_cameras(close, rig)
        _draw_road(road, rig)
        figure.supxlabel("\n".join(lines), x=0.02, ha="left", fontsize=9, family="monospace")
        figure.savefig(path)


def _draw_cameras(axes: Axes, rig: Rig) -> None:
    """Every camera with its name, optical axis and field of view along the horizon, and the pairs that overlap."""
    for at, color in zip(mountings(rig), _colors(rig), strict=True):
        axes.add_patch(Polygon(_wedge(at, REACH), closed=True, facecolor=color, alpha=0.18, edgecolor=color))
        yaw = np.radians(at.yaw)
        tip = _on_paper(at.x + 0.6 * REACH * float(np.cos(yaw)), at.y + 0.6 * REACH * float(np.sin(yaw)))
        start = _on_paper(at.x, at.y)
        axes.annotate("", tip, start, arrowprops={"arrowstyle": "->", "color": color})
        axes.plot(*start, "o", color=color, markersize=5)
        angles = f"yaw {round(at.yaw)}°\npitch {round(at.pitch)}°, field {round(at.level_fov)}°"
        label = f"{at.name}\n{at.height:.2f} m, {angles}"
        axes.annotate(label, tip, fontsize=7, ha="center", va="center", bbox=LABEL)
    pairs = ", ".join(f"{rig.names[i]} + {rig.names[j]}" for i, j in adjacent_pairs(rig))
    axes.set_title(f"cameras in '{rig.vehicle_frame}', heights above the road", fontsize=10)
    axes.set_xlabel(fill(f"overlapping: {pairs or 'none'}", 90), fontsize=8)
    positions = rig.camera_to_vehicle()[:, :2, 3]
    middle, half = positions.mean(0), float(np.abs(positions - positions.mean(0)).max()) + 1.1 * REACH
    axes.set_xlim(-middle[1] - half, -middle[1] + half)
    axes.set_ylim(middle[0] - half, middle[0] + half)
    axes.set_aspect("equal")
    axes.plot(0, 0, "+", color="k", markersize=12)
    axes.annotate("origin", (0, 0), textcoords="offset points", xytext=(6, -10), fontsize=7)


def _draw_road(axes: Axes, rig: Rig) -> None:
    """How many cameras see each place on the road."""
    counts = np.minimum(road_counts(rig, RADIUS, CELLS), len(COUNT_COLORS) - 1)
    extent = (-RADIUS, RADIUS, -RADIUS, RADIUS)
    colors = ListedColormap(COUNT_COLORS)
    axes.imshow(counts, cmap=colors, vmin=-0.5, vmax=len(COUNT_COLORS) - 0.5, extent=extent, interpolation="nearest")
    for at, color in zip(mountings(rig), _colors(rig), strict=True):
        axes.plot(*np.array(_wedge(at, 2 * RADIUS))[[1, 0, -1]].T, color=color, linewidth=0.8)
    axes.set_xlim(-RADIUS, RADIUS)
    axes.set_ylim(-RADIUS, RADIUS)
    axes.set_title("cameras that see the road, metres (ahead is up)", fontsize=10)
    names = ("no camera", "one", "two", "three and more")
    patches = [Patch(color=color, label=name) for color, name in zip(COUNT_COLORS, names, strict=True)]
    axes.legend(handles=patches, loc="upper right", fontsize=8)


def _wedge(at: Mounting, reach: float) -> list[tuple[float, float]]:
    """The camera and the end of its field of view along the horizon, on paper."""
    angles = np.radians(at.yaw + np.linspace(-0.5, 0.5, 24) * at.level_fov)
    arc = [_on_paper(at.x + reach * float(np.cos(a)), at.y + reach * float(np.sin(a))) for a in angles]
    return [_on_paper(at.x, at.y), *arc]


def _on_paper(x: float, y: float) -> tuple[float, float]:
    """From the vehicle frame (x ahead, y left) to paper (ahead is up)."""
    return -y, x


def _colors(rig: Rig) -> list[str]:
    return [CAMERA_COLORS[i % len(CAMERA_COLORS)] for i in range(len(rig))]


def _coverage_line(seen: Coverage) -> str:
    return (
        f"of the full turn, {seen.distance:.0f} m away: no camera {seen.unseen:.0%}, one {seen.once:.0%}, "
        f"two or more {seen.more:.0%}"
    )
