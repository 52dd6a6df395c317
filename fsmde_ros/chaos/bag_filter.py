"""A bag as messages and back, and the record of the faults that were put into it."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from rosbags.interfaces import ConnectionExtRosbag2
from rosbags.rosbag2 import StoragePlugin, Writer

from fsmde_ros.chaos.faults import Event, Fault
from fsmde_ros.chaos.stream import Message, count_images
from fsmde_ros.errors import SourceError
from fsmde_ros.sources.bag_file import open_bag
from fsmde_ros.sources.bag_messages import TYPESTORE
from fsmde_ros.sources.bag_writer import check_target


def read_messages(bag: Path) -> list[Message]:
    """All messages of a bag. Raises SourceError where there is none or it is damaged."""
    with open_bag(bag) as source:
        return [
            Message(topic, source.types[topic], time_ns, data, index)
            for index, (topic, time_ns, data) in enumerate(source.all_messages())
        ]


def write_messages(source: Path, target: Path, messages: Iterable[Message], overwrite: bool = False) -> None:
    """Write messages as a bag, with the topics, types and QoS of the bag ``source``.

    Raises SourceError where the target exists and ``overwrite`` is false, is no bag, or cannot be
    written.
    """
    target = target.absolute()
    check_target(target, overwrite)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as temporary:
            made = Path(temporary) / target.name
            with open_bag(source) as bag, Writer(made, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
                links = {}
                for c in bag.connections:
                    qos = c.ext.offered_qos_profiles if isinstance(c.ext, ConnectionExtRosbag2) else []
                    links[c.topic] = writer.add_connection(
                        c.topic, c.msgtype, typestore=TYPESTORE, offered_qos_profiles=qos
                    )
                for message in messages:
                    writer.write(links[message.topic], message.time_ns, message.data)
            if target.exists():
                target.rename(Path(temporary) / "replaced")
            made.rename(target)
    except OSError as error:
        raise SourceError(f"bag {target}: cannot be written: {error.strerror or error}") from error


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
