"""A recorded drive as a list of messages that faults can be put into.

Nothing but stamps and the payload of an image is looked at, in the serialised bytes
(CDR: 4 bytes of encapsulation, then the fields, aligned to their size from there; OMG DDS-RTPS
10.2), so that everything else stays as it was recorded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from rosbags.serde import SerdeError

from fsmde_ros.errors import SourceError
from fsmde_ros.sources.bag_messages import IMAGE_TYPES, TYPESTORE
from fsmde_ros.sources.bag_rig import TF, camera_of
from fsmde_ros.sources.bag_writer import LAST_STAMP_NS
from fsmde_ros.stamps import NS


@dataclass(frozen=True, eq=False)
class Message:
    """One message of a bag.

    Attributes:
        topic, msgtype: of its connection.
        time_ns: when it is sent (log time), nanoseconds.
        data: serialised (CDR).
        index: its place in the bag, which whatever is made of it keeps.
    """

    topic: str
    msgtype: str
    time_ns: int
    data: bytes
    index: int = -1

    @property
    def is_image(self) -> bool:
        """Whether this is an image, compressed or raw."""
        return self.msgtype in IMAGE_TYPES

    @property
    def camera(self) -> str:
        """Name of the camera of an image or CameraInfo: ``/ns/cam/image_rect/compressed`` is of ``ns/cam``."""
        return camera_of(self.topic, self.msgtype)

    @property
    def stamp_ns(self) -> int | None:
        """Stamp of the header, nanoseconds; None for a type without one."""
        if not _has_header(self.msgtype):
            return None
        order = "<" if self.data[1] & 1 else ">"
        seconds, nanoseconds = struct.unpack_from(order + "iI", self.data, 4)
        return int(seconds) * 10**9 + int(nanoseconds)

    def sent_at(self, time_ns: int) -> Message:
        """The same message, sent at another time."""
        return replace(self, time_ns=time_ns)

    def stamped(self, stamp_ns: int) -> Message:
        """The same message with another stamp in its header; one without a header as it is."""
        if self.stamp_ns is None:
            return self
        order = "<" if self.data[1] & 1 else ">"
        data = bytearray(self.data)
        struct.pack_into(order + "iI", data, 4, *divmod(stamp_ns, 10**9))
        return replace(self, data=bytes(data))

    def shifted(self, shift_ns: int) -> Message:
        """The same message with the stamp of its header, or those of its transforms, so much later.

        A stamp that would leave what a ROS time can be is its first or last one. Raises SourceError where the
        transforms cannot be decoded.
        """
        stamp = self.stamp_ns
        if stamp is not None:
            return self.stamped(_bounded(stamp + shift_ns))
        if self.msgtype != TF:
            return self
        content = self.decoded()
        for transform in content.transforms:
            at = transform.header.stamp
            at.sec, at.nanosec = divmod(_bounded(at.sec * NS + at.nanosec + shift_ns), NS)
        return self.encoded(content)

    def decoded(self) -> Any:
        """The message with rosbags' own type; raises SourceError where its bytes are no such message."""
        try:
            return TYPESTORE.deserialize_cdr(self.data, self.msgtype)
        except (SerdeError, AssertionError, IndexError, KeyError, TypeError, ValueError, struct.error) as error:
            raise SourceError(f"a message of {self.topic} cannot be decoded: {error!r}") from error

    def encoded(self, content: Any) -> Message:
        """The same message with another content of its type."""
        return replace(self, data=bytes(TYPESTORE.serialize_cdr(content, self.msgtype)))


def _bounded(stamp_ns: int) -> int:
    return min(max(0, stamp_ns), LAST_STAMP_NS)


@cache
def _has_header(msgtype: str) -> bool:
    """Whether messages of a type begin with a ``std_msgs/Header``; of types that are not known: no."""
    _, fields = TYPESTORE.fielddefs.get(msgtype, ([], []))
    return bool(fields) and fields[0][0] == "header"


def in_order(messages: Iterable[Message]) -> list[Message]:
    """The messages in the order in which they are sent; those of one time keep their order."""
    return sorted(messages, key=lambda message: message.time_ns)


def first_image_ns(messages: Iterable[Message]) -> int:
    """When the first image is sent. Raises SourceError where there is none."""
    times = [message.time_ns for message in messages if message.is_image]
    if not times:
        raise SourceError("the bag has no images (CompressedImage or Image) to put faults into")
    return min(times)


def cameras(messages: Iterable[Message]) -> tuple[str, ...]:
    """Names of the cameras that have images, sorted."""
    return tuple(sorted({message.camera for message in messages if message.is_image}))


def count_images(messages: Iterable[Message]) -> Mapping[str, int]:
    """Number of images by camera."""
    counts: dict[str, int] = {}
    for message in messages:
        if message.is_image:
            counts[message.camera] = counts.get(message.camera, 0) + 1
    return counts
