"""Rigs as YAML files: what a vehicle's calibration looks like on disk.

The file has the fields of ``Rig`` and ``Camera`` under their own names; ``config/example_rig.yaml``
explains them, ``config/rig.schema.json`` lists them for editors. ``size`` is spelt ``width`` and
``height`` as in CameraInfo, ``intrinsics`` is row-major, ``camera_to_vehicle`` is a translation in
metres and a unit quaternion (w, x, y, z).
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from fsmde_ros.errors import RigError
from fsmde_ros.geometry import quaternion_from_rotation, rigid
from fsmde_ros.rig import VEHICLE_FRAME, Camera, Rig, distortion_of_info

MAX_BYTES = 100_000  # a camera takes about 600; PyYAML takes seconds for this much
MAX_SIDE = 65_535  # pixels; also the limit of JPEG

_RIG_FIELDS = ("vehicle_frame", "ground_z", "cameras", "lidars")
_CAMERA_FIELDS = ("name", "width", "height", "intrinsics", "distortion_model", "distortion", "frame", "self_occlusion")
_LIDAR_FIELDS = ("frame", "lidar_to_vehicle")
_POSE_FIELDS = ("translation", "rotation_wxyz")


def read_rig(path: Path | str) -> Rig:
    """Read a rig file.

    Raises:
        RigError: the file cannot be read, is larger than ``MAX_BYTES``, is no YAML, or a field is
            missing, unknown or wrong; the message names the file and the field.
    """
    content = _read(Path(path))
    try:
        return rig_from_mapping(content)
    except RigError as error:
        raise RigError(f"{path}: {error}") from error


def read_lidars(path: Path | str) -> dict[str, NDArray[np.float64]]:
    """``lidar_to_vehicle`` [4, 4] by frame, from the optional section ``lidars`` of a rig file.

    Who compares depth with a LiDAR needs it where there is no TF. Raises RigError as ``read_rig``.
    """
    content = _read(Path(path))
    try:
        fields = _mapping(content, "the rig file", _RIG_FIELDS, required=())
        return _lidars(fields.get("lidars", []))
    except RigError as error:
        raise RigError(f"{path}: {error}") from error


def _read(path: Path) -> object:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise RigError(f"{path}: the rig file cannot be read: {error.strerror}; rig_from_bag writes one") from error
    if len(text) > MAX_BYTES:
        raise RigError(f"{path}: larger than {MAX_BYTES} bytes, expected a rig file; rig_from_bag writes one")
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RigError(f"{path}: not a YAML file: {error}") from error


def write_rig(rig: Rig, path: Path | str, lidars: Mapping[str, NDArray[np.float64]] | None = None) -> None:
    """Write a rig file that ``read_rig`` reads back: numbers exactly, rotations to 1e-14.

    ``lidars``: ``lidar_to_vehicle`` [4, 4] by frame, for ``read_lidars``. The file is there as a
    whole or not at all. Raises RigError where it cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(yaml.dump(rig_to_mapping(rig, lidars), Dumper=_Dumper, sort_keys=False, width=200))
        temporary.replace(path)
    except OSError as error:
        raise RigError(f"{path}: the rig file cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):  # a read-only file system refuses even where there is nothing to remove
            temporary.unlink(missing_ok=True)


def rig_to_mapping(rig: Rig, lidars: Mapping[str, NDArray[np.float64]] | None = None) -> dict[str, Any]:
    """The content of a rig file, as plain numbers, strings, lists and dicts."""
    cameras = [_camera_to_mapping(camera) for camera in rig.cameras]
    content = {"vehicle_frame": rig.vehicle_frame, "ground_z": rig.ground_z, "cameras": cameras}
    if lidars:
        content["lidars"] = [
            {"frame": frame, "lidar_to_vehicle": _pose_to_mapping(pose)} for frame, pose in lidars.items()
        ]
    return content


def _camera_to_mapping(camera: Camera) -> dict[str, Any]:
    content = {
        "name": camera.name,
        "width": camera.size[1],
        "height": camera.size[0],
        "intrinsics": camera.intrinsics.ravel().tolist(),
        "distortion_model": camera.distortion_model,
        "distortion": camera.distortion.tolist(),
        "frame": camera.frame,
        "camera_to_vehicle": _pose_to_mapping(camera.camera_to_vehicle),
    }
    if camera.self_occlusion:
        content["self_occlusion"] = [outline.tolist() for outline in camera.self_occlusion]
    return content


def _pose_to_mapping(pose: NDArray[np.float64]) -> dict[str, Any]:
    return {"translation": pose[:3, 3].tolist(), "rotation_wxyz": quaternion_from_rotation(pose[:3, :3]).tolist()}


def rig_from_mapping(content: object) -> Rig:
    """The rig of the content of a rig file.

    Raises RigError that names the field, such as ``cameras[2].intrinsics: expected 9 numbers, got 8``.
    """
    fields = _mapping(content, "the rig file", _RIG_FIELDS, required=("cameras",))
    _lidars(fields.get("lidars", []))
    cameras = fields["cameras"]
    if not isinstance(cameras, list) or not cameras:
        raise RigError(f"cameras: expected a list of at least one camera, got {reprlib.repr(cameras)}")
    return Rig(
        cameras=tuple(_camera(camera, f"cameras[{i}]") for i, camera in enumerate(cameras)),
        vehicle_frame=_text(fields.get("vehicle_frame", VEHICLE_FRAME), "vehicle_frame"),
        ground_z=_number(fields.get("ground_z", 0.0), "ground_z"),
    )


def _camera(content: object, where: str) -> Camera:
    required = ("name", "width", "height", "intrinsics", "camera_to_vehicle")
    fields = _mapping(content, where, (*_CAMERA_FIELDS, "camera_to_vehicle"), required)
    camera_to_vehicle = _pose(fields["camera_to_vehicle"], f"{where}.camera_to_vehicle")
    name = _text(fields["name"], f"{where}.name")
    model, distortion = distortion_of_info(
        _text(fields.get("distortion_model", "none"), f"{where}.distortion_model"),
        _numbers(fields.get("distortion", []), f"{where}.distortion"),
    )
    try:
        return Camera(
            name=name,
            size=(_side(fields["height"], f"{where}.height"), _side(fields["width"], f"{where}.width")),
            intrinsics=np.reshape(_numbers(fields["intrinsics"], f"{where}.intrinsics", 9), (3, 3)),
            camera_to_vehicle=camera_to_vehicle,
            distortion=distortion,
            distortion_model=model,
            frame=_text(fields.get("frame", name), f"{where}.frame"),
            self_occlusion=_outlines(fields.get("self_occlusion", []), f"{where}.self_occlusion"),
        )
    except RigError as error:
        message = str(error)
        raise RigError(message if message.startswith(where) else f"{where}: {message}") from error


def _outlines(content: object, where: str) -> tuple[NDArray[np.float64], ...]:
    if not isinstance(content, list):
        raise RigError(f"{where}: expected a list of polygons, got {reprlib.repr(content)}")
    outlines = []
    for i, polygon in enumerate(content):
        if not isinstance(polygon, list) or len(polygon) < 3:
            raise RigError(f"{where}[{i}]: expected a list of at least 3 pixels [x, y], got {reprlib.repr(polygon)}")
        pixels = [_numbers(pixel, f"{where}[{i}][{j}]", 2) for j, pixel in enumerate(polygon)]
        outlines.append(np.array(pixels))
    return tuple(outlines)


def _lidars(content: object) -> dict[str, NDArray[np.float64]]:
    if not isinstance(content, list):
        raise RigError(f"lidars: expected a list, got {reprlib.repr(content)}")
    lidars: dict[str, NDArray[np.float64]] = {}
    for i, lidar in enumerate(content):
        fields = _mapping(lidar, f"lidars[{i}]", _LIDAR_FIELDS, _LIDAR_FIELDS)
        frame = _text(fields["frame"], f"lidars[{i}].frame").lstrip("/")  # a slash, as ROS 1 wrote it, does not count
        if frame in lidars:
            raise RigError(f"lidars[{i}].frame: '{frame}' is there twice, expected each LiDAR once")
        lidars[frame] = _pose(fields["lidar_to_vehicle"], f"lidars[{i}].lidar_to_vehicle")
    return lidars


def _pose(content: object, where: str) -> NDArray[np.float64]:
    pose = _mapping(content, where, _POSE_FIELDS, _POSE_FIELDS)
    translation = _numbers(pose["translation"], f"{where}.translation", 3)
    rotation_wxyz = _numbers(pose["rotation_wxyz"], f"{where}.rotation_wxyz", 4)
    if not 0.99 < float(np.linalg.norm(rotation_wxyz)) < 1.01:
        raise RigError(f"{where}.rotation_wxyz: expected a unit quaternion (w, x, y, z), got {rotation_wxyz}")
    return rigid(rotation_wxyz, translation)


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
