"""Drives in the DDAD format (DGP v1 JSON) as sweeps.

A dataset file names scene files, a scene file lists samples, and a sample its data (images and
point clouds) and its calibration. Names are lower-case (``camera_01``, ``lidar``).

Convention, found on real data and tested against the figures of the DGP devkit: the pose of a
datum takes the *sensor* to the world; an extrinsic takes the sensor to the vehicle. Hence
``vehicle_to_map = compose(sensor_to_world, invert(sensor_to_vehicle))``. The vehicle frame is that
of the LiDAR, whose origin the dataset has put on the ground: ``ground_z`` is 0. Images of DDAD
are rectified.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.errors import SourceError
from fsmde_ros.geometry import compose, invert, transform
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.sources.dataset_files import path_inside, pose_from_table, read_bytes, read_image, read_json
from fsmde_ros.sweep import LidarScan, Sweep, View

Array = NDArray[np.float64]
# What numpy and zipfile raise for a damaged npz: RuntimeError where bytes say it is encrypted or of a later version.
_NO_ARCHIVE = (ValueError, KeyError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
Row = Mapping[str, Any]

SPLITS = {"train": "0", "val": "1", "test": "2", "train_overfit": "3"}
"""Names and keys of ``scene_splits``, from the schema of DGP (dataset.proto)."""
INTENSITY_SCALE = 255.0  # stored from 0 to 1
LAST_ROS_SECOND = 2**31 - 1  # builtin_interfaces/Time counts seconds in an int32
# The clock of DDAD counted in 100 ns, but its stamps are written as if in microseconds: they name
# the year 2464 and lie ten times too far apart. A tenth of them gives June 2019 and the 10 Hz at
# which the recordings were made.
STAMP_FACTOR = 10


@dataclass(frozen=True)
class _Calibration:
    """Intrinsics ``[3, 3]`` and ``sensor_to_vehicle [4, 4]`` by name of the sensor."""

    intrinsics: Mapping[str, Array]
    sensor_to_vehicle: Mapping[str, Array]


@dataclass(frozen=True)
class Scene:
    """One scene: its folder, one function for each sample that reads its sweep, and the files of all but the sensors'
    data: its own and those of its calibrations."""

    name: str
    samples: tuple[Callable[[], Sweep], ...]
    files: tuple[Path, ...] = ()


@contextmanager
def _fields_of(path: Path) -> Iterator[None]:
    """What goes wrong inside is a field of the file: SourceError."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SourceError(f"{path}: a field is missing or wrong: {error!r}") from error


def scene_names(root: Path | str, split: str | None = None) -> tuple[str, ...]:
    """Names of the scenes, which are those of their folders. Raises SourceError as ``sweeps``."""
    return tuple(path.parent.name for path in _scene_files(Path(root), split))


def scenes(root: Path | str, split: str | None = None, scene: str | None = None) -> Iterator[Scene]:
    """Open the scenes of a DDAD dataset, one after another; images are read by the samples.

    Args:
        root: the dataset file (``ddad.json``), or its folder, or the file of one scene.
        split: a name of ``SPLITS``; all by default.
        scene: name of the folder of one scene; all by default.

    Raises:
        SourceError: a file is missing, is not what is expected, or is named outside its folder;
            there is no such split or scene.
    """
    files = _scene_files(Path(root), split)
    chosen = [path for path in files if scene is None or path.parent.name == scene]
    if not chosen:
        names = ", ".join(path.parent.name for path in files)
        raise SourceError(f"{root}: no scene '{scene}'; it has {names}")
    for path in chosen:
        with _fields_of(path):
            yield Scene(path.parent.name, _samples(path), (path, *sorted(path.parent.glob("calibration/*.json"))))


