"""Recorded depth, sweep by sweep, with the images it was made from: for pictures and videos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median_low
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.bit_depth import BitDepth
from fsmde_ros.cloud_layout import colored_points
from fsmde_ros.depth_image import decode_depth
from fsmde_ros.errors import FsmdeError, SourceError
from fsmde_ros.images import decode
from fsmde_ros.picture import Snapshot
from fsmde_ros.rig import Rig
from fsmde_ros.sources.bag_file import BagFile, open_bag
from fsmde_ros.sources.bag_messages import CLOUD, image_of
from fsmde_ros.sources.bag_rig import cameras_of
from fsmde_ros.sources.grouping import group_frames, nearest
from fsmde_ros.sweep import EncodedImage
from fsmde_ros.topics import DEPTH, POINTS, full_name

CLOUD_LIMIT_NS = 60_000_000  # a cloud further off than this is that of another sweep
IMAGE_LIMIT_NS = 1_000_000_000  # an image that comes this much after its neighbours in time is taken as lost
_NO_CLOUD = np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8)

Made = TypeVar("Made")
Key = tuple[str, int]
"""Topic and stamp (ns) of a message."""


@dataclass(frozen=True)
class Moment:
    """One sweep of a recording: its stamp (ns), the stamps of its depth images by camera, that of its cloud."""

    stamp_ns: int
    depths: Mapping[str, int]
    cloud: int | None


def middle_of_fullest(moments: Sequence[Moment]) -> Sequence[Moment]:
    """The one in the middle of those with the most views, and with a cloud where there is one."""
    best = max((moment.cloud is not None, len(moment.depths)) for moment in moments)
    fullest = [moment for moment in moments if (moment.cloud is not None, len(moment.depths)) == best]
    return [fullest[len(fullest) // 2]]


def snapshots(
    output_bag: Path,
    input_bag: Path,
    rig: Rig,
    choose: Callable[[Sequence[Moment]], Sequence[Moment]] = tuple,
    points: str | None = None,
    namespace: str = "",
) -> Iterator[Snapshot]:
    """Depth, cloud and images of the sweeps of a recording, in the order of time.

    Args:
        output_bag: bag with ``<camera>/depth/image_rect`` and, where recorded, the cloud.
        input_bag: bag with the images; the same one where everything was recorded together.
        rig: the rig whose cameras are looked for.
        choose: which of the sweeps; all by default.
        points: topic of the cloud; by default that of the node, where it was recorded.
        namespace: that the node was started in.

    Raises:
        SourceError: a bag cannot be read, has no depth of any camera of the rig, or no cloud on ``points``; while
            iterating, a message that cannot be decoded, by its topic and stamp.
    """
    with open_bag(output_bag) as output, open_bag(input_bag) as source:
        topics = {name: full_name(f"{name}/{DEPTH}", namespace) for name in rig.names}
        points = _cloud_topic(output, points, namespace)
        moments = choose(_moments(output, topics, points))
        images = image_topics(source, rig, namespace)
        pictured = {(images[n], stamp) for moment in moments for n, stamp in moment.depths.items() if n in images}
        wanted = [(topics[name], stamp) for moment in moments for name, stamp in moment.depths.items()]
        wanted += [(points, moment.cloud) for moment in moments if moment.cloud is not None]
        results, sources = _Ahead(output, wanted), _Ahead(source, pictured, IMAGE_LIMIT_NS)
        to_rgb = {name: partial(_image, depth=BitDepth()) for name in images}
        for moment in moments:
            depths = {name: results.take((topics[name], stamp), _depth) for name, stamp in moment.depths.items()}
            cloud = None if moment.cloud is None else results.take((points, moment.cloud), colored_points)
            pictures = {n: sources.take((images[n], s), to_rgb[n]) for n, s in moment.depths.items() if n in images}
            placed, colors = _NO_CLOUD if cloud is None else cloud
            yield Snapshot(
                rig=rig,
                images={name: picture for name, picture in pictures.items() if picture is not None},
                depths={name: depth for name, depth in depths.items() if depth is not None},
                points=placed,
                colors=colors,
                stamp_ns=moment.stamp_ns,
            )


def image_topics(bag: BagFile, rig: Rig, namespace: str = "") -> dict[str, str]:
    """Topics of the images of the rig that a bag has, by camera; ``namespace``: of the node that took them.

    Where there are none in it, those outside count: a drive that was recorded before is played to a node by remapping.
    """
    places = [cameras_of(bag, rig.names, place) for place in dict.fromkeys(("", namespace))]
    return {name: topics.image for cameras in places for name, topics in cameras.items() if topics.image}


def _cloud_topic(bag: BagFile, wanted: str | None, namespace: str) -> str:
    """Topic of the cloud. Raises SourceError where the one that is ``wanted`` is none."""
    topic, clouds = full_name(wanted or POINTS, namespace), bag.topics(CLOUD)
    if topic not in clouds and (wanted or topic in bag.types):
        raise SourceError(f"bag {bag.path}: no PointCloud2 on {topic}; it has {', '.join(clouds) or 'none'}")
    return topic


def _moments(bag: BagFile, topics: Mapping[str, str], points: str) -> list[Moment]:
    stamps: dict[str, list[int]] = {topic: [] for topic in [*topics.values(), points]}
    for topic, data in bag.messages(set(stamps)):
        stamps[topic].append(bag.stamp_ns(topic, data))
    groups = group_frames({name: stamps[topic] for name, topic in topics.items()})
    if not groups:
        raise SourceError(
            f"bag {bag.path}: no depth of any camera of the rig, expected topics such as "
            f"{next(iter(topics.values()))}; where the node had a namespace, give it with --namespace; it has "
            f"{bag.listing()}"
        )
    clouds = sorted(stamps[points])
    moments = []
    for group in groups:
        at = nearest(clouds, group.stamp_ns, CLOUD_LIMIT_NS)
        depths = {name: stamps[topics[name]][index] for name, index in group.frames.items()}
        moments.append(Moment(group.stamp_ns, depths, None if at is None else clouds[at]))
    return moments


class _Ahead:
    """Reads a bag on until the wanted message is there, and keeps what will be wanted later."""

    def __init__(self, bag: BagFile, wanted: Iterable[Key], limit_ns: int | None = None) -> None:
        """``wanted``: a key as often as it will be taken.

        A message that the bag may lack is given up ``limit_ns`` of stamps later: the bag would be read to its end for
        it, and all that is wanted later be kept on the way. None: the bag has all of them.
        """
        self._bag, self._open, self._limit_ns = bag, Counter(wanted), limit_ns
        self._kept: dict[Key, bytes] = {}
        self._newest: dict[str, int] = {}  # stamp by topic
        self._messages = bag.messages({topic for topic, _ in self._open})

    def take(self, key: Key, convert: Callable[[Any], Made]) -> Made | None:
        """What ``convert`` makes of the message; None where it is not wanted (any more), or given up.

        Raises SourceError where it cannot.
        """
        if not self._open[key]:
            return None
        topic, stamp_ns = key
        while key not in self._kept and not self._has_passed(stamp_ns) and self._read_one():
            pass
        self._open[key] -= 1
        if key not in self._kept:
            return None
        data = self._kept[key] if self._open[key] else self._kept.pop(key)
        message = self._bag.decode(topic, data)
        try:
            return convert(message)
        except FsmdeError as error:
            raise SourceError(f"bag {self._bag.path}: {topic} at {stamp_ns} ns: {error}") from error

    def _read_one(self) -> bool:
        """Read one message; False at the end of the bag."""
        following = next(self._messages, None)
        if following is None:
            return False
        topic, data = following
        found = topic, self._bag.stamp_ns(topic, data)
        self._newest[topic] = found[1]
        if self._open[found]:
            self._kept[found] = data
        return True

    def _has_passed(self, stamp_ns: int) -> bool:
        """Whether a message of this stamp would have been read by now."""
        if self._limit_ns is None or not self._newest:
            return False
        # The median of the topics: one camera may have died, or have a clock of its own.
        return median_low(self._newest.values()) > stamp_ns + self._limit_ns


def _depth(message: Any) -> NDArray[np.float32]:
    """[H, W] metres, NaN = no value."""
    layout = (message.height, message.width, message.step, bool(message.is_bigendian))
    return decode_depth(message.encoding, *layout, message.data)


def _image(message: Any, depth: BitDepth) -> NDArray[np.uint8]:
    """[H, W, 3] RGB of a CompressedImage or an Image."""
    image = image_of(message, depth)
    return decode(image) if isinstance(image, EncodedImage) else image
