"""Distil a student and export its checkpoint.

    python -m training.distill --config training/configs/town.yaml
    python -m training.distill --config training/configs/town.yaml --steps 500 --losses.vrkd 0 \\
        --work out/distill/no_vrkd --output out/no_vrkd.safetensors
    python -m training.distill --config training/configs/own_bag.yaml \\
        --data bag:/data/drive,samples=:-140 --val_data bag:/data/drive,samples=-110:-70
    python -m training.distill --config training/configs/town.yaml --render-only
    python -m training.distill --config training/configs/town.yaml --export-only
    torchrun --nproc-per-node 8 -m training.distill --config training/configs/nuscenes.yaml --devices 8

Running the same command again continues where the last run stopped, also after a kill: the state is
saved every few minutes and, by a run of one process, on SIGTERM and Ctrl-C. Other settings need another folder
``work``; of those that decide the weights only ``steps`` may grow. ``work/config.yaml`` has all settings of the run.
At the end the averaged weights are written as a checkpoint of ``fsmde_ros``: safetensors and a model card. Where they
had scored better in the validation of an earlier step, or before the first, the student of then is
``work/best.safetensors``.
"""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import LearningRateMonitor, TQDMProgressBar
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from fsmde_ros.backends.heap import keep_freed_memory
from fsmde_ros.checkpoint import default_checkpoint, find_checkpoint, load_checkpoint, read_card, save_checkpoint
from fsmde_ros.errors import ConfigError, FsmdeError
from fsmde_ros.model_card import ModelCard
from fsmde_ros.network.student import Student
from fsmde_ros.trained_cameras import TrainedCameras
from training.batch import SweepBatch
from training.configuration import (
    DistillConfig,
    as_yaml,
    changed_settings,
    config_hash,
    flat_settings,
    read_command_line,
)
from training.expectation import best_power, error_of, score_powers, with_config
from training.imagenet import imagenet_package, initialise_from_imagenet
from training.loaders import Loaders
from training.mixture import describe, licences
from training.module import DistillModule, validation_metrics
from training.pictures import DepthPictures
from training.run_state import KeepBest, KeepState, SavedState, make_loggers, saved_state
from training.stddev_fit import with_fitted_stddev
from training.teachers.checkpoint import CheckpointTeacher, load_checkpoint_teacher, names_checkpoint
from training.writable import make_folder

if TYPE_CHECKING:
    from training.teachers.hub import HubTeacher

LONGEST_WAIT = timedelta(days=1)  # of processes for another: the first of a machine fills the caches