def sweeps(
    root: Path | str,
    split: str | None = None,
    scene: str | None = None,
    samples: tuple[int | None, int | None] | None = None,
) -> Iterator[Sweep]:
    """Sweeps of a DDAD dataset, in the order of its scenes.

    Args:
        root: the dataset file (``ddad.json``), or its folder, or the file of one scene.
        split: a name of ``SPLITS``; all by default.
        scene: name of the folder of one scene; all by default.
        samples: range of samples (start, stop) within each scene, as in a slice.

    Raises:
        SourceError: see ``scenes``; also no samples in the range, and, while iterating, a file
            that is missing or damaged.
    """
    found = False
    for candidate in scenes(root, split, scene):
        for read in candidate.samples[slice(*(samples or (None, None)))]:
            found = True
            yield read()
    if not found:
        raise SourceError(f"{root}: no samples in the range {samples or 'of all'}; choose another range")


def _scene_files(root: Path, split: str | None) -> list[Path]:
    if split is not None and split not in SPLITS:
        raise SourceError(f"no split '{split}', expected one of {', '.join(SPLITS)}")
    index = root if root.is_file() else _index(root)
    content = read_json(index)
    if not isinstance(content, dict) or not {"scene_splits", "samples"} & content.keys():
        raise SourceError(f"{index}: has no scene_splits, expected the dataset file of a DDAD dataset")
    if "samples" in content:  # the file of a scene itself
        return [index]
    splits = content["scene_splits"]
    try:
        keys = list(splits) if split is None else [SPLITS[split]]
        names = dict.fromkeys(name for key in keys for name in splits.get(key, {}).get("filenames", []))
    except (AttributeError, TypeError, ValueError) as error:
        raise SourceError(f"{index}: scene_splits: a field is wrong: {error}") from error
    if not names:
        raise SourceError(f"{index}: scene_splits has no scenes in {'any split' if split is None else split}")
    return [path_inside(index.parent, name, f"{index}: scene_splits") for name in names]


def _index(folder: Path) -> Path:
    """The dataset file of a folder: ``ddad.json``, or the one JSON file that is there."""
    if not folder.is_dir():
        raise SourceError(f"{folder}: no such file or folder, expected ddad.json or the folder it is in")
    found = sorted(folder.glob("*.json"))
    named = [path for path in found if path.name == "ddad.json"]
    chosen = named or found
    if len(chosen) != 1:
        raise SourceError(f"{folder}: has {len(chosen)} JSON files, expected ddad.json or exactly one; name the file")
    return chosen[0]


def _samples(path: Path) -> tuple[Callable[[], Sweep], ...]:
    content = read_json(path)
    data = {row["key"]: row for row in content["data"]}
    images = [(row["id"]["name"], row["datum"]["image"]) for row in content["data"] if "image" in row["datum"]]
    sizes = {name: (image["height"], image["width"]) for name, image in images}
    calibration = cache(lambda key: _calibration(path_inside(path.parent, f"calibration/{key}.json", str(path))))

    def reader(sample: Row) -> Callable[[], Sweep]:
        def read() -> Sweep:
            with _fields_of(path):
                rows = [data[key] for key in sample["datum_keys"]]
                known = calibration(sample["calibration_key"])
                return _sweep(path, rows, _rig(sizes, known), known)

        return read

    return tuple(reader(sample) for sample in content["samples"])


def _rig(sizes: Mapping[str, tuple[int, int]], calibration: _Calibration) -> Rig:
    """All cameras of the scene, so that a sample without one of them still knows it."""
    return Rig(
        tuple(
            Camera(name.lower(), size, calibration.intrinsics[name], calibration.sensor_to_vehicle[name])
            for name, size in sorted(sizes.items())
        )
    )


def _sweep(path: Path, rows: list[Row], rig: Rig, calibration: _Calibration) -> Sweep:
    images = {row["id"]["name"]: row for row in rows if "image" in row["datum"]}
    clouds = {row["id"]["name"]: row for row in rows if "point_cloud" in row["datum"]}
    if not images:
        raise SourceError(f"{path}: a sample has no image, expected at least one")
    views = {name.lower(): _view(path, name, row, calibration) for name, row in images.items()}
    scans = [_scan(path, name, row, calibration) for name, row in clouds.items()]
    first = next(name for name in rig.names if name in views)
    return Sweep(rig, views[first].stamp_ns, views, scans[0] if scans else None)


