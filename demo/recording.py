"""Reading what the demo recorded: one sweep of the output bag, with the images it was made from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from demo.picture import Snapshot
from fsmde_ros.cloud_layout import unpack_cloud
from fsmde_ros.errors import SourceError
from fsmde_ros.images import decode
from fsmde_ros.rig import Rig
from fsmde_ros.sweep import EncodedImage

NODE = "/surround_depth"
STORE = get_typestore(Stores.ROS2_JAZZY)


def messages(bag: Path, topics: set[str]) -> Iterator[tuple[str, Any]]:
    """Topic and message of the wanted topics, in order of time."""
    with Reader(bag) as reader:
        wanted = [c for c in reader.connections if c.topic in topics]
        for connection, _, data in reader.messages(wanted) if wanted else ():
            yield connection.topic, STORE.deserialize_cdr(data, connection.msgtype)


def stamp_ns(message: Any) -> int:
    """Stamp of the header, nanoseconds."""
    return int(message.header.stamp.sec) * 1_000_000_000 + int(message.header.stamp.nanosec)


def read_snapshot(input_bag: Path, output_bag: Path, rig: Rig) -> Snapshot:
    """The sweep in the middle of the drive, of those with the most views.

    Raises SourceError where no sweep was recorded.
    """
    clouds = {stamp_ns(m): m for _, m in messages(output_bag, {f"{NODE}/points"})}
    depths = _depths(output_bag, rig)
    sweeps = {
        reference: _nearest_stamps(depths, reference) for reference in clouds if _nearest_stamps(depths, reference)
    }
    if not sweeps:
        raise SourceError(f"bag {output_bag}: no sweep with depth and cloud was recorded; see the logs beside it")
    most = max(map(len, sweeps.values()))
    candidates = sorted(reference for reference, views in sweeps.items() if len(views) == most)
    reference = candidates[len(candidates) // 2]
    stamps = sweeps[reference]
    points, colors = _cloud(clouds[reference])
    return Snapshot(
        rig=rig,
        images=_images(input_bag, stamps),
        depths={name: _depth(depths[name][stamp]) for name, stamp in stamps.items()},
        points=points,
        colors=colors,
    )


def _depths(bag: Path, rig: Rig) -> dict[str, dict[int, Any]]:
    topics = {f"/{name}/depth/image_rect": name for name in rig.names}
    found: dict[str, dict[int, Any]] = {name: {} for name in rig.names}
    for topic, message in messages(bag, set(topics)):
        found[topics[topic]][stamp_ns(message)] = message
    return found


def _nearest_stamps(depths: dict[str, dict[int, Any]], reference: int, limit_ns: int = 60_000_000) -> dict[str, int]:
    """Stamp of each camera's depth that belongs to the sweep of this reference stamp."""
    nearest = {
        name: min(of_camera, key=lambda s: abs(s - reference)) for name, of_camera in depths.items() if of_camera
    }
    return {name: stamp for name, stamp in nearest.items() if abs(stamp - reference) < limit_ns}


def _depth(message: Any) -> NDArray[np.float32]:
    values = np.frombuffer(message.data, "<f4").reshape(message.height, message.step // 4)
    return values[:, : message.width].astype(np.float32)


def _images(bag: Path, stamps: dict[str, int]) -> dict[str, NDArray[np.uint8]]:
    topics = {f"/{name}/image_rect/compressed": name for name in stamps}
    return {
        topics[topic]: decode(EncodedImage(bytes(message.data), message.format))
        for topic, message in messages(bag, set(topics))
        if stamp_ns(message) == stamps[topics[topic]]
    }


def _cloud(message: Any) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Points [N, 3] metres and colours [N, 3] RGB; ``rgb`` holds 0x00RRGGBB in the bits of a float."""
    columns = unpack_cloud(
        [(f.name, f.offset, f.datatype, f.count) for f in message.fields],
        message.point_step,
        message.row_step,
        message.width,
        message.height,
        bool(message.is_bigendian),
        message.data,
    )
    points = np.stack([columns[axis] for axis in "xyz"], axis=-1).astype(np.float32)
    packed = np.ascontiguousarray(columns["rgb"]).view(np.uint32)
    colors = np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], axis=-1)
    return points, colors.astype(np.uint8)
