"""Everything a distillation depends on; a YAML file and the command line fill the same fields."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentParser, Namespace

from fsmde_ros.errors import ConfigError
from fsmde_ros.network.student import StudentConfig
from training.augment import AugmentSettings
from training.datasets import TownData
from training.mixture import Part, parse_mixture
from training.module import Optimisation
from training.teachers.teacher import TeacherSettings
from training.terms import LossWeights

Method = Literal["a", "b"]
Precision = Literal["32-true", "16-mixed", "bf16-mixed", "64-true"]
# Where things lie and how often something is written: these do not change the weights.
PLACES = {"output", "work", "cache", "render_workers", "loader_workers", "threads", "save_every", "val_every"}
PLACES |= {"log_every", "tensorboard", "accelerator", "strategy"}
# What a run may be continued with as it likes; steps may only grow, and size is what train.size and val.size say.
FREE = PLACES | {"steps", "size", "teacher.cache", "teacher.batch", "teacher.device"}

# The losses that say something of depth; the others shape what these teach.
TAUGHT_BY = ("silog", "ckd", "vrkd", "gradient", "overlap", "photometric", "photometric_consecutive")
# These measure by the metres between two cameras, or two moments of one. That views agree (overlap) needs no LiDAR
# either, but depths that are wrong alike agree as well.
TAUGHT_WITHOUT_LIDAR = ("photometric", "photometric_consecutive")

MOST_LOADERS = 16  # of one process: 150 samples a second at 352x640; more would only take memory


def usable_cpus() -> int:
    """CPUs that this process may use, which a job of a cluster or taskset makes fewer than the machine has."""
    return len(os.sched_getaffinity(0))


def loaders_of(cpus: int) -> int:
    """Loaders of each process that trains: its share of the CPUs of the machine but one, which trains.

    To augment and collate a sample takes a CPU 30 ms at 192x320 and 100 ms at 352x640, and a GPU trains on it in a few:
    so nearly all CPUs belong to the loaders. Where CPUs train, the loaders are ahead, and sleep.
    """
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # of torchrun
    return min(max(1, cpus // processes - 1), MOST_LOADERS)


@dataclass(frozen=True)
class DistillConfig:
    """Settings of a run."""

    output: Path = Path("out/student.safetensors")  # the checkpoint; its card is written beside it
    work: Path = Path("out/distill")  # state to resume from, logs, pictures
    cache: Path = Path(".cache/town")  # rendered and decoded sweeps, shared by all runs
    data: str | list[str] = "town"  # drives to train on: see training.mixture; "town" is what `train` says
    val_data: str | list[str] = "town"  # drives to validate with; "town" is what `val` says
    size: tuple[int, int] | None = None  # (H, W) of the network's input; none: that of `train` and `val`
    train: TownData = field(default_factory=TownData)
    val: TownData = field(default_factory=lambda: TownData(drives=12, first_seed=2_000_000, held_out=True))
    student: StudentConfig = field(default_factory=StudentConfig)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    losses: LossWeights = field(default_factory=LossWeights)
    optimisation: Optimisation = field(default_factory=Optimisation)
    teacher: TeacherSettings = field(default_factory=TeacherSettings)  # of drives without dense depth
    method: Method = "b"  # a: shared bins on the teacher's features; b: bins from its cached depth
    teacher_blur_px: float = 0.7  # of the town's stand-in teacher: no foundation model is sharper
    imagenet: bool = True  # begin with ImageNet weights in the encoder
    start_from: str = ""  # checkpoint whose weights to begin with, instead; shipped: that of the package
    steps: int = 3000
    batch_size: int = 2  # sweeps of each process
    accumulate: int = 1  # batches whose gradients make one step
    val_every: int = 500  # steps; the size of the validation set decides what that costs
    save_every: int = 100  # steps
    log_every: int = 10  # steps
    tensorboard: bool = False  # also write TensorBoard's files, with pictures
    render_workers: int = field(default_factory=usable_cpus)  # each renders, or reads, for itself
    loader_workers: int = field(default_factory=lambda: loaders_of(usable_cpus()))  # of each process
    threads: int = 0  # of torch; 0 leaves the choice to torch
    precision: Precision = "32-true"  # bf16-mixed on a GPU; losses are float32 in any case
    accelerator: str = "auto"
    devices: int = 1  # processes on this machine; with several, start them with torchrun
    num_nodes: int = 1  # machines
    strategy: str = "auto"  # Lightning's; auto takes ddp for several processes
    seed: int = 0

    def __post_init__(self) -> None:
        positive = ("steps", "batch_size", "accumulate", "val_every", "save_every", "log_every", "render_workers")
        for name in (*positive, "devices", "num_nodes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("loader_workers", "threads", "teacher_blur_px"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.size is not None:
            object.__setattr__(self, "train", replace(self.train, size=self.size))
            object.__setattr__(self, "val", replace(self.val, size=self.size))
        stride = self.student.stride
        if self.train.size != self.val.size or any(side % stride or side < stride for side in self.train.size):
            raise ConfigError(
                f"size, or train.size and val.size, must be equal multiples of {stride}, got {self.train.size}, "
                f"{self.val.size}"
            )
        if not 0 <= self.seed < 2**32:  # what all generators of random numbers take
            raise ConfigError(f"seed must be from 0 to {2**32 - 1}, got {self.seed}")
        if self.output.suffix != ".safetensors":  # told now, not after the training
            raise ConfigError(f"output must end in .safetensors, got {self.output}")
        if not any(getattr(self.losses, name) > 0 for name in TAUGHT_BY):
            raise ConfigError(
                f"nothing teaches the student: one of {', '.join(TAUGHT_BY)} under losses must be above 0"
            )
        if self.method == "a" and not self.teacher.name:
            raise ConfigError("method a needs a teacher: give teacher.name a hub name or a local directory")
        self.mixtures()

    @property
    def input_size(self) -> tuple[int, int]:
        """(H, W) of the network's input."""
        return self.train.size

    @property
    def processes(self) -> int:
        """Processes that train together, on all machines."""
        return self.devices * self.num_nodes

    @property
    def draws_per_step(self) -> int:
        """Samples that one step of the optimiser sees, of all processes."""
        return self.batch_size * self.accumulate * self.processes

    @property
    def asks_teacher(self) -> bool:
        """Whether the teacher that is named is asked about anything, and a loss listens to it."""
        if not self.teacher.name or self.method == "a":
            return bool(self.teacher.name)
        heard = any(getattr(self.losses, name) > 0 for name in ("ckd", "vrkd", "gradient", "out_of_range"))
        return heard and any(part.name is not None for part in self.mixtures()[0])

    @property
    def needs_lidar(self) -> bool:
        """Whether a sweep without LiDAR teaches nothing; a teacher's depth, too, is brought to metres by it."""
        return not any(getattr(self.losses, name) > 0 for name in TAUGHT_WITHOUT_LIDAR)

    def mixtures(self) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
        """What is trained on, and what is validated with."""
        return parse_mixture(self.data), parse_mixture(self.val_data)


