"""Write a drive through the town in the nuScenes schema, for nuscenes-devkit and all that reads it.

Everything written follows from the drive, byte by byte: no clock is read, and the number of
workers makes no difference.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from fsmde_ros.errors import ConfigError
from fsmde_ros.geometry import invert, transform
from fsmde_ros.sweep import LidarScan
from training.town.drive import EPOCH_NS, TownDrive
from training.town.nuscenes_tables import LIDAR_CHANNEL, Row, filename, nuscenes_tables, sample_data

Progress = Callable[[int, int], None]

JPEG_QUALITY = 90  # of the range cameras deliver; the artefacts are part of the data


def write_nuscenes(
    drive: TownDrive,
    dataroot: Path,
    version: str = "v1.0-mini",
    workers: int = 1,
    progress: Progress | None = None,
) -> Path:
    """Render a drive and write it as a nuScenes dataset of one scene.

    An interrupted run leaves nothing: the files are written beside ``dataroot`` and moved there
    when all are complete.

    Args:
        drive: the drive to render.
        dataroot: folder to make; it must not exist or must be empty.
        version: name of the folder of the tables.
        workers: processes that render, one thread each.
        progress: called with the number of files written and of all files.

    Returns:
        ``dataroot``.

    Raises:
        ConfigError: ``dataroot`` is in use, or ``workers`` is below 1.
    """
    dataroot = Path(dataroot)
    if workers < 1:
        raise ConfigError(f"workers must be at least 1, got {workers}")
    if dataroot.exists() and (not dataroot.is_dir() or any(dataroot.iterdir())):
        raise ConfigError(f"{dataroot} exists and is not an empty folder; remove it or choose another folder")
    dataroot.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{dataroot.name}-partial-", dir=dataroot.parent))
    try:
        _write_files(drive, partial, workers, progress)
        _write_tables(nuscenes_tables(drive), partial / version)
        _write_map(partial / "maps")
        (partial / "town.json").write_text(_json(_provenance(drive)))
        partial.chmod(0o755)
        if dataroot.exists():
            dataroot.rmdir()
        partial.rename(dataroot)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return dataroot


def _write_files(drive: TownDrive, root: Path, workers: int, progress: Progress | None) -> None:
    for row in sample_data(drive):
        (root / row["filename"]).parent.mkdir(parents=True, exist_ok=True)
    jobs = [("sweep", i) for i in range(len(drive))] + [("turn", k) for k in range(drive.scan_count)]
    total = len(drive) * len(drive.rig) + drive.scan_count
    written = 0
    with _job_runner(drive, root, workers) as run:
        for count in run(jobs):
            written += count
            if progress is not None:
                progress(written, total)


@contextmanager
def _job_runner(
    drive: TownDrive, root: Path, workers: int
) -> Iterator[Callable[[list[tuple[str, int]]], Iterator[int]]]:
    """A function that does jobs, here or in other processes, and yields the files each wrote."""
    if workers == 1:
        yield lambda jobs: (_write_job(drive, root, job) for job in jobs)
        return
    # spawn: a forked child of a process that has used torch's threads may hang
    with multiprocessing.get_context("spawn").Pool(workers, _start_worker, (drive, root)) as pool:
        yield lambda jobs: pool.imap_unordered(_worker_job, jobs)


_WORKER: dict[str, Any] = {}  # what a worker process is sent once, not with every job


def _start_worker(drive: TownDrive, root: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends the workers
    torch.set_num_threads(1)
    _WORKER.update(drive=drive, root=root)


def _worker_job(job: tuple[str, int]) -> int:
    return _write_job(_WORKER["drive"], _WORKER["root"], job)


def _write_job(drive: TownDrive, root: Path, job: tuple[str, int]) -> int:
    kind, index = job
    if kind == "turn":
        scan, name = drive.scan(index), filename(drive, LIDAR_CHANNEL, index)
        (root / name).write_bytes(_pcd_bytes(scan))
        return 1
    views, _ = drive.render(index)
    for camera, view in views.items():
        if not isinstance(view.image, np.ndarray):
            raise TypeError(f"a rendered view must be an array, got {type(view.image).__name__}")
        done, jpeg = cv2.imencode(".jpg", view.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if not done:
            raise RuntimeError(f"OpenCV could not encode the view of {camera} in sweep {index}")
        (root / filename(drive, camera.upper(), index)).write_bytes(jpeg.tobytes())
    return len(views)


def _pcd_bytes(scan: LidarScan) -> bytes:
    """Points in the frame of the sensor as nuScenes stores them: float32 x y z intensity ring."""
    if scan.intensity is None or scan.ring is None or scan.sensor_to_vehicle is None:
        raise TypeError("a scan of the town must have intensity, ring and the place of the sensor")
    points = transform(invert(scan.sensor_to_vehicle), scan.points_vehicle)
    return np.column_stack([points, scan.intensity, scan.ring]).astype("<f4").tobytes()


def _provenance(drive: TownDrive) -> Row:
    return {
        "generator": "training.town",
        "seed": drive.seed,
        "settings": asdict(drive.settings),
        "cameras": list(drive.rig.names),
        "size": list(drive.rig.cameras[0].size),
        "duration_s": drive.duration_s,
        "camera_rate_hz": drive.camera_rate_hz,
        "lidar_rate_hz": drive.lidar_rate_hz,
        "first_stamp_ns": EPOCH_NS,
    }


def _write_tables(tables: dict[str, list[Row]], folder: Path) -> None:
    folder.mkdir()
    for name, rows in tables.items():
        (folder / f"{name}.json").write_text(_json(rows))


def _write_map(folder: Path) -> None:
    folder.mkdir()
    done, png = cv2.imencode(".png", np.zeros((64, 64), np.uint8))
    if not done:
        raise RuntimeError("OpenCV could not encode the empty map")
    (folder / "blank.png").write_bytes(png.tobytes())


def _json(value: Any) -> str:
    return json.dumps(value, indent=0) + "\n"
