from __future__ import annotations

import numpy as np
import pytest

from training.town.annotations import CATEGORIES, box
from training.town.drive import TownDrive, seconds
from training.town.layout import Mover
from training.town.lidar import SpinningLidar
from training.town.nuscenes_writer import write_nuscenes
from training.town.primitives import Kind, Material, row
from training.town.rigs import nuscenes_rig


@pytest.fixture(scope="module")
def drive() -> TownDrive:
    rig = nuscenes_rig((18, 32)).subset(["cam_front"])
    return TownDrive(3, rig=rig, duration_s=1.2, camera_rate_hz=2.0, lidar=SpinningLidar(columns=540))


@pytest.fixture(scope="module")
def devkit(drive, tmp_path_factory):
    nuscenes = pytest.importorskip("nuscenes.nuscenes", reason="nuscenes-devkit is not installed")
    root = write_nuscenes(drive, tmp_path_factory.mktemp("town") / "drive")
    return nuscenes.NuScenes(version="v1.0-mini", dataroot=str(root), verbose=False)


def test_a_box_holds_turned_parts():
    """A 4 m beam turned by 90 degrees reaches along y."""
    rows = np.concatenate(
        [
            row(Kind.BOX, (0, 0, 1), (1, 0.5, 1), Material.PAINT, (1, 1, 1)),
            row(Kind.BOX, (0, 0, 1), (2, 0.1, 0.1), Material.PAINT, (1, 1, 1), yaw=np.pi / 2),
        ]
    )
    centre, size = box(Mover(rows, "vehicle.car", 0, 0.0))
    np.testing.assert_allclose(centre, (0, 0, 1), atol=1e-12)
    np.testing.assert_allclose(size, (2, 4, 2), atol=1e-12)


def test_the_devkit_finds_as_many_points_in_every_box(devkit):
    from nuscenes.utils.data_classes import LidarPointCloud
    from nuscenes.utils.geometry_utils import points_in_box

    hit = 0
    for sample in devkit.sample:
        path, boxes, _ = devkit.get_sample_data(sample["data"]["LIDAR_TOP"])
        cloud = LidarPointCloud.from_file(path)
        for found in boxes:
            stated = devkit.get("sample_annotation", found.token)["num_lidar_pts"]
            size = found.wlh
            least = int(points_in_box(found, cloud.points[:3]).sum())
            most = int(points_in_box(found, cloud.points[:3], wlh_factor=1 + 0.11 / size.min()).sum())
            assert least <= stated <= most
            hit += stated > 0
    assert hit >= 3  # a town in which the LiDAR sees nothing that moves would show nothing here


def test_boxes_move_as_things_do(drive, devkit):
    """Velocity by the devkit, from boxes of two key frames, against the course of each thing."""
    assert {row["category_name"] for row in devkit.sample_annotation} <= set(CATEGORIES)
    by_token = {row["token"]: row for row in devkit.instance}
    moving = 0
    for annotation in devkit.sample_annotation:
        if not annotation["next"]:
            continue
        assert devkit.get("sample_annotation", annotation["next"])["prev"] == annotation["token"]
        speed = np.linalg.norm(devkit.box_velocity(annotation["token"])[:2])
        stamp = devkit.get("sample", annotation["sample_token"])["timestamp"] * 1000
        near = [
            mover
            for mover in drive.world.layout.movers
            if np.allclose(
                drive.world.mover_to_map(mover, seconds(stamp))[:2, :2] @ box(mover)[0][:2]
                + drive.world.mover_to_map(mover, seconds(stamp))[:2, 3],
                annotation["translation"][:2],
                atol=1e-6,
            )
        ]
        assert len(near) == 1
        assert by_token[annotation["instance_token"]]["nbr_annotations"] >= 2
        if near[0].street is not None:  # on a curve the course is a little longer than the chord
            assert speed == pytest.approx(abs(near[0].speed), rel=0.1, abs=0.05)
            moving += near[0].speed != 0
    assert moving >= 1
