"""The ablation: what each arm changes, and a smoke run that stops, continues and writes its table."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Literal
from unittest.mock import MagicMock

import numpy as np
import pytest
import yaml

from fsmde_ros.errors import ConfigError
from training.ablate import (
    ARMS,
    TEACHER_TERMS,
    AblationConfig,
    RunScore,
    ablate,
    main,
    read_command_line,
    score_shape,
    summary,
    write,
)
from training.batch import Sample
from training.configuration import DistillConfig
from training.datasets import TownData
from training.sample_file import save_sample
from training.teachers.teacher import TeacherSettings

CONFIGS = Path(__file__).parents[2] / "training" / "configs"
BASE = DistillConfig(teacher=TeacherSettings("some/model"))


def _teacher_terms(name: str) -> set[str]:
    losses = ARMS[name].change(BASE).losses
    return {term for term in TEACHER_TERMS if getattr(losses, term) > 0}


def test_arms_differ_in_what_their_names_say() -> None:
    assert _teacher_terms("supervised") == set()
    assert _teacher_terms("ckd_b") == {"ckd"}
    assert _teacher_terms("ckd_a") == {"ckd", "cross"}
    assert _teacher_terms("vrkd") == {"vrkd"}
    assert _teacher_terms("ckd_b_vrkd") == {"ckd", "vrkd"}
    assert [name for name in ARMS if ARMS[name].change(BASE).method == "a"] == ["ckd_a"]
    for name, part in (
        ("no_rays", "use_rays"),
        ("no_attention", "use_surround_attention"),
        ("no_ground_prior", "use_ground_prior"),
    ):
        changed = ARMS[name].change(BASE)
        assert changed == replace(BASE, student=replace(BASE.student, **{part: False}))
    for name, arm in ARMS.items():
        changed = arm.change(BASE)
        assert changed.losses.silog == BASE.losses.silog, name
        assert (changed.steps, changed.train, changed.val) == (BASE.steps, BASE.train, BASE.val), name


def test_the_shape_of_depth_does_not_know_metres() -> None:
    truth = np.random.default_rng(0).uniform(2.0, 60.0, (20, 30)).astype(np.float32)
    stretched = (1 / (1.7 / truth + 0.02)).astype(np.float32)
    assert score_shape(stretched, truth, 0.5, 80.0).abs_rel < 1e-5
    assert score_shape(truth[::-1], truth, 0.5, 80.0).abs_rel > 0.3
    truth[:10] = 0  # unknown there
    assert score_shape(stretched, truth, 0.5, 80.0).n == 300
    assert score_shape(stretched, np.zeros_like(truth), 0.5, 80.0).n == 0


def test_mean_and_spread_by_hand() -> None:
    scores = [RunScore(0.1, 0.8, 0.08, 0.2, 0.15, 0.03, 1.0), RunScore(0.2, 0.9, 0.12, 0.4, 0.25, None, 0.5)]
    row = summary(scores, AblationConfig(seeds=(4, 5)))
    assert row["abs_rel_mean"] == pytest.approx(0.15)
    assert row["abs_rel_std"] == pytest.approx(0.1 / 2**0.5, abs=1e-5)
    assert row["d1_mean"] == pytest.approx(0.85)
    assert row["median_image_abs_rel_mean"] == pytest.approx(0.1)
    assert row["stripes"] == pytest.approx(0.03)
    assert row["seeds"] == [4, 5]
    assert row["expectation_power_mean"] == pytest.approx(0.75)
    assert summary(scores[:1], AblationConfig(seeds=(4,)))["abs_rel_std"] is None


def test_other_drives_to_score_on_are_scored_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is the same, and not repeated; always the town is scored on, whatever the runs validate with."""
    trained: list[Path] = []

    def distil(config: DistillConfig) -> None:
        trained.append(config.output)
        config.output.parent.mkdir(parents=True)
        config.output.touch()

    class LoadersOfNames:
        def __init__(self, config: DistillConfig, with_training: bool) -> None:
            assert config.val_data == "town"
            self.validation = SimpleNamespace(files=[config.val])

        def fill(self, tell: bool) -> None:
            pass

    def score(checkpoint: Path, files: list[TownData]) -> RunScore:
        return RunScore(float(files[0].first_seed), 0.5, 0.1, 0.1, 0.1, None, 1.0)

    monkeypatch.setattr("training.ablate.distill", distil)
    monkeypatch.setattr("training.ablate.Loaders", LoadersOfNames)
    monkeypatch.setattr("training.ablate.score_checkpoint", score)
    places = {"work": tmp_path / "work", "results": tmp_path / "r.json", "table": tmp_path / "t.md"}
    first = AblationConfig(DistillConfig(val_data="bag:/data/drive"), ("supervised",), (0,), **places)
    second = replace(first, scored=replace(first.scored, first_seed=9_000_000))
    for config in (first, second, first):
        [row] = ablate(config).values()
        assert row["abs_rel_mean"] == config.scored.first_seed
    assert len(trained) == 1
    assert "by AbsRel + RMSE log - δ1 on its validation sweeps" in (tmp_path / "t.md").read_text()


def test_an_arm_that_is_left_out_is_in_the_table_wherever_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.ablate.run", lambda *_: RunScore(0.2, 0.5, 0.1, 0.1, 0.1, None, 1.0))
    places = {"work": tmp_path / "work", "results": tmp_path / "r.json", "table": tmp_path / "t.md"}
    ablate(AblationConfig(arms=("supervised", "ckd_a"), seeds=(0,), **places))
    assert "`ckd_a` is left out: needs a teacher" in (tmp_path / "t.md").read_text()
    assert json.loads((tmp_path / "r.json").read_text())["left_out"].keys() == {"ckd_a"}


