"""Several turns of a LiDAR as one: what stands still stays, what moves comes along, what is hidden goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fsmde_ros.errors import SourceError
from fsmde_ros.geometry import invert, transform
from fsmde_ros.pose_track import PoseTrack
from fsmde_ros.sources.accumulated_lidar import ObjectTrack, accumulate, hidden
from fsmde_ros.sources.nuscenes import NuScenesDrives
from fsmde_ros.sweep import LidarScan, Sweep, lidar_in_view
from training.town.drive import nuscenes_drive
from training.town.nuscenes_writer import write_nuscenes

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "nuscenes"
STEP = 50_000_000


def at(x: float, yaw: float = 0.0, y: float = 0.0) -> np.ndarray:
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    pose[:2, 3] = x, y
    return pose


def scan(points_map: np.ndarray, vehicle_to_map: np.ndarray, stamp_ns: int) -> LidarScan:
    points = transform(invert(vehicle_to_map), points_map)
    count = len(points)
    return LidarScan(
        points, stamp_ns, np.full(count, 9.0, np.float32), np.arange(count, dtype=np.int32), vehicle_to_map
    )


def car(speed: float, stamps: tuple[int, ...] = (0, 10)) -> ObjectTrack:
    """A car of 4 x 2 x 1.6 m at (20 + speed t, 5, 0.8), with boxes at some steps."""
    track = PoseTrack()
    for step in stamps:
        pose = at(20 + speed * step * STEP / 1e9, y=5.0)
        pose[2, 3] = 0.8
        track.add(step * STEP, pose)
    return ObjectTrack(np.array([4.0, 2.0, 1.6]), track)


def test_points_that_stand_still_come_to_the_place_of_the_vehicle() -> None:
    wall = np.array([[12.0, 6.0, 1.0], [-3.0, -7.0, 2.0]])
    target = scan(np.array([[5.0, 0.0, 0.2]]), at(2.0, yaw=0.3), 4 * STEP)
    roof = wall + np.array([0, 0, 1])
    merged = accumulate(target, [scan(wall, at(0.0), 0), scan(roof, at(1.0, 0.1), 2 * STEP)], [])
    expected = transform(invert(at(2.0, yaw=0.3)), np.concatenate([[[5.0, 0.0, 0.2]], wall, roof]))
    np.testing.assert_allclose(merged.points_vehicle, expected, atol=1e-12)
    np.testing.assert_array_equal(merged.ring, [0, 0, 1, 0, 1])
    assert merged.intensity is not None
    assert (merged.stamp_ns, len(merged.intensity)) == (4 * STEP, 5)


def test_points_of_a_moving_car_are_where_the_car_is_now() -> None:
    speed = 10.0
    door, road = np.array([20.0, 4.0, 0.8]), np.array([20.0, -4.0, 0.0])
    target = scan(np.array([[1.0, 9.0, 0.0]]), at(0.0), 6 * STEP)
    merged = accumulate(target, [scan(np.stack([door, road]), at(0.0), 0)], [car(speed)])
    np.testing.assert_allclose(merged.points_vehicle[1], door + np.array([speed * 6 * STEP / 1e9, 0, 0]), atol=1e-9)
    np.testing.assert_allclose(merged.points_vehicle[2], road, atol=1e-9)


def test_points_of_a_car_that_is_not_annotated_now_are_dropped() -> None:
    door = np.array([[20.0, 4.0, 0.8], [20.0, -4.0, 0.0]])
    target = scan(np.zeros((0, 3)), at(0.0), 9 * STEP)
    merged = accumulate(target, [scan(door, at(0.0), 0)], [car(0.0, stamps=(0, 1))])
    np.testing.assert_allclose(merged.points_vehicle, door[1:], atol=1e-9)


def test_what_stands_behind_something_is_hidden() -> None:
    rays = np.array([[10.0, 0, 0], [11.0, 0, 0], [30.0, 0.0, 0], [30.0, 3.0, 0], [0, 8.0, 0]])
    np.testing.assert_array_equal(hidden(rays), [False, False, True, False, False])
    target = replace(scan(rays[2:3], at(0.0), 0), sensor_to_vehicle=np.eye(4))
    merged = accumulate(target, [scan(rays[[0, 3]], at(0.0), STEP)], [])
    np.testing.assert_array_equal(merged.points_vehicle, rays[[2, 0, 3]])  # the target's own points stay


def test_without_poses_there_is_nothing_to_put_together() -> None:
    target = scan(np.zeros((1, 3)), at(0.0), 0)
    with pytest.raises(SourceError, match="pose is known"):
        accumulate(target, [replace(target, vehicle_to_map=None)], [])


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> tuple[NuScenesDrives, list[dict[str, np.ndarray]]]:
    """Two key frames of a town drive in the schema of nuScenes, and their true depth."""
    drive = nuscenes_drive(3, (60, 104), duration_s=0.6, camera_rate_hz=10.0)
    root = write_nuscenes(drive, tmp_path_factory.mktemp("town") / "drive")
    return NuScenesDrives(root), [drive.dense_depth(0), drive.dense_depth(5)]


def wrong(sweep: Sweep, depth: dict[str, np.ndarray]) -> tuple[int, float]:
    """Number of points in the images, and the share that the true depth contradicts by more than 10 %."""
    ratios = []
    for name in sweep.present:
        pixels, found = lidar_in_view(sweep, name)
        x, y = np.rint(pixels).astype(int).T
        true = depth[name][y.clip(0, 59), x.clip(0, 103)]
        ratios.append((found / true)[np.isfinite(true)])
    ratio = np.concatenate(ratios)
    return len(ratio), float(np.mean(np.abs(np.log(ratio)) > np.log(1.1)))


def test_a_town_drive_has_more_points_and_they_are_true(
    town: tuple[NuScenesDrives, list[dict[str, np.ndarray]]],
) -> None:
    """Pixels at the edges of things contradict in every scan; putting scans together must not add to that."""
    drives, depths = town
    for keyframe, depth in zip(drives.keyframes(), depths, strict=True):
        single, many = drives.sweep(keyframe), drives.sweep(keyframe, lidar_sweeps=8)
        (few, single_wrong), (points, many_wrong) = wrong(single, depth), wrong(many, depth)
        assert points > 5 * few
        assert many_wrong < single_wrong + 0.02
        assert many.lidar is not None
        assert single.lidar is not None
        np.testing.assert_array_equal(
            many.lidar.points_vehicle[: len(single.lidar.points_vehicle)], single.lidar.points_vehicle
        )
        assert many.lidar.ring is not None
        assert len(many.lidar.ring) == len(many.lidar.points_vehicle)


def test_without_annotations_nobody_knows_what_moved(nuscenes_folder: Any) -> None:
    """As in the test split: cars would be smeared along their ways."""
    drives = NuScenesDrives(nuscenes_folder.root)
    keyframe = drives.keyframes()[0]
    assert drives.sweep(keyframe, lidar_sweeps=1).lidar is not None
    with pytest.raises(SourceError, match=r"table sample_annotation is empty .*lidar_sweeps"):
        drives.sweep(keyframe, lidar_sweeps=2)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data with the real drives")
def test_a_key_frame_alone_stays_a_single_turn() -> None:
    drives = NuScenesDrives(SHARED)
    (keyframe,) = drives.keyframes()
    lone, single = drives.sweep(keyframe, lidar_sweeps=10).lidar, drives.sweep(keyframe).lidar
    assert lone is not None
    assert single is not None
    np.testing.assert_array_equal(lone.points_vehicle, single.points_vehicle)
