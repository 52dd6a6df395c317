"""The cases of the fault matrix: which faults, and what the node must count and say of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fsmde_ros.chaos.faults import Event, Fault

BEGIN, MIDDLE, END = 1.98, 2.98, 3.98  # s; at 12 Hz between two sweeps, even of cameras that fire in turn


@dataclass(frozen=True)
class Case:
    """One row of the matrix.

    Attributes:
        name: in words.
        faults: what is injected.
        expected: counters of the assembler that the faults raise: name to a function of the events.
            Every other one must stay at 0.
        states: what diagnostics must say of cameras while the drive plays, besides OK; nothing else.
        undetermined: counters whose value the fault does not determine.
        may_say: states that diagnostics may name, too.
        may_replace: the fault itself brings several sweeps at once, of which the newest is taken.
        may_reset: stamps go back, so that the output may go back once.
    """

    name: str
    faults: tuple[Fault, ...] = ()
    expected: Mapping[str, Callable[[Sequence[Event]], int]] = field(default_factory=dict)
    states: tuple[str, ...] = ()
    undetermined: tuple[str, ...] = ()
    may_say: tuple[str, ...] = ()
    may_replace: bool = False
    may_reset: bool = False


def all_cases(names: Sequence[str]) -> tuple[Case, ...]:
    """The matrix, for a bag of at least 5 s with cameras ``names``."""
    one, two = (names[0],), tuple(names[:2])
    count = len
    return (
        Case("none"),
        Case("5 % of the images lost", (Fault("drop", share=0.05),)),
        Case("half of the images lost", (Fault("drop", BEGIN, END, share=0.5),)),
        Case("one camera dead for 2 s", (Fault("dead", BEGIN, END, one),), states=("stale",)),
        Case("all cameras dead for 1 s", (Fault("dead", BEGIN, MIDDLE),), states=("stale",)),
        Case(
            "one camera 0.3 s late",
            (Fault("delay", BEGIN, END, one, amount=0.3),),
            {"late": count},
            ("late",),
            undetermined=("out_of_order",),  # those that the first one on time again overtakes
            may_say=("out of order",),
        ),
        Case("arrival jitter up to 20 ms", (Fault("jitter", BEGIN, END, amount=0.02),)),
        Case(
            "images of one camera change places",
            (Fault("reorder", BEGIN, END, one),),
            {"out_of_order": _half},
            ("out of order",),
            undetermined=("late",),  # the older one is, where its sweep did not wait for it
            may_say=("late",),
        ),
        Case("images twice", (Fault("duplicate", BEGIN, END, share=0.5),)),
        Case(
            "the second half of the bytes missing in a third of the images",
            (Fault("corrupt", BEGIN, END, share=0.33),),
            states=("undecodable",),
        ),
        Case(
            "1 % of the bytes wrong in a third of the images",
            (Fault("garble", BEGIN, END, share=0.33),),
            undetermined=("refused",),  # many of them can be read
            may_say=("undecodable", "wrong size"),
        ),
        Case("one camera blank", (Fault("blank", BEGIN, END, one),)),
        Case("two cameras swapped", (Fault("swap", BEGIN, END, two),)),
        Case("other calibration of one camera", (Fault("calibration", BEGIN, END, one),)),
        Case(
            "one camera uncalibrated", (Fault("calibration", BEGIN, END, one, amount=0.0),), states=("no CameraInfo",)
        ),
        Case("clock set forward 5 s", (Fault("clock_jump", MIDDLE, amount=5.0),)),
        Case(
            "clock set back 5 s",
            (Fault("clock_jump", MIDDLE, amount=-5.0371),),
            {"resets": lambda _: 1},
            may_reset=True,
        ),
        Case(
            "clock of one camera an hour ahead",
            (Fault("wrong_clock", BEGIN, END, one),),
            {"strayed": count},
            ("bad stamp",),
        ),
        Case(
            "clock of one camera an hour behind",
            (Fault("wrong_clock", BEGIN, END, one, amount=-3600.0),),
            {"late": count},
            ("late",),
        ),
        Case("one camera at half the rate", (Fault("rate", BEGIN, END, one),)),
        Case("all cameras at a third of the rate", (Fault("rate", BEGIN, END, amount=3.0),)),
        Case(
            "images held back and sent in bursts of 0.5 s",
            (Fault("burst", BEGIN, END, amount=0.5),),
            may_say=("stale",),  # at half of real time nothing comes for a second, which is stale
            may_replace=True,
        ),
        Case(
            "5 % lost, 5 % cut off, 5 % twice, jitter",
            (
                Fault("drop", share=0.05),
                Fault("corrupt", share=0.05),
                Fault("duplicate", share=0.05),
                Fault("jitter", amount=0.01),
            ),
            states=("undecodable",),
        ),
    )


def _half(events: Sequence[Event]) -> int:
    return len(events) // 2
