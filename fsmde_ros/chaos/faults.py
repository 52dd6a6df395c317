"""The faults: what each does to the messages within its time, and the record of what it did.

A fault is a frozen description; ``apply`` gives new messages and one event for each message that it
touched. The same seed gives the same faults. Times are seconds from the first image of the bag.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from itertools import combinations
from typing import Any

import numpy as np

from fsmde_ros.chaos.stream import Message, cameras, first_image_ns, in_order
from fsmde_ros.errors import ConfigError, ImageError
from fsmde_ros.images import encode_jpeg, encoded_size
from fsmde_ros.sources.bag_messages import COMPRESSED, INFO
from fsmde_ros.stamps import NS
from fsmde_ros.sweep import EncodedImage

Random = np.random.Generator


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        kind: a name of ``KINDS``.
        start, end: when, seconds from the first image; the end is not part of it.
        cameras: whose messages; empty: all cameras.
        share: of the messages that are touched, 0 to 1.
        amount: how much; what it means stands in ``KINDS``.
    """

    kind: str
    start: float = 0.0
    end: float = float("inf")
    cameras: tuple[str, ...] = ()
    share: float = 1.0
    amount: float | None = None

    def __post_init__(self) -> None:
        kind = KINDS.get(self.kind)
        if kind is None:
            raise ConfigError(f"fault '{self.kind}' is not known, expected one of {', '.join(KINDS)}")
        object.__setattr__(self, "cameras", tuple(self.cameras))
        if self.amount is None:
            object.__setattr__(self, "amount", kind.amount)
        if not 0 <= self.start < self.end:
            raise ConfigError(f"fault {self.kind}: expected 0 <= start < end seconds, got {self.start}, {self.end}")
        if not 0 < self.share <= 1:
            raise ConfigError(f"fault {self.kind}: expected a share above 0 and up to 1, got {self.share}")
        if not (kind.low <= self.size <= kind.high):
            raise ConfigError(
                f"fault {self.kind}: the amount ({kind.meaning}) must be {kind.low:g} to {kind.high:g}, got {self.size}"
            )
        defaults = {field.name: field.default for field in fields(self)}
        given = [name for name in kind.takes_no if getattr(self, name) != defaults[name]]
        if given:
            raise ConfigError(f"fault {self.kind}: {kind.what}; it takes no {' and no '.join(given)}: leave that out")

    @property
    def size(self) -> float:
        """``amount``, with the default of its kind in place."""
        assert self.amount is not None
        return self.amount


@dataclass(frozen=True)
class Event:
    """What was done to one message: kind of the fault, topic, the stamp it had, seconds from the first image."""

    kind: str
    topic: str
    stamp_ns: int | None
    at_s: float


Touched = Callable[[Message], bool]
Change = Callable[[list[Message], Touched, Fault, Random], tuple[list[Message], list[Message]]]
"""Messages, which of them the fault may touch, the fault, chance: new messages, and those touched (as they were)."""


@dataclass(frozen=True)
class Kind:
    """A kind of fault: what it does, what its amount means, with default and range, and fields that mean nothing."""

    change: Change
    what: str
    meaning: str = "not used"
    amount: float = 0.0
    low: float = 0.0
    high: float = 0.0
    takes_no: tuple[str, ...] = ()


def apply(messages: list[Message], faults: list[Fault], seed: int = 0) -> tuple[list[Message], list[Event]]:
    """Put faults into a drive, one after another.

    Returns:
        the messages in the order in which they are sent, and what was done.

    Raises:
        ConfigError: a fault names a camera that has no images.
        SourceError: there are no images.
    """
    begin = first_image_ns(messages)
    known = cameras(messages)
    result, events = in_order(messages), []
    for index, fault in enumerate(faults):
        unknown = [name for name in fault.cameras if name not in known]
        if unknown:
            raise ConfigError(f"fault {fault.kind}: no camera {', '.join(unknown)}; the bag has {', '.join(known)}")
        random = np.random.default_rng([seed, index])
        result, touched = KINDS[fault.kind].change(result, _chosen(fault, begin, known), fault, random)
        result = in_order(result)
        events += [Event(fault.kind, m.topic, m.stamp_ns, (m.time_ns - begin) / NS) for m in touched]
    return result, events


def _chosen(fault: Fault, begin: int, known: tuple[str, ...]) -> Touched:
    """Whether a message is in the time and of the cameras of a fault."""
    names = fault.cameras or known

    def chosen(message: Message) -> bool:
        return fault.start <= (message.time_ns - begin) / NS < fault.end and message.camera in names

    return chosen


def _each(
    messages: list[Message],
    chosen: Touched,
    fault: Fault,
    random: Random,
    change: Callable[[Message], list[Message]],
    wanted: Callable[[Message], bool] = lambda message: message.is_image,
) -> tuple[list[Message], list[Message]]:
    """Change a share of the chosen messages, by default images, one by one."""
    result, touched = [], []
    for message in messages:
        if chosen(message) and wanted(message) and random.random() < fault.share:
            touched.append(message)
            result += change(message)
        else:
            result.append(message)
    return result, touched


