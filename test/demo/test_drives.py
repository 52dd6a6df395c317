from __future__ import annotations

from pathlib import Path

import pytest

from demo import drives
from demo.drives import DriveName, TownSize, prepare
from fsmde_ros.errors import ConfigError, SourceError
from fsmde_ros.interruption import INTERRUPTED


def test_names_of_drives(tmp_path: Path) -> None:
    assert DriveName.parse("town:12").seed == 12
    assert DriveName.parse("town:held-out").seed < 1_000_000, "training begins there"
    assert DriveName.parse(f"ddad:{tmp_path}") == DriveName("ddad", str(tmp_path))


@pytest.mark.parametrize("text", ["", "town", "town:", "town:first", "town:-1", "town:\u00b2", "kitti:/data"])
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        DriveName.parse(text)


def test_a_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(SourceError, match="no folder 'nowhere/nuscenes'"):
        DriveName.parse("nuscenes:nowhere/nuscenes")


def test_ctrl_c_while_a_drive_is_made_ends_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The renderer tells by its status that it was interrupted: that is no failure."""
    monkeypatch.setattr(drives, "render_town", lambda arguments: INTERRUPTED)
    with pytest.raises(KeyboardInterrupt):
        prepare(DriveName("town", "3"), TownSize(), tmp_path / "cache", tmp_path / "out")


def test_what_could_not_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drives, "render_town", lambda arguments: 1)
    with pytest.raises(SourceError, match=r"training\.town --held-out --seed 3 .* ended with status 1, see above"):
        prepare(DriveName("town", "3"), TownSize(), tmp_path / "cache", tmp_path / "out")


def test_a_town_has_no_scenes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--scene first: a town has no scenes"):
        prepare(DriveName("town", "3"), TownSize(), tmp_path / "cache", tmp_path / "out", "first")
