"""The data of a run: caches filled before the first step, then endless training draws and fixed validation sweeps."""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from fsmde_ros.errors import ConfigError, FsmdeError
from fsmde_ros.trained_cameras import TrainedCameras
from training.batch import collate
from training.configuration import TAUGHT_WITHOUT_LIDAR, DistillConfig, Method
from training.datasets import CachedSweeps
from training.draws import Draws, Shard, evenly
from training.expectation import MAX_BATCHES
from training.mixture import SampleFiles, gather
from training.sample_file import has_lidar, load_rig, load_sample, stores_dense_depth
from training.teachers.cache import CachedTeacher, fill_teacher_cache
from training.teachers.checkpoint import names_checkpoint
from training.teachers.teacher import TeacherSettings
from training.terms import LossWeights


class Loaders(lightning.LightningDataModule):
    """Training draws, continued at the step the trainer is at, and the validation sweeps, never augmented.

    Each of several processes has its own share of both. Which cameras the training saw is told before it, and kept
    with its state: whoever exports that later has no samples at hand.
    """

    def __init__(self, config: DistillConfig, with_training: bool = True) -> None:
        super().__init__()
        self.config = config
        self.with_training = with_training
        self.training = SampleFiles((), ())
        self.validation = SampleFiles((), ())
        self.teacher: CachedTeacher | None = None
        self.cameras: TrainedCameras | None = None
        self._is_filled = False
        self._failure: FsmdeError | None = None

    @property
    def left_out(self) -> tuple[str, ...]:
        """Why sweeps could not be used, one reason each."""
        return self.validation.left_out + self.training.left_out

    def prepare_data(self) -> None:
        """Fill the caches; the trainer has one process of each machine do it while the others wait."""
        try:
            self.fill(tell=True)
        except FsmdeError as error:
            self._failure = error  # raised in setup: processes that are waited for in vain bury it under tracebacks

    def setup(self, stage: str) -> None:
        """Find everything in the caches, or what is wrong with them; each of several processes by itself."""
        if self._failure is not None:
            raise self._failure
        self.fill(tell=False)

    def fill(self, tell: bool) -> None:
        """Render, read, and ask the teacher, as far as the caches lack it; ``tell`` names what is left out."""
        if self._is_filled:
            return
        config = self.config
        train, val = config.mixtures()
        self.validation = gather(val, config.val, config.cache, config.render_workers, tell)
        if len(self.validation.files) < config.processes:
            raise ConfigError(
                f"each of {config.processes} processes validates with sweeps of its own, but there are "
                f"{len(self.validation.files)}; choose more in val_data, or fewer devices"
            )
        if self.with_training:
            consecutive = config.losses.photometric_consecutive > 0
            self.training = gather(
                train, config.train, config.cache, config.render_workers, tell, consecutive, config.needs_lidar
            )
            sweeps = tqdm(self.training.files, desc="cameras", unit="sweep", delay=5, disable=not tell)
            self.cameras = TrainedCameras.of(map(load_rig, sweeps))
            known = len(self.training.origins & self.validation.origins)
            if known and tell:
                print(
                    f"{known} of the sweeps (of the rendered town: drives) to validate with are trained on, too: their "
                    "figures say nothing of others; choose others in data or val_data",
                    file=sys.stderr,
                )
            if tell and not config.needs_lidar:
                self._tell_without_lidar()
            if config.asks_teacher:
                self.teacher = ask_teacher(config.teacher, self.training.files, config.method)
            elif config.teacher.name and tell:
                print(
                    f"teacher.name {config.teacher.name} is not asked: by method b the town teaches its own sweeps, "
                    "and other drives are taught by losses ckd, vrkd, gradient and out_of_range",
                    file=sys.stderr,
                )
            elif tell and any(part.name is not None for part in train) and _heed_a_teacher(config.losses):
                print(
                    "teacher.name is empty: of drives other than the rendered town the LiDAR alone is learnt, and "
                    "losses ckd, vrkd and gradient are 0 there; to distil, give a depth model of the hub or a local "
                    "directory",
                    file=sys.stderr,
                )
        self._is_filled = True

    def _tell_without_lidar(self) -> None:
        """They may be meant, or the sign of a LiDAR that is not found or of a rig that is wrong."""
        recorded = [
            file
            for part, files in zip(self.config.mixtures()[0], self.training.parts, strict=True)
            if part.name is not None
            for file in files
        ]
        without = sum(not has_lidar(file) for file in recorded)
        if without:
            taught_by = [name for name in TAUGHT_WITHOUT_LIDAR if getattr(self.config.losses, name) > 0]
            print(
                f"{without} of {len(recorded)} recorded sweeps to train on have no LiDAR point in any view: only "
                f"losses {', '.join(taught_by)} teach there",
                file=sys.stderr,
            )

    def state_dict(self) -> dict[str, Any]:
        """Kept by the trainer in the state of a run."""
        return {"cameras": None if self.cameras is None else asdict(self.cameras)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The opposite; a run that goes on has seen the cameras of before and those of its samples now."""
        if state_dict["cameras"] is not None:
            before = TrainedCameras(**state_dict["cameras"])
            self.cameras = before if self.cameras is None else before.joined(self.cameras)

    def train_dataloader(self) -> DataLoader[Any]:
        """From the first draw that the saved state has not seen."""
        assert self.trainer is not None
        config = self.config
        shard = Shard(self.trainer.global_rank, self.trainer.world_size, config.batch_size)
        start = self.trainer.global_step * config.draws_per_step
        keys = Draws(self.training.lengths, config.seed, start, self.training.weights, shard)
        dataset = CachedSweeps(
            self.training.files, config.augment, config.teacher_blur_px, config.seed, teacher=self.teacher
        )
        return self._loader(dataset, keys)

    def val_dataloader(self) -> DataLoader[Any]:
        """Every validation sweep once."""
        assert self.trainer is not None
        return self._validation_loader(self._validation_sweeps(self.trainer.global_rank))

    def fitting_dataloader(self) -> DataLoader[Any]:
        """The validation batches that numbers are fitted to after the training; tells where these are not all.

        At most ``MAX_BATCHES`` of all processes together, spread evenly.
        """
        assert self.trainer is not None
        of_all = [self._sweeps_to_fit(process) for process in range(self.trainer.world_size)]
        used, there = sum(map(len, of_all)), len(self.validation.files)
        if used < there and self.trainer.is_global_zero:
            print(f"the power of the bins and sigma are fitted to {used} of {there} validation sweeps, spread evenly")
        return self._validation_loader(of_all[self.trainer.global_rank])

    def _validation_sweeps(self, process: int) -> Sequence[int]:
        assert self.trainer is not None
        return range(process, len(self.validation.files), self.trainer.world_size)

    def _sweeps_to_fit(self, process: int) -> Sequence[int]:
        """Those of whole batches of a process, so that these are the batches of a validation."""
        assert self.trainer is not None
        own, size = self._validation_sweeps(process), self.config.batch_size
        batches = [own[first : first + size] for first in range(0, len(own), size)]
        chosen = evenly(len(batches), math.ceil(MAX_BATCHES / self.trainer.world_size))
        return [index for batch in chosen for index in batches[batch]]

    def _validation_loader(self, sweeps: Sequence[int]) -> DataLoader[Any]:
        dataset = CachedSweeps(self.validation.files, None, self.config.teacher_blur_px, self.config.seed)
        return self._loader(dataset, [(index, 0) for index in sweeps])

    def _loader(self, dataset: CachedSweeps, keys: Any) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_size=self.config.batch_size,
            sampler=keys,
            num_workers=self.config.loader_workers,
            collate_fn=collate,
            worker_init_fn=_leave_sigterm_to_the_run,
            persistent_workers=False,
            pin_memory=torch.cuda.is_available(),
        )


def _heed_a_teacher(weights: LossWeights) -> bool:
    return any(weight > 0 for weight in (weights.ckd, weights.vrkd, weights.gradient))


def _leave_sigterm_to_the_run(_: int) -> None:
    """Schedulers send it to all processes of a job; a worker that dies of it keeps the run from saving its state."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def ask_teacher(settings: TeacherSettings, files: list[Path], method: Method) -> CachedTeacher | None:
    """The teacher's cache with an entry for every sample that has no dense depth; none without a teacher.

    Raises TeacherError where the teacher cannot be loaded, ConfigError where method b would need a checkpoint's word.
    """
    if not settings.name:
        return None
    if names_checkpoint(settings.name):
        if method == "b" and not all(map(stores_dense_depth, files)):
            raise ConfigError(
                f"teacher.name {settings.name}: a checkpoint teaches by its features, expected method a, got method b"
            )
        return None  # the cache belongs to single images, and it speaks of sweeps with their rig
    from training.teachers.hub import load_teacher  # transformers takes seconds to import, and few runs need it

    without = [file for file in files if not stores_dense_depth(file)]
    samples = (load_sample(file) for file in tqdm(without, desc="looking up the teacher", unit="sweep", delay=5))
    images = (sample.images[sample.present] for sample in samples)
    return fill_teacher_cache(load_teacher(settings), images, settings.cache, total=len(without))
