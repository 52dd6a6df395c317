from __future__ import annotations

import struct

import pytest

from fsmde_ros.node.pacing import PlaybackClock, SweepGate, header_stamp_ns, shortest_period_ns

MS = 1_000_000


@pytest.mark.parametrize(("order", "encapsulation"), [("<", b"\x00\x01\x00\x00"), (">", b"\x00\x00\x00\x00")])
def test_header_stamp_of_either_byte_order(order: str, encapsulation: bytes) -> None:
    cdr = encapsulation + struct.pack(order + "iI", 1_532_402_927, 612_460_000) + b"\x00" * 8
    assert header_stamp_ns(cdr) == 1_532_402_927_612_460_000


def test_shortest_period_skips_dropped_frames_and_needs_two() -> None:
    assert shortest_period_ns([0, 200, 300, 300, 500]) == 100
    assert shortest_period_ns([7]) is None
    assert shortest_period_ns([]) is None


def test_clock_at_half_speed() -> None:
    clock = PlaybackClock(bag_start_ns=1000, wall_start_ns=50, rate=0.5)
    assert clock.wall_ns(1100) == 250
    assert clock.bag_ns(250) == 1100


def test_gate_holds_a_camera_until_its_sweep_is_reported() -> None:
    gate = SweepGate(period_ns=80 * MS)
    gate.published("front", 1000 * MS)
    gate.published("back", 1037 * MS)  # fires later in the same sweep
    assert not gate.may_publish("front")
    assert gate.may_publish("left")
    gate.reported(920 * MS)  # the sweep before: says nothing about these images
    assert not gate.may_publish("front")
    gate.reported(1000 * MS)  # reference stamp: that of the front camera
    assert gate.may_publish("front")
    assert gate.may_publish("back")


def test_gate_gives_up_and_counts() -> None:
    gate = SweepGate(period_ns=None)
    gate.published("front", 5)
    gate.give_up()
    assert gate.may_publish("front")
    assert gate.timeouts == 1
    gate.published("front", 6)
    gate.restart()
    assert gate.may_publish("front")
    assert gate.timeouts == 1
