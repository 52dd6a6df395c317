"""What a checkpoint says about itself: a frozen dataclass with a strict JSON form."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fsmde_ros.errors import CheckpointError, ConfigError
from fsmde_ros.network.encoder import PIXEL_MEAN, PIXEL_SCALE
from fsmde_ros.network.student import ADDED_LATER, StudentConfig
from fsmde_ros.trained_cameras import TrainedCameras

FORMAT_VERSION = 1
MAX_SIDE = 4096  # pixels; larger inputs are a mistake, and would take the memory of the machine


@dataclass(frozen=True)
class ModelCard:
    """What a checkpoint is, where it comes from and under which licence it may be used.

    Attributes:
        name: short name of the model.
        student: shape of the network, with its bins and depth range.
        input_size: (H, W) the network was trained at and runs at.
        training_data: which data, in words.
        dataset_licence: licence of the training data.
        weights_licence: licence of the weights, those of the ImageNet initialisation included.
        training_command: the command that made the checkpoint.
        config_sha256: hash of the configuration of that command.
        weights_sha256: hash of the weights; ``save_checkpoint`` fills it in.
        metrics: results by name, such as ``town/abs_rel``.
        notes: what else a user should know.
        cameras: what the cameras of the training were; None: nobody knows.
        normalisation: (mean, scale) of the pixels; fixed, the network holds it itself.
        format_version: of this file format.
    """

    name: str
    student: StudentConfig
    input_size: tuple[int, int]
    training_data: str
    dataset_licence: str
    weights_licence: str
    training_command: str = ""
    config_sha256: str = ""
    weights_sha256: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    notes: str = ""
    cameras: TrainedCameras | None = field(default=None, metadata={ADDED_LATER: True})
    normalisation: tuple[float, float] = (PIXEL_MEAN, PIXEL_SCALE)
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_size", tuple(self.input_size))
        object.__setattr__(self, "normalisation", tuple(self.normalisation))
        if self.format_version != FORMAT_VERSION:
            raise CheckpointError(
                f"model card: format_version must be {FORMAT_VERSION}, got {self.format_version}; "
                "install the version of fsmde_ros that wrote it, or train again"
            )
        stride = self.student.stride
        if len(self.input_size) != 2 or any(s % stride or not 0 < s <= MAX_SIDE for s in self.input_size):
            raise CheckpointError(
                f"model card: input_size must be (height, width), multiples of {stride} up to {MAX_SIDE} pixels, "
                f"got {self.input_size}"
            )
        if self.normalisation != (PIXEL_MEAN, PIXEL_SCALE):
            raise CheckpointError(
                f"model card: normalisation must be {(PIXEL_MEAN, PIXEL_SCALE)}, got {self.normalisation}"
            )

    @property
    def depth_range(self) -> tuple[float, float]:
        """(d_min, d_max), metres."""
        return self.student.depth_range

    @property
    def bins(self) -> int:
        """Number of depth bins."""
        return self.student.bins

    def to_json(self) -> str:
        """The card as JSON, keys in the order of the fields; raises CheckpointError for non-finite numbers."""
        try:
            return json.dumps(dataclasses.asdict(self), indent=2, allow_nan=False) + "\n"
        except ValueError as error:
            raise CheckpointError(f"model card '{self.name}': metrics must be finite, got {self.metrics}") from error

    @staticmethod
    def from_json(text: str) -> ModelCard:
        """Read a card strictly: raises CheckpointError naming the field that is wrong."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"model card: not JSON ({error}); the file was not written by fsmde_ros") from error
        try:
            card: ModelCard = _parse(ModelCard, data, "model card")
        except ConfigError as error:
            raise CheckpointError(f"model card: {error}") from error
        return card


def _parse(kind: Any, value: Any, where: str) -> Any:
    """``value`` from JSON as type ``kind``; raises CheckpointError saying what was expected at ``where``."""
    if dataclasses.is_dataclass(kind):
        return _parse_dataclass(kind, value, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if type(None) in arguments:  # X | None
        return None if value is None else _parse(arguments[0], value, where)
    if origin is tuple and isinstance(value, list):
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        if len(kinds) != len(value):
            raise CheckpointError(f"{where}: expected {len(kinds)} values, got {len(value)}")
        return tuple(_parse(k, item, f"{where}[{i}]") for i, (k, item) in enumerate(zip(kinds, value, strict=True)))
    if origin is Mapping and isinstance(value, dict):
        return {name: _parse(arguments[1], item, f"{where}.{name}") for name, item in value.items()}
    if kind is float and type(value) is int and abs(value) < 2**53:
        value = float(value)
    if type(value) is kind:
        return value
    expected = str(kind) if origin else kind.__name__
    raise CheckpointError(f"{where}: expected {expected}, got {value!r:.80}")


def _parse_dataclass(kind: Any, value: Any, where: str) -> Any:
    names = {f.name: f.metadata for f in dataclasses.fields(kind)}
    required = {name for name, about in names.items() if not about.get(ADDED_LATER)}
    if not isinstance(value, dict) or not required <= value.keys() <= names.keys():
        found = sorted(value) if isinstance(value, dict) else value
        raise CheckpointError(f"{where}: expected the fields {sorted(names)}, got {found!s:.400}")
    hints = typing.get_type_hints(kind)
    return kind(**{name: _parse(hints[name], given, f"{where}.{name}") for name, given in value.items()})
