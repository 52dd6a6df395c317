"""One thread that works on the newest job only, so that a slow machine drops and never lags."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Job = TypeVar("Job")


class LatestOnlyWorker(Generic[Job]):
    """Runs ``work`` on one job at a time; at most one more is waiting, and a newer one replaces it.

    ``on_replaced`` is called in the thread of ``submit`` with the job that was replaced, ``on_stopped`` in that of
    ``stop`` with the one that was still waiting, or in that of ``submit`` with one that came later; ``on_failed`` in
    the worker's thread with a job and the exception it raised. The next job is worked on as if nothing had happened.
    """

    def __init__(
        self,
        work: Callable[[Job], None],
        on_replaced: Callable[[Job], None],
        on_stopped: Callable[[Job], None],
        on_failed: Callable[[Job, Exception], None],
        name: str = "worker",
    ) -> None:
        self._work, self._on_failed = work, on_failed
        self._on_replaced, self._on_stopped = on_replaced, on_stopped
        self._changed = threading.Condition()
        self._current: Job | None = None
        self._next: Job | None = None
        self._since = 0.0
        self._stopping = False
        # A daemon: a backend that hangs must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Hand over a job: at once to an idle worker, else it waits in the place of an older one."""
        with self._changed:
            if self._stopping:
                tell, dropped = self._on_stopped, job
            elif self._current is None:
                self._current, self._since = job, time.monotonic()
                self._changed.notify()
                return
            elif self._next is None:
                self._next = job
                return
            else:
                tell, dropped, self._next = self._on_replaced, self._next, job
        tell(dropped)

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Finish the job in work, give back the one that waits; whether the thread ended in time."""
        with self._changed:
            self._stopping = True
            waiting, self._next = self._next, None
            self._changed.notify()
        if waiting is not None:
            self._on_stopped(waiting)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def is_waiting(self) -> bool:
        """Whether a job waits for the one in work."""
        with self._changed:
            return self._next is not None

    def busy_s(self) -> float:
        """For how long the job in work has been in work, seconds; 0 when idle."""
        with self._changed:
            return 0.0 if self._current is None else time.monotonic() - self._since

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._current is not None or self._stopping)
                job = self._current
            if job is None:
                return
            # The one place that catches everything: whatever a sweep brings, the next one is served.
            try:
                self._work(job)
            except Exception as error:
                self._on_failed(job, error)
            with self._changed:
                self._current, self._next = self._next, None
                self._since = time.monotonic()
