"""What a figure was measured of and on: hashes of the inputs and of the program, versions, the machine."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from fsmde_ros.errors import SourceError

PACKAGES = ("torch", "numpy", "opencv-python-headless", "onnx", "onnxruntime", "openvino", "tensorrt", "transformers")
EXTENSIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile")  # that decide how fast a network is
_PACKAGE = Path(__file__).resolve().parent


def sha256_of(path: Path) -> str:
    """SHA-256 of a file; of a folder, over the names and contents of its files, in order.

    Raises SourceError where there is nothing to read.
    """
    try:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        return _digest(path if path.is_dir() else None, files)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}; give an existing file or bag") from error


def hash_sources() -> str:
    """SHA-256 of the program text of the package."""
    return _digest(_PACKAGE, sorted(_PACKAGE.rglob("*.py")))


def describe_inputs(inputs: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    """Name (without folders, which say nothing elsewhere) and hash of each input."""
    return {name: {"name": path.resolve().name, "sha256": sha256_of(path)} for name, path in inputs.items()}


def describe_run(inputs: Mapping[str, Path]) -> dict[str, Any]:
    """Inputs, program, versions and machine of one measurement. Raises SourceError for an input that is not there."""
    return {
        "inputs": describe_inputs(inputs),
        "sources": hash_sources(),
        "machine": describe_machine(),
        "versions": describe_versions(),
    }


def describe_machine() -> dict[str, Any]:
    """Processor, cores this process may use, memory and GPUs."""
    gpus = (
        [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "gpus": gpus,
        "system": f"{platform.system()} {platform.machine()}",
    }


def describe_versions() -> dict[str, str]:
    """Of Python and of the packages that compute."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _digest(root: Path | None, files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        if root is not None:
            digest.update(file.relative_to(root).as_posix().encode() + b"\0")
        with file.open("rb") as stream:
            while block := stream.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def _processor() -> str:
    """Model and the vector extensions that matter, as the kernel names them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    has = set(facts.get("flags", "").split())
    known = ", ".join(name for name in EXTENSIONS if name in has)
    return facts.get("model name", platform.machine()) + (f" ({known})" if known else "")
