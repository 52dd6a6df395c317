"""What of a bag can be played, and in which order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from fsmde_ros.errors import SourceError
from fsmde_ros.node.bag_topics import is_latched, message_class
from fsmde_ros.sources.bag_file import BagFile
from fsmde_ros.sources.bag_messages import IMAGE_TYPES
from fsmde_ros.sources.bag_rig import camera_of
from fsmde_ros.stamps import NS, stamp_problem

LAST_NS = 2**63 - 1  # of a log time, which is an int64


@dataclass(frozen=True)
class Entry:
    """One message: topic, log time in nanoseconds, stamp of its header, serialised bytes.

    The stamp is of images only, and None where it has a ``stamp_problem``, as then the node does not take the image.
    """

    topic: str
    logged_ns: int
    stamp_ns: int | None
    data: bytes


class Playlist:
    """The messages of an open bag that can be published.

    Attributes:
        connections: topics, types and offered QoS.
        left_out: "topic (type)" of what is wanted and has no message package here.
        images: topics of images, also of those that no node may want: depth, infrared, one more camera.
        claimed: messages of these connections that the bag says it has.
    """

    def __init__(
        self,
        bag: BagFile,
        topics: Sequence[str] = (),
        start_s: float = 0.0,
        duration_s: float | None = None,
        without: Sequence[str] = (),
    ) -> None:
        """Look into the bag.

        Args:
            bag: the open bag.
            topics: only these; empty means all but those ``without``.
            start_s: seconds of the bag to skip, 0 or more; messages of latched topics are kept.
            duration_s: seconds to play, above 0; all without.

        Raises:
            SourceError: a wanted topic is not in the bag, nothing can be played, also as the bag ends before the
                start, or it is damaged.
        """
        missing = [topic for topic in topics if topic not in bag.types]
        if missing:
            raise SourceError(f"bag {bag.path}: no topic {', '.join(missing)}; it has {', '.join(sorted(bag.types))}")
        wanted = [c for c in bag.connections if c.topic in topics or (not topics and c.topic not in without)]
        self.connections = [c for c in wanted if message_class(c.msgtype) is not None]
        self.left_out = sorted({f"{c.topic} ({c.msgtype})" for c in wanted if message_class(c.msgtype) is None})
        if not self.connections:
            raise SourceError(
                f"bag {bag.path}: nothing to play: no topic of {bag.listing()} is wanted (--topics) and of a type "
                "whose message package is installed"
            )
        self.claimed = bag.claimed({c.topic for c in self.connections})
        self.images = {c.topic for c in self.connections if c.msgtype in IMAGE_TYPES}
        self._bag, self._begin = bag, _later(bag.start_ns, start_s)
        self._end = None if duration_s is None else _later(self._begin, duration_s)
        self._check(start_s, duration_s)

    def _check(self, start_s: float, duration_s: float | None) -> None:
        """Raise SourceError where nothing would be played, or only what latched topics had before a start in vain."""
        nothing = f"bag {self._bag.path}: nothing to play:"
        if next(self._bag.logged_messages(self._bag.types, self._begin), None) is None:
            if start_s:
                raise SourceError(f"{nothing} it ends before --start {start_s:g} s; choose a lower one")
            if self.claimed:
                raise SourceError(f"{nothing} damaged, none of the {self.claimed} messages it should have can be found")
            raise SourceError(f"{nothing} it has no messages")
        if next(self.entries(), None) is None:
            length = "" if duration_s is None else f" for {duration_s:g} s"
            raise SourceError(
                f"{nothing} no message of these topics from {start_s:g} s on{length}; choose a lower --start, a longer "
                "--duration or other --topics"
            )

    def alternatives(self, topics: Sequence[str]) -> list[list[str]]:
        """``topics`` in groups: the images of one camera together, as a node takes one kind; others each alone."""
        groups: dict[tuple[bool, str], list[str]] = {}
        for topic in topics:
            is_image = topic in self.images
            key = camera_of(topic, self._bag.types[topic]) if is_image else topic
            groups.setdefault((is_image, key), []).append(topic)
        return list(groups.values())

    def first_stamps(self, topic: str, count: int) -> list[int]:
        """Stamps of the first images of a topic, nanoseconds, without those that have a ``stamp_problem``.

        Raises SourceError where the bag is damaged.
        """
        stamps = [self._image_stamp(topic, data) for _, data in islice(self._bag.messages([topic]), count)]
        return [stamp for stamp in stamps if stamp is not None]

    def entries(self) -> Iterator[Entry]:
        """Messages in order of time; of latched topics also those before the start, with the time of the start.

        Raises SourceError where the bag is damaged.
        """
        topics = {c.topic for c in self.connections}
        latched = {c.topic for c in self.connections if is_latched(c)}
        if self._begin > self._bag.start_ns:
            for topic, _, data in self._bag.logged_messages(latched, stop_ns=self._begin):
                yield self._entry(topic, self._begin, data)
        for topic, logged_ns, data in self._bag.logged_messages(topics, self._begin, self._end):
            yield self._entry(topic, logged_ns, data)

    def _entry(self, topic: str, logged_ns: int, data: bytes) -> Entry:
        stamp_ns = self._image_stamp(topic, data) if topic in self.images else None
        return Entry(topic, logged_ns, stamp_ns, bytes(data))

    def _image_stamp(self, topic: str, data: bytes) -> int | None:
        stamp_ns = self._bag.stamp_ns(topic, data)
        return None if stamp_problem(*divmod(stamp_ns, NS)) else stamp_ns


def _later(log_ns: int, seconds: float) -> int:
    """A log time so many seconds later, however many they are, infinity included."""
    return min(log_ns + round(min(seconds, LAST_NS / NS) * NS), LAST_NS)
