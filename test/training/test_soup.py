"""The mean of checkpoints: its weights, its card, and what cannot be averaged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fsmde_ros.checkpoint import load_checkpoint, save_checkpoint
from fsmde_ros.errors import ConfigError
from fsmde_ros.model_card import ModelCard
from fsmde_ros.network.encoder import Encoder
from fsmde_ros.network.student import Student, StudentConfig
from fsmde_ros.trained_cameras import TrainedCameras
from training.imagenet import initialise_from_imagenet
from training.soup import main, make_soup

CONFIG = StudentConfig(bins=16, attention_dim=32, attention_blocks=1, decoder_widths=(32, 16, 16))


def write(path: Path, seed: int, change: float = 0.0, config: StudentConfig = CONFIG, data: str = "town") -> Path:
    """A student drawn from ``seed``, all its weights moved by ``change``."""
    torch.manual_seed(seed)
    student = Student(config)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(change)
    card = ModelCard(path.stem, config, (64, 96), data, "CC0-1.0", "Apache-2.0", metrics={"town/d1": 0.5})
    save_checkpoint(path, student, card, torch.float32)
    return path


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """Two checkpoints with a common beginning."""
    return [write(tmp_path / "a.safetensors", 0), write(tmp_path / "b.safetensors", 0, 0.004, data="bag")]


@pytest.mark.parametrize(("shares", "moved"), [((1.0, 1.0), 0.002), ((3.0, 1.0), 0.001), ((0.1, 0.3), 0.003)])
def test_the_weights_are_the_mean_by_shares(parts: list[Path], shares: tuple[float, float], moved: float) -> None:
    first = load_checkpoint(parts[0])[0]
    soup, _ = make_soup(parts, shares, "soup")
    for before, after in zip(first.parameters(), soup.parameters(), strict=True):
        torch.testing.assert_close(after.detach(), before.detach() + moved, atol=1e-6, rtol=1e-5)
    for kept, buffer in zip(first.buffers(), soup.buffers(), strict=True):
        torch.testing.assert_close(buffer, kept)


def test_the_command_writes_a_student_whose_card_names_the_parts(
    parts: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "soup.safetensors"
    assert main(["--checkpoints", *map(str, parts), "--output", str(output)]) == 0
    student, card = load_checkpoint(output)
    assert str(output) in capsys.readouterr().out
    assert (card.name, card.training_data, card.dataset_licence) == ("soup", "town; bag", "CC0-1.0")
    assert card.metrics == {}  # nothing was measured
    for path in parts:
        assert f"{path.stem} {load_checkpoint(path)[1].weights_sha256[:8]} (0.50)" in card.notes
    assert student.config == CONFIG


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_an_encoder_goes_back_to_imagenet_by_its_share(
    parts: list[Path], share: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "back.safetensors"
    given = ["--checkpoints", str(parts[1]), "--imagenet", str(share), "--output", str(output)]
    assert main(given) == 0
    assert f"the encoder {share:g} of the way back to ImageNet" in capsys.readouterr().out
    first = Encoder(CONFIG.encoder)
    initialise_from_imagenet(first)
    before, after = (load_checkpoint(path)[0].state_dict() for path in (parts[1], output))
    for name, value in first.state_dict().items():
        if value.is_floating_point():
            key = f"encoder.{name}"
            torch.testing.assert_close(
                after[key], (1 - share) * before[key] + share * value, atol=1e-4, rtol=2e-3, msg=key
            )
    rest = [name for name in before if not name.startswith("encoder.")]
    assert all(torch.allclose(after[name], before[name], atol=1e-4, rtol=2e-3) for name in rest)


@pytest.mark.parametrize(("arguments", "named"), [(["--imagenet", "1.5"], "0 to 1"), ([], "or one and a share")])
def test_one_checkpoint_needs_a_share_of_imagenet(
    arguments: list[str], named: str, parts: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--checkpoints", str(parts[0]), "--output", str(tmp_path / "one.safetensors"), *arguments]) == 1
    assert named in capsys.readouterr().err


def test_students_of_which_other_parts_were_trained_are_one_network(parts: list[Path], tmp_path: Path) -> None:
    frozen = replace(CONFIG, encoder=replace(CONFIG.encoder, frozen_stages=7))
    other = write(tmp_path / "frozen.safetensors", 0, config=frozen)
    assert make_soup([parts[0], other], (1, 1), "soup")[0].config == CONFIG


def test_what_is_chosen_after_training_is_that_of_the_first(parts: list[Path], tmp_path: Path) -> None:
    other = write(tmp_path / "c.safetensors", 0, config=replace(CONFIG, expectation_power=0.5, stddev_power=(0.2, 1.5)))
    assert make_soup([parts[0], other], (1, 1), "soup")[0].config == CONFIG
    assert make_soup([other, parts[0]], (1, 1), "soup")[0].config.stddev_power == (0.2, 1.5)


def test_the_cameras_are_those_that_all_parts_know(parts: list[Path]) -> None:
    """In whatever order; what is taken away does not count."""

    def say(path: Path, height: tuple[float, float]) -> None:
        student, card = load_checkpoint(path)
        cameras = TrainedCameras(height, (-3.0, 3.0), (0.0, 0.0), (60.0, 90.0))
        save_checkpoint(path, student, replace(card, cameras=cameras), torch.float32)

    say(parts[0], (0.5, 1.5))
    assert make_soup(parts, (1.0, 1.0), "soup")[1].cameras is None  # nobody knows them of the other
    say(parts[1], (1.0, 3.0))
    for order in (parts, parts[::-1]):
        cameras = make_soup(order, (1.0, 1.0), "soup")[1].cameras
        assert cameras is not None
        assert cameras.height == (1.0, 1.5)
    own = make_soup([*parts, parts[0]], (1.0, 0.5, -0.5), "soup")[1].cameras
    assert own == make_soup(parts, (1.0, 1.0), "soup")[1].cameras
    say(parts[1], (2.0, 3.0))
    assert make_soup(parts, (1.0, 1.0), "soup")[1].cameras is None  # they have nothing in common


def test_a_channel_that_never_varies_may_stay_so(parts: list[Path]) -> None:
    """A checkpoint has halves of a float: a variance below 6e-8 is 0 there, in all parts of one beginning."""
    for path in parts:
        student, card = load_checkpoint(path)
        for name, buffer in student.named_buffers():
            if name.endswith("running_var"):
                buffer[0] = 0.0
        save_checkpoint(path, student, card)
    soup, _ = make_soup(parts, (0.5, 0.5), "soup")
    assert all(buffer[0] == 0 for name, buffer in soup.named_buffers() if name.endswith("running_var"))


def test_no_variance_is_below_zero(parts: list[Path], tmp_path: Path) -> None:
    student, card = load_checkpoint(parts[1])
    variances = [buffer for name, buffer in student.named_buffers() if name.endswith("running_var")]
    for buffer in variances:
        buffer.mul_(10)
    save_checkpoint(parts[1], student, card, torch.float32)
    assert variances
    with pytest.raises(ConfigError, match="variances"):
        make_soup(parts, (1.0, -0.5), "soup")


def test_strangers_are_refused(parts: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stranger = write(tmp_path / "stranger.safetensors", 1)
    given = ["--checkpoints", str(parts[0]), str(stranger), "--output", str(tmp_path / "soup.safetensors")]
    assert main(given) == 1
    error = capsys.readouterr().err
    assert "soup: " in error
    assert "stranger.safetensors" in error
    assert "did not begin with the same weights" in error
    assert not (tmp_path / "soup.safetensors").exists()


def test_another_network_is_refused(parts: list[Path], tmp_path: Path) -> None:
    other = write(tmp_path / "c.safetensors", 0, config=replace(CONFIG, bins=8))
    with pytest.raises(ConfigError, match=r"c\.safetensors holds another network than .*a\.safetensors"):
        make_soup([parts[0], other], (1, 1), "soup")


def test_what_a_training_brought_is_added_to_a_student_that_sees_less(parts: list[Path], tmp_path: Path) -> None:
    other = write(tmp_path / "c.safetensors", 0, 0.002, config=replace(CONFIG, input_reduction=2))
    files = [other, parts[1], parts[0]]
    soup, _ = make_soup(files, (1.0, 0.5, -0.5), "soup")
    before = load_checkpoint(other)[0]
    assert soup.config == before.config
    for old, new in zip(before.parameters(), soup.parameters(), strict=True):
        torch.testing.assert_close(new.detach(), old.detach() + 0.002, atol=1e-6, rtol=1e-5)
    output = tmp_path / "soup.safetensors"  # by the command, to which a share could look like an option
    command = ["--checkpoints", *map(str, files), "--shares", "1", "0.5", "-0.5", "--output", str(output)]
    assert main(command) == 0
    assert "(-0.50)" in load_checkpoint(output)[1].notes


@pytest.mark.parametrize(
    "shares",
    [
        (),
        (1.0,),
        (1.0, 0.0),
        (1.0, -1.0),
        (1.0, -2.0),
        (1.0, -0.9999),
        (1e308, 1e308),
        (1.0, float("nan")),
        (1.0, float("inf")),
    ],
)
def test_shares_that_make_no_mean_are_refused(parts: list[Path], shares: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="a share for each, none 0"):
        make_soup(parts, shares, "soup")


def test_one_checkpoint_is_no_soup(parts: list[Path]) -> None:
    with pytest.raises(ConfigError, match="at least two checkpoints"):
        make_soup(parts[:1], (1.0,), "soup")
