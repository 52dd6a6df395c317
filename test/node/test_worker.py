"""The worker: the newest job, never an old one; nothing it raises stops it."""

from __future__ import annotations

import threading
import time

from fsmde_ros.node.worker import LatestOnlyWorker


class Recorder:
    def __init__(self):
        self.started, self.gate = threading.Event(), threading.Event()
        self.done, self.replaced, self.stopped, self.failed = [], [], [], []

    def work(self, job):
        self.started.set()
        assert self.gate.wait(60)
        if job < 0:
            raise KeyError(job)
        self.done.append(job)

    def worker(self):
        return LatestOnlyWorker(self.work, self.replaced.append, self.stopped.append, self.fail)

    def fail(self, job, error):
        self.failed.append((job, error))


def wait_until(condition, timeout=60.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_slow_worker_takes_the_newest_and_gives_the_others_back():
    r = Recorder()
    worker = r.worker()
    for job in range(1, 6):
        assert worker.is_waiting() is (job > 2)
        worker.submit(job)
        assert r.started.wait(60)
    assert r.replaced == [2, 3, 4]
    assert worker.busy_s() > 0
    r.gate.set()
    wait_until(lambda: r.done == [1, 5])
    wait_until(lambda: worker.busy_s() == 0)
    assert worker.stop()


def test_two_jobs_at_once_are_both_done_by_an_idle_worker():
    for _ in range(50):
        r = Recorder()
        r.gate.set()
        worker = r.worker()
        worker.submit(1)
        worker.submit(2)
        wait_until(lambda r=r: r.done == [1, 2])
        assert r.replaced == []
        assert worker.stop()


def test_an_exception_costs_one_job():
    r = Recorder()
    r.gate.set()
    worker = r.worker()
    for job in (1, -7, 3):
        worker.submit(job)
        wait_until(lambda: worker.busy_s() == 0)
    assert r.done == [1, 3]
    assert [(job, type(error)) for job, error in r.failed] == [(-7, KeyError)]
    assert worker.stop()


def test_stop_finishes_the_work_and_gives_back_what_waits():
    r = Recorder()
    worker = r.worker()
    worker.submit(1)
    worker.submit(2)
    threading.Timer(0.05, r.gate.set).start()
    assert worker.stop()
    assert (r.done, r.stopped) == ([1], [2])
    worker.submit(3)
    assert (r.stopped, r.replaced) == ([2, 3], [])


def test_stop_does_not_wait_for_ever():
    r = Recorder()
    worker = r.worker()
    worker.submit(1)
    assert not worker.stop(timeout_s=0.1)  # or this test would never end
    r.gate.set()


def test_stopped_workers_leave_no_thread():
    before = set(threading.enumerate())
    for _ in range(50):
        r = Recorder()
        r.gate.set()
        worker = r.worker()
        worker.submit(1)
        assert worker.stop()
    assert set(threading.enumerate()) <= before
