from __future__ import annotations

import subprocess
import sys

import pytest

from fsmde_ros.backends.heap import keep_freed_memory

# Page faults of tensors of 40 MB, one after the other, in a thread as the node's worker is one, when it has settled.
SCRIPT = """
import resource, sys, threading
import torch
from fsmde_ros.backends.heap import keep_freed_memory

if "keep" in sys.argv:
    assert keep_freed_memory()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def work():
    for _ in range(20):
        torch.ones(10_000_000)
    before = faults()
    for _ in range(20):
        torch.ones(10_000_000)
    print(faults() - before)

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def faults(*arguments: str) -> int:
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_freed_memory_is_used_again() -> None:
    assert faults("keep") < 0.05 * faults()


def test_without_the_call_nothing_is_promised_and_nothing_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())  # a C library that has no mallopt
    assert not keep_freed_memory()
