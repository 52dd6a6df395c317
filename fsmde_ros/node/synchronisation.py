"""What puts the images of a moment together: the own assembler, or message_filters with ROS."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any, Generic, Protocol, TypeVar

from std_msgs.msg import Header

from fsmde_ros.errors import ConfigError
from fsmde_ros.node.messages import stamp_message
from fsmde_ros.sweep_assembler import (
    JUMP_NS,
    Arrival,
    AssembledSweep,
    AssemblerConfig,
    CameraCounters,
    Counters,
    SweepAssembler,
)

Payload = TypeVar("Payload")


class Synchroniser(Protocol[Payload]):
    """See ``SweepAssembler``, which is the default one."""

    counters: Counters
    camera_counters: dict[str, CameraCounters]

    @property
    def due(self) -> float | None:
        """When to call ``tick`` next."""
        ...

    def add(self, camera: str, stamp_ns: int, payload: Payload, now: float) -> list[AssembledSweep[Payload]]:
        """Take a message; the sweeps that leave."""
        ...

    def tick(self, now: float) -> list[AssembledSweep[Payload]]:
        """The sweeps whose deadline has passed."""
        ...

    def silent(self) -> tuple[str, ...]:
        """The cameras that no sweep waits for."""
        ...


class MessageFilters(Generic[Payload]):
    """``message_filters.ApproximateTimeSynchronizer``: complete sweeps only, others are lost unseen.

    The stamp of a sweep is that of the anchor, by default the first camera.
    """

    def __init__(self, config: AssemblerConfig) -> None:
        try:
            filters: Any = importlib.import_module("message_filters")
        except ImportError as error:
            raise ConfigError(
                "parameter sync.backend is message_filters, which is not installed; install ROS 2, or set it to own"
            ) from error
        self.counters = Counters()
        self.camera_counters = {name: CameraCounters() for name in config.cameras}
        self._cameras, self._anchor = config.cameras, config.anchor or config.cameras[0]
        self._inputs = {name: filters.SimpleFilter() for name in config.cameras}
        self._out: list[AssembledSweep[Payload]] = []
        self._newest = 0
        self._filter = filters.ApproximateTimeSynchronizer([*self._inputs.values()], 10, config.window_s)
        self._filter.registerCallback(self._take)

    def add(self, camera: str, stamp_ns: int, payload: Payload, now: float) -> list[AssembledSweep[Payload]]:
        """See ``SweepAssembler.add``."""
        self.counters.messages += 1
        self.camera_counters[camera].messages += 1
        if stamp_ns < self._newest - JUMP_NS:
            # It keeps the newest stamps: after a jump back it would drop every message for as long as the jump was.
            for queue in self._filter.queues:
                queue.clear()
            self.counters.resets += 1
            self._newest = 0
        self._newest = max(self._newest, stamp_ns)
        arrival = Arrival(camera, stamp_ns, now, payload)
        self._inputs[camera].signalMessage(
            SimpleNamespace(header=Header(stamp=stamp_message(stamp_ns)), arrival=arrival)
        )
        out, self._out = self._out, []
        return out

    @property
    def due(self) -> float | None:
        """Never: this synchroniser has no deadline."""
        return None

    def tick(self, now: float) -> list[AssembledSweep[Payload]]:
        """Nothing: this synchroniser has no deadline."""
        return []

    def silent(self) -> tuple[str, ...]:
        """Nothing: this synchroniser waits for every camera for ever."""
        return ()

    def _take(self, *messages: Any) -> None:
        views = {message.arrival.camera: message.arrival for message in messages}
        self.counters.complete += 1
        first = min(arrival.arrived for arrival in views.values())
        self._out.append(AssembledSweep(views[self._anchor].stamp_ns, views, (), first))


def build_synchroniser(backend: str, config: AssemblerConfig) -> Synchroniser[Any]:
    """The synchroniser of parameter ``sync.backend``: own or message_filters."""
    return SweepAssembler(config) if backend == "own" else MessageFilters(config)
