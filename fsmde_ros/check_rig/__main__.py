"""``check_rig``: a rig file, or the rig of a bag, as a table, a picture and a list of what looks wrong.

check_rig --rig rig.yaml                    the rig from above: rig.png
check_rig --rig rig.yaml --bag drive        also a LiDAR scan in the images: scan.png
check_rig --bag drive                       the rig that the bag itself has
check_rig --bag drive --vehicle-frame chassis     where its vehicle frame is not base_link
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fsmde_ros.adjacency import overlap_shares
from fsmde_ros.check_rig.coverage import Coverage, coverage
from fsmde_ros.check_rig.drawing import draw_rig
from fsmde_ros.check_rig.findings import Finding, examine, examine_road, examine_training
from fsmde_ros.check_rig.scan_overlay import choose_sweep, decoded, overlay, road_height
from fsmde_ros.checkpoint import default_checkpoint, find_checkpoint, read_card
from fsmde_ros.errors import CheckpointError, ConfigError, FsmdeError
from fsmde_ros.mounting import mountings
from fsmde_ros.rectifying_turn import REMEDY, describe_turn
from fsmde_ros.rig import VEHICLE_FRAME, Rig
from fsmde_ros.rig_file import read_lidars, read_rig
from fsmde_ros.sources import bag
from fsmde_ros.sources.bag_file import open_bag
from fsmde_ros.sources.bag_rig import turns_of_bag
from fsmde_ros.sweep import Sweep

DISTANCES = (5.0, 20.0)  # metres at which the ring is looked at
OVERLAP_SHOWN = 0.02  # of an image


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Exit status: 0 nothing looks wrong, 1 there are warnings, 2 it cannot be read."""
    options = _parser().parse_args(argv)
    try:
        frame = options.vehicle_frame
        return check(
            options.rig, options.bag, options.output, options.sweep, options.lidar_topic, frame, options.checkpoint
        )
    except FsmdeError as error:
        print(f"check_rig: {error}", file=sys.stderr)
    except OSError as error:
        print(f"check_rig: {error.filename or options.output}: cannot be written: {error.strerror}", file=sys.stderr)
    return 2


def check(
    rig_file: Path | None,
    bag_path: Path | None,
    output: Path,
    first: int = 0,
    lidar_topic: str = "",
    vehicle_frame: str | None = None,
    checkpoint: Path | None = None,
) -> int:
    """Print the table and the findings, write the pictures into ``output``; returns the exit status.

    ``vehicle_frame``: of the rig of a bag, by default "base_link"; a rig file has its own. ``checkpoint``: of the
    student that is to be used with the rig, by default that of the node.
    """
    if first < 0:
        raise ConfigError(f"--sweep must be at least 0, got {first}")
    if bag_path is None and (first or lidar_topic):
        raise ConfigError("--sweep and --lidar-topic are for the scan of a bag; give --bag, or leave them out")
    rig, lidars = _read(rig_file, bag_path, vehicle_frame)
    findings, pictures = [*examine(rig), *_training(rig, checkpoint)], [output / "rig.png"]
    output.mkdir(parents=True, exist_ok=True)
    if bag_path is not None:
        sweeps = bag.sweeps(bag_path, rig, lidars, rig.vehicle_frame, lidar_topic)
        sweep = choose_sweep(sweeps, first)
        findings += [*_turned(bag_path, rig), *_look_at(sweep, output / "scan.png")]
        pictures.append(output / "scan.png")
    coverages = [coverage(rig, distance) for distance in DISTANCES]
    draw_rig(rig, coverages, findings, output / "rig.png")
    print(format_table(rig, coverages))
    print("\n".join(map(str, findings)) or "nothing looks wrong")
    print("\n".join(f"picture: {path}" for path in pictures))
    return int(any(finding.level == "warning" for finding in findings))


def _read(
    rig_file: Path | None, bag_path: Path | None, vehicle_frame: str | None
) -> tuple[Rig, Mapping[str, NDArray[np.float64]]]:
    if rig_file is not None:
        if vehicle_frame is not None:
            raise ConfigError(
                f"--vehicle-frame {vehicle_frame}: the rig file has its own (vehicle_frame); change it there, or leave "
                "out --rig for the rig of the bag"
            )
        return read_rig(rig_file), read_lidars(rig_file)
    if bag_path is not None:
        return bag.read_rig_of_bag(bag_path, VEHICLE_FRAME if vehicle_frame is None else vehicle_frame)
    raise ConfigError("nothing to check: give --rig FILE (rig_from_bag writes one), --bag BAG, or both")