def _drop(m: list[Message], c: Touched, f: Fault, r: Random) -> tuple[list[Message], list[Message]]:
    return _each(m, c, f, r, lambda message: [])


def _dead(m: list[Message], c: Touched, f: Fault, r: Random) -> tuple[list[Message], list[Message]]:
    return _each(m, c, f, r, lambda _: [], lambda x: x.is_image or x.msgtype == INFO)


def _delay(m: list[Message], c: Touched, f: Fault, r: Random) -> tuple[list[Message], list[Message]]:
    return _each(m, c, f, r, lambda x: [x.sent_at(x.time_ns + round(f.size * NS))])


def _jitter(m: list[Message], c: Touched, f: Fault, r: Random) -> tuple[list[Message], list[Message]]:
    return _each(m, c, f, r, lambda x: [x.sent_at(x.time_ns + round(r.uniform(0, f.size) * NS))])


def _duplicate(m: list[Message], c: Touched, f: Fault, r: Random) -> tuple[list[Message], list[Message]]:
    return _each(m, c, f, r, lambda x: [x, x.sent_at(x.time_ns + round(f.size * NS))])


def _corrupt(m: list[Message], c: Touched, f: Fault, r: Random) -> tuple[list[Message], list[Message]]:
    """Cut the payload of an image in half and put noise into the rest: a JPEG without its end."""

    def corrupted(message: Message) -> list[Message]:
        content = message.decoded()
        data = np.array(content.data)[: len(content.data) // 2]
        if not len(data):  # of an image without any bytes
            return [message.encoded(replace(content, data=data))]
        places = r.integers(0, len(data), size=max(1, round(f.size * len(data))))
        data[places] = r.integers(0, 256, size=len(places), dtype=np.uint8)
        ends = np.flatnonzero((data[:-1] == 0xFF) & (data[1:] == 0xD9))  # no end of a JPEG by chance
        data[ends + 1] = 0
        return [message.encoded(replace(content, data=data))]

    return _each(m, c, f, r, corrupted)


def _garble(m: list[Message], c: Touched, f: Fault, r: Random) -> tuple[list[Message], list[Message]]:
    """Noise in the payload, whose length and ends stay: a memory or a cable with errors. May still be readable."""

    def garbled(message: Message) -> list[Message]:
        content = message.decoded()
        data = np.array(content.data)
        if len(data) > 4:
            places = r.integers(2, len(data) - 2, size=max(1, round(f.size * len(data))))
            data[places] ^= r.integers(1, 256, size=len(places), dtype=np.uint8)
        return [message.encoded(replace(content, data=data))]

    return _each(m, c, f, r, garbled)


def _blank(m: list[Message], c: Touched, f: Fault, r: Random) -> tuple[list[Message], list[Message]]:
    """An image of one grey value, of the same size: a covered lens. One that cannot be read stays as it is."""

    def blank(message: Message) -> list[Message]:
        content = message.decoded()
        if message.msgtype == COMPRESSED:
            pixels = np.full((*_size(message), 3), round(f.size), np.uint8)
            data = np.frombuffer(encode_jpeg(pixels).data, dtype=np.uint8)
            return [message.encoded(replace(content, format="jpeg", data=data))]
        return [message.encoded(replace(content, data=np.full_like(content.data, round(f.size))))]

    def has_size(message: Message) -> bool:
        try:
            return message.is_image and (message.msgtype != COMPRESSED or min(_size(message)) > 0)
        except ImageError:  # damaged in the recording, or by a fault before this one
            return False

    return _each(m, c, f, r, blank, has_size)


def _size(message: Message) -> tuple[int, int]:
    """(H, W) of a CompressedImage; raises ImageError where it cannot be read."""
    content = message.decoded()
    return encoded_size(EncodedImage(bytes(content.data), content.format))


def _swap(m: list[Message], c: Touched, f: Fault, r: Random) -> tuple[list[Message], list[Message]]:
    """The images of the first two cameras change topics, as with two cables in the wrong sockets."""
    names = [name for name in cameras(m) if not f.cameras or name in f.cameras]
    topics: dict[str, dict[tuple[str, str], str]] = {name: {} for name in names}
    for x in m:
        if x.is_image and x.camera in topics:  # for another of the same type and processing alone
            topics[x.camera][x.msgtype, x.topic.removeprefix(f"/{x.camera}")] = x.topic
    pairs = ((topics[a], topics[b], topics[a].keys() & topics[b].keys()) for a, b in combinations(names, 2))
    first, second, alike = next((pair for pair in pairs if pair[2]), ({}, {}, set[tuple[str, str]]()))
    if not alike:
        raise ConfigError(
            "fault swap: expected at least two cameras whose image topics have the same type and the same name behind "
            f"that of the camera; of {', '.join(names)} no two have"
        )
    other = {first[kind]: second[kind] for kind in alike} | {second[kind]: first[kind] for kind in alike}
    return _each(m, c, f, r, lambda x: [replace(x, topic=other[x.topic])], lambda x: x.is_image and x.topic in other)


def _calibration(m: list[Message], c: Touched, f: Fault, r: Random) -> tuple[list[Message], list[Message]]:
    """Other focal lengths in CameraInfo; at 0 the camera says that it is not calibrated."""

    def scaled(message: Message) -> list[Message]:
        content: Any = message.decoded()
        k, p = np.array(content.k), np.array(content.p)
        k[[0, 4]] *= f.size
        p[[0, 5]] *= f.size
        return [message.encoded(replace(content, k=k, p=p))]

    return _each(m, c, f, r, scaled, lambda x: x.msgtype == INFO)


def _clock_jump(m: list[Message], c: Touched, f: Fault, r: Random) -> tuple[list[Message], list[Message]]:
    """From the start on every stamp, of a header or of moving transforms, lies ``amount`` further: the clock was set.

    Fixed transforms stay, which are sent once, before the clock is set.
    """
    begin = first_image_ns(m) + round(f.start * NS)
    result, touched = [], []
    for message in m:
        if message.time_ns < begin or message.topic.endswith("/tf_static"):
            result.append(message)
            continue
        if message.is_image:
            touched.append(message)
        result.append(message.shifted(round(f.size * NS)))
    return result, touched


def _wrong_clock(m: list[Message], c: Touched, f: Fault, r: Random) -> tuple[list[Message], list[Message]]:
    """Some cameras have a clock that is not that of the others."""
    return _each(m, c, f, r, lambda x: [x.shifted(round(f.size * NS))])


def _reorder(m: list[Message], c: Touched, f: Fault, r: Random) -> tuple[list[Message], list[Message]]:
    """Two images of a camera that follow one another change places in time; each touched pair is two events."""
    result, touched = list(m), []
    for topic in sorted({x.topic for x in m if x.is_image}):
        places = [i for i, x in enumerate(m) if x.topic == topic and c(x)]
        for first, second in zip(places[::2], places[1::2], strict=False):
            if r.random() < f.share:
                a, b = m[first], m[second]
                touched += [a, b]
                result[first], result[second] = a.sent_at(b.time_ns), b.sent_at(a.time_ns)
    return result, touched


def _rate(m: list[Message], c: Touched, f: Fault, r: Random) -> tuple[list[Message], list[Message]]:
    """Only every so many images of each camera come: the camera runs slower."""
    every, counts, result, touched = round(f.size), dict[str, int](), [], []
    for message in m:
        if message.is_image and c(message):
            count = counts[message.topic] = counts.get(message.topic, -1) + 1
            if count % every:
                touched.append(message)
                continue
        result.append(message)
    return result, touched


def _burst(m: list[Message], c: Touched, f: Fault, r: Random) -> tuple[list[Message], list[Message]]:
    """Images are held back and come all at once, as after a network that stood still for ``amount``."""
    begin, step = first_image_ns(m), round(f.size * NS)

    def held(message: Message) -> list[Message]:
        return [message.sent_at(begin + ((message.time_ns - begin) // step + 1) * step)]

    return _each(m, c, f, r, held)


KINDS: Mapping[str, Kind] = {
    "drop": Kind(_drop, "images are lost"),
    "dead": Kind(_dead, "the camera says nothing, neither images nor CameraInfo", takes_no=("share",)),
    "delay": Kind(_delay, "images come later", "seconds", 0.3, 0.0, 3600.0),
    "jitter": Kind(_jitter, "images come up to so much later", "seconds", 0.03, 0.0, 3600.0),
    "reorder": Kind(_reorder, "neighbouring images of a camera change places"),
    "duplicate": Kind(_duplicate, "images come twice", "seconds between them", 0.001, 0.0, 3600.0),
    "corrupt": Kind(_corrupt, "half of the payload, with noise in it", "share of bytes that are noise", 0.01, 0.0, 1.0),
    "garble": Kind(_garble, "noise in the payload, which keeps its length", "share of the bytes", 0.01, 0.0, 1.0),
    "blank": Kind(_blank, "images of one grey value", "grey value", 0.0, 0.0, 255.0),
    "swap": Kind(_swap, "the images of two cameras change topics"),
    "calibration": Kind(_calibration, "other focal lengths in CameraInfo", "factor; 0: uncalibrated", 0.8, 0.0, 100.0),
    "clock_jump": Kind(
        *(_clock_jump, "all stamps lie so much further from then on", "seconds", 5.0, -1e9, 1e9),
        takes_no=("end", "cameras", "share"),
    ),
    "wrong_clock": Kind(_wrong_clock, "stamps of a camera lie so much further", "seconds", 3600.0, -1e9, 1e9),
    "rate": Kind(_rate, "only every so many images come", "how many", 2.0, 1.0, 1000.0, takes_no=("share",)),
    "burst": Kind(_burst, "images are held back and come at once", "seconds", 0.5, 0.001, 3600.0),
}
"""The kinds of faults by name."""
