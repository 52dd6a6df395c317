"""What the log says of statuses: once, when it has held, and when it is over."""

from __future__ import annotations

from fsmde_ros.node.status_log import BEGINNING, HELD, LONGEST, OK, Line, Seen, StatusLog

FINE = Seen(OK, "OK, 10.0 Hz")


def stale(seconds: float) -> Seen:
    return Seen("stale", f"stale: the last image came {seconds} s ago")


def looks(log: StatusLog, *periods: dict[str, Seen]) -> list[list[Line]]:
    return [log.look(seen) for seen in periods]


def test_a_state_is_told_once_when_it_has_held_for_two_periods_and_when_it_is_over() -> None:
    log = StatusLog()
    assert looks(log, *[{"cam": FINE}] * 5) == [[]] * 5
    said = looks(log, *({"cam": stale(k)} for k in range(8)))
    assert said == [[], [], [Line(True, "cam: stale: the last image came 2 s ago")], *[[]] * 5]
    assert looks(log, *[{"cam": FINE}] * 5) == [[], [], [Line(False, "cam: OK again")], [], []]


def test_what_does_not_hold_is_not_told() -> None:
    log = StatusLog()
    assert looks(log, *[{"cam": stale(1)}, {"cam": stale(2)}, {"cam": FINE}] * 20) == [[]] * 60


def test_what_was_never_well_is_given_a_moment_to_begin() -> None:
    log = StatusLog()
    said = looks(log, *[{"cam": stale(1)}] * (BEGINNING + 3))
    assert [bool(lines) for lines in said] == [k == BEGINNING for k in range(BEGINNING + 3)]
    begun = StatusLog()
    assert looks(begun, *[{"cam": stale(1)}] * BEGINNING, *[{"cam": FINE}] * 5) == [[]] * (BEGINNING + 5)


def test_another_state_is_told_without_an_ok_between() -> None:
    log = StatusLog()
    looks(log, *[{"cam": FINE}, *[{"cam": stale(1)}] * 5])
    said = looks(log, *[{"cam": Seen("undecodable", "the JPEG is truncated")}] * 5)
    assert said == [[], [], [Line(True, "cam: the JPEG is truncated")], [], []]


def test_all_cameras_in_one_state_have_one_line() -> None:
    log = StatusLog()
    unheard = {name: Seen("no messages", f"no messages on /{name}") for name in "abc"}
    looks(log, dict.fromkeys("abcde", FINE))
    said = looks(log, *[{**unheard, "d": stale(1), "e": FINE}] * 3)
    assert said[HELD] == [
        Line(True, "a (b, c likewise): no messages on /a"),
        Line(True, "d: stale: the last image came 1 s ago"),
    ]
    assert looks(log, *[dict.fromkeys("abcde", FINE)] * 3)[HELD] == [Line(False, "a, b, c, d: OK again")]


def test_what_comes_and_goes_for_ever_does_not_fill_the_log() -> None:
    log = StatusLog()
    flapping = [{"cam": FINE}] * 4 + [{"cam": stale(1)}] * 4
    told = [line for said in looks(log, *flapping * 100) for line in said]
    assert [line.is_warning for line in told] == [True, False]
    lasting = [{"cam": stale(1)}] * (LONGEST + 1)
    assert sum(len(said) for said in looks(log, *lasting)) == 1, "but a long outage is told each time"
