"""Samples as files: decoded, resized and projected once, so that a training step does none of it again."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from fsmde_ros.errors import SourceError
from fsmde_ros.rig import Camera, Rig
from training.batch import Sample
from training.moments import Moments

FORMAT = 6  # to be raised when the files change their meaning, or ``NetworkView`` what an input is


def save_sample(path: Path, sample: Sample) -> None:
    """Write a sample as uncompressed npz: dense depth, where there is any, as float16, which keeps it to 0.05 %.

    The file appears whole or not at all.
    """
    arrays: dict[str, Any] = {
        "images": sample.images,
        "present": sample.present,
        "lidar": sample.lidar,
        "intrinsics": sample.rig.intrinsics(),
        "camera_to_vehicle": sample.rig.camera_to_vehicle(),
        "vehicle_to_common": sample.vehicle_to_common,
        "ground_z": np.float64(sample.rig.ground_z),
        "names": np.array(sample.rig.names),
    }
    if not sample.usable.all():
        arrays["usable"] = sample.usable
    if has_dense_depth(sample):
        arrays["dense_depth"] = sample.dense_depth.astype(np.float16)
    if sample.moments is not None:  # the first moment is that of the images
        arrays["other_images"] = sample.moments.images[:, 1]
        arrays["motion"] = sample.moments.motion
        arrays["has_moments"] = sample.moments.known
    scratch = path.with_name(f".{path.name}-{os.getpid()}-{threading.get_ident()}")
    with scratch.open("wb") as file:
        np.savez(file, **arrays)
    os.replace(scratch, path)


def load_sample(path: Path) -> Sample:
    """Read a sample of ``save_sample``; raises SourceError where the file cannot be read."""
    with _opened(path) as file:
        return _sample({name: file[name] for name in file.files})


def _sample(data: Mapping[str, Any]) -> Sample:
    moments = None
    if "motion" in data:
        both = np.stack([data["images"], data["other_images"]], axis=1)
        moments = Moments(both, data["motion"], data["has_moments"])
    nothing = np.full(data["images"].shape[:3], np.nan, dtype=np.float32)
    return Sample(
        rig=_rig(data, data["images"].shape[1:3]),
        images=data["images"],
        present=data["present"],
        lidar=data["lidar"],
        dense_depth=data["dense_depth"].astype(np.float32) if "dense_depth" in data else nothing,
        teacher_disparity=nothing,
        usable=data["usable"] if "usable" in data else np.ones(data["images"].shape[:3], dtype=np.bool_),
        vehicle_to_common=data["vehicle_to_common"],
        moments=moments,
    )


def load_rig(path: Path) -> Rig:
    """The rig of a file of ``save_sample``, without reading its images; raises SourceError as ``load_sample`` does."""
    with _opened(path) as file:
        _, height, width, _ = _shape(file, "images")
        return _rig(file, (height, width))


def has_lidar(path: Path) -> bool:
    """Whether a file of ``save_sample`` has any LiDAR point; raises SourceError where it cannot be read."""
    with _opened(path) as file:
        return _shape(file, "lidar")[0] > 0


def _shape(file: Any, name: str) -> tuple[int, ...]:
    """Shape of an array of an open file, which is not read."""
    with file.zip.open(f"{name}.npy") as array:
        np.lib.format.read_magic(array)  # type: ignore[no-untyped-call]  # the stubs of numpy 1.26 lack both
        shape: tuple[int, ...] = np.lib.format.read_array_header_1_0(array)[0]  # type: ignore[no-untyped-call]
    return shape


def has_moments(path: Path) -> bool:
    """Whether a file of ``save_sample`` has a second moment; raises SourceError where it cannot be read."""
    return "motion" in _arrays(path)


def stores_dense_depth(path: Path) -> bool:
    """``has_dense_depth`` of a file of ``save_sample``, without reading it; raises SourceError as ``has_moments``."""
    return "dense_depth" in _arrays(path)


def _arrays(path: Path) -> list[str]:
    with _opened(path) as file:
        return list(file.files)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            yield file
    except (OSError, ValueError, EOFError, KeyError, BadZipFile) as error:
        raise SourceError(f"cached sweep {path} cannot be read ({error}); delete its folder to remake it") from error


def _rig(data: Mapping[str, Any], size: tuple[int, int]) -> Rig:
    cameras = tuple(
        Camera(str(name), size, intrinsics, camera_to_vehicle)
        for name, intrinsics, camera_to_vehicle in zip(
            data["names"], data["intrinsics"], data["camera_to_vehicle"], strict=True
        )
    )
    return Rig(cameras, ground_z=float(data["ground_z"]))


def has_dense_depth(sample: Sample) -> bool:
    """Whether anything is known of a sample's depth beside the LiDAR."""
    return not bool(np.isnan(sample.dense_depth).all())
