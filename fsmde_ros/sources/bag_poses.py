"""Where the vehicle of a bag was: from its transforms, and its odometry."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.errors import SourceError
from fsmde_ros.geometry import compose
from fsmde_ros.pose_track import PoseTrack
from fsmde_ros.sources.bag_file import BagFile
from fsmde_ros.sources.bag_rig import ODOMETRY, pose_of
from fsmde_ros.sources.transform_tree import TransformTree, sampled
from fsmde_ros.stamps import NS, stamp_problem
from fsmde_ros.topics import ODOM

Array = NDArray[np.float64]


def poses(
    bag: BagFile, tree: TransformTree, vehicle_frame: str, stamps_ns: Sequence[int]
) -> Callable[[int], Array | None]:
    """``vehicle_to_map`` at a stamp: by an odometry, or else by the transforms.

    An odometry of a frame that is fixed to the vehicle comes before the transforms, which may jump with each correction
    of a localisation; it does where it is known as often and is not itself of such a frame (see ``_is_smooth``). So
    does any odometry where the root of the transforms is on the vehicle, such as a base_footprint under a base_link
    that is fixed to it or rocks on its springs. ``stamps_ns``: those of the drive. None where nothing says it. Messages
    whose pose or stamp is none, as of an odometry that has not begun, are left out, as the node does. Raises
    SourceError where an odometry of the root has stamps but no pose, and no other has.
    """
    root = tree.root(vehicle_frame, stamps_ns)
    is_fixed = tree.lookup(vehicle_frame, root) is not None
    problems: list[SourceError] = []

    def by_tree(stamp_ns: int) -> Array | None:
        return None if is_fixed else tree.lookup(vehicle_frame, root, stamp_ns)

    for topic, frame in _odometries(bag):
        if not is_fixed and _is_smooth(frame, root):
            track, _ = _odometry(bag, tree, topic, vehicle_frame)
            if _count(track.at, stamps_ns) >= _count(by_tree, stamps_ns):
                return track.at
        track, problem = _odometry(bag, tree, topic, root)
        if len(track):
            return lambda stamp_ns: _chain(track.at(stamp_ns), tree.lookup(vehicle_frame, root, stamp_ns))
        problems += [problem] if problem else []
    if problems:
        raise problems[0]
    return by_tree


def _odometries(bag: BagFile) -> list[tuple[str, str]]:
    """Topics of odometries, and the frame that each is told in: first those in odom, of these that of the node."""
    first = {topic: bag.first(topic) for topic in bag.topics(ODOMETRY)}
    frames = {topic: message.header.frame_id.lstrip("/") for topic, message in first.items() if message is not None}
    return sorted(frames.items(), key=lambda item: (not _is_odom(item[1]), item[0] != ODOM, item[0]))


def _is_smooth(frame: str, root: str) -> bool:
    """Whether an odometry in ``frame`` jumps no more than transforms to ``root``."""
    return frame == root or _is_odom(frame)


def _is_odom(frame: str) -> bool:
    """Whether a frame is the one that, by REP 105, drifts but does not jump; ``robot1/odom`` is too."""
    return frame.rpartition("/")[2].endswith("odom")


def _count(pose_at: Callable[[int], Array | None], stamps_ns: Sequence[int]) -> int:
    return sum(pose_at(stamp_ns) is not None for stamp_ns in sampled(stamps_ns))


def _odometry(bag: BagFile, tree: TransformTree, topic: str, root: str) -> tuple[PoseTrack, SourceError | None]:
    """``root_to_map`` by an odometry, empty where that is of no frame on the root; and what the first bad pose has."""
    track, problem = PoseTrack(), None
    for _, data in bag.messages([topic]):
        stamp_ns = bag.stamp_ns(topic, data)
        if stamp_problem(*divmod(stamp_ns, NS)):
            continue
        message = bag.decode(topic, data)
        root_to_child = tree.lookup(root, message.child_frame_id)
        if root_to_child is not None:
            pose = message.pose.pose
            try:
                child_to_map = pose_of(pose.orientation, pose.position, f"bag {bag.path}: {topic}: no pose is one")
            except SourceError as error:
                problem = problem or error
                continue
            track.add(stamp_ns, compose(child_to_map, root_to_child))
    return track, problem


def _chain(root_to_map: Array | None, vehicle_to_root: Array | None) -> Array | None:
    if root_to_map is None or vehicle_to_root is None:
        return None
    return compose(root_to_map, vehicle_to_root)
