"""What the log says of statuses that are judged over and over: what is wrong once it has held, and when it is over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

HELD = 2  # periods, for which a state must have held before it is told
BEGINNING = 5  # the same until all was well for the first time: cameras that start with the node need a moment
LONGEST = 60  # periods, for which one that comes back again and again must have held


class Seen(NamedTuple):
    """A status: its state in a word or two, ``OK`` where nothing is wrong, and its whole message."""

    state: str
    message: str


class Line(NamedTuple):
    """For the log."""

    is_warning: bool
    text: str


OK = "OK"


@dataclass
class _Memory:
    """Of one status.

    Attributes:
        state: the last one.
        periods: for how long it has held.
        told: the last one that was told.
        was_well: whether nothing was wrong once.
        patience: periods for which a state must hold before it is told, where it was told before.
    """

    state: str = ""
    periods: int = 0
    told: str = OK
    was_well: bool = False
    patience: dict[str, int] = field(default_factory=dict)


class StatusLog:
    """Remembers what was told, so that nothing is told at every look.

    Each time that a state is told it must hold twice as long until it is told again: what comes and goes for ever
    does not fill the log.
    """

    def __init__(self) -> None:
        self._memories: dict[str, _Memory] = {}

    def look(self, seen: Mapping[str, Seen]) -> list[Line]:
        """What is to be told of the statuses ``seen``, by name; once a period. One line for all in the same state."""
        changed: dict[str, list[str]] = {}
        for name, now in seen.items():
            if self._is_to_be_told(self._memories.setdefault(name, _Memory()), now.state):
                changed.setdefault(now.state, []).append(name)
        return [
            Line(False, f"{', '.join(names)}: OK again") if state == OK else _warning(names, seen[names[0]].message)
            for state, names in changed.items()
        ]

    @staticmethod
    def _is_to_be_told(memory: _Memory, state: str) -> bool:
        memory.periods = memory.periods + 1 if state == memory.state else 0
        memory.state = state
        memory.was_well |= state == OK
        patience = memory.patience.get(state, HELD if memory.was_well else BEGINNING)
        if state == memory.told or memory.periods < patience:
            return False
        memory.told = state
        if state != OK:
            memory.patience[state] = min(2 * patience, LONGEST)
        return True


def _warning(names: list[str], message: str) -> Line:
    first, *others = names
    likewise = f" ({', '.join(others)} likewise)" if others else ""
    return Line(True, f"{first}{likewise}: {message}")