def test_a_score_of_a_version_with_other_figures_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = RunScore(0.2, 0.5, 0.1, 0.1, 0.1, None, 1.0)
    monkeypatch.setattr("training.ablate.distill", lambda config: config.output.parent.mkdir(parents=True))
    monkeypatch.setattr("training.ablate.Loaders", MagicMock())
    monkeypatch.setattr("training.ablate.score_checkpoint", lambda *_: made)
    places = {"work": tmp_path / "work", "results": tmp_path / "r.json", "table": tmp_path / "t.md"}
    config = AblationConfig(arms=("supervised",), seeds=(0,), **places)
    ablate(config)
    [kept] = (tmp_path / "work").rglob("score-*.json")
    older = json.loads(kept.read_text())
    del older["expectation_power"]
    for text in (json.dumps(older), json.dumps({**older, "expectation_power": 1.0, "taken_out_since": 3}), "{"):
        kept.write_text(text)
        (kept.parent / "student.safetensors").touch()  # it is not trained again
        [row] = ablate(config).values()
        assert row["abs_rel_mean"] == 0.2
        assert json.loads(kept.read_text()).keys() == asdict(made).keys()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("ablation*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_are_valid(path: Path) -> None:
    config = read_command_line(["--config", str(path)])
    assert config.arms == tuple(ARMS)
    assert config.base.val.held_out
    assert config.scored.held_out
    assert config.scored.first_seed not in (config.base.val.first_seed, config.base.train.first_seed)


@pytest.mark.parametrize(
    "changes", [{"arms": ("nothing",)}, {"arms": ()}, {"seeds": (1, 1)}, {"seeds": ()}, {"seeds": (0, -1)}]
)
def test_wrong_arms_and_seeds_are_refused_by_name(changes: dict[str, tuple[object, ...]]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes)).removesuffix("s")):
        AblationConfig(**changes)


@pytest.mark.parametrize(
    ("losses", "arms", "method", "said"),
    [
        ({"cross": 0.0}, ("supervised", "ckd_a"), "b", r"arm ckd_a cannot be trained: losses\.cross"),
        ({"vrkd_features": 0.1}, ("supervised", "all"), "b", r"arm all cannot be trained: losses\.vrkd_features"),
        ({"silog": 0.0}, ("ckd_b", "supervised"), "b", "arm supervised cannot be trained: nothing teaches"),
    ],
)
def test_an_arm_that_cannot_be_trained_is_refused_before_the_first_is(
    losses: dict[str, float], arms: tuple[str, ...], method: Literal["a", "b"], said: str
) -> None:
    base = replace(BASE, losses=replace(BASE.losses, **losses), method=method)
    with pytest.raises(ConfigError, match=said):
        AblationConfig(base, arms)
    AblationConfig(base, arms[:1])


def test_arms_of_which_none_can_be_had_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"ckd_a needs a teacher .* give base\.teacher\.name"):
        AblationConfig(DistillConfig(), ("ckd_a",))


def test_a_table_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"table\.md: cannot be written"):
        write(tmp_path / "file" / "table.md", "")


@pytest.mark.slow
def test_a_small_ablation_trains_scores_and_is_not_repeated(
    tmp_path: Path, sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {"drives": 1, "sweeps_per_drive": 1, "size": [64, 96]}
    settings = {
        "arms": ["supervised", "ckd_a", "ckd_b"],
        "seeds": [3],
        "work": str(tmp_path / "work"),
        "results": str(tmp_path / "docs" / "ablation.json"),
        "table": str(tmp_path / "docs" / "ablation.md"),
        "scored": {**data, "held_out": True, "first_seed": 2_500_000},
        "base": {
            "cache": str(tmp_path / "cache"),
            "train": data,
            "val": {**data, "held_out": True},
            "student": {"bins": 16, "attention_dim": 32, "attention_blocks": 1, "decoder_widths": [32, 16, 16]},
            "steps": 2,
            "val_every": 2,
            "loader_workers": 0,
            "accelerator": "cpu",
        },
    }
    path = tmp_path / "ablation.yaml"
    path.write_text(yaml.safe_dump(settings))
    config = read_command_line(["--config", str(path)])
    base = config.base
    for town in (base.train, base.val, config.scored):
        drive = town.cache_folder(base.cache) / "drive-00000"
        drive.mkdir(parents=True)
        save_sample(drive / "0.npz", sample)

    assert main(["--config", str(path)]) == 0
    figures = json.loads((tmp_path / "docs" / "ablation.json").read_text())
    assert set(figures["arms"]) == {"supervised", "ckd_b"}
    assert "teacher.name" in figures["left_out"]["ckd_a"]
    for row in figures["arms"].values():
        assert 0 < row["abs_rel_mean"] < 10
        assert 0 <= row["d1_mean"] <= 1
        assert (row["seeds"], row["steps"]) == ([3], 2)
    table = (tmp_path / "docs" / "ablation.md").read_text()
    assert "| `ckd_b` |" in table
    assert "LiDAR only" in table

    made = {file: file.stat().st_mtime_ns for file in (tmp_path / "work").rglob("*.safetensors")}
    assert len(made) == 2
    capsys.readouterr()
    assert main(["--config", str(path)]) == 0
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "work").rglob("*.safetensors")} == made
    assert json.loads((tmp_path / "docs" / "ablation.json").read_text())["arms"] == figures["arms"]


def test_a_mistake_is_told_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ablation.yaml"
    path.write_text(yaml.safe_dump({"seeds": [1, 1]}))
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(main(["--config", str(path)]))
    assert ended.value.code in (1, 2)
    assert "seeds" in capsys.readouterr().err
