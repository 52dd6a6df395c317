"""Which cameras a student saw in its training, and what of a rig lies beyond them.

A student of cars' cameras is given those of a cart by its rays, and still says nonsense more often there: how much
worse it is, docs/evaluation.md tells. So a checkpoint says what it was trained on, and the node and ``check_rig`` say
where a rig is something else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields

from fsmde_ros.errors import CheckpointError
from fsmde_ros.mounting import Mounting, mounting
from fsmde_ros.network_view import network_views
from fsmde_ros.rig import Rig

# How far beyond the training nobody need be told: a tenth of a height and 2 cm, a few degrees.
_HEIGHT_SLACK, _LEAST_HEIGHT_SLACK = 0.1, 0.02
_ANGLE_SLACK = 4.0


@dataclass(frozen=True)
class TrainedCameras:
    """The least and the most of the cameras of a training, as the network was told of them (``NetworkView``).

    Attributes:
        height: above the road, metres.
        pitch: above the horizon, degrees.
        roll: of the images when they are upright, degrees.
        horizontal_fov: of the network's input, degrees.
    """

    height: tuple[float, float]
    pitch: tuple[float, float]
    roll: tuple[float, float]
    horizontal_fov: tuple[float, float]

    def __post_init__(self) -> None:
        for name, (least, most) in asdict(self).items():
            if not least <= most:
                raise CheckpointError(f"cameras.{name}: expected the least and the most, got {least}, {most}")

    @staticmethod
    def of(rigs: Iterable[Rig]) -> TrainedCameras | None:
        """Those of ``rigs`` as the network was told of them; None without a camera."""
        seen = [mounting(camera, rig.ground_z) for rig in rigs for camera in rig.cameras]
        if not seen:
            return None
        return TrainedCameras(**{f.name: _extent([getattr(at, f.name) for at in seen]) for f in fields(TrainedCameras)})

    def joined(self, other: TrainedCameras) -> TrainedCameras:
        """What a student has seen that was trained on both."""
        ours, theirs = asdict(self), asdict(other)
        return TrainedCameras(**{name: _extent([*ours[name], *theirs[name]]) for name in ours})

    def shared(self, other: TrainedCameras) -> TrainedCameras | None:
        """What both have seen; None where that is nothing."""
        ours, theirs = asdict(self), asdict(other)
        common = {name: (max(ours[name][0], theirs[name][0]), min(ours[name][1], theirs[name][1])) for name in ours}
        return TrainedCameras(**common) if all(least <= most for least, most in common.values()) else None

    def beyond(self, rig: Rig, size: tuple[int, int]) -> dict[str, str]:
        """What is beyond, by the name of the camera, of those of ``rig`` for an input of ``size`` (H, W); in words."""
        found = {}
        for view in network_views(rig, size):
            texts = self._beyond(mounting(view.camera, rig.ground_z))
            if texts:
                found[view.given.name] = ", ".join(texts)
        return found

    def _beyond(self, at: Mounting) -> list[str]:
        texts = []
        for name, (least, most) in asdict(self).items():
            value = getattr(at, name)
            if name == "height":
                below, above = (_HEIGHT_SLACK * abs(end) + _LEAST_HEIGHT_SLACK for end in (least, most))
                if not least - below <= value <= most + above:
                    texts.append(f"height {value:.2f} m (trained on {least:.2f} to {most:.2f})")
            elif not least - _ANGLE_SLACK <= value <= most + _ANGLE_SLACK:
                what = "field of view of the network's input" if name == "horizontal_fov" else name
                texts.append(f"{what} {value:.0f} degrees (trained on {least:.0f} to {most:.0f})")
        return texts


def advice(fitting: Sequence[str]) -> str:
    """What to do about a rig that is beyond a training; ``fitting``: names of checkpoints that know such a rig."""
    if fitting:
        return f"set checkpoint to {' or '.join(fitting)}, trained on cameras like these"
    return "compare its depth with a LiDAR (evaluate_replay), and distil a student for this rig (docs/own_rig.md)"


def _extent(values: Iterable[float]) -> tuple[float, float]:
    """Least and most, rounded: a card is for people too."""
    listed = [round(value, 2) for value in values]
    return min(listed), max(listed)
