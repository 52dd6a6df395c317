"""Settings for a measurement, where every image counts: DDS, QoS of the node, what the player waits for."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from fsmde_ros.sources.bag_file import open_bag
from fsmde_ros.topics import DEPTH, DEPTH_INFO, INPUT_FORMS, ODOM, POINTS, full_name

KEPT = 100  # messages that wait for a listener which is late
PATIENCE_S = 2.0  # of the node for the other cameras of a sweep, where the player waits for the node
IMAGES = sorted(form.topic for form in INPUT_FORMS)
DOMAINS = 100  # domain ids from 1 to 100 have ports below those the system gives away
NOT_RENAMED: Mapping[str, str] = {}
DISCOVERY_PORT = 7410  # UDP, of the first participant of domain 0 (DDSI-RTPS 2.5, 9.6.2.4); 250 more for each domain
PROFILES = Path(__file__).resolve().parents[1] / "config" / "fastdds.xml"  # beside the package in a checkout only


def loopback(profile: Path) -> dict[str, str]:
    """Environment variables that put the transport of ``profile`` into effect; none for another RMW than Fast DDS.

    With discovery on this machine only (LOCALHOST, ROS_LOCALHOST_ONLY=1), rmw_fastrtps replaces the transports of a
    profile by its own, whose shared memory loses whole sweeps beside a LiDAR scan. The profile keeps to the loopback
    interface by itself.
    """
    if not os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps").startswith("rmw_fastrtps"):
        return {}
    return {
        "FASTRTPS_DEFAULT_PROFILES_FILE": str(profile),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT",
        # rcl warns of this old variable at every start where it has any value
        **({"ROS_LOCALHOST_ONLY": "0"} if os.environ.get("ROS_LOCALHOST_ONLY") else {}),
    }


def free_domain() -> int:
    """A domain id from 1 to 100 that nobody on this machine is in, kept for this process until it ends.

    Where all are taken, one of them: what listens there then hears both.
    """
    first = os.getpid() % DOMAINS
    numbers = [(first + k) % DOMAINS + 1 for k in range(DOMAINS)]
    return next((number for number in numbers if _is_silent(number) and _reserve(number)), numbers[0])


@cache
def own_domain() -> int:
    """``free_domain``, the same one whenever this process asks."""
    return free_domain()


def _is_silent(domain: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", DISCOVERY_PORT + 250 * domain))
        except OSError:
            return False
    return True


_reserved: list[socket.socket] = []


def _reserve(domain: int) -> bool:
    """Also against those that have chosen it and started no node yet. The system lets go of it with the process."""
    mark = socket.socket(socket.AF_UNIX)
    try:
        mark.bind(f"\0fsmde_ros domain {domain}")
    except OSError:
        mark.close()
        return False
    _reserved.append(mark)
    return True


def environment(domain: int | None = None) -> dict[str, str]:
    """Environment variables of a DDS domain on this machine only, over a transport that loses nothing.

    ``domain``: its number, from 1 to 100; without it, one that belongs to this process.
    """
    number = own_domain() if domain is None else domain
    transport = loopback(PROFILES) if PROFILES.is_file() else {}
    return {"ROS_DOMAIN_ID": str(number), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", **transport}


def lossless(
    cameras: Iterable[str], namespace: str = "", renamed: Mapping[str, str] = NOT_RENAMED
) -> dict[str, object]:
    """QoS overrides of the node: live, a late image is worthless, here none may be lost.

    ``cameras``: names; ``namespace``: of the node; ``renamed``: its topics that are remapped, both names in full. QoS
    overrides name topics in full, by the names they are remapped to.
    """

    def override(topic: str) -> str:
        whole = full_name(topic, namespace)
        return f"qos_overrides.{renamed.get(whole, whole)}"

    overrides: dict[str, object] = {}
    for name in cameras:
        for topic in IMAGES:  # the node takes one of them; what it does not subscribe to has no effect
            subscription = f"{override(f'{name}/{topic}')}.subscription"
            overrides |= {f"{subscription}.reliability": "reliable", f"{subscription}.depth": KEPT}
        for what in (DEPTH, DEPTH_INFO):
            overrides[f"{override(f'{name}/{what}')}.publisher.depth"] = KEPT
    return overrides | {f"{override(POINTS)}.publisher.depth": KEPT}


def patience(pace: str) -> dict[str, object]:
    """Parameters of the node for a player that waits for it (pace "node").

    What comes late then is late because the machine stalled, and no camera can be overtaken by the next sweep.
    """
    return {"sync.deadline_s": PATIENCE_S} if pace == "node" else {}


def heard_topics(
    bag: Path,
    cameras: Iterable[str],
    lidars: Iterable[str],
    odometry: str = ODOM,
    renamed: Mapping[str, str] = NOT_RENAMED,
) -> list[str]:
    """What of a bag the node and the evaluator listen to; nothing may be played before they do.

    Of each camera all images that the node could take: the player waits for a listener of one of them. Where one is
    remapped, that one alone.
    ``lidars``: topics without the first slash, or frames that name them; ``odometry``: its topic; ``renamed``: topics
    that are remapped, both names in full. Raises SourceError where there is no bag or it is damaged.
    """
    wanted: list[str] = []
    for name in cameras:
        images = [full_name(f"{name}/{image}") for image in IMAGES]
        wanted += [topic for topic in images if topic in renamed] or images
        wanted.append(full_name(f"{name}/camera_info"))
    wanted += map(full_name, (*lidars, odometry))
    with open_bag(bag) as opened:
        return [topic for topic in (renamed.get(topic, topic) for topic in wanted) if topic in opened.types]
