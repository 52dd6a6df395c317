from __future__ import annotations

from itertools import pairwise

import pytest

from fsmde_ros.node.pacing import PlaybackClock, SweepGate

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
