"""Real drives: what is read agrees with the figures of the datasets' own devkits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fsmde_ros.images import decode
from fsmde_ros.sources import bag, ddad, nuscenes
from fsmde_ros.sources.convert import ddad_to_bag, nuscenes_to_bag
from fsmde_ros.sweep import EncodedImage, Sweep, lidar_in_view

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
NUSCENES, DDAD = SHARED / "nuscenes", SHARED / "ddad"

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data with the real drives")


@pytest.fixture(scope="module")
def nuscenes_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nuscenes") / "bag"
    assert nuscenes_to_bag([str(NUSCENES), str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def ddad_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ddad") / "bag"
    assert ddad_to_bag([str(DDAD), str(path)]) == 0
    return path


def points(sweep: Sweep, min_depth: float) -> dict[str, int]:
    return {name: len(lidar_in_view(sweep, name, min_depth)[1]) for name in sweep.present}


def agree(found: dict[str, int], expected: dict[str, int]) -> None:
    assert found.keys() == expected.keys()
    for name, number in expected.items():
        assert found[name] == pytest.approx(number, rel=0.02), name


def test_nuscenes_points(real_lidar_points: dict[str, dict[str, int]]) -> None:
    (sweep,) = nuscenes.sweeps(NUSCENES)
    agree(points(sweep, 1.0), real_lidar_points["nuscenes"])


def test_nuscenes_points_through_a_bag(nuscenes_bag: Path, real_lidar_points: dict[str, dict[str, int]]) -> None:
    (sweep,) = bag.sweeps(nuscenes_bag)
    agree(points(sweep, 1.0), real_lidar_points["nuscenes"])
    (direct,) = nuscenes.sweeps(NUSCENES)
    assert points(sweep, 1.0) == pytest.approx(points(direct, 1.0), rel=0.001)


def test_ddad_points(real_lidar_points: dict[str, dict[str, int]]) -> None:
    agree(points(next(ddad.sweeps(DDAD)), 0.0), real_lidar_points["ddad"])


def test_ddad_points_through_a_bag(ddad_bag: Path, real_lidar_points: dict[str, dict[str, int]]) -> None:
    found = list(bag.sweeps(ddad_bag))
    assert len(found) == 3
    agree(points(found[0], 0.0), real_lidar_points["ddad"])


@pytest.mark.parametrize("channel", ["CAM_FRONT", "CAM_BACK", "CAM_FRONT_LEFT"])
def test_pixels_and_depths_are_those_of_the_devkit(channel: str) -> None:
    devkit = pytest.importorskip("nuscenes.nuscenes", reason="nuscenes-devkit is not installed")
    tables = devkit.NuScenes(version="v1.0-mini", dataroot=str(NUSCENES), verbose=False)
    data = tables.sample[0]["data"]
    pixels, expected_depth, _ = tables.explorer.map_pointcloud_to_image(data["LIDAR_TOP"], data[channel], min_dist=1.0)
    (sweep,) = nuscenes.sweeps(NUSCENES)
    found, depth = lidar_in_view(sweep, channel.lower(), 1.0)
    # the devkit leaves out the outermost pixels
    height, width = sweep.rig[channel.lower()].size
    inner = (found > 1).all(axis=1) & (found[:, 0] < width - 1) & (found[:, 1] < height - 1)
    assert inner.sum() == pixels.shape[1]
    # the devkit moves the points through the map frame in float32, where 1 km has steps of 0.06 mm
    np.testing.assert_allclose(found[inner], pixels[:2].T, atol=0.05)
    np.testing.assert_allclose(depth[inner], expected_depth, atol=1e-3)


def test_images_are_the_bytes_of_the_files(nuscenes_bag: Path) -> None:
    (sweep,) = bag.sweeps(nuscenes_bag)
    for name in sweep.present:
        (file,) = (NUSCENES / "samples" / name.upper()).glob("*.jpg")
        image = sweep.views[name].image
        assert isinstance(image, EncodedImage)
        assert image.data == file.read_bytes()
        assert sweep.views[name].stamp_ns == int(file.stem.rpartition("__")[2]) * 1000
    assert decode(image).shape == (900, 1600, 3)


def test_nuscenes_cameras_fire_one_after_another() -> None:
    (sweep,) = nuscenes.sweeps(NUSCENES)
    stamps = [view.stamp_ns for view in sweep.views.values()]
    assert max(stamps) - min(stamps) == pytest.approx(42.6e6, abs=0.1e6)
    assert sweep.stamp_ns == sweep.views["cam_front"].stamp_ns
    assert sweep.rig.names[0] == "cam_front"
    assert all(camera.size == (900, 1600) for camera in sweep.rig.cameras)
    assert all(1.4 < camera.camera_to_vehicle[2, 3] < 1.7 for camera in sweep.rig.cameras)


def test_the_ground_is_at_zero() -> None:
    """Under the car, where nothing else is: the points of the road."""
    for sweep in (next(nuscenes.sweeps(NUSCENES)), next(ddad.sweeps(DDAD))):
        assert sweep.lidar is not None
        xyz = sweep.lidar.points_vehicle
        near = xyz[(np.hypot(xyz[:, 0], xyz[:, 1]) < 12) & (np.hypot(xyz[:, 0], xyz[:, 1]) > 4)]
        assert np.percentile(near[:, 2], 20) == pytest.approx(0, abs=0.25)


def test_ddad_drives_at_ten_hertz() -> None:
    """1.26 m a frame is 45 km/h at the 10 Hz of the recording."""
    found = list(ddad.sweeps(DDAD))
    steps = np.diff([sweep.stamp_ns for sweep in found]) / 1e9
    np.testing.assert_allclose(steps, 0.1, atol=0.001)
    places = [sweep.views["camera_01"].vehicle_to_map[:3, 3] for sweep in found]  # type: ignore[index]
    np.testing.assert_allclose(np.linalg.norm(np.diff(places, axis=0), axis=1), 1.26, atol=0.02)


def test_poses_of_all_ddad_sensors_lead_to_one_vehicle() -> None:
    sweep = next(ddad.sweeps(DDAD))
    places = np.array([view.vehicle_to_map[:3, 3] for view in sweep.views.values()])  # type: ignore[index]
    assert np.ptp(places, axis=0).max() < 0.02
