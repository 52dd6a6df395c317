from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from demo import processes
from demo.processes import ChildError, Children

MARK = "FSMDE_TEST_MARK"


@pytest.fixture
def mark() -> str:
    return f"{os.getpid()}-{time.monotonic_ns()}"


@pytest.fixture
def children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str) -> Iterator[Children]:
    """Children whose modules are the scripts that the tests write, found through PYTHONPATH."""
    environment = {"PYTHONPATH": str(tmp_path), MARK: mark}
    with Children(tmp_path / "logs", environment) as children:
        yield children
    assert not marked(mark), "something is left running"


def marked(mark: str) -> list[int]:
    """Processes that carry the mark in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if f"{MARK}={mark}".encode() in environment.split(b"\0"):
            found.append(int(entry.name))
    return found


def script(tmp_path: Path, name: str, text: str) -> str:
    (tmp_path / f"{name}.py").write_text(text)
    return name


def test_a_child_that_ends_well_is_waited_for(tmp_path: Path, children: Children) -> None:
    children.start("good", script(tmp_path, "good_child", "import sys; print('got', sys.argv[1:])"), ["a", 3])
    children.wait("good", 10)
    assert "got ['a', '3']" in children.log("good").read_text()


def test_a_child_that_fails_shows_the_end_of_its_log(tmp_path: Path, children: Children) -> None:
    text = "import sys\nfor i in range(100): print('line', i)\nsys.exit('no such camera')"
    children.start("bad", script(tmp_path, "bad_child", text), [])
    with pytest.raises(ChildError, match="'bad' ended with status 1") as caught:
        children.wait("bad", 10)
    assert "no such camera" in str(caught.value)
    assert "line 99" in str(caught.value)
    assert "line 50\n" not in str(caught.value)


def test_the_death_of_another_child_is_noticed(tmp_path: Path, children: Children) -> None:
    children.start("slow", script(tmp_path, "slow_child", "import time; time.sleep(60)"), [])
    children.start("dead", script(tmp_path, "dead_child", "raise SystemExit(3)"), [])
    with pytest.raises(ChildError, match="'dead' ended with status 3"):
        children.wait("slow", 10)


def test_waits_are_bounded(tmp_path: Path, children: Children) -> None:
    children.start("silent", script(tmp_path, "silent_child", "import time; print('hello'); time.sleep(60)"), [])
    with pytest.raises(ChildError, match=r"'silent' did not say 'ready' within 0\.5 s"):
        children.wait_for_line("silent", "ready", 0.5)
    with pytest.raises(ChildError, match=r"'silent' did not end within 0\.2 s"):
        children.wait("silent", 0.2)


def test_stubborn_children_and_grandchildren_are_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str
) -> None:
    monkeypatch.setattr(processes, "STOP_S", 0.3)
    text = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print('ready', flush=True); time.sleep(60)\n"
    )
    with Children(tmp_path / "logs", {"PYTHONPATH": str(tmp_path), MARK: mark}) as children:
        children.start("stubborn", script(tmp_path, "stubborn_child", text), [])
        children.wait_for_line("stubborn", "ready", 10)
        assert len(marked(mark)) == 2
    deadline = time.monotonic() + 5
    while marked(mark):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def run_two(tmp_path: Path, mark: str) -> None:
    """Start two children and leave them running."""
    sleep = script(tmp_path, "slow_child", "import time; time.sleep(60)")
    with Children(tmp_path / "logs", {"PYTHONPATH": str(tmp_path), MARK: mark}) as children:
        children.start("one", sleep, [])
        children.start("two", sleep, [])


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT and SIGTERM raise KeyboardInterrupt, also where a shell that began the tests has SIGINT ignored."""
    before = {n: signal.signal(n, signal.default_int_handler) for n in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_a_child_starts_leaves_nothing_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str, number: int
) -> None:
    def start(*arguments: Any, **keywords: Any) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(*arguments, **keywords)
        signal.raise_signal(number)
        return child

    monkeypatch.setattr(processes, "subprocess", SimpleNamespace(**vars(subprocess) | {"Popen": start}))
    with pytest.raises(KeyboardInterrupt):
        run_two(tmp_path, mark)
    assert (tmp_path / "logs" / "one.log").exists()
    assert not (tmp_path / "logs" / "two.log").exists()
    assert not marked(mark)


@pytest.mark.usefixtures("interruptible")
def test_a_second_interrupt_does_not_keep_children_from_being_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str
) -> None:
    end = Children._end

    def end_interrupted(child: subprocess.Popen[bytes]) -> int:
        signal.raise_signal(signal.SIGINT)
        return end(child)

    monkeypatch.setattr(Children, "_end", staticmethod(end_interrupted))
    with pytest.raises(KeyboardInterrupt):
        run_two(tmp_path, mark)
    assert not marked(mark)


def test_a_child_that_is_stopped_may_end_in_peace(tmp_path: Path, children: Children) -> None:
    text = (
        "import signal, sys, time\n"
        "def end(number, frame):\n    print('closing the bag'); sys.exit(0)\n"
        "signal.signal(signal.SIGINT, end); print('ready', flush=True); time.sleep(60)\n"
    )
    children.start("polite", script(tmp_path, "polite_child", text), [])
    children.wait_for_line("polite", "ready", 10)
    children.stop("polite")
    assert "closing the bag" in children.log("polite").read_text()
