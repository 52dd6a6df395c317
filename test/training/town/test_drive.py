from __future__ import annotations

import pickle

import numpy as np
import pytest

from fsmde_ros.errors import BackendError, ConfigError
from fsmde_ros.geometry import invert, project, transform
from fsmde_ros.sweep import LidarScan, Sweep, lidar_in_view, scan_at_pose
from training.town.drive import EPOCH_NS, TownDrive, ddad_drive, nuscenes_drive
from training.town.lidar import SpinningLidar
from training.town.rigs import camera_yaw, nuscenes_rig

SIZE = (60, 104)


@pytest.fixture(scope="module")
def drive() -> TownDrive:
    return TownDrive(11, rig=nuscenes_rig(SIZE), duration_s=0.5)


def same(a: Sweep, b: Sweep) -> bool:
    assert isinstance(a.lidar, LidarScan)
    assert isinstance(b.lidar, LidarScan)
    return (
        a.stamp_ns == b.stamp_ns
        and np.array_equal(a.lidar.points_vehicle, b.lidar.points_vehicle)
        and all(np.array_equal(np.asarray(a.views[n].image), np.asarray(b.views[n].image)) for n in a.present)
    )


def test_sweeps_follow_the_turns_of_the_lidar_as_evenly_as_possible(drive):
    assert drive.scan_count == 10
    assert len(drive) == 6
    assert [drive.scan_index(i) for i in range(6)] == [0, 2, 3, 5, 7, 8]
    assert len(TownDrive(11, rig=drive.rig, duration_s=10.0)) == 120
    with pytest.raises(IndexError, match="0 to 5"):
        drive.scan_index(6)


def test_cameras_fire_as_the_lidar_passes_them(drive):
    """Stamps against the points: those measured nearest in time to a camera lie along its axis."""
    stamps = drive.view_stamps_ns(4)
    end = drive.scan_stamp_ns(drive.scan_index(4))
    order = sorted(stamps, key=stamps.__getitem__)
    assert order == ["cam_front_left", "cam_front", "cam_front_right", "cam_back_right", "cam_back", "cam_back_left"]
    for camera in drive.rig.cameras:
        assert -50_000_000 < stamps[camera.name] - end < 0
        turned = (stamps[camera.name] - end + 50_000_000) / 50_000_000 * 360
        azimuth = drive.lidar.start_azimuth - turned
        error = (azimuth - np.degrees(camera_yaw(camera)) + 180) % 360 - 180
        assert abs(error) < 0.01
        assert stamps[camera.name] % 1000 == 0  # nuScenes stamps are whole microseconds


def test_views_and_scan_have_the_pose_of_their_own_time(drive):
    sweep = drive.sweep(2)
    assert sweep.lidar is not None
    assert sweep.stamp_ns == sweep.lidar.stamp_ns
    for item in (*sweep.views.values(), sweep.lidar):
        expected = drive.world.vehicle_to_map((item.stamp_ns - EPOCH_NS) * 1e-9)
        np.testing.assert_allclose(item.vehicle_to_map, expected, atol=1e-12)


def test_sweeps_do_not_depend_on_the_order_or_the_drive_they_are_asked_of(drive):
    forwards = [drive.sweep(i) for i in (1, 3)]
    other = TownDrive(11, rig=nuscenes_rig(SIZE), duration_s=0.5)
    other.scan(9)
    backwards = [other.sweep(i) for i in (3, 1)]
    assert same(forwards[0], backwards[1])
    assert same(forwards[1], backwards[0])
    assert not same(forwards[0], forwards[1])


def test_a_drive_sent_to_another_process_is_the_same(drive):
    assert same(pickle.loads(pickle.dumps(drive)).sweep(1), drive.sweep(1))


def test_seeds_give_different_towns(drive):
    other = TownDrive(12, rig=nuscenes_rig(SIZE), duration_s=0.5)
    assert not same(drive.sweep(0), other.sweep(0))


def test_views_have_the_size_of_the_rig(drive):
    town_sweep = drive.town_sweep(0)
    for camera in drive.rig.cameras:
        image = np.asarray(town_sweep.sweep.views[camera.name].image)
        depth = town_sweep.depth[camera.name]
        assert (image.shape, image.dtype) == ((*SIZE, 3), np.uint8)
        assert (depth.shape, depth.dtype) == (SIZE, np.float32)
        assert not np.isnan(depth).any()
        assert (depth > 0).all()
    np.testing.assert_array_equal(drive.dense_depth(0)["cam_back"], town_sweep.depth["cam_back"])


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("make", [nuscenes_drive, ddad_drive])
def test_lidar_in_the_views_agrees_with_the_dense_depth(make, seed):
    """The point of a smooth surface and the depth rendered at its pixel are the same distance.

    The scan is free of noise; edges are left out: there a pixel is another surface than the point.
    """
    drive = make(seed, (152, 242), duration_s=0.5)
    town_sweep = drive.town_sweep(2)
    errors = []
    for name in drive.rig.names:
        pixels, measured = lidar_in_view(town_sweep.sweep, name, min_depth=1.0)
        x, y = np.round(pixels).astype(int).T
        dense = np.pad(town_sweep.depth[name], 1, mode="edge")
        around = np.stack([dense[y + dy, x + dx] for dy in range(3) for dx in range(3)])
        smooth = np.isfinite(around).all(0) & (around.max(0) < 1.1 * around.min(0))
        errors.append(np.abs(measured / around[4] - 1)[smooth])
        assert smooth.sum() > 100, name
    assert np.median(np.concatenate(errors)) < 0.01
    assert np.mean(np.concatenate(errors) < 0.05) > 0.93


def test_scans_of_different_turns_meet_in_the_map(drive):
    """The ground seen by two turns is at the same height once the motion of the car is taken out."""
    first, last = drive.scan(0), drive.scan(9)
    moved = scan_at_pose(last, first.vehicle_to_map)

    def ground(points):
        near = np.abs(points[:, 2]) < 0.1
        return points[near & (np.hypot(points[:, 0], points[:, 1]) < 8)][:, 2]

    assert abs(np.median(ground(first.points_vehicle)) - np.median(ground(moved))) < 0.02


def test_ddad_cameras_fire_together():
    drive = ddad_drive(3, (38, 60), duration_s=0.3)
    assert len(set(drive.view_stamps_ns(1).values())) == 1
    assert [drive.scan_index(i) for i in range(len(drive))] == [0, 1, 2]


def test_the_road_is_where_the_rig_says_it_is(drive):
    """The centre of the car's own lane, 6 m ahead, has the depth of the flat ground."""
    depth = drive.dense_depth(0)["cam_front"]
    camera = drive.rig["cam_front"]
    pixel, expected = project(camera.intrinsics, transform(invert(camera.camera_to_vehicle), [[8.0, 0.0, 0.0]]))
    x, y = np.round(pixel[0]).astype(int)
    assert depth[y, x] == pytest.approx(expected[0], rel=0.06)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"camera_rate_hz": 30.0}, "camera_rate_hz"),
        ({"duration_s": 0.01}, "duration_s"),
        ({"firing": "random"}, "firing"),
    ],
)
def test_impossible_drives_are_refused(options, match):
    with pytest.raises(ConfigError, match=match):
        TownDrive(1, rig=nuscenes_rig((18, 32)), **{"duration_s": 0.5, **options})


def test_a_device_that_is_not_there_is_named():
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(BackendError, match="cuda"):
        TownDrive(1, duration_s=0.5, device="cuda")


def test_a_lidar_that_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="columns"):
        SpinningLidar(columns=1083)
