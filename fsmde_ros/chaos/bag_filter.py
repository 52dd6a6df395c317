"""A bag as messages and back, and the record of the faults that were put into it."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinitionFormat
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, TypesysError, get_types_from_idl, get_types_from_msg, get_typestore

from fsmde_ros.chaos.faults import Event, Fault
from fsmde_ros.chaos.stream import Message, count_images
from fsmde_ros.errors import SourceError
from fsmde_ros.sources.bag_file import open_bag
from fsmde_ros.sources.bag_messages import TYPESTORE
from fsmde_ros.sources.bag_writer import check_target


@dataclass(frozen=True)
class Written:
    """What a bag has got: the number of messages, and what was left out, as "topic (type)"."""

    messages: int
    left_out: tuple[str, ...]


def read_messages(bag: Path) -> list[Message]:
    """All messages of a bag. Raises SourceError where there is none or it is damaged."""
    with open_bag(bag) as source:
        return [
            Message(topic, source.types[topic], time_ns, data, index)
            for index, (topic, time_ns, data) in enumerate(source.all_messages())
        ]


def write_messages(source: Path, target: Path, messages: Iterable[Message], overwrite: bool = False) -> Written:
    """Write messages as a bag, with the topics, types and QoS of the bag ``source``.

    Topics of a type that neither ``source`` nor ROS defines are left out. Raises SourceError where the target exists
    and ``overwrite`` is false, is no bag, or cannot be written.
    """
    target = target.absolute()
    check_target(target, overwrite)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as temporary:
            made = Path(temporary) / target.name
            with open_bag(source) as bag, Writer(made, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
                links, count = {}, 0
                for c in bag.connections:
                    qos = c.ext.offered_qos_profiles if isinstance(c.ext, ConnectionExtRosbag2) else []
                    if (known := _definition(c)) is not None:
                        links[c.topic] = writer.add_connection(
                            c.topic, c.msgtype, msgdef=known[0], rihs01=known[1], offered_qos_profiles=qos
                        )
                left_out = sorted({f"{c.topic} ({c.msgtype})" for c in bag.connections if c.topic not in links})
                for message in messages:
                    if message.topic in links:
                        writer.write(links[message.topic], message.time_ns, message.data)
                        count += 1
            if target.exists():
                target.rename(Path(temporary) / "replaced")
            made.rename(target)
    except OSError as error:
        raise SourceError(f"bag {target}: cannot be written: {error.strerror or error}") from error
    return Written(count, tuple(left_out))


def _definition(connection: Connection) -> tuple[str, str] | None:
    """Definition of a type and its hash, from the bag where it has both; None where nobody defines it.

    Recordings before Iron have no hashes, and those in SQLite no definitions either.
    """
    msgtype, given = connection.msgtype, connection.msgdef
    is_given = given.format != MessageDefinitionFormat.NONE
    if is_given and connection.digest:
        return given.data, connection.digest
    try:
        if msgtype in TYPESTORE.fielddefs:
            return TYPESTORE.generate_msgdef(msgtype, ros_version=2)[0], TYPESTORE.hash_rihs01(msgtype)
        if not is_given:
            return None
        is_idl = given.format == MessageDefinitionFormat.IDL
        types = get_typestore(Stores.EMPTY)
        # Not by ``register``, which runs code that it makes of the definition: a bag may hold anything.
        types.fielddefs |= get_types_from_idl(given.data) if is_idl else get_types_from_msg(given.data, msgtype)
        return given.data, types.hash_rihs01(msgtype)
    except (TypesysError, KeyError, RecursionError):  # none, or one that lacks a type or contains itself
        return None


def record(
    faults: Sequence[Fault], seed: int, events: Sequence[Event], before: Sequence[Message], after: Sequence[Message]
) -> dict[str, object]:
    """What was done, for a JSON file: the faults, how often each kind struck, images by camera, every event."""
    counts: dict[str, int] = {}
    for event in events:
        counts[event.kind] = counts.get(event.kind, 0) + 1
    described = [{**dataclasses.asdict(fault), "end": min(fault.end, 1e9)} for fault in faults]
    return {
        "seed": seed,
        "faults": described,
        "events_by_kind": counts,
        "images_in": dict(count_images(before)),
        "images_out": dict(count_images(after)),
        "events": [dataclasses.asdict(event) for event in events],
    }