def _view(path: Path, name: str, row: Row, calibration: _Calibration) -> View:
    image = row["datum"]["image"]
    file = path_inside(path.parent, image["filename"], f"{path}: datum of {name}")
    encoded = read_image(file, (image["height"], image["width"]))
    return View(encoded, _stamp_ns(path, row), _vehicle_to_map(path, name, image, calibration))


def _scan(path: Path, name: str, row: Row, calibration: _Calibration) -> LidarScan:
    cloud = row["datum"]["point_cloud"]
    points = _points(path_inside(path.parent, cloud["filename"], f"{path}: datum of {name}"), cloud["point_format"])
    sensor_to_vehicle = calibration.sensor_to_vehicle[name]
    intensity = points.get("INTENSITY")
    return LidarScan(
        points_vehicle=transform(sensor_to_vehicle, np.stack([points[axis] for axis in "XYZ"], axis=-1)),
        stamp_ns=_stamp_ns(path, row),
        intensity=None if intensity is None else (intensity * INTENSITY_SCALE).astype(np.float32),
        vehicle_to_map=_vehicle_to_map(path, name, cloud, calibration),
        sensor_to_vehicle=sensor_to_vehicle,
        name=name.lower(),
    )


def _points(path: Path, point_format: list[str]) -> dict[str, Array]:
    """Columns of a point cloud file by their names in ``point_format``, finite points only."""
    try:
        with np.load(BytesIO(read_bytes(path)), allow_pickle=False) as archive:
            data = np.asarray(archive["data"], dtype=np.float64)
    except _NO_ARCHIVE as error:
        raise SourceError(f"{path}: not a point cloud (npz with an array 'data'): {error}; copy it anew") from error
    if data.ndim != 2 or data.shape[1] != len(point_format) or not {"X", "Y", "Z"} <= set(point_format):
        raise SourceError(f"{path}: an array of shape {data.shape}, expected a column for each of {point_format}")
    data = data[np.isfinite(data).all(axis=1)]
    return {name: data[:, i] for i, name in enumerate(point_format)}


def _vehicle_to_map(path: Path, name: str, datum: Row, calibration: _Calibration) -> Array:
    sensor_to_map = _pose(datum["pose"], f"{path}: pose of {name}")
    return compose(sensor_to_map, invert(calibration.sensor_to_vehicle[name]))


def _calibration(path: Path) -> _Calibration:
    content = read_json(path)
    intrinsics, extrinsics = {}, {}
    with _fields_of(path):
        for name, k, pose in zip(content["names"], content["intrinsics"], content["extrinsics"], strict=True):
            intrinsics[name] = np.array([[k["fx"], k["skew"], k["cx"]], [0, k["fy"], k["cy"]], [0, 0, 1]], np.float64)
            extrinsics[name] = _pose(pose, f"{path}: extrinsics of {name}")
    return _Calibration(intrinsics, extrinsics)


def _pose(pose: Row, where: str) -> Array:
    rotation, translation = pose["rotation"], pose["translation"]
    return pose_from_table(
        [rotation[key] for key in ("qw", "qx", "qy", "qz")], [translation[axis] for axis in "xyz"], where
    )


def _stamp_ns(path: Path, row: Row) -> int:
    """Nanoseconds of a time such as 2019-06-27T14:30:25.002790Z, mended by ``STAMP_FACTOR``."""
    text = row["id"]["timestamp"]
    seconds, _, fraction = text.removesuffix("Z").partition(".")
    try:
        moment = datetime.strptime(seconds, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
        stamp = int((moment - datetime(1970, 1, 1, tzinfo=timezone.utc)).total_seconds()) * 10**9
        stamp += int(fraction[:9].ljust(9, "0"))
    except ValueError as error:
        raise SourceError(f"{path}: timestamp '{text}' of a datum: {error}") from error
    return stamp // STAMP_FACTOR if stamp > LAST_ROS_SECOND * 10**9 else stamp
