"""Samples for training: a cache of rendered town drives, and the augmented draws of any cached samples.

Rendering costs more than a training step, so that drives are rendered once, in parallel processes,
into a folder whose name is the hash of everything that decides what is rendered. Each drive is a
folder that appears complete or not at all; a second run renders only what is missing. Drives that
were recorded are cached by ``mixture``.

    python -m training.distill --config training/configs/town.yaml --render-only      fills the cache ahead
"""

from __future__ import annotations

import functools
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from uuid import uuid4

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm import tqdm

import training.town
from fsmde_ros.errors import ConfigError
from fsmde_ros.rig import Rig
from fsmde_ros.sweep import Sweep, View
from training.augment import AugmentSettings, augment
from training.batch import Sample, sample_from_sweep, with_moments
from training.hidden_points import without_hidden_points
from training.sample_file import has_dense_depth, load_sample, save_sample
from training.teachers.cache import CachedTeacher
from training.teachers.town import town_teacher
from training.town.camera import render_views
from training.town.drive import TownDrive, seconds
from training.town.lidar import DDAD_LIDAR, HDL32E
from training.town.rigs import ddad_rig, jittered, nuscenes_rig, random_rig, unusual_rig
from training.town.settings import TownSettings

CACHE_FORMAT = 3  # to be raised when the files change their meaning, or ``NetworkView`` what an input is
LATER_S = 0.1  # between the two moments of a town sweep


@dataclass(frozen=True)
class TownData:
    """Which town drives to render: many short ones, because the next sweep of a drive teaches little new."""

    drives: int = 500
    sweeps_per_drive: int = 3
    spacing_s: float = 2.0  # between the sweeps of a drive: far enough to see another place
    first_seed: int = 1_000_000  # drive k has seed first_seed + k; the demo and the tests use small seeds
    size: tuple[int, int] = (192, 320)  # (H, W) that is rendered and trained on
    nuscenes_share: float = 0.45  # of the drives; half of them with the nominal rig, half jittered
    ddad_share: float = 0.25  # likewise
    unusual_share: float = 0.0  # rigs as no car has them; the rest are random rigs of 3 to 8 cameras
    held_out: bool = False  # the other town, TownSettings.held_out()
    rays_per_pixel: int = 1  # along each side, see TownSettings; 2 takes three times as long to render

    def __post_init__(self) -> None:
        if min(self.drives, self.sweeps_per_drive) < 1 or self.spacing_s < 0.2:
            raise ConfigError(
                "town data: drives and sweeps_per_drive must be at least 1 and spacing_s at least 0.2, got "
                f"{self.drives}, {self.sweeps_per_drive}, {self.spacing_s}"
            )
        shares = (self.nuscenes_share, self.ddad_share, self.unusual_share)
        if min(shares) < 0 or sum(shares) > 1:
            raise ConfigError(
                f"town data: nuscenes_share, ddad_share and unusual_share must be >= 0 with a sum <= 1, got {shares}"
            )

    @property
    def settings(self) -> TownSettings:
        """The town that is rendered."""
        town = TownSettings.held_out() if self.held_out else TownSettings()
        return replace(town, rays_per_pixel=self.rays_per_pixel)

    def drawn_rig(self, index: int) -> tuple[Rig, bool]:
        """The rig that the seed of drive ``index`` draws, and whether the car is of DDAD's kind; renders nothing."""
        rng = np.random.default_rng([self.first_seed + index, 7])
        kind, nominal = rng.random(), rng.random() < 0.5
        cars = self.nuscenes_share + self.ddad_share
        if kind >= cars + self.unusual_share:
            return random_rig(rng, self.size), False
        if kind >= cars:
            return unusual_rig(rng, self.size), False
        is_ddad = kind >= self.nuscenes_share
        rig = ddad_rig(self.size) if is_ddad else nuscenes_rig(self.size)
        return rig if nominal else jittered(rig, rng), is_ddad

    def drive(self, index: int) -> TownDrive:
        """Drive ``index``, with the rig and LiDAR that its seed draws."""
        rig, is_ddad = self.drawn_rig(index)
        return TownDrive(
            self.first_seed + index,
            self.settings,
            rig,
            # two more turns than the last sweep needs, at 10 or 20 Hz
            duration_s=(self.sweeps_per_drive - 1) * self.spacing_s + 0.25,
            camera_rate_hz=1 / self.spacing_s,
            lidar_rate_hz=10.0 if is_ddad else 20.0,
            lidar=DDAD_LIDAR if is_ddad else HDL32E,
            firing="simultaneous" if is_ddad else "spinning",
        )

    def cache_folder(self, root: Path, consecutive: bool = False) -> Path:
        """Folder below ``root`` for exactly these drives; the number of drives does not matter.

        ``consecutive``: with a second moment of every camera.
        """
        described = {
            "format": CACHE_FORMAT,
            "renderer": renderer_hash(),
            "data": {name: value for name, value in asdict(self).items() if name != "drives"},
            "town": asdict(self.settings),
            **({"later_s": LATER_S} if consecutive else {}),
        }
        return root / hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]