def _training(rig: Rig, checkpoint: Path | None) -> tuple[Finding, ...]:
    """What the student does not know; where none was named, its card must not keep the rig from being checked."""
    try:
        card = read_card(checkpoint or default_checkpoint())
    except CheckpointError as error:
        if checkpoint is not None:
            raise
        return (Finding("note", "", f"nothing is known of what the student was trained on: {error}"),)
    return examine_training(rig, card)


def _turned(bag_path: Path, rig: Rig) -> list[Finding]:
    """Which cameras' frames may be of the lens, not of the rectified images; a rig file may know that already."""
    with open_bag(bag_path) as opened:
        turns = turns_of_bag(opened, rig.names)
    found = [Finding("note", name, describe_turn(turn)) for name, turn in turns.items()]
    return [*found, *([Finding("note", "", REMEDY)] if found else [])]


def _look_at(sweep: Sweep, path: Path) -> list[Finding]:
    """Write the picture of a sweep; what its images and its scan say about the rig."""
    findings = [Finding("note", name, "has no image in this sweep") for name in sweep.missing]
    sweep, problems = decoded(sweep)
    findings += [Finding("note", name, f"its image is left out: {problem}") for name, problem in problems.items()]
    # Not imwrite, which says neither by an exception nor why it could not.
    picture = cv2.imencode(".png", cv2.cvtColor(overlay(sweep), cv2.COLOR_RGB2BGR))[1]
    path.write_bytes(picture.tobytes())
    if sweep.lidar is None:
        return [*findings, Finding("note", "", "no LiDAR scan near this sweep: the picture shows the images alone")]
    road = road_height(sweep)
    return [*findings, *(examine_road(sweep.rig, road) if road is not None else ())]


def format_table(rig: Rig, coverages: Sequence[Coverage]) -> str:
    """One line a camera, then how much of the full turn is seen."""
    shares = overlap_shares(rig)
    head = ["camera", "size", "field of view", "x", "y", "height", "yaw", "pitch", "roll", "overlaps with"]
    rows = [head]
    for i, (camera, at) in enumerate(zip(rig.cameras, mountings(rig), strict=True)):
        partners = [f"{rig.names[j]} {s:.0%}" for j, s in enumerate(shares[i]) if s >= OVERLAP_SHOWN]
        lens = (f"{camera.size[1]}x{camera.size[0]}", f"{at.horizontal_fov:.0f} x {at.vertical_fov:.0f}")
        place = [f"{metres:.2f}" for metres in (at.x, at.y, at.height)]
        angles = [f"{round(angle, 1) + 0.0:.1f}" for angle in (at.yaw, at.pitch, at.roll)]  # + 0.0: no "-0.0"
        rows.append([at.name, *lens, *place, *angles, ", ".join(partners) or "nobody"])
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.append("metres, height over the road; degrees: yaw to the left, pitch up, roll clockwise")
    for seen in coverages:
        lines.append(
            f"of the full turn, {seen.distance:.0f} m away: no camera {seen.unseen:.0%}, one {seen.once:.0%}, "
            f"two or more {seen.more:.0%}"
        )
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="check_rig", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rig", type=Path, help="rig file (YAML); without it the rig of the bag")
    parser.add_argument("--bag", type=Path, help="bag with images and, where there is one, a LiDAR")
    parser.add_argument("--vehicle-frame", help=f"frame of the vehicle in the bag, without --rig ({VEHICLE_FRAME})")
    parser.add_argument("--output", type=Path, default=Path("rig_check"), help="folder of the pictures (rig_check)")
    parser.add_argument("--checkpoint", type=find_checkpoint, help="of the student to use it with (small)")
    parser.add_argument("--sweep", type=int, default=0, help="first of the sweeps to look at (0)")
    parser.add_argument("--lidar-topic", default="", help="topic of the LiDAR, where the bag has several clouds")
    return parser


if __name__ == "__main__":
    sys.exit(main())
