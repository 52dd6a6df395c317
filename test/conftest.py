"""Small drives in the layouts of nuScenes and DDAD, written here from their schemas alone; the order of the tests."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fsmde_ros.backends.built_files import CACHE_VARIABLE
from fsmde_ros.replay_settings import environment

# Fast DDS reads its profile once in a process. By its default, what is lost is repeated after up to 3 s only, and
# shared memory loses more the busier the machine is: tests are of this package, so all of their nodes lose nothing.
os.environ.update(environment())

FRONT_WXYZ = [0.5, -0.5, 0.5, -0.5]  # camera z to vehicle x, camera x to vehicle -y
LEFT_WXYZ = [np.sqrt(0.5), -np.sqrt(0.5), 0.0, 0.0]  # camera z to vehicle y, camera x to vehicle x
IDENTITY_WXYZ = [1.0, 0.0, 0.0, 0.0]
START_US = 1_600_000_000_000_000
SPEED = 10.0  # metres a second, along x of the map
HEIGHT, WIDTH = 20, 32
INTRINSICS = [[16.0, 0.0, 15.5], [0.0, 16.0, 9.5], [0.0, 0.0, 1.0]]
# channel: offset to the sweep in microseconds, rotation, translation
CAMERAS = {
    "CAM_FRONT": (0, FRONT_WXYZ, [1.5, 0.0, 1.5]),
    "CAM_BACK_LEFT": (35_000, LEFT_WXYZ, [0.5, 0.5, 1.5]),
    "CAM_FRONT_LEFT": (-8_000, LEFT_WXYZ, [1.0, 0.5, 1.5]),
}
LIDAR_TRANSLATION = [0.9, 0.0, 1.8]
SWEEP_US, TURN_US, SWEEPS, KEYFRAME_STEP = 83_333, 50_000, 7, 6


def jpeg(seed: int, height: int = HEIGHT, width: int = WIDTH) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    done, data = cv2.imencode(".jpg", pixels)
    assert done
    return data.tobytes()


def lidar_points(seed: int) -> np.ndarray:
    """[40, 5] float32: x y z intensity ring, 5 to 20 m round the sensor."""
    rng = np.random.default_rng(seed)
    angle, distance = rng.uniform(-np.pi, np.pi, 40), rng.uniform(5, 20, 40)
    xyz = np.stack([distance * np.cos(angle), distance * np.sin(angle), rng.uniform(-1, 1, 40)], axis=-1)
    return np.column_stack([xyz, rng.integers(0, 256, 40), rng.integers(0, 32, 40)]).astype("<f4")


@dataclass
class NuScenesFolder:
    """A dataset whose tables a test can change and write again."""

    root: Path
    version: str = "v1.0-mini"
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def write(self) -> None:
        (self.root / self.version).mkdir(parents=True, exist_ok=True)
        for name, rows in self.tables.items():
            (self.root / self.version / f"{name}.json").write_text(json.dumps(rows))

    def row(self, table: str, **wanted: Any) -> dict[str, Any]:
        return next(row for row in self.tables[table] if all(row[key] == value for key, value in wanted.items()))

    def frame(self, channel: str, index: int) -> Path:
        return self.root / self.row("sample_data", token=f"{channel}-{index}")["filename"]


@pytest.fixture
def nuscenes_folder(tmp_path: Path) -> NuScenesFolder:
    """One scene of 7 sweeps (keyframes 0 and 6) of three cameras, the LiDAR at 20 Hz."""
    folder = NuScenesFolder(tmp_path / "nuscenes")
    root = folder.root
    (root / "maps").mkdir(parents=True)
    cv2.imwrite(str(root / "maps" / "blank.png"), np.zeros((8, 8), np.uint8))
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in ("instance", "sample_annotation", "ego_pose")}
    tables |= {"sample_data": [], "sensor": [], "calibrated_sensor": []}
    tables["category"] = [{"token": "c", "name": "vehicle.car", "description": ""}]
    tables["attribute"] = [{"token": "a", "name": "vehicle.moving", "description": ""}]
    tables["visibility"] = [{"token": "1", "level": "v0-40", "description": ""}]
    tables["log"] = [{"token": "log", "logfile": "l", "vehicle": "v", "date_captured": "2020", "location": "here"}]
    tables["map"] = [{"token": "map", "log_tokens": ["log"], "category": "", "filename": "maps/blank.png"}]
    samples = ["sample-0", "sample-1"]
    tables["scene"] = [
        {
            "token": "scene",
            "log_token": "log",
            "nbr_samples": 2,
            "name": "scene-0001",
            "description": "",
            "first_sample_token": samples[0],
            "last_sample_token": samples[1],
        }
    ]
    tables["sample"] = [
        {
            "token": token,
            "timestamp": START_US + i * KEYFRAME_STEP * SWEEP_US,
            "scene_token": "scene",
            "prev": "" if i == 0 else samples[0],
            "next": samples[1] if i == 0 else "",
        }
        for i, token in enumerate(samples)
    ]
    sensors = {"LIDAR_TOP": (0, IDENTITY_WXYZ, LIDAR_TRANSLATION), **CAMERAS}
    for channel, (offset, rotation, translation) in sensors.items():
        is_camera = channel.startswith("CAM")
        tables["sensor"].append(
            {"token": f"s-{channel}", "channel": channel, "modality": "camera" if is_camera else "lidar"}
        )
        tables["calibrated_sensor"].append(
            {
                "token": f"cs-{channel}",
                "sensor_token": f"s-{channel}",
                "translation": translation,
                "rotation": list(rotation),
                "camera_intrinsic": INTRINSICS if is_camera else [],
            }
        )
        step = SWEEP_US if is_camera else TURN_US
        count = SWEEPS if is_camera else 2 + (SWEEPS - 1) * SWEEP_US // TURN_US
        for i in range(count):
            stamp = START_US + i * step + offset
            since = stamp - START_US - offset
            key = i % KEYFRAME_STEP == 0 if is_camera else i in (0, count - 1)
            name = f"{'samples' if key else 'sweeps'}/{channel}/{stamp}.{'jpg' if is_camera else 'pcd.bin'}"
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            data = jpeg(stamp % 100_003) if is_camera else lidar_points(i).tobytes()
            (root / name).write_bytes(data)
            tables["sample_data"].append(
                {
                    "token": f"{channel}-{i}",
                    "sample_token": samples[1 if since > KEYFRAME_STEP * SWEEP_US // 2 else 0],
                    "ego_pose_token": f"{channel}-{i}",
                    "calibrated_sensor_token": f"cs-{channel}",
                    "timestamp": stamp,
                    "fileformat": "jpg" if is_camera else "pcd",
                    "is_key_frame": key,
                    "height": HEIGHT if is_camera else 0,
                    "width": WIDTH if is_camera else 0,
                    "filename": name,
                    "prev": f"{channel}-{i - 1}" if i else "",
                    "next": f"{channel}-{i + 1}" if i < count - 1 else "",
                }
            )
            tables["ego_pose"].append(
                {
                    "token": f"{channel}-{i}",
                    "timestamp": stamp,
                    "rotation": IDENTITY_WXYZ,
                    "translation": [SPEED * (stamp - START_US) / 1e6, 2.0, 0.0],
                }
            )
    folder.tables = tables
    folder.write()
    return folder


@dataclass
class DdadFolder:
    """A dataset whose scene and calibration a test can change and write again."""

    root: Path
    scene: dict[str, Any]
    calibration: dict[str, Any]

    @property
    def scene_path(self) -> Path:
        return self.root / "000007" / "scene_abc.json"

    @property
    def calibration_path(self) -> Path:
        return self.root / "000007" / "calibration" / "cal.json"

    def write(self) -> None:
        self.calibration_path.parent.mkdir(parents=True, exist_ok=True)
        splits = {"0": {"filenames": []}, "1": {"filenames": ["000007/scene_abc.json"]}}
        (self.root / "ddad.json").write_text(json.dumps({"scene_splits": splits}))
        self.scene_path.write_text(json.dumps(self.scene))
        self.calibration_path.write_text(json.dumps(self.calibration))


def dgp_pose(wxyz: list[float], translation: list[float]) -> dict[str, Any]:
    return {
        "rotation": dict(zip(("qw", "qx", "qy", "qz"), wxyz, strict=True)),
        "translation": dict(zip("xyz", translation, strict=True)),
    }


@pytest.fixture
def ddad_folder(tmp_path: Path) -> DdadFolder:
    """One scene (split val) of two samples of two cameras and a LiDAR, which does not turn.

    Datum poses are those of the sensors: position of the vehicle, plus where the sensor is on it.
    """
    root = tmp_path / "ddad"
    mounts = {
        "LIDAR": (IDENTITY_WXYZ, [0.0, 0.0, 0.0]),
        "CAMERA_01": (FRONT_WXYZ, [1.5, 0.0, 1.5]),
        "CAMERA_05": (LEFT_WXYZ, [1.0, 0.5, 1.5]),
    }
    k = {"fx": 16.0, "fy": 17.0, "cx": 15.5, "cy": 9.5, "skew": 0.0}
    calibration = {
        "names": list(mounts),
        "extrinsics": [dgp_pose(*mount) for mount in mounts.values()],
        "intrinsics": [dict.fromkeys(k, 0.0), k, k],
    }
    data, samples = [], []
    for i in range(2):
        for name, (rotation, translation) in mounts.items():
            at = f"2020-09-13T12:26:4{i}.{'100000' if name == 'LIDAR' else '0915'}Z"
            pose = dgp_pose(rotation, [10.0 * i + translation[0], translation[1], translation[2]])
            if name == "LIDAR":
                filename = f"point_cloud/{name}/{i}.npz"
                values = lidar_points(i)[:, :4].astype(np.float64) / [1, 1, 1, 255]
                (root / "000007" / filename).parent.mkdir(parents=True, exist_ok=True)
                np.savez(root / "000007" / filename, data=values)
                columns = ["X", "Y", "Z", "INTENSITY"]
                datum = {"point_cloud": {"filename": filename, "point_format": columns, "pose": pose}}
            else:
                filename = f"rgb/{name}/{i}.jpg"
                (root / "000007" / filename).parent.mkdir(parents=True, exist_ok=True)
                (root / "000007" / filename).write_bytes(jpeg(i))
                datum = {"image": {"filename": filename, "height": HEIGHT, "width": WIDTH, "pose": pose}}
            data.append({"key": f"{name}-{i}", "id": {"name": name, "timestamp": at}, "datum": datum})
        samples.append({"calibration_key": "cal", "datum_keys": [f"{name}-{i}" for name in mounts]})
    folder = DdadFolder(root, {"data": data, "samples": samples}, calibration)
    folder.write()
    return folder


@pytest.fixture(scope="session")
def real_lidar_points() -> dict[str, dict[str, int]]:
    """LiDAR points in each image of the real drives, from their README (read with the data sets' own devkits)."""
    return {
        "nuscenes": {
            "cam_front": 3053,
            "cam_front_right": 3076,
            "cam_front_left": 3696,
            "cam_back": 4820,
            "cam_back_left": 4089,
            "cam_back_right": 3369,
        },
        "ddad": {
            "camera_01": 5157,
            "camera_05": 11916,
            "camera_06": 11566,
            "camera_07": 10718,
            "camera_08": 10130,
            "camera_09": 9393,
        },
    }


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests without DDS and not slow, then those with DDS, then slow ones; otherwise in the order of the files.

    Where processes run files side by side, the files that take longest come first, so that all end together.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        ros, slow = ({i.path for i in items if i.get_closest_marker(name)} for name in ("ros", "slow"))
        items.sort(key=lambda item: (item.path not in ros, item.path not in slow))
        return
    items.sort(
        key=lambda item: (item.get_closest_marker("slow") is not None, item.get_closest_marker("ros") is not None)
    )


@pytest.fixture(scope="session", autouse=True)
def built_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What backends build, in this process or in a node, goes into a folder of this run, never into the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("built")))
        yield


@pytest.fixture(scope="session")
def has_option() -> Callable[[str, str], bool]:
    """Whether ``python -m module`` takes an option: by its source, or else by what its ``--help`` says."""
    root = Path(__file__).parents[1]

    @cache
    def usage(module: str) -> str:
        command = [sys.executable, "-m", module, "--help"]
        return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=True).stdout

    def check(module: str, option: str) -> bool:
        place = root / module.replace(".", "/")
        source = (place / "__main__.py" if place.is_dir() else place.with_suffix(".py")).read_text()
        return f'"{option}"' in source or re.search(rf"{option}\b", usage(module)) is not None

    return check
