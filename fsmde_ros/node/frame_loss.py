"""Lost frames: how many sweeps come out of the own synchroniser, and of message_filters.

``python -m fsmde_ros.node.frame_loss --out docs/results/frame_loss.json`` gives both the same simulated
stamps, those of the nuScenes rig: six cameras that fire one after another within 42.6 ms, at 12 Hz.
message_filters takes part where it is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fsmde_ros.errors import ConfigError, FsmdeError
from fsmde_ros.node.synchronisation import build_synchroniser
from fsmde_ros.sweep_assembler import AssemblerConfig

OFFSETS_MS = {
    "cam_front_left": 0.0,
    "cam_front": 7.6,
    "cam_front_right": 15.6,
    "cam_back_right": 23.2,
    "cam_back": 32.7,
    "cam_back_left": 42.6,
}
PERIOD_MS = 1000 / 12
START_NS = 1_532_402_927 * 10**9
TICK_S = 0.01


@dataclass(frozen=True)
class Outcome:
    """What a synchroniser made of the frames.

    ``sweeps_in`` are those with at least one frame, ``out`` the sets that came out, ``mixed`` those
    with frames of different sweeps, ``whole`` those with all frames that there were.
    """

    sweeps_in: int
    out: int
    mixed: int
    whole: int
    frames_in: int
    frames_out: int


def run(backend: str, sweeps: int, loss: float, window_s: float, seed: int) -> Outcome:
    """Drop frames by chance and count what comes out of a synchroniser (``own`` or ``message_filters``)."""
    cameras = tuple(OFFSETS_MS)
    synchroniser = build_synchroniser(backend, AssemblerConfig(cameras, window_s=window_s, deadline_s=0.1))
    kept = np.random.default_rng(seed).random((sweeps, len(cameras))) >= loss
    frames = sorted(
        (k * PERIOD_MS + OFFSETS_MS[name], name, k)
        for k in range(sweeps)
        for i, name in enumerate(cameras)
        if kept[k, i]
    )
    sets: list[list[int]] = []
    clock = 0.0
    for at_ms, name, k in frames:
        while clock + TICK_S < at_ms / 1000:
            clock += TICK_S
            sets += [[a.payload for a in sweep.views.values()] for sweep in synchroniser.tick(clock)]
        out = synchroniser.add(name, START_NS + round(at_ms * 1e6), k, at_ms / 1000)
        sets += [[a.payload for a in sweep.views.values()] for sweep in out]
    out = synchroniser.tick(sweeps * PERIOD_MS / 1000 + 1)
    sets += [[a.payload for a in sweep.views.values()] for sweep in out]
    there = kept.sum(axis=1)
    return Outcome(
        sweeps_in=int((there > 0).sum()),
        out=len(sets),
        mixed=sum(len(set(indices)) > 1 for indices in sets),
        whole=sum(len(set(indices)) == 1 and len(indices) == int(there[indices[0]]) for indices in sets),
        frames_in=len(frames),
        frames_out=sum(map(len, sets)),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Exit status: 0 counted, 2 cannot run."""
    options = _parser().parse_args(argv)
    try:
        results = compare(options)
        if options.out:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(results, indent=1) + "\n")
    except FsmdeError as error:
        print(f"frame_loss: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"frame_loss: --out {options.out}: cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    return 0


def compare(options: argparse.Namespace) -> dict[str, object]:
    """Count for each synchroniser that is there; raises ConfigError for options out of range."""
    if options.sweeps < 1 or options.seeds < 1:
        raise ConfigError(f"--sweeps and --seeds must be at least 1, got {options.sweeps} and {options.seeds}")
    if not 0 <= options.loss <= 1:
        raise ConfigError(f"--loss must be a share from 0 to 1, got {options.loss:g}")
    results: dict[str, object] = {"sweeps": options.sweeps, "loss": options.loss, "window_s": options.window}
    results["about"] = options.about
    for backend in ("own", "message_filters"):
        if backend == "message_filters" and importlib.util.find_spec(backend) is None:
            print("message_filters is not installed: left out")
            continue
        runs = [run(backend, options.sweeps, options.loss, options.window, seed) for seed in range(options.seeds)]
        results[backend] = [asdict(outcome) for outcome in runs]
        shares = ", ".join(f"{outcome.out} of {outcome.sweeps_in}" for outcome in runs)
        print(f"{backend}: sweeps out: {shares}; mixed: {sum(outcome.mixed for outcome in runs)}")
    return results


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="frame_loss", description="Count sweeps under loss of frames.")
    parser.add_argument("--sweeps", type=int, default=240)
    parser.add_argument("--loss", type=float, default=0.05, help="share of the frames of each camera (0.05)")
    parser.add_argument("--window", type=float, default=0.05, help="sync.window_s, the slop (0.05)")
    parser.add_argument("--seeds", type=int, default=5, help="how many runs, each of its own chance (5)")
    parser.add_argument("--about", default="", help="version of message_filters, for the file")
    parser.add_argument("--out", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())
