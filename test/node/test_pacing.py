from __future__ import annotations

from itertools import pairwise

import pytest

from fsmde_ros.node.pacing import PlaybackClock, SweepGate
from fsmde_ros.sweep_assembler import AssemblerConfig, SweepAssembler

MS = 1_000_000


def test_clock_at_half_speed() -> None:
    clock = PlaybackClock(bag_start_ns=1000, wall_start_ns=50, rate=0.5)
    assert clock.wall_ns(1100) == 250
    assert clock.bag_ns(250) == 1100


# nuScenes: six cameras fire over 42 ms of a period of 50 or 100 ms.
OFFSETS = {"front_left": 0, "front": 8, "front_right": 15, "back_right": 23, "back": 33, "back_left": 42}
STARTS = [0, 100, 150, 250, 350, 400, 500, 550, 650]


def gate_of(cameras: list[str]) -> SweepGate:
    return SweepGate({name: [(start + OFFSETS[name]) * MS for start in STARTS] for name in cameras})


def test_gate_lets_out_one_sweep_at_a_time() -> None:
    gate = gate_of([*OFFSETS])
    for start, after in pairwise(STARTS):
        for name, offset in OFFSETS.items():
            assert gate.may_publish(name, (start + offset) * MS), f"{name} belongs to the sweep of {start} ms"
            gate.published(name, (start + offset) * MS)
        assert not gate.may_publish("front_left", after * MS)
        gate.reported((start - 50 + 15) * MS)  # of the sweep before: says nothing about this one
        assert not gate.may_publish("front_left", after * MS)
        gate.reported((start + 15) * MS)
    assert gate.timeouts == 0


@pytest.mark.parametrize("silent", [*OFFSETS])
def test_a_missing_frame_moves_no_other_frame_to_another_sweep(silent: str) -> None:
    gate = gate_of([*OFFSETS])
    for name, offset in OFFSETS.items():
        if name != silent:
            assert gate.may_publish(name, offset * MS)
            gate.published(name, offset * MS)
    for name, offset in OFFSETS.items():
        assert not gate.may_publish(name, (100 + offset) * MS)
    gate.reported(15 * MS)
    assert gate.may_publish("front_left", 100 * MS)


def test_a_drive_of_one_sweep_is_over_with_its_report() -> None:
    gate = SweepGate({"front": [1000 * MS], "back": [1037 * MS]})
    for name, stamp in (("front", 1000 * MS), ("back", 1037 * MS)):
        assert gate.may_publish(name, stamp)
        gate.published(name, stamp)
    gate.reported(1000 * MS)
    assert gate.under_way is None


def test_gate_gives_up_and_counts() -> None:
    gate = gate_of(["front"])
    gate.published("front", 8 * MS)
    assert not gate.may_publish("front", 108 * MS)
    gate.give_up()
    assert gate.may_publish("front", 108 * MS)
    assert gate.timeouts == 1
    gate.published("front", 108 * MS)
    gate.restart()
    assert gate.under_way is None
    assert gate.timeouts == 1


def test_cameras_that_do_not_count_pass_and_begin_no_sweep() -> None:
    gate = gate_of(["front"])
    assert gate.may_publish("infrared", 3 * MS)
    gate.published("infrared", 3 * MS)
    assert gate.under_way is None
    gate.published("front", 8 * MS)
    assert gate.may_publish("infrared", 500 * MS)
    assert not gate.may_publish("front", 108 * MS)


def test_a_gate_can_go_by_other_cameras() -> None:
    gate = gate_of(["front", "back"])
    gate.published("back", 33 * MS)
    gate.give_up()
    gate.published("back", 133 * MS)
    gate.go_by({"front": [(start + 8) * MS for start in STARTS]})
    assert (gate.under_way, gate.timeouts) == (None, 1)
    gate.published("back", 233 * MS)
    assert gate.under_way is None


def play(stamps: dict[str, list[int]], anchor: str = "") -> tuple[int, int, int]:
    """Images, twice over, through the gate into the node's assembler, which reports at once, or at its deadline.

    Returns how many sweeps were complete, how many were not, and how many reports the gate has waited for in vain.
    """
    first = {name: known[:16] for name, known in stamps.items()}
    gate = SweepGate(first)
    complete = partial = 0
    for _ in range(2):
        assembler = SweepAssembler[None](AssemblerConfig(tuple(stamps), anchor, deadline_s=2.0))
        now = 0.0
        gate.restart()
        for stamp, name in sorted((stamp, name) for name, known in stamps.items() for stamp in known):
            while not gate.may_publish(name, stamp):
                if assembler.due is None:
                    gate.give_up()
                    break
                now = max(now, assembler.due) + 0.001
                for sweep in assembler.tick(now):
                    gate.reported(sweep.stamp_ns)
            if gate.under_way is None:
                gate.go_by(first)  # somebody may have come or gone
            now += 0.001
            gate.published(name, stamp)
            for sweep in assembler.add(name, stamp, None, now):
                gate.reported(sweep.stamp_ns)
        complete += assembler.counters.complete
        partial += assembler.counters.partial
    return complete, partial, gate.timeouts


def regular(period_ms: float, offset_ms: float, count: int = 30) -> list[int]:
    return [round((10**6 + offset_ms + i * period_ms) * MS) for i in range(count)]


def test_cameras_without_a_common_trigger_lose_no_sweep_as_they_drift() -> None:
    stamps = {"front": regular(33.3, 0, 150), "left": regular(33.5, 3, 150), "back": regular(33.2, 9, 150)}
    complete, partial, timeouts = play(stamps)
    assert timeouts == 0
    assert partial <= 4, f"{complete} were complete"


def test_a_driver_that_sends_each_image_twice_is_waited_for_once() -> None:
    complete, partial, timeouts = play({"front": regular(100, 0), "back": sorted(regular(100, 30) * 2)})
    assert (complete, partial, timeouts) == (60, 0, 0)


def test_a_node_whose_anchor_is_the_first_to_fire_is_not_waited_for_in_vain() -> None:
    """It takes the last camera, which fires more than half a period later, for the first of the next sweep."""
    complete, partial, timeouts = play(
        {name: regular(83.3, offset) for name, offset in OFFSETS.items()}, anchor="front_left"
    )
    assert timeouts == 0
    assert partial <= 4, f"{complete} were complete"


def test_an_image_of_a_sweep_that_was_reported_without_it_begins_none() -> None:
    gate = gate_of([*OFFSETS])
    gate.published("front_left", 0)
    gate.reported(15 * MS)  # its deadline has passed before the others came
    gate.published("back_left", 42 * MS)
    assert gate.may_publish("front_left", 100 * MS)
