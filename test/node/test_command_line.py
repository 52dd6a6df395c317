"""Signals: the first sets a flag, the second ends what does not look at it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import time
from fsmde_ros.node.command_line import StopSignal
with StopSignal() as stop:
    print("ready", flush=True)
    for _ in range(600):  # a long build
        time.sleep(0.1)
        if stop:
            print("asked", flush=True)
            time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_what_does_not_look_at_the_first(number: signal.Signals) -> None:
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            child.send_signal(number)
            assert child.stdout.readline() == "asked\n"  # alive, and knows
            child.send_signal(number)
            assert child.wait(30) == -number
        finally:
            child.kill()
