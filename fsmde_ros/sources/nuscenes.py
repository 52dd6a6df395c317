"""Drives in the nuScenes schema as sweeps, read through nuscenes-devkit.

Any version (mini, trainval, test) opens. Names are lower-case (``cam_front``, ``lidar_top``). The
vehicle frame is that of nuScenes: its origin lies on the ground below the rear axle, so
``ground_z`` is 0. Every image and every scan has the pose of its own ``sample_data`` row. Images
of nuScenes are rectified.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.errors import SourceError
from fsmde_ros.geometry import transform
from fsmde_ros.pose_track import PoseTrack
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.sources.accumulated_lidar import ObjectTrack, accumulate
from fsmde_ros.sources.dataset_files import path_inside, pose_from_table, read_bytes, read_image
from fsmde_ros.sources.grouping import group_frames, nearest
from fsmde_ros.sources.nuscenes_tables import open_tables
from fsmde_ros.sweep import LidarScan, Sweep, View

if TYPE_CHECKING:
    from nuscenes.nuscenes import NuScenes

Row = Mapping[str, Any]
Mount = tuple[str, int, int]
"""Token of the calibrated_sensor, height and width of its images in pixels."""

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT")
"""Order of the cameras in the rig: clockwise. Others follow in the order of their names."""
ANCHOR, LIDAR = "CAM_FRONT", "LIDAR_TOP"
POINT_VALUES = 5  # of a LiDAR file: x, y, z, intensity, ring
LIDAR_LIMIT_NS = 100_000_000  # two turns of the LiDAR: a scan further off shows another moment


class NuScenesDrives:
    """The scenes of one version of a nuScenes dataset, as sweeps."""

    def __init__(self, root: Path | str, version: str | None = None) -> None:
        """Load the tables (minutes for trainval).

        Args:
            root: folder with ``samples`` and the tables' folder ``v1.0-*``.
            version: name of the tables' folder; may be left out where there is only one.

        Raises:
            SourceError: the devkit is not installed, there is no such dataset, or its tables are
                damaged.
        """
        self.root = Path(root)
        self._tables: NuScenes = open_tables(self.root, version)
        self.tables = self.root / self._tables.version  # the folder of the tables
        self._rig = lru_cache(maxsize=64)(self._make_rig)
        self._mounts = lru_cache(maxsize=64)(self._make_mounts)
        self._tracks = lru_cache(maxsize=4)(self._make_tracks)

    @property
    def scenes(self) -> tuple[str, ...]:
        """Names of the scenes, in the order of the table."""
        return tuple(scene["name"] for scene in self._tables.scene)

    def keyframes(self, scene: str | None = None, samples: tuple[int | None, int | None] | None = None) -> list[Row]:
        """Rows of table ``sample``: of one scene or all, in order, then cut to a range of indices.

        Raises SourceError for a scene that is not there and for a range without samples.
        """
        if scene is not None and scene not in self.scenes:
            raise SourceError(f"{self.root}: no scene '{scene}'; it has {', '.join(self.scenes)}")
        rows: list[Row] = []
        for record in self._tables.scene:
            if scene is None or record["name"] == scene:
                rows += self._chain(record)
        chosen = rows if samples is None else rows[slice(*samples)]
        if not chosen:
            raise SourceError(f"{self.root}: no samples in the range {samples}; there are {len(rows)}")
        return chosen

    def keyframe(self, token: str) -> Row:
        """Row of table ``sample`` with this token; SourceError where there is none."""
        try:
            row: Row = self._tables.get("sample", token)
        except KeyError as error:
            raise SourceError(
                f"{self.root}: no sample '{token}' among {len(self._tables.sample)}; is it of another version?"
            ) from error
        return row

    def scene_names(self, keyframes: Sequence[Row]) -> tuple[str, ...]:
        """Names of the scenes that the keyframes belong to, each once."""
        return tuple(dict.fromkeys(self._get("scene", row["scene_token"])["name"] for row in keyframes))

    def sweep(self, keyframe: Row, lidar_sweeps: int = 1) -> Sweep:
        """The sweep of a row of table ``sample``, with its stamp that of the front camera.

        With ``lidar_sweeps`` above 1 the LiDAR scan has the points of that many turns, the nearest in time of
        the same scene; see ``accumulated_lidar``. A dataset without the folder ``sweeps`` has single turns, one
        without annotations cannot have more: SourceError.
        """
        data = {channel: self._get("sample_data", token) for channel, token in keyframe["data"].items()}
        cameras = {name: row for name, row in data.items() if row["sensor_modality"] == "camera"}
        if not cameras:
            raise SourceError(f"{self.root}: sample {keyframe['token']} has no camera image")
        reference = cameras.get(ANCHOR, next(iter(cameras.values())))
        sweep = self._sweep(keyframe["scene_token"], _stamp_ns(reference), cameras, data.get(LIDAR))
        if lidar_sweeps < 2 or sweep.lidar is None or not (self.root / "sweeps").is_dir():
            return sweep
        if not self._tables.sample_annotation:
            raise SourceError(
                f"{self.root}: table sample_annotation is empty (the test split has none): nobody knows what moved "
                "between the turns of the LiDAR; take single ones (lidar_sweeps=1)"
            )
        turns = [self._scan(row) for row in self._turns_around(keyframe, data[LIDAR], lidar_sweeps - 1)]
        return replace(sweep, lidar=accumulate(sweep.lidar, turns, self._tracks(keyframe["scene_token"])))

    def all_frames(self, keyframes: Sequence[Row]) -> Iterator[Sweep]:
        """Every sweep of the cameras (12 Hz) that belongs to the keyframes, scene by scene.

        Frames are grouped by their stamps; the LiDAR scan is the nearest one (20 Hz). A dataset
        without the folder ``sweeps`` has only its keyframes.
        """
        for scene in dict.fromkeys(row["scene_token"] for row in keyframes):
            tokens = {row["token"] for row in keyframes if row["scene_token"] == scene}
            channels = self._channels(tokens)
            lidar = channels.pop(LIDAR, [])
            scan_stamps = [_stamp_ns(row) for row in lidar]
            for group in group_frames({name: [_stamp_ns(r) for r in rows] for name, rows in channels.items()}, ANCHOR):
                scan = nearest(scan_stamps, group.stamp_ns, LIDAR_LIMIT_NS)
                views = {name: channels[name][index] for name, index in group.frames.items()}
                yield self._sweep(scene, group.stamp_ns, views, None if scan is None else lidar[scan])

    def count_frames(self, keyframes: Sequence[Row]) -> int:
        """Most frames that one camera has around the keyframes: about the number of all sweeps."""
        channels = self._channels({row["token"] for row in keyframes})
        return max((len(rows) for name, rows in channels.items() if name != LIDAR), default=0)

    def _turns_around(self, keyframe: Row, turn: Row, count: int) -> list[Row]:
        """The ``count`` other turns of the LiDAR nearest in time, within the time that is annotated."""
        key_stamps = [_stamp_ns(row) for row in self._chain(self._get("scene", keyframe["scene_token"]))]
        found: list[Row] = []
        for link in ("prev", "next"):
            row = turn
            for _ in range(count):
                row = self._get("sample_data", row[link]) if row[link] else {}
                if not row or not min(key_stamps) <= _stamp_ns(row) <= max(key_stamps):
                    break
                found.append(row)
        return sorted(found, key=lambda row: abs(_stamp_ns(row) - _stamp_ns(turn)))[:count]

    def _make_tracks(self, scene: str) -> list[ObjectTrack]:
        """All annotated objects of a scene."""
        tracks: dict[str, ObjectTrack] = {}
        for sample in self._chain(self._get("scene", scene)):
            for token in sample["anns"]:
                row = self._get("sample_annotation", token)
                width, length, height = row["size"]
                track = tracks.setdefault(
                    row["instance_token"], ObjectTrack(np.array([length, width, height]), PoseTrack())
                )
                track.box_to_map.add(_stamp_ns(sample), self._pose("sample_annotation", token))
        return list(tracks.values())

    def _channels(self, sample_tokens: set[str]) -> dict[str, list[Row]]:
        """Rows of cameras and LiDAR that belong to the samples, by channel, in the order of time."""
        channels: dict[str, list[Row]] = {}
        between = (self.root / "sweeps").is_dir()
        for row in self._tables.sample_data:
            is_ours = row["sensor_modality"] == "camera" or row["channel"] == LIDAR
            if is_ours and (between or row["is_key_frame"]) and row["sample_token"] in sample_tokens:
                channels.setdefault(row["channel"], []).append(row)
        return {name: sorted(rows, key=_stamp_ns) for name, rows in channels.items()}

    def _chain(self, scene: Row) -> list[Row]:
        rows: list[Row] = []
        token = scene["first_sample_token"]
        while token:
            rows.append(self._get("sample", token))
            token = rows[-1]["next"]
            if len(rows) > len(self._tables.sample):
                raise SourceError(f"{self.root}: table sample: the 'next' of scene '{scene['name']}' runs in a circle")
        return rows

    def _get(self, table: str, token: str) -> dict[str, Any]:
        try:
            return self._tables.get(table, token)
        except KeyError as error:
            raise SourceError(
                f"{self.root}: table {table} has no '{token}', which another table names; copy the tables anew"
            ) from error

    def _sweep(self, scene: str, stamp_ns: int, cameras: Mapping[str, Row], lidar: Row | None) -> Sweep:
        try:
            mounts = {**self._mounts(scene), **{name: _mount(row) for name, row in cameras.items()}}
            return Sweep(
                rig=self._rig(tuple(sorted(mounts.items(), key=_rig_order))),
                stamp_ns=stamp_ns,
                views={name.lower(): self._view(row) for name, row in cameras.items()},
                lidar=None if lidar is None else self._scan(lidar),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SourceError(f"{self.root}: a table has a row with a missing or wrong field: {error!r}") from error

    def _make_mounts(self, scene: str) -> dict[str, Mount]:
        """Cameras of a scene, so that a sweep without one of them still knows it."""
        record = self._get("scene", scene)
        rows = [self._get("sample_data", token) for sample in self._chain(record) for token in sample["data"].values()]
        return {row["channel"]: _mount(row) for row in reversed(rows) if row["sensor_modality"] == "camera"}

    def _make_rig(self, mounts: tuple[tuple[str, Mount], ...]) -> Rig:
        cameras = []
        for channel, (token, height, width) in mounts:
            intrinsics = self._get("calibrated_sensor", token)["camera_intrinsic"]
            cameras.append(Camera(channel.lower(), (height, width), intrinsics, self._pose("calibrated_sensor", token)))
        return Rig(tuple(cameras))

    def _pose(self, table: str, token: str) -> NDArray[np.float64]:
        row = self._get(table, token)
        return pose_from_table(row["rotation"], row["translation"], f"{self.root}: table {table}, row {token}")

    def _view(self, row: Row) -> View:
        path = path_inside(self.root, row["filename"], f"{self.root}: table sample_data, row {row['token']}")
        image = read_image(path, (row["height"], row["width"]))
        return View(image, _stamp_ns(row), self._pose("ego_pose", row["ego_pose_token"]))

    def _scan(self, row: Row) -> LidarScan:
        path = path_inside(self.root, row["filename"], f"{self.root}: table sample_data, row {row['token']}")
        data = read_bytes(path)
        if len(data) % (POINT_VALUES * 4):
            raise SourceError(
                f"{path}: {len(data)} bytes are no whole number of points of {POINT_VALUES} float32; copy it anew"
            )
        points = np.frombuffer(data, dtype="<f4").reshape(-1, POINT_VALUES)
        points = points[np.isfinite(points).all(axis=1)]
        sensor_to_vehicle = self._pose("calibrated_sensor", row["calibrated_sensor_token"])
        return LidarScan(
            points_vehicle=transform(sensor_to_vehicle, points[:, :3]),
            stamp_ns=_stamp_ns(row),
            intensity=np.ascontiguousarray(points[:, 3]),
            ring=points[:, 4].astype(np.int32),
            vehicle_to_map=self._pose("ego_pose", row["ego_pose_token"]),
            sensor_to_vehicle=sensor_to_vehicle,
            name=LIDAR.lower(),
        )


def sweeps(
    root: Path | str,
    version: str | None = None,
    scene: str | None = None,
    samples: tuple[int | None, int | None] | None = None,
    all_frames: bool = False,
) -> Iterator[Sweep]:
    """Sweeps of a nuScenes dataset, in the order of its scenes.

    Args:
        root: folder with ``samples`` and ``v1.0-*``.
        version: name of the tables' folder; may be left out where there is only one.
        scene: name of one scene; all by default.
        samples: range of keyframes (start, stop) within the scene or within all, as in a slice.
        all_frames: also the frames between the keyframes (12 Hz), with the nearest LiDAR scan.

    Raises:
        SourceError: see ``NuScenesDrives``; also, while iterating, a file that is missing,
            truncated, or named outside ``root``.
    """
    drives = NuScenesDrives(root, version)
    keyframes = drives.keyframes(scene, samples)
    return drives.all_frames(keyframes) if all_frames else map(drives.sweep, keyframes)


def _stamp_ns(row: Row) -> int:
    stamp = row["timestamp"]
    if not isinstance(stamp, int):
        raise SourceError(f"table sample_data, row {row['token']}: timestamp {stamp!r}, expected whole microseconds")
    return stamp * 1000


def _mount(row: Row) -> Mount:
    return row["calibrated_sensor_token"], row["height"], row["width"]


def _rig_order(mount: tuple[str, Mount]) -> tuple[int, str]:
    channel = mount[0]
    return (CAMERAS.index(channel) if channel in CAMERAS else len(CAMERAS)), channel
