"""The tables of a drive in the nuScenes schema: rows, links, tokens and names of files.

Key frames (2 Hz) lie under ``samples/``, the frames and turns between them under ``sweeps/``;
every file has a row in ``sample_data`` with its own ego pose, linked with the row before and after
of the same sensor. Tokens are hashes of names, so they follow from the drive.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.geometry import quaternion_from_rotation
from training.town.annotations import CATEGORIES, MOVING, STANDING, moving_boxes
from training.town.drive import TownDrive

Row = dict[str, Any]

LIDAR_CHANNEL = "LIDAR_TOP"
KEYFRAME_RATE_HZ = 2.0


def nuscenes_tables(drive: TownDrive) -> dict[str, list[Row]]:
    """All tables of the schema, by name."""
    data = sample_data(drive)
    samples = _samples(drive)
    scene = _token(drive, "scene")
    log = _token(drive, "log")
    boxes = _sample_annotations(drive)
    return {
        "log": [
            {
                "token": log,
                "logfile": _log_name(drive),
                "vehicle": "town",
                "date_captured": "2020-01-01",
                "location": "town",
            }
        ],
        "map": [
            {
                "token": _token(drive, "map"),
                "category": "semantic_prior",
                "filename": "maps/blank.png",
                "log_tokens": [log],
            }
        ],
        "scene": [
            {
                "token": scene,
                "log_token": log,
                "nbr_samples": len(samples),
                "name": f"town-{drive.seed:04d}",
                "description": "A drive through a procedural town",
                "first_sample_token": samples[0]["token"],
                "last_sample_token": samples[-1]["token"],
            }
        ],
        "sample": samples,
        "sample_data": data,
        "ego_pose": [_ego_pose(drive, row) for row in data],
        "sensor": _sensors(drive),
        "calibrated_sensor": _calibrated_sensors(drive),
        "category": _named(drive, "category", CATEGORIES),
        "attribute": _named(drive, "attribute", (MOVING, STANDING)),
        "visibility": [
            {"token": str(i + 1), "level": level, "description": f"visibility of whole object is {level[1:]} %"}
            for i, level in enumerate(("v0-40", "v40-60", "v60-80", "v80-100"))
        ],
        "instance": _instances(drive, boxes),
        "sample_annotation": boxes,
    }


def sample_data(drive: TownDrive) -> list[Row]:
    """Rows of all files, sensor by sensor in the order of time, linked."""
    turns = [(k, drive.scan_stamp_ns(k)) for k in range(drive.scan_count)]
    rows = _channel_rows(drive, LIDAR_CHANNEL, turns, (0, 0))
    stamps = [drive.view_stamps_ns(i) for i in range(len(drive))]
    for camera in drive.rig.cameras:
        frames = [(i, stamps[i][camera.name]) for i in range(len(drive))]
        rows += _channel_rows(drive, camera.name.upper(), frames, camera.size)
    return rows


def _channel_rows(drive: TownDrive, channel: str, frames: list[tuple[int, int]], size: tuple[int, int]) -> list[Row]:
    tokens = ["", *(_token(drive, "data", channel, index) for index, _ in frames), ""]
    keys = _key_sweeps(drive)
    key_stamps = np.array([drive.scan_stamp_ns(drive.scan_index(i)) for i in keys])
    rows = []
    for n, (index, stamp_ns) in enumerate(frames):
        nearest = keys[int(np.argmin(np.abs(key_stamps - stamp_ns)))]
        rows.append(
            {
                "token": tokens[n + 1],
                "sample_token": _token(drive, "sample", nearest),
                "ego_pose_token": tokens[n + 1],
                "calibrated_sensor_token": _token(drive, "calibration", channel),
                "timestamp": stamp_ns // 1000,
                "fileformat": "pcd" if channel == LIDAR_CHANNEL else "jpg",
                "is_key_frame": _is_key(drive, channel, index),
                "height": size[0],
                "width": size[1],
                "filename": filename(drive, channel, index),
                "prev": tokens[n],
                "next": tokens[n + 2],
            }
        )
    return rows


def _samples(drive: TownDrive) -> list[Row]:
    keys = _key_sweeps(drive)
    tokens = ["", *(_token(drive, "sample", i) for i in keys), ""]
    return [
        {
            "token": tokens[n + 1],
            "timestamp": drive.scan_stamp_ns(drive.scan_index(i)) // 1000,
            "prev": tokens[n],
            "next": tokens[n + 2],
            "scene_token": _token(drive, "scene"),
        }
        for n, i in enumerate(keys)
    ]


def _ego_pose(drive: TownDrive, row: Row) -> Row:
    pose = drive.vehicle_to_map(row["timestamp"] * 1000)
    return {
        "token": row["ego_pose_token"],
        "timestamp": row["timestamp"],
        "rotation": quaternion_from_rotation(pose[:3, :3]).tolist(),
        "translation": pose[:3, 3].tolist(),
    }


def _sensors(drive: TownDrive) -> list[Row]:
    channels = [(LIDAR_CHANNEL, "lidar"), *((name.upper(), "camera") for name in drive.rig.names)]
    return [{"token": _token(drive, "sensor", c), "channel": c, "modality": m} for c, m in channels]


def _calibrated_sensors(drive: TownDrive) -> list[Row]:
    mounts: list[tuple[str, NDArray[np.float64], list[list[float]]]] = [
        (LIDAR_CHANNEL, drive.lidar.sensor_to_vehicle, [])
    ]
    for camera in drive.rig.cameras:
        mounts.append((camera.name.upper(), camera.camera_to_vehicle, camera.intrinsics.tolist()))
    return [
        {
            "token": _token(drive, "calibration", channel),
            "sensor_token": _token(drive, "sensor", channel),
            "translation": sensor_to_vehicle[:3, 3].tolist(),
            "rotation": quaternion_from_rotation(sensor_to_vehicle[:3, :3]).tolist(),
            "camera_intrinsic": intrinsics,
        }
        for channel, sensor_to_vehicle, intrinsics in mounts
    ]


def _sample_annotations(drive: TownDrive) -> list[Row]:
    """Boxes of all that moves, instance by instance in the order of time, linked."""
    found = moving_boxes(drive, _key_sweeps(drive))
    rows = []
    for n, (mover, sweep, fields) in enumerate(found):
        before = n > 0 and found[n - 1][0] == mover
        after = n + 1 < len(found) and found[n + 1][0] == mover
        moves = drive.world.layout.movers[mover].speed != 0 or drive.world.layout.movers[mover].street is None
        rows.append(
            {
                "token": _token(drive, "annotation", mover, sweep),
                "sample_token": _token(drive, "sample", sweep),
                "instance_token": _token(drive, "instance", mover),
                "visibility_token": "",
                "attribute_tokens": [_token(drive, "attribute", MOVING if moves else STANDING)],
                **fields,
                "prev": _token(drive, "annotation", mover, found[n - 1][1]) if before else "",
                "next": _token(drive, "annotation", mover, found[n + 1][1]) if after else "",
            }
        )
    return rows


def _instances(drive: TownDrive, boxes: list[Row]) -> list[Row]:
    """One row for everything that has a box, with its first and last."""
    result = []
    for mover, thing in enumerate(drive.world.layout.movers):
        token = _token(drive, "instance", mover)
        own = [row["token"] for row in boxes if row["instance_token"] == token]
        if own:
            result.append(
                {
                    "token": token,
                    "category_token": _token(drive, "category", thing.category),
                    "nbr_annotations": len(own),
                    "first_annotation_token": own[0],
                    "last_annotation_token": own[-1],
                }
            )
    return result


def _named(drive: TownDrive, table: str, names: tuple[str, ...]) -> list[Row]:
    return [{"token": _token(drive, table, name), "name": name, "description": name} for name in names]


def _key_sweeps(drive: TownDrive) -> list[int]:
    """Sweeps that are key frames, evenly at about 2 Hz."""
    return list(range(0, len(drive), max(1, round(drive.camera_rate_hz / KEYFRAME_RATE_HZ))))


def _is_key(drive: TownDrive, channel: str, index: int) -> bool:
    keys = _key_sweeps(drive)
    return index in (map(drive.scan_index, keys) if channel == LIDAR_CHANNEL else keys)


def filename(drive: TownDrive, channel: str, index: int) -> str:
    """Path of frame or turn ``index`` of a sensor, relative to the root of the dataset."""
    if channel == LIDAR_CHANNEL:
        stamp_ns, ending = drive.scan_stamp_ns(index), "pcd.bin"
    else:
        stamp_ns, ending = drive.view_stamps_ns(index)[channel.lower()], "jpg"
    folder = "samples" if _is_key(drive, channel, index) else "sweeps"
    return f"{folder}/{channel}/{_log_name(drive)}__{channel}__{stamp_ns // 1000}.{ending}"


def _log_name(drive: TownDrive) -> str:
    return f"town{drive.seed:04d}-2020-01-01-00-00-00+0000"


def _token(drive: TownDrive, *key: str | int) -> str:
    """A token, 32 hexadecimal digits, of something in the drive."""
    return hashlib.md5(":".join(map(str, (_log_name(drive), *key))).encode(), usedforsecurity=False).hexdigest()
