"""A model soup: the mean of the weights of several checkpoints, or one with what another has learnt.

    python -m training.soup --checkpoints a.safetensors b.safetensors --shares 0.6 0.4 --output soup.safetensors
    python -m training.soup --checkpoints nano new.safetensors small --shares 1 0.7 -0.7 --output n.safetensors
    python -m training.soup --checkpoints small --imagenet 0.5 --output half_imagenet.safetensors

Trainings that set out from the same weights, each on data or with settings of its own, end near each other, and the
mean of their weights is a student as fast as any of them and often better than the best (Wortsman et al., Model soups,
arXiv 2203.05482). So two machines can train without a word between them. And what a training changed in one student can
be added to another that has not seen it: new - small above, with shares of either sign (Ilharco et al., Editing models
with task arithmetic, arXiv 2212.04089).

An encoder lies no less near to the weights of ImageNet that it began with: a share of these gives back what it knew of
real pictures (Wortsman et al., Robust fine-tuning of zero-shot models, arXiv 2109.01903), and what follows it has to be
trained to that, with ``student.encoder.frozen_stages 7``.

The rest is that of the first: the input size, what the encoder sees of it, how the bins are averaged and what makes
sigma of their spread; ``training.calibrate --power best`` fits the last two anew. It is said to know the cameras that
all those with a share above 0 know.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from fsmde_ros.checkpoint import find_checkpoint, load_checkpoint, save_checkpoint, shipped_names
from fsmde_ros.errors import ConfigError, FsmdeError
from fsmde_ros.model_card import ModelCard
from fsmde_ros.network.encoder import Encoder
from fsmde_ros.network.student import Student
from fsmde_ros.trained_cameras import TrainedCameras
from training.imagenet import initialise_from_imagenet

# Cosine between the matrices outside the encoder: above 0.9 for trainings with a common beginning, 0 for others.
RELATED = 0.5
SMALLEST = 0.1  # sum of the shares, by that of their absolute values


def make_soup(
    checkpoints: Sequence[Path], shares: Sequence[float], name: str, imagenet: float = 0.0
) -> tuple[Student, ModelCard]:
    """The student whose weights are the weighted mean of those of ``checkpoints``, and its card.

    Args:
        checkpoints: files of the same network, at least two where ``imagenet`` is 0.
        shares: of each in the mean; they are divided by their sum, which must be above ``SMALLEST`` of the sum of their
            absolute values.
        name: of the student.
        imagenet: share of the weights of ImageNet in its encoder, 0 to 1.

    Raises CheckpointError for a file that is none or missing weights of ImageNet, ConfigError for checkpoints that
    cannot be averaged.
    """
    # a small difference of large shares would make weights that no training has seen
    is_mean = all(0 < abs(share) < torch.inf for share in shares) and sum(shares) > SMALLEST * sum(map(abs, shares))
    if not 0 <= imagenet <= 1:
        raise ConfigError(f"the share of ImageNet must be 0 to 1, got {imagenet:g}")
    if len(checkpoints) < (1 if imagenet else 2) or len(shares) != len(checkpoints) or not is_mean:
        raise ConfigError(
            "a soup takes at least two checkpoints, or one and a share of ImageNet, and a share for each, none 0 and "
            "few of them negative, got "
            f"{len(checkpoints)} checkpoints and the shares {list(shares)}"
        )
    parts = [load_checkpoint(path) for path in checkpoints]
    first = parts[0][0]
    for path, (student, _) in zip(checkpoints[1:], parts[1:], strict=True):
        _refuse_strangers(checkpoints[0], path, first, student)
    exact = [share / sum(shares) for share in shares]
    mean = {key: _mean([s.state_dict()[key] for s, _ in parts], exact) for key in first.state_dict()}
    if any(key.endswith("running_var") and bool((value < 0).any()) for key, value in mean.items()):
        raise ConfigError("variances of BatchNorm would be below 0 with these shares; take smaller ones")
    soup = Student(first.config)
    soup.load_state_dict(mean)
    if imagenet:
        _mix_in_imagenet(soup.encoder, imagenet)
    cards = [card for _, card in parts]
    return soup.eval(), _card(cards, exact, name, imagenet)


def _refuse_strangers(path: Path, other_path: Path, student: Student, other: Student) -> None:
    if other.config.shape != student.config.shape:
        raise ConfigError(f"{other_path} holds another network than {path}; only students of one shape can be averaged")
    cosine = float(torch.cosine_similarity(_learned(student), _learned(other), dim=0))
    if cosine < RELATED:
        raise ConfigError(
            f"{other_path} and {path} did not begin with the same weights (the cosine between them is {cosine:.2f}): "
            "their mean would be of no use; train the one from the other, with start_from"
        )


def _learned(student: Student) -> Tensor:
    """The matrices that no ImageNet weights precede, as one vector."""
    matrices = [p for name, p in student.named_parameters() if p.ndim > 1 and not name.startswith("encoder.")]
    return torch.cat([matrix.detach().flatten() for matrix in matrices])


def _mean(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """Mean in float64; a counter is that of the first."""
    if not tensors[0].is_floating_point():
        return tensors[0]
    total = sum(share * tensor.double() for share, tensor in zip(shares, tensors, strict=True))
    return torch.as_tensor(total).to(tensors[0].dtype)


def _mix_in_imagenet(encoder: Encoder, share: float) -> None:
    """Move the weights of ``encoder`` towards those of ImageNet, by ``share`` of the way."""
    first = Encoder(encoder.config)
    initialise_from_imagenet(first)
    before = first.state_dict()
    now = encoder.state_dict()
    encoder.load_state_dict({key: _mean([value, before[key]], [1 - share, share]) for key, value in now.items()})


def _card(cards: Sequence[ModelCard], shares: Sequence[float], name: str, imagenet: float) -> ModelCard:
    listed = [f"{c.name} {c.weights_sha256[:8]} ({share:.2f})" for c, share in zip(cards, shares, strict=True)]
    return replace(
        cards[0],
        name=name,
        training_data="; ".join(dict.fromkeys(c.training_data for c in cards)),
        dataset_licence="; ".join(dict.fromkeys(c.dataset_licence for c in cards)),
        weights_licence="; ".join(dict.fromkeys(c.weights_licence for c in cards)),
        training_command=" ".join(["python -m training.soup", *sys.argv[1:]]),
        config_sha256="",
        metrics={},  # those of the parts are not those of the soup
        cameras=_known_to_all([card for card, share in zip(cards, shares, strict=True) if share > 0]),
        notes=f"Weighted mean of the weights of {', '.join(listed)}"
        + (f"; the encoder {imagenet:g} of the way back to ImageNet." if imagenet else "."),
    )


def _known_to_all(cards: Sequence[ModelCard]) -> TrainedCameras | None:
    """One warning too many is better than one too few: a part of a training is not the training."""
    known = cards[0].cameras
    for card in cards[1:]:
        known = None if known is None or card.cameras is None else known.shared(card.cameras)
    return known


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; a user's mistake is told without a traceback."""
    parser = argparse.ArgumentParser(prog="python -m training.soup", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--checkpoints",
        type=find_checkpoint,
        nargs="+",
        required=True,
        help=f"files, or names of the package: {shipped_names()}; the first decides the rest",
    )
    parser.add_argument("--shares", type=float, nargs="+", help="of each in the mean, of either sign (equal)")
    parser.add_argument("--imagenet", type=float, default=0.0, help="share of ImageNet's weights in the encoder (0)")
    parser.add_argument("--output", type=Path, required=True, help="write the soup here (.safetensors)")
    given = parser.parse_args(arguments)
    shares = given.shares or [1.0] * len(given.checkpoints)
    try:
        student, card = make_soup(given.checkpoints, shares, given.output.stem, given.imagenet)
        save_checkpoint(given.output, student, card)
    except FsmdeError as error:
        print(f"soup: {error}", file=sys.stderr)
        return 1
    print(f"wrote {given.output}: {card.notes}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
