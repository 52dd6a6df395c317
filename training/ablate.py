"""Train arms that differ in one thing each, with several seeds, and compare them.

    python -m training.ablate --config training/configs/ablation.yaml
    python -m training.ablate --config training/configs/ablation.yaml --arms '[supervised, ckd_b_vrkd]' --seeds '[0]'

Every run is one of ``training.distill`` with the same steps and data. Stopped at any time, the same command goes
on where it was; runs that are done are not repeated. After each arm the table and the figures are written anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jsonargparse import ArgumentParser
from numpy.typing import NDArray

from fsmde_ros.checkpoint import load_checkpoint
from fsmde_ros.errors import ConfigError, FsmdeError
from fsmde_ros.metrics import DepthScore, ScoreBoard, align_affine, score_depth
from fsmde_ros.network.student import StudentConfig
from training.batch import collate
from training.configuration import DistillConfig, config_hash
from training.datasets import TownData
from training.distill import distill
from training.loaders import Loaders
from training.module import refuse_contradiction, run_student, score_views
from training.sample_file import load_sample
from training.stripes import stripe_energy, stripes

Array = NDArray[np.float32]
TEACHER_TERMS = ("ckd", "vrkd", "gradient", "out_of_range", "cross", "vrkd_features")


class Arm(NamedTuple):
    """What an arm is called in the table, what it changes, and whether it needs a teacher with features."""

    title: str
    change: Callable[[DistillConfig], DistillConfig]
    needs_features: bool = False


def lidar_and(*terms: str, method: str = "b") -> Callable[[DistillConfig], DistillConfig]:
    """A change that leaves, of all terms with a teacher in them, only those named, at the weights of the base."""

    def change(base: DistillConfig) -> DistillConfig:
        off = dict.fromkeys((name for name in TEACHER_TERMS if name not in terms), 0.0)
        return replace(base, losses=replace(base.losses, **off), method="a" if method == "a" else "b")

    return change


def student_with(change: Callable[[StudentConfig], StudentConfig]) -> Callable[[DistillConfig], DistillConfig]:
    """A change of the student alone, with all terms of the base."""
    return lambda base: replace(base, student=change(base.student))


ARMS: Mapping[str, Arm] = {
    "supervised": Arm("LiDAR only", lidar_and()),
    "ckd_b": Arm("LiDAR + CKD, method B", lidar_and("ckd")),
    "ckd_a": Arm("LiDAR + CKD, method A", lidar_and("ckd", "cross", method="a"), needs_features=True),
    "vrkd": Arm("LiDAR + VRKD", lidar_and("vrkd")),
    "ckd_b_vrkd": Arm("LiDAR + CKD B + VRKD", lidar_and("ckd", "vrkd")),
    "all": Arm("all terms of the base", lambda base: base),
    "no_rays": Arm("all, without rays", student_with(lambda s: replace(s, use_rays=False))),
    "no_attention": Arm("all, without attention", student_with(lambda s: replace(s, use_surround_attention=False))),
    "no_ground_prior": Arm("all, without ground prior", student_with(lambda s: replace(s, use_ground_prior=False))),
}


@dataclass(frozen=True)
class AblationConfig:
    """Which arms, how often, and what they have in common."""

    base: DistillConfig = field(default_factory=DistillConfig)  # its seed, work and output are set by run
    arms: tuple[str, ...] = tuple(ARMS)
    seeds: tuple[int, ...] = (0, 1, 2)
    # What the arms are compared on, whatever base.val_data is: only the town knows the depth of every pixel. Not
    # base.val: there every run chooses how its bins are averaged.
    scored: TownData = field(
        default_factory=lambda: TownData(drives=16, sweeps_per_drive=2, first_seed=2_500_000, held_out=True)
    )
    work: Path = Path("out/ablation")  # one folder a run
    results: Path = Path("docs/results/ablation.json")
    table: Path = Path("docs/ablation.md")

    def __post_init__(self) -> None:
        unknown = [name for name in self.arms if name not in ARMS]
        if unknown or not self.arms:
            raise ConfigError(f"arms must be some of {', '.join(ARMS)}, got {', '.join(unknown) or 'none'}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds must be one or more different numbers, got {list(self.seeds)}")
        if set(self.arms) <= set(self.left_out):
            raise ConfigError(f"every one of the arms {', '.join(self.arms)} {next(iter(self.left_out.values()))}")
        # refused now where one cannot be trained, not when its turn has come
        for seed in self.seeds:
            replace(self.base, seed=seed)
        for name in self.arms:
            if name not in self.left_out:
                self._refuse_untrainable(name)

    @property
    def left_out(self) -> dict[str, str]:
        """Why arms cannot be had with this base, by name."""
        reason = "needs a teacher with features: give base.teacher.name"
        named = bool(self.base.teacher.name)
        return {name: reason for name in self.arms if ARMS[name].needs_features and not named}

    def _refuse_untrainable(self, name: str) -> None:
        try:
            changed = ARMS[name].change(self.base)
            refuse_contradiction(changed.losses, with_features=changed.method == "a")
        except ConfigError as error:
            raise ConfigError(f"arm {name} cannot be trained: {error}; change base, or leave it out of arms") from error


@dataclass(frozen=True)
class RunScore:
    """How good the student of one run is on the validation sweeps.

    Attributes:
        abs_rel, d1: against the LiDAR, mean per image, camera and cameras.
        median_image_abs_rel: AbsRel against the LiDAR of the median image. A few images in which something close by
            is taken to be far carry much of the mean; here they do not count.
        dense_abs_rel: the same against the dense truth: between the scan lines, too.
        shape_abs_rel: the same after the best scale and shift in disparity of each image: what is left of the
            error when metres do not count.
        stripes: see ``training.stripes``; none where nothing could be measured.
        expectation_power: how its bins are averaged (``StudentConfig``), as the run chose on its validation sweeps.
    """

    abs_rel: float
    d1: float
    median_image_abs_rel: float
    dense_abs_rel: float
    shape_abs_rel: float
    stripes: float | None
    expectation_power: float


def ablate(config: AblationConfig) -> dict[str, dict[str, object]]:
    """Train and score what is missing, write table and figures after each arm; figures by arm."""
    figures: dict[str, dict[str, object]] = {}
    left_out = config.left_out
    for name, reason in left_out.items():
        print(f"arm {name} is left out: {reason}", file=sys.stderr)
    for name in config.arms:
        if name in left_out:
            continue
        scores = [run(config, name, seed) for seed in config.seeds]
        figures[name] = summary(scores, config)
        document = {"command": command(), "machine": machine(), "left_out": left_out, "arms": figures}
        write(config.results, json.dumps(document, indent=2) + "\n")
        write(config.table, render_table(figures, left_out, config))
    return figures


def run(config: AblationConfig, name: str, seed: int) -> RunScore:
    """Train one arm with one seed and score it, or read the score that is there already."""
    chosen = replace(ARMS[name].change(config.base), seed=seed)
    folder = config.work / f"{name}-{seed}-{config_hash(chosen)[:12]}"  # other settings never continue this run
    chosen = replace(chosen, work=folder, output=folder / "student.safetensors")
    shown = replace(chosen, val=replace(config.scored, size=chosen.input_size), val_data="town")
    score_file = folder / f"score-{_hash_of_scored(shown)}.json"  # scored on other drives, a run has another score
    score = _kept_score(score_file)
    if score is None:
        print(f"arm {name}, seed {seed}: {folder}", file=sys.stderr)
        if not chosen.output.exists():
            distill(chosen)
        loaders = Loaders(shown, with_training=False)
        loaders.fill(tell=False)
        score = score_checkpoint(chosen.output, loaders.validation.files)
        write(score_file, json.dumps(asdict(score)) + "\n")
    return score


def _kept_score(file: Path) -> RunScore | None:
    """The score of an earlier call; none where there is none, or one of a version that took other figures."""
    try:
        return RunScore(**json.loads(file.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _hash_of_scored(shown: DistillConfig) -> str:
    """Twelve digits for the drives that a run with these settings is scored on."""
    described = {"scored": asdict(shown.val), "val_data": shown.val_data}
    return hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()[:12]


def score_checkpoint(checkpoint: Path, files: Sequence[Path]) -> RunScore:
    """Score a checkpoint on cached sweeps; only those of the town have dense truth."""
    student, _ = load_checkpoint(checkpoint)
    against_lidar, against_dense, shape, energies = ScoreBoard(), ScoreBoard(), ScoreBoard(), []
    for file in files:
        batch = collate([load_sample(file)])
        with torch.no_grad():
            depth = run_student(student, batch).depth
        dense = batch._replace(lidar_depth=batch.dense_depth)
        for board, truth in ((against_lidar, batch), (against_dense, dense)):
            for view, score in score_views(depth, truth, student.config):
                board.add(view, score)
        for b, v in batch.present.nonzero().tolist():
            maps = (depth[b, v], batch.dense_depth[b, v], batch.lidar_depth[b, v])
            predicted, true_depth, lidar = (one.numpy() for one in maps)
            energies.append(stripe_energy(predicted, true_depth, lidar))
            shape.add(f"view_{v}", score_shape(predicted, true_depth, student.config.d_min, student.config.d_max))
    height = stripes(energies)
    overall = against_lidar.overall()
    return RunScore(
        overall.abs_rel,
        overall.d1,
        float(np.median([score.abs_rel for scores in against_lidar.images.values() for score in scores if score.n])),
        against_dense.overall().abs_rel,
        shape.overall().abs_rel,
        height if np.isfinite(height) else None,
        student.config.expectation_power,
    )


def score_shape(predicted: Array, truth: Array, d_min: float, d_max: float) -> DepthScore:
    """Score a depth image [H, W], metres, after the best scale and shift in disparity; 0 in ``truth`` is unknown."""
    known = (truth >= d_min) & (truth <= d_max)
    near = np.clip(predicted[known], d_min, d_max)
    return score_depth(align_affine(1 / near, truth[known]) if known.sum() > 2 else near, truth[known], d_min, d_max)


def summary(scores: Sequence[RunScore], config: AblationConfig) -> dict[str, object]:
    """Means over the seeds, and the spread (sample standard deviation; none for a single seed)."""

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return round(float(np.mean(known)), 5) if known else None

    def spread(values: Sequence[float]) -> float | None:
        return round(float(np.std(values, ddof=1)), 5) if len(values) > 1 else None

    return {
        "abs_rel_mean": mean([score.abs_rel for score in scores]),
        "abs_rel_std": spread([score.abs_rel for score in scores]),
        "d1_mean": mean([score.d1 for score in scores]),
        "d1_std": spread([score.d1 for score in scores]),
        "median_image_abs_rel_mean": mean([score.median_image_abs_rel for score in scores]),
        "dense_abs_rel_mean": mean([score.dense_abs_rel for score in scores]),
        "shape_abs_rel_mean": mean([score.shape_abs_rel for score in scores]),
        "stripes": mean([score.stripes for score in scores]),
        "expectation_power_mean": mean([score.expectation_power for score in scores]),
        "seeds": list(config.seeds),
        "steps": config.base.steps,
        "runs": [asdict(score) for score in scores],
    }


def render_table(
    figures: Mapping[str, Mapping[str, object]], left_out: Mapping[str, str], config: AblationConfig
) -> str:
    """Markdown page of the figures."""
    base = figures.get("supervised", {}).get("abs_rel_mean")
    sweeps = config.scored.drives * config.scored.sweeps_per_drive
    lines = [
        "# Ablation",
        "",
        f"Made by `{command()}` on {machine()}. {config.base.steps} steps of {config.base.batch_size} sweeps, "
        f"{len(config.seeds)} seed(s); mean ± sample standard deviation over the seeds. Scored on {sweeps} held-out "
        "town sweeps that no run saw: AbsRel and δ1 against the LiDAR, AbsRel of the median image, dense AbsRel "
        "against the true depth of every pixel, shape AbsRel the same after the best scale and shift in disparity of "
        "each image, stripes as defined in `training/stripes.py` (height of the ripple in step with the scan lines, in "
        "log depth). Power: how the bins are averaged, 1 in metres, 0 in log depth; each run chose it at its end, by "
        "AbsRel + RMSE log - δ1 on its validation sweeps.",
        "",
        "| arm | | AbsRel | against LiDAR only | δ1 | median image | dense AbsRel | shape AbsRel | stripes | power |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in figures.items():
        mean = row["abs_rel_mean"]
        change = f"{100 * (mean / base - 1):+.1f} %" if isinstance(mean, float) and isinstance(base, float) else "–"
        lines.append(
            f"| `{name}` | {ARMS[name].title} | {_cell(row, 'abs_rel')} | {change} | {_cell(row, 'd1')} | "
            f"{_number(row['median_image_abs_rel_mean'])} | {_number(row['dense_abs_rel_mean'])} | "
            f"{_number(row['shape_abs_rel_mean'])} | {_number(row['stripes'])} | "
            f"{_number(row['expectation_power_mean'])} |"
        )
    lines += ["", *(f"`{name}` is left out: {reason}." for name, reason in left_out.items())]
    return "\n".join(lines).rstrip() + "\n"


def _cell(row: Mapping[str, object], name: str) -> str:
    spread = row[f"{name}_std"]
    return _number(row[f"{name}_mean"]) + (f" ± {_number(spread)}" if spread is not None else "")


def _number(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "–"


def command() -> str:
    """The command that is running, as it is written in the documents."""
    return shlex.join(["python", "-m", "training.ablate", *sys.argv[1:]])


def machine() -> str:
    """What the figures were made on."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    return f"{os.cpu_count()} CPU cores{gpu}, torch {torch.__version__}"


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all; raises ConfigError where it cannot be."""
    scratch = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(text, encoding="utf-8")
        os.replace(scratch, path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); give another place") from error


def read_command_line(arguments: Sequence[str] | None = None) -> AblationConfig:
    """Configuration from YAML (``--config``) and the command line, the latter wins."""
    parser = ArgumentParser(prog="python -m training.ablate", description="Train arms, compare them in a table.")
    parser.add_argument("--config", action="config", help="YAML file with any of the options below")
    parser.add_class_arguments(AblationConfig)
    made = parser.instantiate(parser.parse_args(arguments))
    return AblationConfig(**{field.name: made[field.name] for field in fields(AblationConfig)})


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; a user's mistake is told without a traceback."""
    try:
        config = read_command_line(arguments)
        ablate(config)
    except FsmdeError as error:
        print(f"ablate: {error}", file=sys.stderr)
        return 1
    print(config.table.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
