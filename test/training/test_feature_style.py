"""Perturbed statistics of features: what changes, by how much, and what stays."""

from __future__ import annotations

from dataclasses import replace

import lightning
import pytest
import torch
from torch.utils.data import DataLoader

from fsmde_ros.network.encoder import Encoder, EncoderConfig
from fsmde_ros.network.student import Student, StudentConfig
from training.batch import Sample, SweepBatch, collate, select_views
from training.feature_style import perturbed_style, with_other_style
from training.module import DistillModule, Optimisation
from training.terms import LossWeights

CONFIG = StudentConfig(bins=16, attention_dim=32, attention_blocks=1, decoder_widths=(32, 16, 16))


@pytest.fixture
def features() -> torch.Tensor:
    """Twelve pictures of 400 channels, whose means vary by 2 and whose deviations do not, but for a dark one."""
    rng = torch.Generator().manual_seed(3)
    grain = torch.randn(13, 400, 9, 11, generator=rng)
    grain = (grain - grain.mean((2, 3), keepdim=True)) / grain.std((2, 3), keepdim=True, correction=0)
    pictures = grain + 2 * torch.randn(13, 400, 1, 1, generator=rng)
    pictures[12] = -500.0
    return pictures


def test_statistics_change_by_as_much_as_they_vary_and_the_pattern_stays(features: torch.Tensor) -> None:
    counted = torch.arange(13) < 12
    other = with_other_style(features, counted, torch.Generator().manual_seed(1))[:12]
    shift = (other - features[:12]).mean((2, 3))
    assert shift.std().item() == pytest.approx(2.0, rel=0.1)  # the dark picture would make it 140
    assert shift.mean().item() == pytest.approx(0.0, abs=0.15)
    torch.testing.assert_close(other.std((2, 3), correction=0), torch.ones(12, 400), atol=1e-3, rtol=0)
    plain = features[:12] - features[:12].mean((2, 3), keepdim=True)
    torch.testing.assert_close(other - other.mean((2, 3), keepdim=True), plain, atol=2e-2, rtol=0)


def test_only_chosen_places_only_within_and_the_same_for_a_seed() -> None:
    torch.manual_seed(0)
    encoder, present = Encoder(EncoderConfig()).eval(), torch.ones(1, 4, dtype=torch.bool)
    images = torch.rand(4, 3, 64, 96) * 255

    def said(probability: float, seed: int) -> torch.Tensor:
        with torch.no_grad(), perturbed_style(encoder, present, probability, seed):
            result: torch.Tensor = encoder(images)[0]
        return result

    plain = said(0.0, 1)
    assert not torch.equal(said(1.0, 1), plain)
    assert torch.equal(said(1.0, 1), said(1.0, 1))
    assert not torch.equal(said(1.0, 1), said(1.0, 2))
    assert torch.equal(encoder(images)[0], plain)
    different = [not torch.equal(said(0.2, seed), plain) for seed in range(40)]  # stem and two stages lead there
    assert 0.2 < sum(different) / 40 < 0.8  # 1 - 0.8 ** 3 = 0.49


def test_a_single_picture_is_left_alone() -> None:
    encoder = Encoder(EncoderConfig()).eval()
    images = torch.rand(2, 3, 64, 96) * 255
    with torch.no_grad():
        plain = encoder(images)[0]
        with perturbed_style(encoder, torch.tensor([[True, False]]), 1.0, 0):
            assert torch.equal(encoder(images)[0], plain)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_a_training_step_sees_it_and_validation_does_not(sample: Sample, probability: float) -> None:
    batch = collate([sample, select_views(sample, [3, 0, 1])])
    losses, boards = [], []
    for style in (0.0, probability):
        module = _module(style)
        trainer = _fit(module, batch)
        losses.append(trainer.callback_metrics["train/loss"].item())
        fresh = _module(style)
        fresh.on_validation_epoch_start()
        fresh.validation_step(batch, 0)
        boards.append(fresh.board.overall())
    assert (losses[0] == losses[1]) == (probability == 0)
    assert boards[0] == boards[1]


def _module(style: float) -> DistillModule:
    torch.manual_seed(0)
    weights = replace(LossWeights(), vrkd=0.0)
    return DistillModule(Student(CONFIG).train(), weights, Optimisation(), feature_style=style)


def _fit(module: DistillModule, batch: SweepBatch) -> lightning.Trainer:
    trainer = lightning.Trainer(
        accelerator="cpu", max_steps=2, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(module, DataLoader([batch] * 2, batch_size=None))
    return trainer
