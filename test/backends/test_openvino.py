"""What OpenVINO does to the process it runs in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fsmde_ros.backends.built_files import CACHE_VARIABLE

SIGNALLED = """
import gc, signal, sys
from fsmde_ros.backends.openvino import OpenVinoBackend
from fsmde_ros.network.student import Student, StudentConfig

signal.signal(signal.SIGINT, lambda *_: print("handled", flush=True))
backend = OpenVinoBackend(Student(StudentConfig(bins=16)).eval())
programs = [backend.compile(views, (64, 96)) for views in (1, 2)]
while programs:
    programs.pop(0)
    gc.collect()
    signal.raise_signal(signal.SIGINT)
"""


def test_signals_are_handled_after_programs_were_freed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rig whose number of views changes makes a new program before the old one goes."""
    pytest.importorskip("openvino")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    command = [sys.executable, "-c", SIGNALLED]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stdout.splitlines()) == (0, ["handled"] * 2), done.stderr
