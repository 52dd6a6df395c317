"""Settings for a measurement, where every image counts: QoS of the node, and what the player waits for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rosbags.rosbag2 import Reader, ReaderError

from fsmde_ros.errors import SourceError

KEPT = 20  # messages that wait for a listener which is late


def lossless(cameras: Iterable[str], namespace: str = "") -> dict[str, object]:
    """QoS overrides of the node: live, a late image is worthless, here none may be lost.

    ``cameras``: names; ``namespace``: of the node. QoS overrides name topics in full.
    """
    root = f"/{namespace.strip('/')}".rstrip("/")
    overrides: dict[str, object] = {}
    for name in cameras:
        overrides[f"qos_overrides.{root}/{name}/image_rect/compressed.subscription.reliability"] = "reliable"
        overrides[f"qos_overrides.{root}/{name}/image_rect/compressed.subscription.depth"] = KEPT
        for what in ("image_rect", "camera_info"):
            overrides[f"qos_overrides.{root}/{name}/depth/{what}.publisher.depth"] = KEPT
    return overrides | {f"qos_overrides.{root}/surround_depth/points.publisher.depth": KEPT}


def heard_topics(bag: Path, cameras: Iterable[str], lidars: Iterable[str]) -> list[str]:
    """What of a bag the node and the evaluator listen to; nothing may be played before they do.

    ``lidars``: frames, which name their topics. Raises SourceError where there is no bag.
    """
    wanted = [f"/{name}/{what}" for name in cameras for what in ("image_rect/compressed", "camera_info")]
    wanted += [*(f"/{frame}" for frame in lidars), "/odom"]
    try:
        with Reader(bag) as reader:
            return [topic for topic in wanted if topic in reader.topics]
    except (FileNotFoundError, ReaderError) as error:
        raise SourceError(f"bag {bag}: cannot be opened: {error}; expected the folder of a rosbag2 bag") from error
