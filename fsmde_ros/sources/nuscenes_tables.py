"""Opening the tables of a nuScenes dataset with the devkit, and saying what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fsmde_ros.errors import SourceError
from fsmde_ros.sources.dataset_files import read_json

if TYPE_CHECKING:
    from nuscenes.nuscenes import NuScenes

TABLES = (
    *("attribute", "calibrated_sensor", "category", "ego_pose", "instance", "log", "map", "sample"),
    *("sample_annotation", "sample_data", "scene", "sensor", "visibility"),
)
# What the devkit lets through where a table is not as it expects.
_DAMAGE = (AssertionError, AttributeError, IndexError, KeyError, OSError, TypeError, ValueError)


def open_tables(root: Path, version: str | None = None) -> NuScenes:
    """Open the tables of one version with nuscenes-devkit.

    Args:
        root: folder with ``samples`` and the tables' folder ``v1.0-*``.
        version: name of the tables' folder; may be left out where there is only one.

    Raises:
        SourceError: the devkit is not installed; there is no such folder, or several and none is
            chosen; a table is missing or damaged, or the tables contradict each other.
    """
    version = version or _only_version(root)
    folder = root / version
    if Path(version).name != version or not folder.is_dir():
        raise SourceError(f"{root}: no version '{version}', expected one of {_versions(root) or 'v1.0-*'}")
    for table in TABLES:
        if not (folder / f"{table}.json").is_file():
            raise SourceError(f"{folder / table}.json: missing; is the dataset complete?")
    _check_maps(folder)
    try:
        from nuscenes.nuscenes import NuScenes
    except ImportError as error:
        raise SourceError(
            f"nuscenes-devkit cannot be imported ({error}); install it with: pip install nuscenes-devkit"
        ) from error
    try:
        return NuScenes(version=version, dataroot=str(root), verbose=False)
    except _DAMAGE as error:
        for table in TABLES:
            _check_rows(folder / f"{table}.json")
        raise SourceError(
            f"{folder}: nuscenes-devkit cannot open the tables, they contradict each other: {error!r}; copy them anew"
        ) from error


def _versions(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("v1.0-*") if path.is_dir())


def _only_version(root: Path) -> str:
    if not root.is_dir():
        raise SourceError(f"{root}: no such folder, expected the root of a nuScenes dataset")
    found = _versions(root)
    if not found:
        raise SourceError(f"{root}: no folder v1.0-* with tables, expected the root of a nuScenes dataset")
    if len(found) > 1:
        raise SourceError(f"{root}: has the versions {', '.join(found)}; choose one with --version")
    return found[0]


def _check_maps(folder: Path) -> None:
    """The devkit raises a bare Exception for a map table of the teaser dataset."""
    path = folder / "map.json"
    _check_rows(path)
    rows = read_json(path)
    if not rows or any("log_tokens" not in row or "filename" not in row for row in rows):
        raise SourceError(f"{path}: expected rows with log_tokens and filename; the teaser dataset is not supported")


def _check_rows(path: Path) -> None:
    rows = read_json(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "token" in row for row in rows):
        raise SourceError(f"{path}: expected a list of rows with a token; copy the tables anew")
