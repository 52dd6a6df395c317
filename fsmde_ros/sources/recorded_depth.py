"""Recorded depth, sweep by sweep, with the images it was made from: for pictures and videos."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.cloud_layout import colored_points
from fsmde_ros.errors import SourceError
from fsmde_ros.images import decode
from fsmde_ros.picture import Snapshot
from fsmde_ros.pixel_layout import decode_pixels
from fsmde_ros.rig import Rig
from fsmde_ros.sources.bag_file import BagFile, open_bag
from fsmde_ros.sources.bag_messages import COMPRESSED
from fsmde_ros.sources.bag_rig import find_cameras
from fsmde_ros.sources.grouping import group_frames, nearest
from fsmde_ros.sweep import EncodedImage

POINTS = "/surround_depth/points"
CLOUD_LIMIT_NS = 60_000_000  # a cloud further off than this is that of another sweep

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
    points: str = POINTS,
) -> Iterator[Snapshot]:
    """Depth, cloud and images of the sweeps of a recording, in the order of time.

    Args:
        output_bag: bag with ``<camera>/depth/image_rect`` and, where recorded, the cloud.
        input_bag: bag with the images; the same one where everything was recorded together.
        rig: the rig whose cameras are looked for.
        choose: which of the sweeps; all by default.
        points: topic of the cloud.

    Raises:
        SourceError: a bag cannot be read, or has no depth of any camera of the rig.
    """
    with open_bag(output_bag) as output, open_bag(input_bag) as source:
        topics = {name: f"/{name}/depth/image_rect" for name in rig.names}
        moments = choose(_moments(output, topics, points))
        cameras = find_cameras(source)
        images = {name: cameras[name].image for name in rig.names if name in cameras and cameras[name].image}
        wanted = {(topics[name], stamp) for moment in moments for name, stamp in moment.depths.items()}
        wanted |= {(points, moment.cloud) for moment in moments if moment.cloud is not None}
        results = _Ahead(output, {*topics.values(), points}, wanted)
        sources = _Ahead(
            source,
            set(images.values()),
            {(images[n], stamp) for moment in moments for n, stamp in moment.depths.items() if n in images},
        )
        for moment in moments:
            depths = {name: results.take((topics[name], stamp)) for name, stamp in moment.depths.items()}
            cloud = results.take((points, moment.cloud)) if moment.cloud is not None else None
            pictures = {name: sources.take((images[name], s)) for name, s in moment.depths.items() if name in images}
            yield Snapshot(
                rig=rig,
                images={n: _image(m, source.types[images[n]]) for n, m in pictures.items() if m is not None},
                depths={name: _depth(message) for name, message in depths.items() if message is not None},
                points=_cloud(cloud)[0],
                colors=_cloud(cloud)[1],
                stamp_ns=moment.stamp_ns,
            )


def _moments(bag: BagFile, topics: Mapping[str, str], points: str) -> list[Moment]:
    stamps: dict[str, list[int]] = {topic: [] for topic in [*topics.values(), points]}
    for topic, data in bag.messages(set(stamps)):
        stamps[topic].append(bag.stamp_ns(topic, data))
    groups = group_frames({name: stamps[topic] for name, topic in topics.items()})
    if not groups:
        raise SourceError(
            f"bag {bag.path}: no depth of any camera of the rig, expected topics such as "
            f"{next(iter(topics.values()))}; it has {bag.listing()}"
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

    def __init__(self, bag: BagFile, topics: set[str], wanted: set[Key]) -> None:
        self._bag, self._wanted = bag, wanted
        self._kept: dict[Key, bytes] = {}
        self._messages = iter(bag.messages(topics))

    def take(self, key: Key) -> Any:
        """The message, or None where the bag does not have it."""
        while key not in self._kept:
            following = next(self._messages, None)
            if following is None:
                return None
            topic, data = following
            found = (topic, self._bag.stamp_ns(topic, data))
            if found in self._wanted:
                self._kept[found] = data
        return self._bag.decode(key[0], self._kept.pop(key))


def _depth(message: Any) -> NDArray[np.float32]:
    """[H, W] metres; 16UC1 is in millimetres, 0 = no value."""
    kind = {"32FC1": "<f4", "16UC1": "<u2"}.get(message.encoding)
    if kind is None:
        raise SourceError(f"depth has the encoding '{message.encoding}', expected 32FC1 (metres) or 16UC1 (mm)")
    size = np.dtype(kind).itemsize
    values = np.frombuffer(message.data, kind).reshape(message.height, message.step // size)[:, : message.width]
    if kind == "<u2":
        return np.where(values == 0, np.nan, values / 1000).astype(np.float32)
    return values.astype(np.float32)


def _image(message: Any, msgtype: str) -> NDArray[np.uint8]:
    if msgtype == COMPRESSED:
        return decode(EncodedImage(bytes(message.data), message.format))
    return decode_pixels(
        message.encoding, message.height, message.width, message.step, bool(message.is_bigendian), message.data
    )


def _cloud(message: Any) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Points [N, 3] metres and colours [N, 3] RGB; none where there is no cloud."""
    if message is None:
        return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8)
    return colored_points(message)
