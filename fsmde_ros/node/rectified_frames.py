"""Tells the person at the vehicle where the frame of a camera may not be that of its rectified images."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fsmde_ros.rectifying_turn import REMEDY, describe_turn


class RectifiedFrames:
    """Which cameras have images that are turned against their lens, told once of each."""

    def __init__(self, tell: Callable[[str], object]) -> None:
        self._tell = tell
        self._told: set[str] = set()

    def look(self, turns: Mapping[str, float]) -> str:
        """``turns``: degrees by camera, as ``LiveRig.turns``; the same in words, empty where there are none."""
        text = "; ".join(f"{name}: {describe_turn(turn)}" for name, turn in turns.items())
        if turns.keys() - self._told:
            self._told |= turns.keys()
            self._tell(f"{text}; {REMEDY}")
        return text
