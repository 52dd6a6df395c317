"""A rosbag2 bag of any storage, opened without ROS, with clear errors for a damaged one.

Where bytes are not as they expect, rosbags and what is below it (SQLite, zstd, LZ4) raise errors of many kinds without
a common base: hence ``except Exception`` around them, and nothing of ours within.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader

from fsmde_ros.errors import SourceError
from fsmde_ros.sources.bag_messages import TYPESTORE


class BagFile:
    """The messages of an open bag. Every method raises SourceError where the bag is damaged."""

    def __init__(self, path: Path, reader: Reader) -> None:
        self.path = path
        self._reader = reader
        self.types: dict[str, str] = {c.topic: c.msgtype for c in reader.connections}

    def topics(self, *msgtypes: str) -> list[str]:
        """Topics of one of the types, sorted."""
        return sorted(topic for topic, msgtype in self.types.items() if msgtype in msgtypes)

    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Topic and serialised bytes of the messages of ``topics``, in the order of log time."""
        return ((topic, data) for topic, _, data in self.logged_messages(topics))

    def logged_messages(
        self, topics: Collection[str], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[tuple[str, int, bytes]]:
        """As ``messages``, with the log time (ns), of the log times from ``start_ns`` to before ``stop_ns``."""
        connections = [c for c in self._reader.connections if c.topic in topics]
        if not connections:  # an empty filter would mean all
            return
        try:
            for connection, logged_ns, data in self._reader.messages(connections, start_ns, stop_ns):
                yield connection.topic, logged_ns, data
        except Exception as error:
            raise SourceError(f"bag {self.path}: damaged, cannot be read to the end: {error!r}") from error

    def all_messages(self) -> Iterator[tuple[str, int, bytes]]:
        """Topic, log time in nanoseconds and serialised bytes of every message, in the order of log time."""
        try:
            for connection, time_ns, data in self._reader.messages():
                yield connection.topic, time_ns, bytes(data)
        except Exception as error:
            raise SourceError(f"bag {self.path}: damaged, cannot be read to the end: {error!r}") from error

    @property
    def connections(self) -> list[Connection]:
        """Topic, type and QoS of everything in the bag."""
        return self._reader.connections

    def first(self, topic: str) -> Any:
        """The first message of a topic, None where it has none."""
        return next((self.decode(topic, data) for _, data in self.messages([topic])), None)

    def decode(self, topic: str, data: bytes) -> Any:
        """A message of a topic, with rosbags' own type."""
        try:
            return TYPESTORE.deserialize_cdr(data, self.types[topic])
        except Exception as error:
            raise SourceError(f"bag {self.path}: a message of {topic} cannot be decoded: {error!r}") from error

    def stamp_ns(self, topic: str, data: bytes) -> int:
        """Stamp of a message that begins with a header, nanoseconds, without decoding the rest."""
        try:
            sec, nanosec = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
        except (struct.error, IndexError) as error:
            raise SourceError(f"bag {self.path}: a message of {topic} has {len(data)} bytes, no header") from error
        return int(sec) * 10**9 + int(nanosec)

    def claimed(self, topics: Collection[str]) -> int:
        """How many messages of ``topics`` the bag says that it has; of a damaged one fewer may be found."""
        try:
            return sum(int(c.msgcount) for c in self._reader.connections if c.topic in topics)
        except Exception as error:
            raise SourceError(f"bag {self.path}: damaged, its number of messages is none: {error!r}") from error

    def unread(self, topic: str) -> str:
        """Why no message of a topic can be read although the bag says that it has some; empty where that is not so."""
        count = self.claimed([topic])
        if not count or next(self.messages([topic]), None) is not None:
            return ""
        return (
            f"{topic} has {count} messages by metadata.yaml, of which none can be found: it and the file of the bag "
            "disagree, as after an edit of the topic's QoS; undo that, or make metadata.yaml anew: ros2 bag reindex"
        )

    @property
    def start_ns(self) -> int:
        """Log time of the first message, nanoseconds."""
        try:
            return int(self._reader.start_time)
        except Exception as error:
            raise SourceError(f"bag {self.path}: damaged, says nothing of its start: {error!r}") from error

    def listing(self) -> str:
        """Topics and their types, for messages."""
        return ", ".join(f"{topic} ({msgtype})" for topic, msgtype in sorted(self.types.items())) or "no topics"


@contextmanager
def open_bag(path: Path | str) -> Iterator[BagFile]:
    """Open a bag: its folder, or its ``.mcap`` or ``.db3`` file. Raises SourceError where it is none."""
    path = Path(path)
    try:
        reader = Reader(path)
        reader.open()
    except Exception as error:
        raise SourceError(
            f"bag {path}: cannot be opened: {error} Expected the folder of a rosbag2 bag (metadata.yaml and its .mcap "
            "or .db3); nuscenes_to_bag and ddad_to_bag make one. Where a recording was cut off, `mcap recover` mends "
            "its file, and `ros2 bag reindex` makes metadata.yaml"
        ) from error
    try:
        yield BagFile(path, reader)
    finally:
        reader.close()