def distill(config: DistillConfig, export_only: bool = False) -> None:
    """Fill the caches, train from the last state on, validate, export the checkpoint.

    A validation before the first step tells what the weights to begin with are worth. Where another step scored better
    than the last, its student is exported to the folder ``work``, too.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    state = config.work / "last.ckpt"
    if export_only and not state.exists():
        raise ConfigError(f"there is no state to export at {state}; train first, without --export-only")
    saved = saved_state(state)
    _refuse_other_settings(config, state, saved)
    if not state.exists():
        _refuse_frozen_noise(config)
        _tell_other_input(config)
    _make_folders(config)
    _keep_settings(config)
    lightning.seed_everything(config.seed, verbose=False)
    module = make_module(config)
    loaders = Loaders(config, with_training=not export_only)
    steps = saved.step
    best = KeepBest(config.work / "best.ckpt", begins=not state.exists())
    trainer = make_trainer(config, state, best, steps)
    if trainer.strategy.root_device.type == "cpu":
        keep_freed_memory()
    if export_only:
        trainer.validate(module, datamodule=loaders, ckpt_path=state, weights_only=True)
    else:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Found .* module.s. in eval mode")  # BatchNorm, frozen
            trainer.fit(module, datamodule=loaders, ckpt_path=state if state.exists() else None, weights_only=True)
        steps = trainer.global_step
    # The trainer leaves the weights on the CPU. And those of a fit are in training mode: what they are scored on would
    # move the statistics of a BatchNorm that is not frozen.
    device, to_fit = trainer.strategy.root_device, loaders.fitting_dataloader()
    scores = score_powers(module.average.to(device).eval(), to_fit)
    power = best_power(scores)
    module.average = with_config(module.average, expectation_power=power)
    trainer.validate(module, datamodule=loaders)
    student = with_fitted_stddev(module.average.to(device), to_fit)
    if trainer.is_global_zero:
        for suffix in (".safetensors", ".json"):  # of an earlier end of this run, or of one before it
            (config.work / f"best{suffix}").unlink(missing_ok=True)
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        _export(config, loaders, student, steps, metrics, config.output)
    if best.is_another(steps):
        kept = best.weights() if trainer.is_global_zero else {}  # which may be on another machine than the rest
        module.average.load_state_dict(trainer.strategy.broadcast(kept))
        last = error_of(scores[power])
        _export_best(config, loaders, to_fit, module.average.to(device), best.step, last, trainer.is_global_zero)
    if trainer.is_global_zero and loaders.left_out:
        print(f"{len(loaders.left_out)} sweeps could not be used and were left out; they are named above")


def _export(
    config: DistillConfig, loaders: Loaders, student: Student, steps: int, metrics: Mapping[str, float], path: Path
) -> None:
    card = replace(model_card(config, steps, metrics), name=path.stem, cameras=trained_cameras(config, loaders.cameras))
    save_checkpoint(path, student, card)
    print(f"wrote {path}")


def _export_best(
    config: DistillConfig,
    loaders: Loaders,
    to_fit: Iterable[SweepBatch],
    student: Student,
    step: int,
    last: float,
    writes: bool,
) -> None:
    """Finish and export the best of the validations, of ``step``, where its error is below that of the ``last`` step,
    each with the power that is best for it; all processes have to call this."""
    scores = score_powers(student, to_fit)
    power = best_power(scores)
    its = error_of(scores[power])
    if not its < last:
        return
    student = with_fitted_stddev(with_config(student, expectation_power=power), to_fit)
    if writes:
        path = config.work / "best.safetensors"
        _export(config, loaders, student, step, validation_metrics(scores[power]), path)
        print(
            f"step {step} was better on the validation than the last, {its:.4f} against {last:.4f} (AbsRel + RMSE log "
            f"+ 1 - delta1): to take its student, give {path} in place of {config.output}"
        )


def _make_folders(config: DistillConfig) -> None:
    """Before the training: after it, a result that cannot be written would be told too late."""
    for name, folder in (("work", config.work), ("output", config.output.parent), ("cache", config.cache)):
        make_folder(name, folder)


@rank_zero_only
def _keep_settings(config: DistillConfig) -> None:
    """All of them, whichever came from a file, the command line or the defaults of this version."""
    text = "# all settings of this run: python -m training.distill --config FILE\n" + as_yaml(config)
    (config.work / "config.yaml").write_text(text, encoding="utf-8")


def _refuse_other_settings(config: DistillConfig, state: Path, saved: SavedState) -> None:
    """A run that went on, or was exported, with other settings would claim them in its card without having them."""
    changed = changed_settings(saved.settings, config)
    if changed:
        raise ConfigError(
            f"{state} is of a run with other settings: {'; '.join(changed)}. Give them as they were to continue it, "
            f"another folder with work to train anew, or delete {config.work}"
        )


def _refuse_frozen_noise(config: DistillConfig) -> None:
    """Weights that are never trained have to come from somewhere, and so have statistics."""
    encoder = config.student.encoder
    if not config.imagenet and not config.start_from and (encoder.frozen_stages or encoder.freeze_batch_norm):
        raise ConfigError(
            "imagenet is false and start_from names no checkpoint, so the encoder begins with random weights, but "
            f"student.encoder.frozen_stages is {encoder.frozen_stages} and student.encoder.freeze_batch_norm is "
            f"{str(encoder.freeze_batch_norm).lower()}, which would keep them so; set these to 0 and false, or "
            "imagenet to true, or start_from to a checkpoint"
        )


@rank_zero_only
def _tell_other_input(config: DistillConfig) -> None:
    """The weights fit any size and reduction, but not as well, and the student is then another, of another speed."""
    if not config.start_from:
        return
    card = read_card(_start(config))
    before = (card.input_size, card.student.input_reduction)
    if before == (config.input_size, config.student.input_reduction):
        return
    (height, width), reduction = before
    print(
        f"start_from {config.start_from} was trained at [{height}, {width}] (H, W) with student.input_reduction "
        f"{reduction}; this run trains it at {list(config.input_size)} with {config.student.input_reduction}. To keep "
        f'what it was: --size "[{height}, {width}]" --student.input_reduction {reduction}',
        file=sys.stderr,
    )


def make_module(config: DistillConfig) -> DistillModule:
    """The student as training begins, and its teacher for method a.

    Raises CheckpointError, TeacherError or ConfigError where weights or teacher cannot be had or do not fit.
    """
    student = Student(config.student)
    if config.start_from:
        student.load_state_dict(_first_weights(config))
    elif config.imagenet:
        initialise_from_imagenet(student.encoder)
    if config.method == "b":
        return DistillModule(student, config.losses, config.optimisation)
    teacher: HubTeacher | CheckpointTeacher
    if names_checkpoint(config.teacher.name):
        teacher = load_checkpoint_teacher(config.teacher)
    else:
        from training.teachers.hub import load_teacher  # transformers takes seconds to import, and few runs need it

        teacher = load_teacher(config.teacher, placed=False)  # the device of this process is not known yet
    return DistillModule(student, config.losses, config.optimisation, teacher, teacher.feature_channels)


def _start(config: DistillConfig) -> Path:
    return default_checkpoint() if config.start_from == "shipped" else find_checkpoint(config.start_from)


def _weights_licence(config: DistillConfig) -> str:
    """Licence of what the weights were made from."""
    if config.start_from:
        licence = load_checkpoint(_start(config))[1].weights_licence
    elif config.imagenet:
        package = imagenet_package(config.student.encoder)
        licence = f"Apache-2.0 (encoder initialised from {package}, ImageNet, Apache-2.0)"
    else:
        licence = "Apache-2.0"
    if config.asks_teacher:
        licence += f"; the licence of the teacher {config.teacher.name} may bind too"
    return licence


def _first_weights(config: DistillConfig) -> dict[str, Tensor]:
    path = _start(config)
    first, _ = load_checkpoint(path)
    if first.config.shape != config.student.shape:
        raise ConfigError(
            f"start_from: {path} holds another student than the settings under student describe: {first.config}, "
            f"expected {config.student}; make them equal"
        )
    return first.state_dict()


def make_trainer(config: DistillConfig, state: Path, best: KeepBest, first_step: int = 0) -> lightning.Trainer:
    """Lightning's trainer with everything this program decides itself.

    Raises ConfigError where the processes do not fit together or the machine lacks what is asked for.
    """
    started = int(os.environ.get("WORLD_SIZE", config.processes))
    if started != config.processes:
        raise ConfigError(
            f"torchrun started {started} processes, but devices x num_nodes is {config.processes}; make them equal"
        )
    keep = KeepState(state, config.save_every, flat_settings(config))
    rates = LearningRateMonitor("step")  # of each group of parameters, in the log
    callbacks = [keep, best, rates, DepthPictures(config.work / "pictures"), TQDMProgressBar(5)]
    strategy: str | DDPStrategy = config.strategy
    if config.processes > 1 and strategy == "auto":
        # A loss that is switched off leaves weights without a gradient, which plain ddp does not forgive.
        strategy = DDPStrategy(find_unused_parameters=True, timeout=LONGEST_WAIT)
    try:
        return lightning.Trainer(
            accelerator=config.accelerator,
            devices=config.devices,
            num_nodes=config.num_nodes,
            strategy=strategy,
            precision=config.precision,
            max_steps=config.steps,
            max_epochs=-1,
            accumulate_grad_batches=config.accumulate,
            val_check_interval=config.val_every * config.accumulate,  # counted in batches
            check_val_every_n_epoch=None,
            num_sanity_val_steps=-1,  # all of it, before the first step; a run that goes on has none
            gradient_clip_val=config.optimisation.clip_norm,
            log_every_n_steps=config.log_every,
            enable_checkpointing=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            sync_batchnorm=_statistics_are_shared(config),
            logger=make_loggers(config.work, first_step, config.tensorboard),
            callbacks=callbacks,
        )
    except (MisconfigurationException, ValueError) as error:
        raise ConfigError(
            f"accelerator {config.accelerator}, devices {config.devices}, strategy {config.strategy}, precision "
            f"{config.precision}: {error}"
        ) from error


def _statistics_are_shared(config: DistillConfig) -> bool:
    """Whether processes have to share the statistics of their batches, or each would have its own.

    Raises ConfigError where they cannot: torch shares them between GPUs only.
    """
    if config.processes == 1 or config.student.encoder.freeze_batch_norm:
        return False
    if config.accelerator == "cpu" or not torch.cuda.is_available():
        raise ConfigError(
            f"student.encoder.freeze_batch_norm is false with {config.processes} processes on CPUs, which cannot share "
            "the statistics of BatchNorm; set it to true, or devices and num_nodes to 1, or use GPUs"
        )
    return True


def model_card(config: DistillConfig, steps: int, metrics: Mapping[str, float]) -> ModelCard:
    """What a user has to know about the checkpoint of a run of ``steps`` steps."""
    train, val = config.mixtures()
    given = [argument for argument in sys.argv[1:] if argument != "--export-only"]  # which trains nothing
    first = load_checkpoint(_start(config))[1] if config.start_from else None
    begun = "" if first is None else f" from the weights {first.weights_sha256[:8]} of {first.name}"
    # what those were trained on is in the weights still, and binds
    data_licences = [licences(train), *([] if first is None else [first.dataset_licence])]
    validated = "held_out_town" if val[0].name is None and config.val.held_out and len(val) == 1 else "validation"
    teacher = f"; distilled from {config.teacher.name}" if config.asks_teacher else ""
    compares = config.losses.photometric > 0 or config.losses.photometric_consecutive > 0
    images = " and by images of one place from two cameras or moments" if compares else ""
    return ModelCard(
        name=config.output.stem,
        student=config.student,
        input_size=config.input_size,
        training_data=(
            f"{describe(train, config.train)}, {steps} steps of {config.draws_per_step}{begun}; "
            f"supervised by LiDAR{images}{teacher}"
        ),
        dataset_licence="; ".join(dict.fromkeys("; ".join(data_licences).split("; "))),
        weights_licence=_weights_licence(config),
        training_command=" ".join(["python -m training.distill", *given]),
        config_sha256=config_hash(config),
        metrics={
            f"{validated}/{name.removeprefix('val/')}": round(value, 5)
            for name, value in metrics.items()
            if name.startswith("val/") and math.isfinite(value)
        },
        notes="Metrics are of the averaged weights in float32 against LiDAR rastered at the input size.",
    )


def trained_cameras(config: DistillConfig, own: TrainedCameras | None) -> TrainedCameras | None:
    """``own``, the cameras of the samples, and those of the first weights; None where either is not known."""
    if own is None or not config.start_from:
        return own
    before = read_card(_start(config)).cameras
    return None if before is None else own.joined(before)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; a user's mistake is told without a traceback."""
    try:
        config, given = read_command_line(arguments)
        if given.render_only:
            Loaders(config).fill(tell=True)
        else:
            distill(config, given.export_only)
    except FsmdeError as error:
        print(f"distill: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
