"""Write a drive through the town in the nuScenes schema, or a picture of one sweep of it.

python -m training.town --seed 7 --out out/town --rig nuscenes --size 360x640 --duration 10
python -m training.town --seed 7 --size 180x320 --preview out/town.png
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fsmde_ros.errors import ConfigError, FsmdeError
from training.town.drive import TownDrive, ddad_drive, nuscenes_drive
from training.town.nuscenes_writer import write_nuscenes
from training.town.settings import TownSettings

RIGS = {"nuscenes": nuscenes_drive, "ddad": ddad_drive}
PREVIEW_DEPTH = (2.0, 80.0)  # m, the ends of the colours of a preview


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    if options.out is None and options.preview is None:
        print("error: nothing to do: give --out DIR, --preview FILE.png or both", file=sys.stderr)
        return 2
    try:
        settings = TownSettings.held_out() if options.held_out else TownSettings()
        drive = RIGS[options.rig](
            options.seed, options.size, settings, duration_s=options.duration, device=options.device
        )
        if options.preview is not None:
            _write_preview(drive, options.preview)
        if options.out is not None:
            started = time.monotonic()
            write_nuscenes(drive, options.out, options.version, options.workers, _Progress())
            print(f"wrote {len(drive)} sweeps to {options.out} in {time.monotonic() - started:.0f} s")
    except FsmdeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; nothing was left behind", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.town", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=_seed, default=0, help="decides the town and the drive (default 0)")
    parser.add_argument("--out", type=Path, help="folder to make: the root of a nuScenes dataset of one scene")
    parser.add_argument("--preview", type=Path, metavar="FILE.png", help="picture of the first sweep and its depth")
    parser.add_argument("--rig", choices=RIGS, default="nuscenes", help="cameras and LiDAR (default nuscenes)")
    parser.add_argument("--size", type=_size, default=(360, 640), metavar="HxW", help="of the images (default 360x640)")
    parser.add_argument("--duration", type=float, default=10.0, metavar="S", help="seconds (default 10)")
    parser.add_argument("--held-out", action="store_true", help="settings of the towns kept for validation")
    parser.add_argument("--version", default="v1.0-mini", help="folder of the tables (default v1.0-mini)")
    parser.add_argument("--device", default="cpu", help="torch device that renders (default cpu)")
    parser.add_argument("--workers", type=int, default=1, help="processes that render (default 1)")
    return parser


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) >= 16 and int(width) >= 16):
        raise argparse.ArgumentTypeError(f"must be HEIGHTxWIDTH of at least 16 pixels, as 360x640, got '{text}'")
    return int(height), int(width)


def _seed(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 on, got '{text}'")
    return int(text)


class _Progress:
    """A line on the terminal that tells how far the rendering is; a few lines in a log file."""

    def __init__(self) -> None:
        self._printed = -1

    def __call__(self, done: int, total: int) -> None:
        percent = 100 * done // total
        step = 1 if sys.stderr.isatty() else 10
        if percent // step == self._printed:
            return
        self._printed = percent // step
        end = "\r" if sys.stderr.isatty() and done < total else "\n"
        print(f"rendering: {done} of {total} files ({percent} %)", end=end, file=sys.stderr, flush=True)


def _write_preview(drive: TownDrive, path: Path) -> None:
    """The views of the first sweep, from left to right around the car, over their depth."""
    views, depths = drive.render(0)
    columns = [np.concatenate([np.asarray(views[n].image), _colored(depths[n])]) for n in _around(drive)]
    half = (len(columns) + 1) // 2
    columns += [np.zeros_like(columns[0])] * (2 * half - len(columns))
    mosaic = np.concatenate([np.concatenate(columns[:half], axis=1), np.concatenate(columns[half:], axis=1)])
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), mosaic[..., ::-1]):
        raise ConfigError(f"cannot write the preview to '{path}'; give a writable path that ends in .png")
    print(f"wrote a preview to {path}")


def _around(drive: TownDrive) -> list[str]:
    """Names of the cameras from front left clockwise, as they fire."""
    stamps = drive.view_stamps_ns(0)
    return sorted(stamps, key=lambda name: stamps[name])


def _colored(depth: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Depth [H, W] in metres as RGB: near is bright, sky is black."""
    low, high = np.log(PREVIEW_DEPTH)
    nearness = 1 - (np.log(np.clip(depth, *PREVIEW_DEPTH)) - low) / (high - low)
    colors = cv2.applyColorMap(np.round(nearness * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    return np.where(np.isfinite(depth)[..., None], colors, 0).astype(np.uint8)


if __name__ == "__main__":
    sys.exit(main())
