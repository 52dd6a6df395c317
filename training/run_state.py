"""What a run leaves behind while it goes: a state to continue from, its best weights, and its log."""

from __future__ import annotations

import csv
import json
import math
import os
import pickle
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from fsmde_ros.errors import CheckpointError, ConfigError
from training.expectation import error_of
from training.module import validation_metrics

SETTINGS_KEY = "distill_settings"  # their key in a state


class SavedState(NamedTuple):
    """What a state says of its run: the step, and the settings it was saved with, by name.

    No settings are known of a state that was saved before they were kept in it.
    """

    step: int = 0
    settings: Mapping[str, Any] = {}


class KeepState(Callback):
    """Saves the state of the run every few steps and, of one process, on SIGTERM or Ctrl-C; never a half-written file.

    ``settings`` are saved with it: values that JSON can hold, by name. Weights that are not finite are never saved.
    """

    def __init__(self, path: Path, every: int, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.every = every
        self.settings = json.dumps(settings)
        self._is_due = False

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save at every ``every``-th step and the last, or one later where a validation follows that step.

        Lightning takes a validation for done when it continues from a state saved just before it.
        """
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        is_last = trainer.global_step == trainer.max_steps
        self._is_due = self._is_due or is_last or trainer.global_step % self.every == 0
        validates = (batch_idx + 1) % trainer.val_check_batch == 0
        if self._is_due and (is_last or not validates):
            self.save(trainer)
            self._is_due = False

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Save where the user or the machine ends the run; not after an error, which may have spoilt it."""
        # Several processes are not stopped at the same step; the state of the last regular save counts.
        # Before the first step there is nothing to continue from, and what only validates would save half a state.
        trains = trainer.state.fn == TrainerFn.FITTING and trainer.global_step > 0
        if trains and isinstance(exception, KeyboardInterrupt | SystemExit) and trainer.world_size == 1:
            self.save(trainer)
            print(f"state saved at step {trainer.global_step}; run the same command to continue", file=sys.stderr)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Settings in the state itself, so that the two are never of different runs; batches of whole steps alone.

        The draws go on from the last step. If the batches went on from within the next, every later step would be made
        of parts of two, and be logged as another. So a state from within a step is made one of the end of the last.
        """
        checkpoint[SETTINGS_KEY] = self.settings
        loops = checkpoint["loops"]["fit_loop"]
        progress = loops["epoch_loop.batch_progress"]
        batches = trainer.global_step * trainer.accumulate_grad_batches
        if progress["current"]["ready"] > batches:
            for counts in (progress["total"], progress["current"]):
                counts.update(dict.fromkeys(counts, batches), completed=batches - 1)
            loops["epoch_loop.state_dict"]["_batches_that_stepped"] = trainer.global_step - 1

    def save(self, trainer: Any) -> None:
        """Write beside the last state, then take its place; raises ConfigError for weights that are not finite."""
        _refuse_diverged(trainer.lightning_module, trainer.global_step, self.path)
        scratch = self.path.with_suffix(".tmp")
        trainer.save_checkpoint(scratch)
        for logger in trainer.loggers:  # what is logged up to a state must not be lost with the process
            logger.save()
        if trainer.is_global_zero:
            os.replace(scratch, self.path)


class KeepBest(Callback):
    """Keeps the averaged weights that scored best in a validation of the run, in one file that is never half written.

    They are judged by ``error_of``, as they were trained: before the power of the bins is chosen.

    Attributes:
        path: of the file.
        step: after which they were so, 0 before the first.
        error: theirs; infinite where nothing could be scored yet.
    """

    def __init__(self, path: Path, begins: bool) -> None:
        """``begins``: the run does, so that a file which is there is of another."""
        self.path = path
        self.step, self.error = (0, math.inf) if begins or not path.exists() else _read_best(path)[:2]

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Keep the weights where they are the best so far; those within the training alone count."""
        if trainer.sanity_checking:  # what is validated before the first step is logged by nobody else
            for logger in trainer.loggers:
                logger.log_metrics(validation_metrics(pl_module.board.overall()), step=0)
        if trainer.state.fn == TrainerFn.FITTING:
            self.offer(trainer, pl_module)

    def offer(self, trainer: Any, module: Any) -> None:
        """Keep the weights that have just been validated where they are the best so far; of all processes the same."""
        error = error_of(module.board.overall())
        if not error < self.error:
            return
        self.step, self.error = trainer.global_step, error
        if trainer.is_global_zero:
            scratch = self.path.with_suffix(".tmp")
            torch.save({"step": self.step, "error": error, "weights": module.average.state_dict()}, scratch)
            os.replace(scratch, self.path)

    def is_another(self, step: int) -> bool:
        """Whether there are best weights, and of another step than this."""
        return math.isfinite(self.error) and self.step != step

    def weights(self) -> dict[str, Tensor]:
        """Those of the file, by name; raises CheckpointError where it cannot be read."""
        return _read_best(self.path)[2]


def _read_best(path: Path) -> tuple[int, float, dict[str, Tensor]]:
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        return int(saved["step"]), float(saved["error"]), dict(saved["weights"])
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path}: the best weights of the run cannot be read ({error}); delete the file to go on without them"
        ) from error


def _refuse_diverged(module: nn.Module, step: int, state: Path) -> None:
    """A single NaN in a gradient is one in all weights, for good: to go on is lost time, to save it loses the run."""
    if not all(bool(torch.isfinite(weight).all()) for weight in module.parameters()):
        kept = f"that of an earlier step is kept in {state}" if state.exists() else "there is no earlier one"
        raise ConfigError(
            f"the training has diverged: at step {step} there are weights that are NaN or infinite. Their state is not "
            f"saved, {kept}. Lower optimisation.rate and optimisation.encoder_rate, or take more optimisation."
            "warmup_steps, in another folder work; where that does not help, look at train/* in log/metrics.csv for "
            "the loss that went first"
        )


def saved_state(state: Path) -> SavedState:
    """What a state says of its run, step 0 where there is none. Raises CheckpointError where it cannot be read."""
    if not state.exists():
        return SavedState()
    try:
        saved = torch.load(state, map_location="cpu", weights_only=True, mmap=True)
        return SavedState(int(saved["global_step"]), json.loads(saved.get(SETTINGS_KEY, "{}")))
    except (OSError, RuntimeError, ValueError, KeyError, EOFError) as error:
        raise CheckpointError(
            f"{state}: the state of the run cannot be read ({error}); delete it to begin anew"
        ) from error


def make_loggers(work: Path, first_step: int, tensorboard: bool) -> list[Logger]:
    """Logs of a run that begins or continues at ``first_step``: ``log/metrics.csv``, and TensorBoard's if asked for.

    What an earlier part of the run logged stays, up to that step; what it logged beyond is done again.
    """
    kept = _rows_before(work / "log" / "metrics.csv", first_step)
    table = CSVLogger(work, name="log", version="")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Experiment logs directory")  # it is written again at once
        writer = table.experiment
    if isinstance(writer, ExperimentWriter):  # in the first process only: the others write no log
        writer.metrics.extend(kept)
        writer.save()
    loggers: list[Logger] = [table]
    if tensorboard:
        loggers.append(TensorBoardLogger(work, name="tensorboard", version="", purge_step=first_step))
    return loggers


def _rows_before(path: Path, step: int) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("step")]
    return [{name: value for name, value in row.items() if value} for row in rows if int(row["step"]) < step]
