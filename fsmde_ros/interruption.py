"""Programs that start others end them when they are told to end."""

from __future__ import annotations

import signal
from types import FrameType

INTERRUPTED = 130  # exit status of a shell's children after Ctrl-C


def end_on_signals() -> None:
    """Let SIGINT and SIGTERM raise KeyboardInterrupt from now on, so that context managers are left. Main thread only.

    By default SIGTERM ends Python on the spot, and a script's ``&`` starts it with SIGINT ignored.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
