from __future__ import annotations

from pathlib import Path

import pytest

from demo.drives import DriveName
from fsmde_ros.errors import ConfigError, SourceError


def test_names_of_drives(tmp_path: Path) -> None:
    assert DriveName.parse("town:12").seed == 12
    assert DriveName.parse("town:held-out").seed < 1_000_000, "training begins there"
    assert DriveName.parse(f"ddad:{tmp_path}") == DriveName("ddad", str(tmp_path))


@pytest.mark.parametrize("text", ["", "town", "town:", "town:first", "town:-1", "kitti:/data"])
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        DriveName.parse(text)


def test_a_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(SourceError, match="no folder 'nowhere/nuscenes'"):
        DriveName.parse("nuscenes:nowhere/nuscenes")
