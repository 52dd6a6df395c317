"""The report as one HTML file that needs nothing else: figures and pictures are in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from training.evaluation.alignment import ROWS
from training.evaluation.confidence import COVERAGE
from training.evaluation.figures import (
    data_uri,
    figure_cameras,
    figure_legend,
    figure_range,
    figure_sigma,
    png_of_figure,
    png_of_picture,
)
from training.evaluation.pictures import SweepPicture, draw_sweep

COLUMNS = {
    "abs_rel": "AbsRel",
    "sq_rel": "SqRel, m",
    "rmse": "RMSE, m",
    "rmse_log": "RMSE log",
    "d1": "δ1",
    "d2": "δ2",
    "d3": "δ3",
}


def render_page(report: Mapping[str, Any], pictures: Sequence[tuple[str, SweepPicture]]) -> str:
    """HTML of a whole report (``python -m training.evaluate`` writes both)."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = format_number
    max_depth = report["range_m"][1]
    figures = {
        name: data_uri(png_of_figure(draw(report)))
        for name, draw in (("cameras", figure_cameras), ("range", figure_range), ("sigma", figure_sigma))
    }
    return environment.get_template("page.html.j2").render(
        report=report,
        made=report["made"],
        descriptions=ROWS,
        columns=COLUMNS,
        coverage=COVERAGE,
        figures=figures,
        legend=data_uri(png_of_figure(figure_legend(max_depth))),
        pictures=[(title, data_uri(png_of_picture(draw_sweep(p, max_depth))), p.abs_rel) for title, p in pictures],
    )


def format_number(value: float | None, digits: int = 3) -> str:
    """Fixed point, and a dash where there is no number."""
    return "–" if value is None else f"{value:.{digits}f}"