def config_hash(config: DistillConfig) -> str:
    """sha256 of the settings but for places: of those that decide the weights, and how many processes trained."""
    settings = {name: value for name, value in asdict(config).items() if name not in PLACES}
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


def flat_settings(config: DistillConfig) -> dict[str, Any]:
    """All settings by their names on the command line, such as ``losses.vrkd``, each as JSON gives it back."""
    flat: dict[str, Any] = {}

    def add(prefix: str, part: dict[str, Any]) -> None:
        for name, value in part.items():
            if isinstance(value, dict):
                add(f"{prefix}{name}.", value)
            else:
                flat[prefix + name] = value

    add("", json.loads(json.dumps(asdict(config), default=str)))
    return flat


def as_yaml(config: DistillConfig) -> str:
    """All settings as YAML that ``--config`` takes."""
    return yaml.safe_dump(json.loads(json.dumps(asdict(config), default=str)), sort_keys=False)


def changed_settings(begun: Mapping[str, Any], config: DistillConfig) -> list[str]:
    """Names and values of what is no longer as the run began, ``flat_settings`` then, and may not change."""
    now = flat_settings(config)
    # what only one of them has was added to this program, or taken from it, since
    fixed = [name for name in now if name in begun and name not in FREE]
    changed = [f"{name} was {begun[name]}, is {now[name]}" for name in fixed if begun[name] != now[name]]
    if now["steps"] < begun.get("steps", 0):
        changed.append(f"steps was {begun['steps']}, is {now['steps']}, and may only grow")
    return changed


def read_command_line(arguments: Sequence[str] | None = None) -> tuple[DistillConfig, Namespace]:
    """Configuration from YAML (``--config``) and the command line, the latter wins; and all that was given."""
    parser = ArgumentParser(prog="python -m training.distill", description="Distil a student, export its checkpoint.")
    parser.add_argument("--config", action="config", help="YAML file with any of the options below")
    parser.add_argument("--render-only", action="store_true", help="fill the caches of drives and teacher and stop")
    parser.add_argument("--export-only", action="store_true", help="write the checkpoint of the saved state and stop")
    parser.add_class_arguments(DistillConfig)
    given = parser.parse_args(arguments)
    made = parser.instantiate(given)
    return DistillConfig(**{field.name: made[field.name] for field in fields(DistillConfig)}), given
