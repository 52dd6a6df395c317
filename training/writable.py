"""Whether results can be written, asked before the hours that make them."""

from __future__ import annotations

import tempfile
from pathlib import Path

from fsmde_ros.errors import ConfigError


def make_folder(name: str, folder: Path) -> None:
    """Make ``folder`` where there is none; raises ConfigError, with ``name`` of the setting, where it takes no file."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"{name}: nothing can be written into {folder} ({error.strerror}); choose another place"
        ) from error
