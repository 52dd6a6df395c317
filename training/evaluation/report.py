"""What a report says besides its figures: what was scored, by what, when, and the verdict."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import fsmde_ros
from fsmde_ros.model_card import ModelCard
from fsmde_ros.sweep import EncodedImage, Sweep

FORMAT = 1
COLUMNS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "d1", "d2", "d3")


class DataHash:
    """SHA-256 over the sweeps that were scored, in order: images, stamps, points, the rig and the vehicle's poses."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, sweep: Sweep) -> None:
        """Take in one sweep."""
        self._add(f"sweep, road at {sweep.rig.ground_z!r}")
        for name in sweep.present:
            view, camera = sweep.views[name], sweep.rig[name]
            data = view.image.data if isinstance(view.image, EncodedImage) else view.image.tobytes()
            self._add(f"{name} {camera.size} {camera.distortion_model} {view.stamp_ns}")
            self._add(camera.intrinsics, camera.distortion, camera.camera_to_vehicle, view.vehicle_to_map, data)
            self._add(*camera.self_occlusion)
        if sweep.lidar is not None:
            self._add(f"lidar {sweep.lidar.stamp_ns}", sweep.lidar.vehicle_to_map, sweep.lidar.points_vehicle)

    def _add(self, *parts: str | bytes | NDArray[np.float64] | None) -> None:
        """Each part with its length in front, so that none can be taken for the end of another."""
        for part in parts:
            if isinstance(part, np.ndarray):
                part = part.astype("<f8").tobytes()
            data = part.encode() if isinstance(part, str) else part or b""
            self._digest.update(len(data).to_bytes(8, "little") + data)

    def hex(self) -> str:
        """The hash."""
        return self._digest.hexdigest()


def describe(checkpoint: Path, card: ModelCard, data: str, data_sha256: str, backend: str) -> dict[str, Any]:
    """What was scored on what; names without folders, which say nothing on another machine."""
    return {
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "checkpoint": {
            "file": checkpoint.name,
            "name": card.name,
            "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
            "weights_sha256": card.weights_sha256,
            "input_size": list(card.input_size),
            "training_data": card.training_data,
        },
        "data": {"name": without_folders(data), "sha256": data_sha256},
        "software": {
            "fsmde_ros": fsmde_ros.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "backend": backend,
        },
    }


def without_folders(data: str) -> str:
    """``kind:PLACE,options`` with the last part of each path only."""
    kind, _, rest = data.partition(":")
    place, *options = rest.split(",")
    named = [f"{name}={Path(value).name}" for name, _, value in (option.partition("=") for option in options)]
    return f"{kind}:" + ",".join([Path(place).resolve().name if place else "", *named])


def verdict(report: Mapping[str, Any], data: str) -> str:
    """One sentence: how good, how sure, and whether that beats no network at all; and the ``reservations``."""
    rows = report["rows"]
    metric, plane = rows["metric"]["overall"], rows["ground_plane"]["overall"]
    wins = [metric["abs_rel"] < plane["abs_rel"], metric["d1"] > plane["d1"]]
    judgement = {
        (True, True): "better than a flat ground plane",
        (False, False): "worse than a flat ground plane",
        (True, False): "better than a flat ground plane in AbsRel, worse in delta1",
        (False, True): "worse than a flat ground plane in AbsRel, better in delta1",
    }[wins[0], wins[1]]
    return (
        f"AbsRel {metric['abs_rel']:.3f}{_between(rows['metric'], 'abs_rel')}, "
        f"delta1 {metric['d1']:.3f}{_between(rows['metric'], 'd1')}, without any scaling, on {report['sweeps']} "
        f"{'sweep' if report['sweeps'] == 1 else 'sweeps'} of {data}: {judgement} "
        f"({plane['abs_rel']:.3f}, {plane['d1']:.3f}).{''.join(f' {words}.' for words in reservations(report))}"
    )


def reservations(report: Mapping[str, Any]) -> list[str]:
    """What a reader of the figures must know of the sweeps behind them, a sentence each without its full stop."""
    said = []
    if report["images_without_pose"]:
        said.append(
            f"Of {report['images_without_pose']} of {report['images']} images the LiDAR's points were not moved to the "
            "image's stamp: the vehicle's pose is not known there"
        )
    if report["sweeps_without_lidar"]:
        without = report["sweeps_without_lidar"]
        said.append(
            f"Of {report['sweeps'] + without} sweeps {without} are without LiDAR points in any view, and not scored"
        )
    return said


def table(report: Mapping[str, Any]) -> str:
    """The rows, cameras and ranges as text for a terminal."""
    lines = [f"{'row':<16}{'':<18}" + "".join(f"{column:>10}" for column in COLUMNS) + f"{'n':>10}"]
    for row, scores in report["rows"].items():
        parts = {"all": scores["overall"], **scores["views"]}
        parts |= {f"{band} m": means["overall"] for band, means in scores["ranges"].items()}
        parts["overlap"] = scores["overlap"]["overall"]
        for name, score in parts.items():
            figures = "".join(f"{score[c]:>10.4f}" if score[c] is not None else f"{'-':>10}" for c in COLUMNS)
            lines.append(f"{row:<16}{name:<18}{figures}{score['n']:>10}")
    return "\n".join([*lines, *reservations(report)])


def _between(row: Mapping[str, Any], error: str) -> str:
    limits = row["interval"][error]
    return "" if limits is None else f" ({limits[0]:.3f} to {limits[1]:.3f})"
