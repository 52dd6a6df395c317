"""Figures of a report, as PNG in data URIs: a page with them stands alone."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import cv2
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from fsmde_ros.color import colorize
from training.evaluation.pictures import ERROR_LIMIT, ERROR_MAP, NEAR

STUDENT, PLANE = "#1f5fa8", "#b0601c"
DEPTH_TICKS = (2, 5, 10, 20, 40, 80, 200)  # metres


def data_uri(png: bytes) -> str:
    """``data:image/png;base64,...``"""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def png_of_picture(rgb: NDArray[np.uint8]) -> bytes:
    """PNG of an RGB picture [H, W, 3]."""
    return bytes(cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1])


def png_of_figure(figure: Figure) -> bytes:
    """PNG of a matplotlib figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def figure_cameras(report: Mapping[str, Any]) -> Figure:
    """AbsRel and delta1 of each camera, student and ground plane side by side."""
    rows = report["rows"]
    cameras = list(rows["metric"]["views"])
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    for axes, error, title in zip(figure.subplots(1, 2), ("abs_rel", "d1"), ("AbsRel", "delta1"), strict=True):
        for offset, row, colour in ((-0.2, "metric", STUDENT), (0.2, "ground_plane", PLANE)):
            values = [rows[row]["views"].get(camera, {}).get(error) or 0 for camera in cameras]
            axes.bar(np.arange(len(cameras)) + offset, values, 0.4, color=colour, label=row.replace("_", " "))
        axes.set_xticks(np.arange(len(cameras)), cameras, rotation=30, ha="right", fontsize=8)
        axes.set_title(title)
        axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    return figure


def figure_range(report: Mapping[str, Any]) -> Figure:
    """Left: AbsRel against the true depth; right: the middle 80 % of the student's signed relative errors."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for row, colour in (("metric", STUDENT), ("ground_plane", PLANE)):
        cells = report["range_error"][row]
        left.plot(_middles(cells), [c["abs_rel"] for c in cells], color=colour, marker=".", label=row.replace("_", " "))
    left.set_title("AbsRel against range")
    left.set_ylim(bottom=0)
    left.legend(fontsize=8)
    cells = report["range_error"]["metric"]
    x = _middles(cells)
    right.fill_between(x, [c["q10"] for c in cells], [c["q90"] for c in cells], color=STUDENT, alpha=0.2)
    right.plot(x, [c["q50"] for c in cells], color=STUDENT, marker=".")
    right.axhline(0, color="black", linewidth=0.8)
    right.set_title("(estimate - truth) / truth: median, 10 % to 90 %")
    for axes in (left, right):
        axes.set_xscale("log")
        ticks = [t for t in DEPTH_TICKS if t <= report["range_m"][1]]
        axes.set_xticks(ticks, [str(t) for t in ticks])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("true depth, m")
        axes.grid(alpha=0.3)
    return figure


def figure_sigma(report: Mapping[str, Any]) -> Figure:
    """Left: share of errors that ought to be inside, and that is; right: size of errors against sigma."""
    sigma = report["sigma"]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    curve = [(p, o) for p, o in sigma["reliability"] if o is not None]
    left.plot([0, 1], [0, 1], color="black", linewidth=0.8)
    left.plot([p for p, _ in curve], [o for _, o in curve], color=STUDENT, marker=".")
    left.set(xlabel="expected share inside (normal errors)", ylabel="observed share inside", aspect="equal")
    left.set_title("above the line: sigma too large", fontsize=10)
    cells = [c for c in sigma["by_stddev"] if c["n"] >= 20]
    if cells:
        x = [c["stddev_m"] for c in cells]
        right.loglog(x, x, color="black", linewidth=0.8)
        right.loglog(x, [c["rmse_m"] for c in cells], color=STUDENT, marker=".")
    right.set(xlabel="published sigma, m", ylabel="RMSE of those points, m")
    right.set_title("above the line: sigma too small", fontsize=10)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    return figure


def figure_legend(max_depth: float) -> Figure:
    """The colours of depth and of errors."""
    figure = Figure(figsize=(9, 0.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    metres = np.geomspace(NEAR, max_depth, 256).astype(np.float32)
    left.imshow(colorize(metres[None], NEAR, max_depth), aspect="auto")
    ticks = [t for t in DEPTH_TICKS if t <= max_depth]
    left.set_xticks([255 * np.log(t / NEAR) / np.log(max_depth / NEAR) for t in ticks], [str(t) for t in ticks])
    left.set_xlabel("depth, m; pale: out of range", fontsize=8)
    right.imshow(matplotlib.colormaps[ERROR_MAP](np.linspace(0, 1, 256))[None], aspect="auto")
    low, high = f"-{ERROR_LIMIT:.0%} (too near)", f"+{ERROR_LIMIT:.0%} (too far)"
    right.set_xticks([0, 127.5, 255], [low, "0", high])
    right.set_xlabel("error at the LiDAR's points, share of the true depth", fontsize=8)
    for axes in (left, right):
        axes.set_yticks([])
        axes.tick_params(labelsize=8)
    return figure


def _middles(cells: list[dict[str, Any]]) -> list[float]:
    return [float(np.sqrt(c["from_m"] * c["to_m"])) for c in cells]
