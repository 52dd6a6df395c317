"""Puts messages of cameras that fire one after another together to sweeps.

The cameras of a rig often fire in turn: those of nuScenes over 42.6 ms of a period of 83.3 ms, so
that no fixed time slop separates the last camera of one sweep from the first of the next once a
frame is lost. Each camera, however, keeps its offset to the others. The assembler learns these
offsets relative to one camera, the anchor, from the last stamps, takes them out, and is left with
stamps that coincide within a sweep and lie a period apart between sweeps.

A message is bound to a sweep only when the sweep leaves. It leaves at once when every camera that
is alive has its view; at its deadline with the views it has; or when a later sweep leaves first.
A camera that is slower than others is not waited for where it sends nothing.

Stamps that jump, back or ahead, wait until more cameras have jumped with them than have not: a looping
bag or a clock that was set moves all cameras, those with a wrong clock, as all of a second computer, must
not spoil the others. Of two halves with a clock each the one that was heard first goes on, so that the
sweeps do not change over for ever. A jump ahead of the only camera that is alive is taken at once.

Convention: stamps are int nanoseconds (of the messages); ``now`` is float seconds of any clock of
the caller that does not run backwards, best a steady one. No threads, no clock of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Generic, TypeVar

from fsmde_ros.errors import ConfigError
from fsmde_ros.stamp_offsets import StampOffsets

Payload = TypeVar("Payload")

SILENT_AFTER = 8  # sweeps in a row without a camera, after which no sweep waits for it
JUMP_NS = 500_000_000  # stamps that lie further than this from the newest have jumped
PAUSE_S = 1.0  # after a pause this long even a repeated stamp is a restart: a bag of one sweep, again
PENDING_PER_CAMERA = 8


@dataclass(frozen=True)
class AssemblerConfig:
    """How to put sweeps together.

    Attributes:
        cameras: names of all cameras, at least one.
        anchor: camera whose stamp is that of the sweep; empty = the one that lies best in the
            middle of the others.
        window_s: how far the stamps of a sweep lie apart at most, seconds, before the offsets of
            the cameras are known; afterwards, how far they lie apart with the offsets taken out,
            but never more than 0.45 of the period.
        deadline_s: how long after the arrival of its first view an incomplete sweep leaves, s.
    """

    cameras: tuple[str, ...]
    anchor: str = ""
    window_s: float = 0.05
    deadline_s: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "cameras", tuple(self.cameras))
        if not self.cameras or len(set(self.cameras)) != len(self.cameras):
            raise ConfigError(f"cameras must be at least one name, each once, got {list(self.cameras)}")
        if self.anchor and self.anchor not in self.cameras:
            raise ConfigError(f"the anchor must be one of {list(self.cameras)} or empty, got '{self.anchor}'")
        if not self.window_s > 0 or not self.deadline_s > 0:
            raise ConfigError(
                f"window_s and deadline_s must be above 0 seconds, got {self.window_s} and {self.deadline_s}"
            )


@dataclass(frozen=True, eq=False)
class Arrival(Generic[Payload]):
    """One message: its stamp in nanoseconds, its arrival in the caller's clock, its payload."""

    camera: str
    stamp_ns: int
    arrived: float
    payload: Payload


@dataclass(frozen=True, eq=False)
class AssembledSweep(Generic[Payload]):
    """The messages of one moment.

    Attributes:
        stamp_ns: stamp of the anchor; where it is missing, the stamp it would have had.
        views: messages by camera, at least one.
        missing: cameras without a message.
        first_arrival: arrival of the first of the messages, in the caller's clock, seconds.
    """

    stamp_ns: int
    views: Mapping[str, Arrival[Payload]]
    missing: tuple[str, ...]
    first_arrival: float


@dataclass
class CameraCounters:
    """What became of the messages of one camera since the start.

    Attributes:
        messages: messages that were added.
        duplicate: of these, repeated a stamp of their camera and were ignored.
        late: of these, came when their sweep had left, and were ignored.
        out_of_order: of these, older than an earlier message of their camera (used where possible).
        strayed: of these, were stamped far ahead of all other cameras, and were ignored.
    """

    messages: int = 0
    duplicate: int = 0
    late: int = 0
    out_of_order: int = 0
    strayed: int = 0


