"""Rigs as YAML files: what a vehicle's calibration looks like on disk.

The file has the fields of ``Rig`` and ``Camera`` under their own names; ``docs`` and the README
show one. ``size`` is spelt ``width`` and ``height`` as in CameraInfo, ``intrinsics`` is row-major,
``camera_to_vehicle`` is a translation in metres and a unit quaternion (w, x, y, z).
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fsmde_ros.errors import RigError
from fsmde_ros.geometry import quaternion_from_rotation, rigid
from fsmde_ros.rig import Camera, Rig

MAX_BYTES = 1_000_000  # a camera takes about 600
MAX_SIDE = 65_535  # pixels; also the limit of JPEG

_RIG_FIELDS = ("vehicle_frame", "ground_z", "cameras")
_CAMERA_FIELDS = ("name", "width", "height", "intrinsics", "distortion_model", "distortion", "frame")
_POSE_FIELDS = ("translation", "rotation_wxyz")


def read_rig(path: Path | str) -> Rig:
    """Read a rig file.

    Raises:
        RigError: the file cannot be read, is larger than ``MAX_BYTES``, is no YAML, or a field is
            missing, unknown or wrong; the message names the file and the field.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise RigError(f"{path}: the rig file cannot be read: {error.strerror}; rig_from_bag writes one") from error
    if len(text) > MAX_BYTES:
        raise RigError(f"{path}: larger than {MAX_BYTES} bytes, expected a rig file; rig_from_bag writes one")
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RigError(f"{path}: not a YAML file: {error}") from error
    try:
        return rig_from_mapping(content)
    except RigError as error:
        raise RigError(f"{path}: {error}") from error


def write_rig(rig: Rig, path: Path | str) -> None:
    """Write a rig file that ``read_rig`` reads back: numbers exactly, rotations to 1e-14.

    The file is there as a whole or not at all. Raises RigError where it cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(yaml.dump(rig_to_mapping(rig), Dumper=_Dumper, sort_keys=False, width=200))
        temporary.replace(path)
    except OSError as error:
        raise RigError(f"{path}: the rig file cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def rig_to_mapping(rig: Rig) -> dict[str, Any]:
    """The content of a rig file, as plain numbers, strings, lists and dicts."""
    cameras = [
        {
            "name": camera.name,
            "width": camera.size[1],
            "height": camera.size[0],
            "intrinsics": camera.intrinsics.ravel().tolist(),
            "distortion_model": camera.distortion_model,
            "distortion": camera.distortion.tolist(),
            "frame": camera.frame,
            "camera_to_vehicle": {
                "translation": camera.camera_to_vehicle[:3, 3].tolist(),
                "rotation_wxyz": quaternion_from_rotation(camera.camera_to_vehicle[:3, :3]).tolist(),
            },
        }
        for camera in rig.cameras
    ]
    return {"vehicle_frame": rig.vehicle_frame, "ground_z": rig.ground_z, "cameras": cameras}


def rig_from_mapping(content: object) -> Rig:
    """The rig of the content of a rig file.

    Raises RigError that names the field, such as ``cameras[2].intrinsics: expected 9 numbers, got 8``.
    """
    fields = _mapping(content, "the rig file", _RIG_FIELDS, required=("cameras",))
    cameras = fields["cameras"]
    if not isinstance(cameras, list) or not cameras:
        raise RigError(f"cameras: expected a list of at least one camera, got {reprlib.repr(cameras)}")
    return Rig(
        cameras=tuple(_camera(camera, f"cameras[{i}]") for i, camera in enumerate(cameras)),
        vehicle_frame=_text(fields.get("vehicle_frame", "base_link"), "vehicle_frame"),
        ground_z=_number(fields.get("ground_z", 0.0), "ground_z"),
    )


def _camera(content: object, where: str) -> Camera:
    required = ("name", "width", "height", "intrinsics", "camera_to_vehicle")
    fields = _mapping(content, where, (*_CAMERA_FIELDS, "camera_to_vehicle"), required)
    pose_where = f"{where}.camera_to_vehicle"
    pose = _mapping(fields["camera_to_vehicle"], pose_where, _POSE_FIELDS, _POSE_FIELDS)
    translation = _numbers(pose["translation"], f"{pose_where}.translation", 3)
    rotation_wxyz = _numbers(pose["rotation_wxyz"], f"{pose_where}.rotation_wxyz", 4)
    if not 0.99 < float(np.linalg.norm(rotation_wxyz)) < 1.01:
        raise RigError(f"{pose_where}.rotation_wxyz: expected a unit quaternion (w, x, y, z), got {rotation_wxyz}")
    name = _text(fields["name"], f"{where}.name")
    try:
        return Camera(
            name=name,
            size=(_side(fields["height"], f"{where}.height"), _side(fields["width"], f"{where}.width")),
            intrinsics=np.reshape(_numbers(fields["intrinsics"], f"{where}.intrinsics", 9), (3, 3)),
            camera_to_vehicle=rigid(rotation_wxyz, translation),
            distortion=np.array(_numbers(fields.get("distortion", []), f"{where}.distortion")),
            distortion_model=_text(fields.get("distortion_model", "none"), f"{where}.distortion_model"),
            frame=_text(fields.get("frame", name), f"{where}.frame"),
        )
    except RigError as error:
        message = str(error)
        raise RigError(message if message.startswith(where) else f"{where}: {message}") from error


def _mapping(content: object, where: str, known: Collection[str], required: Collection[str]) -> Mapping[str, Any]:
    if not isinstance(content, dict):
        raise RigError(f"{where}: expected a mapping with {', '.join(known)}, got {reprlib.repr(content)}")
    for key in content:
        if key not in known:
            raise RigError(f"{where}: unknown field {reprlib.repr(key)}, expected {', '.join(known)}")
    for key in required:
        if key not in content:
            raise RigError(f"{where}: field '{key}' is missing")
    return content


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise RigError(f"{where}: expected a text, got {reprlib.repr(value)}")
    return value


def _side(value: object, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_SIDE:
        raise RigError(f"{where}: expected a whole number of pixels from 1 to {MAX_SIDE}, got {reprlib.repr(value)}")
    return value


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        # YAML 1.1 reads 1e-5, without the dot, as a text.
        raise RigError(f"{where}: expected a number (such as 1.0 or 1.0e-5), got {reprlib.repr(value)}")
    if not -1e300 < value < 1e300:
        raise RigError(f"{where}: expected a finite number, got {reprlib.repr(value)}")
    return float(value)


def _numbers(value: object, where: str, count: int | None = None) -> list[float]:
    expected = "a list of numbers" if count is None else f"{count} numbers"
    if not isinstance(value, list):
        raise RigError(f"{where}: expected {expected}, got {reprlib.repr(value)}")
    if count is not None and len(value) != count:
        raise RigError(f"{where}: expected {expected}, got {len(value)}")
    return [_number(number, f"{where}[{i}]") for i, number in enumerate(value)]


class _Dumper(yaml.SafeDumper):
    """Lists of numbers on one line, everything else in block style."""


def _represent_list(dumper: yaml.SafeDumper, values: list[Any]) -> yaml.Node:
    plain = not any(isinstance(value, dict) for value in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=plain)


_Dumper.add_representer(list, _represent_list)
