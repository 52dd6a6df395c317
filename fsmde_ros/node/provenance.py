"""What a report was made from and on: hashes of the inputs, the machine."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fsmde_ros.errors import SourceError


def sha256_of(path: Path) -> str:
    """SHA-256 of a file; of a folder, over the names and contents of its files, in order.

    Raises SourceError where there is nothing to read.
    """
    digest = hashlib.sha256()
    try:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            if path.is_dir():
                digest.update(file.relative_to(path).as_posix().encode() + b"\0")
            with file.open("rb") as stream:
                while block := stream.read(2**20):
                    digest.update(block)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}; give an existing file or bag") from error
    return digest.hexdigest()


def describe_inputs(inputs: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    """Name (without folders, which say nothing elsewhere) and hash of each input."""
    return {name: {"name": path.resolve().name, "sha256": sha256_of(path)} for name, path in inputs.items()}


def describe_machine() -> dict[str, Any]:
    """Processor, cores this process may use, GPUs, and versions."""
    return {
        "cpu": _first_field(Path("/proc/cpuinfo"), "model name") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "gpus": [_first_field(p, "Model") for p in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))],
        "python": platform.python_version(),
        "torch": version("torch"),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _first_field(path: Path, name: str) -> str | None:
    """Value of the first line "name : value" of a file of the kernel; None where there is none."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), None)
