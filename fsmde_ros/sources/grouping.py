"""Which frames of a recording belong to one sweep, and which scan is nearest to it."""

from __future__ import annotations

import itertools
import logging
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from fsmde_ros.sweep_assembler import AssembledSweep, AssemblerConfig, SweepAssembler

_LOG = logging.getLogger(__name__)

PATIENCE = 1.5  # median steps of the slowest camera; the views of free-running ones span up to one
MANY_LEFT_OUT = 0.2  # share of the frames of a camera that is told


@dataclass(frozen=True)
class Group:
    """Frames of one sweep: its reference stamp (ns) and the index of the frame of each camera."""

    stamp_ns: int
    frames: Mapping[str, int]


def group_frames(stamps_ns: Mapping[str, Sequence[int]], anchor: str = "") -> list[Group]:
    """Group the frames of a recording into sweeps, in the order of time.

    The assembler of the node does it, with the stamps as its clock. Nothing arrives late in a recording: where
    cameras are slow it waits longer than the node does by default, which may leave a free-running camera of less than
    10 Hz out for ever. A camera of which many frames are in no sweep is told in the log.

    Args:
        stamps_ns: stamps of the frames of each camera, in any order, nanoseconds; of frames that
            repeat a stamp the first counts.
        anchor: the camera whose stamp is that of the sweep; by default the assembler chooses.
    """
    cameras = tuple(name for name, stamps in stamps_ns.items() if stamps)
    if not cameras:
        return []
    slowest_ns = max(_median_step(stamps_ns[name]) for name in cameras)
    deadline_s = max(AssemblerConfig.deadline_s, PATIENCE * slowest_ns / 1e9)
    assembler: SweepAssembler[int] = SweepAssembler(
        AssemblerConfig(cameras, anchor=anchor if anchor in cameras else "", deadline_s=deadline_s)
    )
    events = sorted((stamp, name, index) for name in cameras for index, stamp in enumerate(stamps_ns[name]))
    assembled: list[AssembledSweep[int]] = []
    for stamp, name, index in events:
        now = (stamp - events[0][0]) / 1e9
        assembled += assembler.tick(now)
        assembled += assembler.add(name, stamp, index, now)
    assembled += assembler.flush()
    _tell_left_out(stamps_ns, assembled)
    return [
        Group(sweep.stamp_ns, {name: arrival.payload for name, arrival in sweep.views.items()}) for sweep in assembled
    ]


def _tell_left_out(stamps_ns: Mapping[str, Sequence[int]], assembled: Sequence[AssembledSweep[int]]) -> None:
    used = Counter(name for sweep in assembled for name in sweep.views)
    for name, stamps in stamps_ns.items():
        count = len(set(stamps))
        if used[name] < (1 - MANY_LEFT_OUT) * count:
            _LOG.warning(
                f"{name}: only {used[name]} of {count} frames are in one of {len(assembled)} sweeps; the stamps of the "
                "others lie behind sweeps that had left without them, as where a camera sends far less often than the "
                "others or unevenly: look at its driver and its stamps"
            )


def _median_step(stamps_ns: Sequence[int]) -> float:
    """0 where there are not two."""
    steps = [b - a for a, b in itertools.pairwise(sorted(set(stamps_ns)))]
    return median(steps) if steps else 0.0


def nearest(stamps_ns: Sequence[int], stamp_ns: int, limit_ns: int) -> int | None:
    """Index of the stamp nearest to ``stamp_ns`` among ascending ones (ns); None beyond the limit."""
    after = bisect_left(stamps_ns, stamp_ns)
    candidates = [i for i in (after - 1, after) if 0 <= i < len(stamps_ns)]
    best = min(candidates, key=lambda i: abs(stamps_ns[i] - stamp_ns), default=None)
    return best if best is not None and abs(stamps_ns[best] - stamp_ns) <= limit_ns else None