def fill_cache(data: TownData, root: Path, workers: int = 2, consecutive: bool = False) -> list[Path]:
    """Render what is missing, with a progress bar; files of all sweeps, in the order of the drives.

    ``consecutive``: with what every camera sees a moment later, too.
    """
    folder = data.cache_folder(root, consecutive)
    folder.mkdir(parents=True, exist_ok=True)
    missing = [index for index in range(data.drives) if not _drive_folder(folder, index).exists()]
    if missing:
        # spawn: a fork of a process that has run torch's threads, or ROS's, can hang
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_begin_to_render) as pool:
            jobs = [pool.submit(_render_drive, data, index, folder, consecutive) for index in missing]
            try:
                for job in tqdm(as_completed(jobs), total=len(jobs), desc="rendering town drives", unit="drive"):
                    job.result()
            except BaseException:
                # Waits for the drives that have begun. Without waiting, the pool's own exit would bring the rest back.
                pool.shutdown(cancel_futures=True)
                raise
    return [
        _drive_folder(folder, index) / f"{i}.npz" for index in range(data.drives) for i in range(data.sweeps_per_drive)
    ]


class CachedSweeps(Dataset[Sample]):
    """Samples of cache files, augmented anew at every draw.

    The key is (index, draw): the draw seeds the augmentation, so that a resumed run continues with
    the very samples it would have seen.
    """

    def __init__(
        self,
        files: Sequence[Path],
        augmentation: AugmentSettings | None,
        blur_px: float,
        seed: int,
        teacher: CachedTeacher | None = None,
    ) -> None:
        self.files = list(files)
        self.augmentation = augmentation
        self.blur_px = blur_px
        self.seed = seed
        self.teacher = teacher

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        index, draw = key
        sample = load_sample(self.files[index])
        if self.teacher is not None and not has_dense_depth(sample):
            sample = with_teacher(sample, self.teacher)
        return prepare(sample, self.augmentation, self.blur_px, [self.seed, draw])


def with_teacher(sample: Sample, teacher: CachedTeacher) -> Sample:
    """The sample, not augmented, with what the teacher said of it; without it where the cache has lost that."""
    focal_px = sample.rig.intrinsics()[:, 0, 0]
    disparity = teacher.lookup(sample.images, sample.present, focal_px)
    return sample if disparity is None else replace(sample, teacher_disparity=disparity)


def prepare(sample: Sample, augmentation: AugmentSettings | None, blur_px: float, seed: Sequence[int]) -> Sample:
    """Augment a sample and ask the town's teacher, where there is dense depth to ask it about."""
    rng = np.random.default_rng(list(seed))
    if augmentation is not None:
        sample = augment(without_hidden_points(sample), augmentation, rng)
    if not has_dense_depth(sample):
        return sample
    return replace(sample, teacher_disparity=town_teacher(sample.dense_depth, rng, blur_px))


@functools.cache
def renderer_hash() -> str:
    """sha256 of the town's source: whatever changes its looks makes another cache."""
    digest = hashlib.sha256()
    for path in sorted(Path(training.town.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _drive_folder(folder: Path, index: int) -> Path:
    return folder / f"drive-{index:05d}"


def town_sample(drive: TownDrive, i: int, size: tuple[int, int], consecutive: bool = False) -> Sample:
    """Sweep ``i`` of a drive that renders at ``size`` (H, W), with its dense depth.

    ``consecutive``: with what every camera sees ``LATER_S`` later.
    """
    made = drive.town_sweep(i)
    sample = sample_from_sweep(made.sweep, size, np.stack([made.depth[name] for name in drive.rig.names]))
    if not consecutive:
        return sample
    stamps = {name: view.stamp_ns + round(LATER_S * 1e9) for name, view in made.sweep.views.items()}
    poses = {name: drive.vehicle_to_map(stamp) for name, stamp in stamps.items()}
    requests = [(seconds(stamps[camera.name]), camera, poses[camera.name]) for camera in drive.rig.cameras]
    views = {
        camera.name: View(image, stamps[camera.name], poses[camera.name])
        for camera, (image, _) in zip(drive.rig.cameras, render_views(drive.world, requests), strict=True)
    }
    later = Sweep(drive.rig, made.sweep.stamp_ns + round(LATER_S * 1e9), views)
    return with_moments(sample, made.sweep, later)


def _render_drive(data: TownData, index: int, folder: Path, consecutive: bool) -> None:
    """Render one drive into a scratch folder and give it its name once it is complete; a failure leaves neither."""
    scratch, final = folder / f".drive-{index:05d}-{uuid4().hex}", _drive_folder(folder, index)
    scratch.mkdir()
    try:
        drive = data.drive(index)
        for i in range(data.sweeps_per_drive):
            save_sample(scratch / f"{i}.npz", town_sample(drive, i, data.size, consecutive))
        try:
            scratch.rename(final)
        except OSError:
            if not final.exists():  # else another process that shares the cache, here or on another host, was faster
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _begin_to_render() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then gives out no more drives
    # as many processes as cores: threads inside them would only fight
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent cannot end its pool, whose processes would go on until no drive is left."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
