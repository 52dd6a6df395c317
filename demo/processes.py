"""Children of the demo: each in its own process group with its own log, none of them outlives it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from fsmde_ros.errors import FsmdeError

STOP_S = 30.0  # from SIGINT to SIGTERM, and from there to SIGKILL
TAIL_LINES = 25
POLL_S = 0.05


class ChildError(FsmdeError):
    """A child of the demo failed, or did not do in time what it was expected to do."""


class Children:
    """Context manager over child processes; leaving it ends all that still run."""

    def __init__(self, logs: Path, environment: Mapping[str, str]) -> None:
        self._logs = logs
        self._environment = {**os.environ, **environment, "PYTHONUNBUFFERED": "1"}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Children:
        self._logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _signals_held_back():
            for name in reversed([*self._running]):
                self._end(self._running.pop(name))

    def start(self, name: str, module: str, arguments: Sequence[object]) -> None:
        """Start ``python -m module arguments`` as the child ``name``; its output goes to its log."""
        command = [sys.executable, "-m", module, *map(str, arguments)]
        with self.log(name).open("wb") as log, _signals_held_back():
            self._running[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )

    def log(self, name: str) -> Path:
        """Where the output of the child goes."""
        return self._logs / f"{name}.log"

    def wait_for_line(self, name: str, text: str, timeout: float) -> None:
        """Wait until the child's log holds ``text``. Raises ChildError where any child ends before."""
        deadline = time.monotonic() + timeout
        while text not in self.log(name).read_text(errors="replace"):
            self._check(name, deadline, f"did not say '{text}' within {timeout:g} s", may_end="")
            time.sleep(POLL_S)

    def wait(self, name: str, timeout: float) -> None:
        """Wait for the child to end well. Raises ChildError where it, or another one, does not."""
        deadline = time.monotonic() + timeout
        while self._running[name].poll() is None:
            self._check(name, deadline, f"did not end within {timeout:g} s", may_end=name)
            time.sleep(POLL_S)
        status = self._running.pop(name).returncode
        if status:
            raise ChildError(f"'{name}' ended with status {status}; {self._tail(name)}")

    def stop(self, name: str) -> None:
        """Ask the child to end (SIGINT). Raises ChildError where it ends badly."""
        status = self._end(self._running.pop(name))
        if status:
            raise ChildError(f"'{name}' ended with status {status} when it was stopped; {self._tail(name)}")

    def _check(self, name: str, deadline: float, complaint: str, may_end: str) -> None:
        for other, child in self._running.items():
            if other != may_end and child.poll() is not None:
                raise ChildError(f"'{other}' ended with status {child.returncode}; {self._tail(other)}")
        if time.monotonic() > deadline:
            raise ChildError(f"'{name}' {complaint}; {self._tail(name)}")

    def _tail(self, name: str) -> str:
        lines = self.log(name).read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join([f"the end of {self.log(name)}:", *(f"    {line}" for line in lines)])

    @staticmethod
    def _end(child: subprocess.Popen[bytes]) -> int:
        """End the child and whatever it started; returns its exit status, negative for a signal."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(STOP_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # grandchildren
        return child.wait()


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """SIGINT and SIGTERM are handled afterwards: in a start, or in the ends, one would leave children nobody ends."""
    came: list[int] = []
    handlers = {n: signal.signal(n, lambda number, _: came.append(number)) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for held_back, handler in handlers.items():
            signal.signal(held_back, handler)
        for number in came:
            signal.raise_signal(number)
