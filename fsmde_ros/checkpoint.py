"""Checkpoints: weights in safetensors with their model card in the header, and beside them as JSON.

A pickle is refused, because loading one runs code from the file; a file that does not fit is
refused by name of what differs, because a network that is loaded halfway gives wrong metres.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fsmde_ros.errors import CheckpointError
from fsmde_ros.model_card import ModelCard
from fsmde_ros.network.student import Student
from fsmde_ros.rig import Rig

__all__ = [
    "CARD_KEY",
    "ModelCard",
    "checkpoints_for",
    "default_checkpoint",
    "find_checkpoint",
    "hash_weights",
    "load_checkpoint",
    "read_card",
    "save_checkpoint",
    "shipped_checkpoints",
    "shipped_names",
]

CARD_KEY = "card"
_PICKLE_SUFFIXES = frozenset({".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin"})
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # zip of torch.save; pickle

MODELS = Path(__file__).parent / "models"


def default_checkpoint() -> Path:
    """The checkpoint that is used where none is named."""
    return MODELS / "small.safetensors"


def shipped_checkpoints() -> tuple[str, ...]:
    """Names of the checkpoints that come with the package."""
    return tuple(sorted(path.stem for path in MODELS.glob("*.safetensors")))


def shipped_names() -> str:
    """``shipped_checkpoints`` in words, for help and messages."""
    return ", ".join(shipped_checkpoints())


def find_checkpoint(name: str | Path) -> Path:
    """The file of a checkpoint: of the package, if ``name`` is one of ``shipped_checkpoints``, else ``name`` itself.

    A file that lies where ``name`` says comes first.
    """
    path = Path(name)
    return MODELS / f"{name}.safetensors" if not path.is_file() and str(name) in shipped_checkpoints() else path


def save_checkpoint(
    path: str | Path, student: Student, card: ModelCard, dtype: torch.dtype = torch.float16
) -> ModelCard:
    """Write the weights of ``student`` to ``path`` and the card into it and to ``<stem>.json`` beside it.

    Args:
        path: must end in ``.safetensors``.
        student: its configuration replaces that of the card.
        card: its ``weights_sha256`` is filled in.
        dtype: of the floating-point weights in the file; float16 halves it.

    Returns:
        the card as written.

    Raises CheckpointError for weights that are not finite in ``dtype``, another ending, or a place that cannot be
    written to.
    """
    path = Path(path)
    check_ending(path)
    state = {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype).contiguous()
        for name, tensor in student.state_dict().items()
    }
    _check_finite(path, state)
    card = replace(card, student=student.config, weights_sha256=hash_weights(state))
    text = card.to_json()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Through a scratch file, so that a kill leaves the last checkpoint whole; save_file would also leave the
        # file readable for its owner alone.
        scratch = path.with_suffix(".partial")
        scratch.write_bytes(save(state, metadata={CARD_KEY: text}))
        os.replace(scratch, path)
        path.with_suffix(".json").write_text(text, encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror}); give another place") from error
    return card


def check_ending(path: Path) -> None:
    """Raise CheckpointError for the name of a file that ``save_checkpoint`` would refuse."""
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path}: a checkpoint must end in .safetensors, got '{path.suffix}'")


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> tuple[Student, ModelCard]:
    """Load a student in float32 and evaluation mode, and its card.

    Raises CheckpointError for a missing, truncated or corrupt file, a pickle, a card that is wrong,
    tensors that are missing, unexpected, of another shape or not finite, and a wrong hash.
    """
    path = Path(path)
    with _opened(path) as file:
        card = _card_of(path, file)
        state = {name: file.get_tensor(name) for name in sorted(file.keys())}
    _check_shapes(path, state, card)
    _check_finite(path, state)
    found = hash_weights(state)
    if found != card.weights_sha256:
        raise CheckpointError(
            f"{path}: the weights have the hash {found}, but the card says {card.weights_sha256}; "
            "the file was changed after it was written, fetch it again"
        )
    student = Student(card.student)
    student.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in state.items()}, strict=True)
    return student.eval().to(device), card


def read_card(path: str | Path) -> ModelCard:
    """The card of a checkpoint, without its weights; raises CheckpointError as ``load_checkpoint`` does."""
    path = Path(path)
    with _opened(path) as file:
        return _card_of(path, file)


def checkpoints_for(rig: Rig) -> tuple[str, ...]:
    """Names of the checkpoints of the package that were trained on cameras like all of ``rig``.

    One that cannot be read is none: who asks for advice has another one in use.
    """
    fitting = []
    for name in shipped_checkpoints():
        with suppress(CheckpointError):
            card = read_card(MODELS / f"{name}.safetensors")
            if card.cameras is not None and not card.cameras.beyond(rig, card.input_size):
                fitting.append(name)
    return tuple(fitting)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A file of safetensors; raises CheckpointError where it is none, or turns out to be none while it is read."""
    _refuse_pickle(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: cannot be read as safetensors ({str(error)[:300]}); the file is truncated or corrupt, "
            "fetch it again"
        ) from error


def _card_of(path: Path, file: Any) -> ModelCard:
    text = (file.metadata() or {}).get(CARD_KEY)
    if text is None:
        raise CheckpointError(f"{path}: has no model card; only checkpoints of fsmde_ros can be loaded")
    try:
        return ModelCard.from_json(text)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def hash_weights(state: Mapping[str, Tensor]) -> str:
    """sha256 over name, dtype, shape and bytes of every tensor, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _refuse_pickle(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be opened ({error.strerror}); expected a file, or one of the package: "
            f"{shipped_names()}; check the parameter 'checkpoint'"
        ) from error
    # The length of a safetensors header may begin like a pickle; behind its eight bytes the header opens a brace.
    if path.suffix in _PICKLE_SUFFIXES or (start.startswith(_PICKLE_STARTS) and start[8:] != b"{"):
        raise CheckpointError(
            f"{path}: looks like a pickle, expected safetensors; a pickle runs code when it is loaded and is refused: "
            "load it yourself where you trust it, and write it with fsmde_ros.checkpoint.save_checkpoint"
        )


class _NoDraws(TorchFunctionMode):
    """Weights on the meta device need no first values; to draw them torch imports its compiler, 2 s of a start."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (Tensor.normal_, nn.init.normal_):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _check_shapes(path: Path, state: Mapping[str, Tensor], card: ModelCard) -> None:
    # On the meta device a wild card costs no memory: the real network is built once its shapes are
    # known to be those of the file.
    with torch.device("meta"), _NoDraws():
        expected = {name: tuple(tensor.shape) for name, tensor in Student(card.student).state_dict().items()}
    problems = [f"missing {name} {shape}" for name, shape in expected.items() if name not in state]
    problems += [f"unexpected {name} {tuple(t.shape)}" for name, t in state.items() if name not in expected]
    problems += [
        f"{name} has shape {tuple(state[name].shape)}, expected {shape}"
        for name, shape in expected.items()
        if name in state and tuple(state[name].shape) != shape
    ]
    if problems:
        more = f" and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise CheckpointError(
            f"{path}: the weights do not fit the network of the card: {'; '.join(problems[:10])}{more}; "
            "use a checkpoint of this version"
        )


def _check_finite(path: Path, state: Mapping[str, Tensor]) -> None:
    bad = [name for name, tensor in state.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()]
    if bad:
        raise CheckpointError(f"{path}: weights that are NaN or infinite: {', '.join(bad[:10])}; the training diverged")
