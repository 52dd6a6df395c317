"""What runs beside the threads that do the node's work: nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

COUNT = "import os, numpy; print(len(os.listdir('/proc/self/task')))"


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted in /proc, which Linux has")
@pytest.mark.parametrize(("wanted", "threads"), [(None, 1), ("2", 2)])
def test_numpy_has_no_threads_in_the_node_unless_they_are_asked_for(wanted: str | None, threads: int) -> None:
    environment = {name: value for name, value in os.environ.items() if "_NUM_THREADS" not in name}
    environment |= {} if wanted is None else {"OPENBLAS_NUM_THREADS": wanted}
    command = [sys.executable, "-c", f"import fsmde_ros.node; {COUNT}"]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert int(found.stdout) == min(threads, os.cpu_count() or 1)
