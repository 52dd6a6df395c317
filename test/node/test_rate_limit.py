"""The rate at which sweeps are worked on, by their stamps."""

from __future__ import annotations

import random

import pytest

from fsmde_ros.node.rate_limit import RateLimit

START, MS = 1_532_402_927_000_000_000, 1_000_000


def passed(limit: RateLimit, stamps_ms: list[float], max_rate_hz: float) -> list[int]:
    """Indices of the sweeps that pass."""
    stamps = [START + round(ms * MS) for ms in stamps_ms]
    return [index for index, stamp in enumerate(stamps) if limit.passes(stamp, 6, max_rate_hz)]


@pytest.mark.parametrize(
    ("rate", "limit", "every"), [(30, 10, 3), (30, 15, 2), (12, 12, 1), (10, 0, 1), (10, 30, 1), (12, 10, 2)]
)
def test_every_so_many_sweeps_pass_though_their_stamps_tremble(rate: int, limit: int, every: int) -> None:
    rng = random.Random(0)
    stamps = [1000 * k / rate + rng.uniform(-2, 2) for k in range(300)]
    assert passed(RateLimit(), stamps, limit) == list(range(0, 300, every))


def test_lost_sweeps_delay_nothing() -> None:
    assert passed(RateLimit(), [0, 33, 133, 166, 233], 10) == [0, 2, 4]


@pytest.mark.parametrize("first", [0, 1, 2])
def test_of_cameras_of_two_rates_the_whole_sweeps_pass(first: int) -> None:
    """One at 30 Hz, the others at 10: two of three sweeps have a single view."""
    limit = RateLimit()
    views = [6 if k % 3 == 0 else 1 for k in range(first, 90)]
    out = [views[k] for k in range(len(views)) if limit.passes(START + k * 1000 * MS // 30, views[k], 10)]
    assert out[1:] == [6] * len(out[1:])
    assert len(out) >= 29


def test_a_view_that_was_lost_lets_no_other_sweep_through() -> None:
    limit = RateLimit()
    assert [limit.passes(START + k * 33 * MS, 5 + k % 2, 10) for k in range(4)] == [True, False, False, True]


@pytest.mark.parametrize("jump_ms", [-3_600_000, -150, 3_600_000])
def test_a_clock_that_is_set_stops_nothing(jump_ms: int) -> None:
    limit = RateLimit()
    assert passed(limit, [0, 100, 200], 5) == [0, 2]
    assert passed(limit, [300 + jump_ms, 400 + jump_ms, 500 + jump_ms], 5)[0] == 0