@dataclass
class Counters(CameraCounters):
    """What became of the messages of all cameras and of the sweeps since the start.

    Attributes:
        complete: sweeps that left with all cameras.
        partial: sweeps that left with some.
        resets: jumps back of the stamps or of the caller's clock.
    """

    complete: int = 0
    partial: int = 0
    resets: int = 0

    def as_dict(self) -> dict[str, int]:
        """Names and values, in the order above."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class SweepAssembler(Generic[Payload]):
    """Messages in, sweeps out, in the order of their stamps; each message is used at most once."""

    def __init__(self, config: AssemblerConfig) -> None:
        self.config = config
        self.counters = Counters()
        self.camera_counters = {name: CameraCounters() for name in config.cameras}
        self._now = float("-inf")
        self._forget()

    def _forget(self) -> None:
        self._offsets = StampOffsets(self.config.cameras, self.config.anchor, round(self.config.window_s * 1e9))
        self._pending: list[Arrival[Payload]] = []
        self._missed = dict.fromkeys(self.config.cameras, 0)
        self._suspects: list[Arrival[Payload]] = []
        self._outvoted: dict[str, tuple[bool, float]] = {}  # camera that jumped with too few: whether back, arrival s
        self._newest: Arrival[Payload] | None = None
        self._last_out: dict[str, int] = {}  # newest stamp of each camera that has left
        self._last_group: list[Arrival[Payload]] = []
        self._last_stamp: int | None = None
        self._recent: dict[str, deque[int]] = {name: deque(maxlen=32) for name in self.config.cameras}

    def add(self, camera: str, stamp_ns: int, payload: Payload, now: float) -> list[AssembledSweep[Payload]]:
        """Take a message that arrived at ``now``; returns the sweeps that leave, oldest first.

        Raises ValueError for a camera that is not in the configuration.
        """
        if camera not in self._missed:
            raise ValueError(f"camera must be one of {list(self.config.cameras)}, got '{camera}'")
        self._count(camera, "messages")
        out = self._check_clock(now)
        arrival = Arrival(camera, stamp_ns, now, payload)
        if not self._has_jumped(arrival):
            self._drop_suspects()
            self._take(arrival)
            return out + self._leave(now)
        back = self._is_back(arrival)
        if self._suspects and back != self._is_back(self._suspects[0]):
            self._drop_suspects()
        self._suspects.append(arrival)
        if not self._is_jump():
            return out
        suspects, self._suspects = self._suspects, []
        if back:
            out += self._reset()
        for suspect in suspects:
            self._take(suspect)
        return out + self._leave(now)

    def tick(self, now: float) -> list[AssembledSweep[Payload]]:
        """The sweeps whose deadline has passed at ``now``; call it at ``due``, or every 10 to 20 ms."""
        return self._check_clock(now) + self._leave(now)

    def flush(self) -> list[AssembledSweep[Payload]]:
        """Everything that is waiting, as it is, oldest first."""
        return [self._emit(group) for group in self._groups()]

    @property
    def due(self) -> float | None:
        """The next deadline, in the caller's clock, seconds; None while nothing is waiting."""
        arrivals = [arrival.arrived for arrival in self._pending]
        return min(arrivals) + self.config.deadline_s if arrivals else None

    @property
    def waiting(self) -> int:
        """Number of messages whose sweep has not left."""
        return len(self._pending)

    @property
    def anchor(self) -> str:
        """The camera whose stamp is that of the sweep; empty before the first message."""
        return self._offsets.anchor

    def silent(self) -> tuple[str, ...]:
        """The cameras that no sweep waits for, because the last ``SILENT_AFTER`` had no view of them."""
        return tuple(name for name, missed in self._missed.items() if missed >= SILENT_AFTER)

    def _check_clock(self, now: float) -> list[AssembledSweep[Payload]]:
        back = now < self._now
        self._now = now
        return self._reset() if back else []

    def _count(self, camera: str, what: str) -> None:
        for counters in (self.counters, self.camera_counters[camera]):
            setattr(counters, what, getattr(counters, what) + 1)

    def _drop_suspects(self) -> None:
        """Too few have jumped: what is far back came late, what is far ahead has a wrong clock."""
        for suspect in self._suspects:
            back = self._is_back(suspect)
            self._count(suspect.camera, "late" if back else "strayed")
            self._outvoted[suspect.camera] = back, suspect.arrived
        self._suspects = []

    def _is_jump(self) -> bool:
        """Whether more cameras have jumped than are alive and have not, or some have gone on jumping.

        Those that were outvoted just now, the same way, count: else cameras whose messages come between those of a
        smaller group with another clock, which was heard first, would never be more.
        """
        alive = {name for name, recent in self._recent.items() if recent and self._missed[name] < SILENT_AFTER}
        jumped = {suspect.camera for suspect in self._suspects}
        last = self._suspects[-1]
        back = self._is_back(last)
        if alive == jumped and len(alive) == 1 and not back:
            return True  # no other camera could contradict, and of a slow one that is played fast each image jumps
        # a single message may be a straggler, however few cameras there are
        is_alone = len(self._suspects) < 2
        jumped |= {n for n, (b, arrived) in self._outvoted.items() if b == back and last.arrived - arrived < PAUSE_S}
        # those that have jumped need not be alive: of a clock that was never followed no stamp is known
        most = len(jumped) > len(alive - jumped)
        return (most and not is_alone) or len(self._suspects) > 2 * len(self._missed)

    def _is_back(self, suspect: Arrival[Payload]) -> bool:
        assert self._newest is not None  # else it had nothing to jump from
        return suspect.stamp_ns <= self._newest.stamp_ns

    def _has_jumped(self, arrival: Arrival[Payload]) -> bool:
        """Whether the stamp speaks for a jump: far back, far ahead, or repeated after a pause."""
        if self._newest is None:
            return False
        back = self._newest.stamp_ns - arrival.stamp_ns
        waited_ns = max(0.0, arrival.arrived - self._newest.arrived) * 1e9
        if -back - waited_ns > JUMP_NS:  # a slow camera also steps far, but as far in the caller's clock
            return True
        gone_back = bool(self._suspects) and self._is_back(self._suspects[-1])
        paused = gone_back or arrival.arrived - self._newest.arrived > PAUSE_S
        return back > JUMP_NS or (back >= 0 and paused and arrival.stamp_ns in self._recent[arrival.camera])

    def _reset(self) -> list[AssembledSweep[Payload]]:
        out = self.flush()
        self.counters.resets += 1
        self._drop_suspects()
        self._forget()
        return out

    def _take(self, arrival: Arrival[Payload]) -> None:
        recent = self._recent[arrival.camera]
        if arrival.stamp_ns in recent:
            self._count(arrival.camera, "duplicate")
            return
        if recent and arrival.stamp_ns < max(recent):
            self._count(arrival.camera, "out_of_order")
        recent.append(arrival.stamp_ns)
        self._outvoted.pop(arrival.camera, None)
        if self._newest is None or arrival.stamp_ns >= self._newest.stamp_ns:
            self._newest = arrival
        self._offsets.learn(arrival.camera, arrival.stamp_ns)
        self._missed[arrival.camera] = 0
        if self._has_left(arrival):
            self._count(arrival.camera, "late")
        else:
            self._pending.append(arrival)

    def _has_left(self, arrival: Arrival[Payload]) -> bool:
        """Whether the sweep of a message has left, or one behind it has.

        The last sweep is placed anew each time, because the offsets may have been learned since.
        """
        if not self._last_group:
            return False
        if arrival.stamp_ns <= self._last_out.get(arrival.camera, arrival.stamp_ns - 1):
            return True
        end = self._reference(self._last_group) + self._offsets.window_ns // 2
        return self._offsets.aligned(arrival.camera, arrival.stamp_ns) <= end

    def _reference(self, group: list[Arrival[Payload]]) -> int:
        """Stamp of the anchor, or the mean of where the others say it would have been."""
        aligned = {a.camera: self._offsets.aligned(a.camera, a.stamp_ns) for a in group}
        return aligned.get(self._offsets.anchor, sum(aligned.values()) // len(aligned))

    def _groups(self) -> list[list[Arrival[Payload]]]:
        """The waiting messages, by sweep, in order of time."""
        groups: list[list[Arrival[Payload]]] = []
        span, gap = self._offsets.window_ns, self._offsets.gap_ns
        first = last = 0
        for aligned, arrival in sorted(
            ((self._offsets.aligned(a.camera, a.stamp_ns), a) for a in self._pending),
            key=lambda pair: (pair[0], pair[1].stamp_ns),
        ):
            fits = bool(groups) and aligned - first <= span and aligned - last <= gap
            if fits and all(arrival.camera != other.camera for other in groups[-1]):
                groups[-1].append(arrival)
            else:
                groups.append([arrival])
                first = aligned
            last = aligned
        return groups

    def _leave(self, now: float) -> list[AssembledSweep[Payload]]:
        """Let out all groups up to the last one that is due or has all it can get."""
        groups = self._groups()
        wanted = set(self.config.cameras).difference(self.silent())
        due = 0
        for index, group in enumerate(groups):
            if self._is_full(group, wanted) or now - min(a.arrived for a in group) >= self.config.deadline_s:
                due = index + 1
        if len(self._pending) > PENDING_PER_CAMERA * len(self.config.cameras):
            due = max(due, 1)
        return [self._emit(group) for group in groups[:due]]

    def _is_full(self, group: list[Arrival[Payload]], wanted: set[str]) -> bool:
        """Whether a group has all it can get: slow cameras may have no frame at its moment."""
        missing = wanted.difference(arrival.camera for arrival in group)
        if not missing:
            return True
        reference = self._reference(group)
        return all(self._offsets.sends_nothing_at(name, reference) for name in missing)

    def _emit(self, group: list[Arrival[Payload]]) -> AssembledSweep[Payload]:
        self._pending = [arrival for arrival in self._pending if all(arrival is not used for used in group)]
        stamp = reference = self._reference(group)
        if self._last_stamp is not None:  # an anchor that was only estimated may have been put too late
            stamp = max(stamp, self._last_stamp + 1)
        self._last_stamp, self._last_group = stamp, group
        by_camera = {arrival.camera: arrival for arrival in group}
        for name in self.config.cameras:
            if name in by_camera:
                self._missed[name] = 0
            elif not self._offsets.sends_nothing_at(name, reference):
                self._missed[name] += 1
        self._last_out.update({name: arrival.stamp_ns for name, arrival in by_camera.items()})
        views = {name: by_camera[name] for name in self.config.cameras if name in by_camera}
        missing = tuple(name for name in self.config.cameras if name not in by_camera)
        self.counters.complete += not missing
        self.counters.partial += bool(missing)
        return AssembledSweep(stamp, views, missing, min(arrival.arrived for arrival in group))
