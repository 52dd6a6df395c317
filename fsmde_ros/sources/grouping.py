"""Which frames of a recording belong to one sweep, and which scan is nearest to it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fsmde_ros.sweep_assembler import AssembledSweep, AssemblerConfig, SweepAssembler


@dataclass(frozen=True)
class Group:
    """Frames of one sweep: its reference stamp (ns) and the index of the frame of each camera."""

    stamp_ns: int
    frames: Mapping[str, int]


def group_frames(stamps_ns: Mapping[str, Sequence[int]], anchor: str = "") -> list[Group]:
    """Group the frames of a recording into sweeps, in the order of time.

    The assembler of the node does it, with the stamps as its clock, so that a recording gives
    the sweeps that the node makes of its replay.

    Args:
        stamps_ns: stamps of the frames of each camera, in any order, nanoseconds; of frames that
            repeat a stamp the first counts.
        anchor: the camera whose stamp is that of the sweep; by default the assembler chooses.
    """
    cameras = tuple(name for name, stamps in stamps_ns.items() if stamps)
    if not cameras:
        return []
    assembler: SweepAssembler[int] = SweepAssembler(
        AssemblerConfig(cameras, anchor=anchor if anchor in cameras else "")
    )
    events = sorted((stamp, name, index) for name in cameras for index, stamp in enumerate(stamps_ns[name]))
    assembled: list[AssembledSweep[int]] = []
    for stamp, name, index in events:
        now = (stamp - events[0][0]) / 1e9
        assembled += assembler.tick(now)
        assembled += assembler.add(name, stamp, index, now)
    assembled += assembler.flush()
    return [
        Group(sweep.stamp_ns, {name: arrival.payload for name, arrival in sweep.views.items()}) for sweep in assembled
    ]


def nearest(stamps_ns: Sequence[int], stamp_ns: int, limit_ns: int) -> int | None:
    """Index of the stamp nearest to ``stamp_ns`` among ascending ones (ns); None beyond the limit."""
    after = bisect_left(stamps_ns, stamp_ns)
    candidates = [i for i in (after - 1, after) if 0 <= i < len(stamps_ns)]
    best = min(candidates, key=lambda i: abs(stamps_ns[i] - stamp_ns), default=None)
    return best if best is not None and abs(stamps_ns[best] - stamp_ns) <= limit_ns else None
