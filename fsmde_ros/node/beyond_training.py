"""Tells the person at the vehicle where the cameras are none that the student was trained on."""

from __future__ import annotations

from collections.abc import Callable

from fsmde_ros.checkpoint import checkpoints_for
from fsmde_ros.model_card import ModelCard
from fsmde_ros.rig import Rig
from fsmde_ros.trained_cameras import advice


class BeyondTraining:
    """What of the rig is beyond the training of the model, told once of each camera.

    The rig is looked at once: it is the same object until something of it changes (``LiveRig``).
    """

    def __init__(self, card: ModelCard, tell: Callable[[str], object]) -> None:
        self._card, self._tell = card, tell
        self._rig: Rig | None = None
        self._found: dict[str, str] = {}
        self._told: set[str] = set()  # a camera that sways about a limit, or comes and goes, would fill the log

    def look(self, rig: Rig | None) -> str:
        """Names of the cameras and what is beyond; empty where nothing is, or nothing is known."""
        if rig is None or self._card.cameras is None:
            return ""
        if rig is not self._rig:
            self._rig = rig
            self._found = self._card.cameras.beyond(rig, self._card.input_size)
            if self._found.keys() - self._told:
                self._told |= self._found.keys()
                self._tell(
                    f"model {self._card.name} was not trained on such cameras, and its depth may be far off: "
                    f"{self._text}; {advice(checkpoints_for(rig))}"
                )
        return self._text

    @property
    def _text(self) -> str:
        return "; ".join(f"{name}: {what}" for name, what in self._found.items())
