"""Checkpoints: what is written comes back, and everything else is refused by name."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fsmde_ros.checkpoint import (
    CARD_KEY,
    default_checkpoint,
    find_checkpoint,
    hash_weights,
    load_checkpoint,
    read_card,
    save_checkpoint,
    shipped_checkpoints,
)
from fsmde_ros.errors import CheckpointError
from fsmde_ros.model_card import ModelCard
from fsmde_ros.network.encoder import EncoderConfig, StageConfig
from fsmde_ros.network.student import Student, StudentConfig

ROOT = Path(__file__).parent.parent
TINY = StudentConfig(
    encoder=EncoderConfig(
        stem_channels=8,
        stages=(
            StageConfig(3, 2, 1, 8, 1),
            StageConfig(3, 2, 2, 8, 1),
            StageConfig(5, 2, 2, 16, 1),
            StageConfig(3, 2, 2, 16, 2),
        ),
        frozen_stages=0,
    ),
    bins=8,
    attention_dim=16,
    attention_heads=2,
    attention_blocks=1,
    decoder_widths=(8, 8, 8),
)

CAMERAS = ("height", "pitch", "roll", "horizontal_fov")


@pytest.fixture(scope="module")
def student() -> Student:
    torch.manual_seed(0)
    return Student(TINY)


@pytest.fixture
def card() -> ModelCard:
    return ModelCard(
        name="tiny",
        student=StudentConfig(),
        input_size=(64, 96),
        training_data="none",
        dataset_licence="none",
        weights_licence="Apache-2.0",
        metrics={"town/abs_rel": 0.1},
    )


@pytest.fixture
def path(tmp_path: Path, student: Student, card: ModelCard) -> Path:
    save_checkpoint(tmp_path / "tiny.safetensors", student, card)
    return tmp_path / "tiny.safetensors"


def rewrite(path: Path, change: dict[str, Tensor | None] | None = None, **card_fields: Any) -> None:
    """Change tensors (None: remove) and fields of the card (...: remove), keeping the hash in step with the weights."""
    card = json.loads(path.with_suffix(".json").read_text())
    state = {**load_file(path), **(change or {})}
    tensors = {name: tensor for name, tensor in state.items() if tensor is not None}
    card = {**card, "weights_sha256": hash_weights(tensors), **card_fields}
    kept = {name: value for name, value in card.items() if value is not ...}
    save_file(tensors, path, metadata={CARD_KEY: json.dumps(kept)})


def test_those_of_the_package_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(shipped_checkpoints()) >= {"base", "small", "nano"}
    for name in shipped_checkpoints():
        assert load_checkpoint(find_checkpoint(name))[1].name == name
    assert find_checkpoint("small") == default_checkpoint()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").mkdir()  # a folder, of a training say, is no checkpoint
    assert find_checkpoint("small") == default_checkpoint()
    (tmp_path / "nano").write_text("a file of the user's")
    assert find_checkpoint("nano") == Path("nano")
    with pytest.raises(CheckpointError, match=r"expected a file, or one of the package: .*small"):
        load_checkpoint(find_checkpoint("tiny"))


def test_what_is_saved_is_loaded(path: Path, student: Student, card: ModelCard) -> None:
    loaded, read = load_checkpoint(path)
    assert read.student == TINY  # the student's own, not the card's
    assert replace(read, student=card.student, weights_sha256="") == card
    assert ModelCard.from_json(path.with_suffix(".json").read_text()) == read
    assert not loaded.training
    for name, tensor in student.state_dict().items():
        expected = tensor.half().float() if tensor.is_floating_point() else tensor
        assert torch.equal(loaded.state_dict()[name], expected), name


def test_saving_twice_gives_the_same_bytes(path: Path, student: Student, card: ModelCard, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "again.safetensors", student, card)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", ["weights.pt", "weights.pth", "weights.safetensors"])
def test_a_pickle_is_refused(tmp_path: Path, student: Student, name: str) -> None:
    torch.save(student.state_dict(), tmp_path / name)
    with pytest.raises(CheckpointError, match="pickle"):
        load_checkpoint(tmp_path / name)


def test_a_bare_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "harm",))

    (tmp_path / "weights.safetensors").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(CheckpointError, match="pickle"):
        load_checkpoint(tmp_path / "weights.safetensors")
    assert not (tmp_path / "harm").exists()


def test_a_header_whose_length_begins_like_a_pickle_is_none(tmp_path: Path, student: Student, card: ModelCard) -> None:
    path = tmp_path / "long.safetensors"
    save_checkpoint(path, student, card)
    missing = (0x0280 - int.from_bytes(path.read_bytes()[:8], "little")) % 0x10000
    save_checkpoint(path, student, replace(card, training_data=card.training_data + "x" * missing))
    assert path.read_bytes()[:2] == b"\x80\x02"
    load_checkpoint(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.safetensors"):
        load_checkpoint(tmp_path / "nowhere.safetensors")
    with pytest.raises(CheckpointError, match="cannot be opened"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_file_is_refused(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="truncated or corrupt"):
        load_checkpoint(path)


def test_a_flipped_weight_is_found_by_the_hash(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="hash"):
        load_checkpoint(path)


def test_weights_that_do_not_fit_are_named(path: Path) -> None:
    rewrite(
        path,
        {"upsampling.to_weights.bias": None, "stray": torch.zeros(2), "decoder.levels.0.norm.bias": torch.zeros(3)},
    )
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(path)
    message = str(error.value)
    assert "missing upsampling.to_weights.bias (144,)" in message
    assert "unexpected stray (2,)" in message
    assert "decoder.levels.0.norm.bias has shape (3,), expected (8,)" in message


def test_nan_weights_are_refused_when_loading_and_saving(path: Path, student: Student, card: ModelCard) -> None:
    rewrite(path, {"upsampling.to_weights.bias": torch.full((144,), torch.nan)})
    with pytest.raises(CheckpointError, match=r"NaN.*upsampling\.to_weights\.bias"):
        load_checkpoint(path)
    broken = Student(TINY)
    broken.load_state_dict(student.state_dict())
    with torch.no_grad():
        broken.upsampling.to_weights.weight[0] = 1e6  # beyond float16
    with pytest.raises(CheckpointError, match="infinite"):
        save_checkpoint(path, broken, card)


def test_a_place_that_cannot_be_written_to_is_named(path: Path, student: Student, card: ModelCard) -> None:
    with pytest.raises(CheckpointError, match=r"below_a_file\.safetensors: cannot be written"):
        save_checkpoint(path / "below_a_file.safetensors", student, card)


def test_a_file_without_card_is_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="no model card"):
        load_checkpoint(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("input_size", [-64, 96], "input_size"),
        ("input_size", [64, 100], "multiples of 16"),
        ("input_size", [64, 1 << 20], "input_size"),
        ("input_size", "64x96", "input_size: expected"),
        ("input_size", [64], "expected 2 values"),
        ("format_version", 2, "format_version"),
        ("normalisation", [0.0, 1.0], "normalisation"),
        ("name", None, "name: expected str"),
        ("metrics", {"abs_rel": "good"}, "abs_rel: expected float"),
        ("surprise", 1, "surprise"),
        ("cameras", 1, "cameras: expected the fields"),
        ("cameras", dict.fromkeys(CAMERAS, (1.0,)), "height: expected 2 values"),
        (
            "cameras",
            dict.fromkeys(CAMERAS, (2.0, 1.0)),
            "cameras.height: expected",
        ),
        ("weights_sha256", "0" * 64, "hash"),
    ],
)
def test_a_wrong_card_is_refused(path: Path, field: str, value: Any, message: str) -> None:
    rewrite(path, **{field: value})
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("bins", 10**9, "bins must be"),
        ("bins", True, "bins: expected int"),
        ("d_max", 0.1, "depth range"),
        ("attention_blocks", 10**6, "attention_blocks"),
        ("attention_dim", 4096, "expected \\(.*4096"),  # allowed, but not the shape of these weights
        ("decoder_widths", [8, 8], "expected 3 values"),
        ("decoder_widths", [8, 8, -8], "decoder_widths"),
        ("encoder", {}, "encoder: expected the fields"),
    ],
)
def test_a_wild_network_is_refused(path: Path, field: str, value: Any, message: str) -> None:
    network = json.loads(path.with_suffix(".json").read_text())["student"]
    rewrite(path, student={**network, field: value})
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


def test_loading_does_not_take_the_time_to_import_the_compiler_of_torch() -> None:
    """Which is as long as torch itself takes: what is computed on the meta device asks for it."""
    program = (
        "import sys\n"
        "from fsmde_ros.checkpoint import find_checkpoint, load_checkpoint\n"
        "load_checkpoint(find_checkpoint('nano'))\n"
        "sys.exit('torch._dynamo' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=120).returncode == 0


def test_a_card_from_before_a_field_was_added_still_loads(path: Path) -> None:
    network = json.loads(path.with_suffix(".json").read_text())["student"]
    del network["learned_upsampling"], network["expectation_power"], network["input_reduction"]
    rewrite(path, student=network)
    config = load_checkpoint(path)[0].config
    assert (config.learned_upsampling, config.expectation_power, config.input_reduction) == (4, 1.0, 1)
    rewrite(path, cameras=...)
    assert read_card(path) == load_checkpoint(path)[1]
    assert read_card(path).cameras is None
    del network["bins"]  # was always there
    rewrite(path, student=network)
    with pytest.raises(CheckpointError, match="expected the fields"):
        load_checkpoint(path)


def test_a_card_that_is_not_json_is_refused(path: Path) -> None:
    save_file(load_file(path), path, metadata={CARD_KEY: "{"})
    with pytest.raises(CheckpointError, match="not JSON"):
        load_checkpoint(path)
    save_file(load_file(path), path, metadata={CARD_KEY: "[]"})
    with pytest.raises(CheckpointError, match="expected the fields"):
        load_checkpoint(path)
