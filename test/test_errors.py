"""The family of errors."""

from __future__ import annotations

from fsmde_ros.errors import LONGEST, FsmdeError, SourceError


def test_messages_are_as_given_but_never_too_long_to_read() -> None:
    assert str(SourceError("a.json: no field 'x'")) == "a.json: no field 'x'"
    long = str(SourceError(f"a.json: no field '{'x' * 100_000}'; copy it anew"))
    assert long.startswith("a.json: no field 'xxx")
    assert long.endswith("xxx'; copy it anew")
    assert LONGEST <= len(long) < LONGEST + 10
    assert issubclass(SourceError, FsmdeError)
