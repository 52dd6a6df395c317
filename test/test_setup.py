"""``requirements/setup.sh`` on machines that lack something: it must say what, and leave nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SETUP = Path(__file__).parent.parent / "requirements" / "setup.sh"


def command(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def set_up(folder: Path, python: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": str(python), **more}
    arguments = ["sh", str(SETUP), str(folder / "venv"), "run"]
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60)


def test_no_interpreter(tmp_path: Path) -> None:
    result = set_up(tmp_path, "python-of-nowhere")
    assert result.returncode == 1
    assert "no 'python-of-nowhere' found; install Python 3.10 to 3.12" in result.stderr


def test_another_version(tmp_path: Path) -> None:
    old = command(tmp_path, "python3.8", 'if [ "$1" = --version ]; then echo Python 3.8.10; else exit 1; fi')
    result = set_up(tmp_path, old)
    assert result.returncode == 1
    assert "Python 3.10 to 3.12" in result.stderr
    assert "is Python 3.8.10" in result.stderr


def test_no_venv_module(tmp_path: Path) -> None:
    bare = command(tmp_path, "python", f'if [ "$1" = -c ]; then exit 1; fi; exec {sys.executable} "$@"')
    result = set_up(tmp_path, bare)
    assert result.returncode == 1
    assert "sudo apt install python3-venv" in result.stderr
    assert not (tmp_path / "venv").exists()


def test_a_full_disk(tmp_path: Path) -> None:
    command(tmp_path, "df", "echo Filesystem; echo /dev/root 9000 8880 120 99% /")
    result = set_up(tmp_path, sys.executable, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert result.returncode == 1
    assert "120 MiB free" in result.stderr
    assert not (tmp_path / "venv").exists()


def test_pip_that_fails_shows_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    command(tmp_path / "venv" / "bin", "python", "echo ERROR: no matching distribution; exit 1")
    result = set_up(tmp_path, sys.executable)
    assert result.returncode == 1
    assert "ERROR: no matching distribution" in result.stderr
    assert "the whole log is" in result.stderr
