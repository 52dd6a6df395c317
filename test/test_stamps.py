from __future__ import annotations

import pytest

from fsmde_ros.stamps import LAST_SECOND, stamp_problem


@pytest.mark.parametrize(
    ("seconds", "nanoseconds", "problem"),
    [
        (0, 0, "bad stamp: 0; the driver does not fill header.stamp"),
        (0, 1, ""),  # the first moment of a simulation
        (LAST_SECOND, 999_999_999, ""),
        (LAST_SECOND + 1, 0, "bad stamp: 2147483588 s and 0 ns, expected 0 to 2147483587 s"),
        (-1, 0, "bad stamp: -1 s and 0 ns"),
        (5, 1_000_000_000, "less than 1000000000 ns"),
    ],
)
def test_what_cannot_be_a_stamp(seconds: int, nanoseconds: int, problem: str) -> None:
    found = stamp_problem(seconds, nanoseconds)
    assert problem in found
    assert bool(found) == bool(problem)
