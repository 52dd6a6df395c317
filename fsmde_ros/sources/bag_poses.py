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
from fsmde_ros.sources.transform_tree import TransformTree
from fsmde_ros.stamps import NS, stamp_problem

Array = NDArray[np.float64]


def poses(
    bag: BagFile, tree: TransformTree, vehicle_frame: str, stamps_ns: Sequence[int]
) -> Callable[[int], Array | None]:
    """``vehicle_to_map`` at a stamp: by an odometry of the root of the vehicle's transforms, or else by these alone.

    With an odometry the root is on the vehicle, such as a base_footprint under a base_link that is fixed to it or
    rocks on its springs. Without, it is the map if the vehicle moves in it. ``stamps_ns``: those of the drive.
    None where nothing says it. Messages whose pose or stamp is none, as of an odometry that has not begun, are left
    out, as the node does. Raises SourceError where an odometry of the vehicle has stamps but no pose.
    """
    root = tree.root(vehicle_frame, stamps_ns)
    problems: list[SourceError] = []
    for topic in bag.topics(ODOMETRY):
        track, problem = _odometry(bag, tree, topic, root)
        if len(track):
            return lambda stamp_ns: _chain(track.at(stamp_ns), tree.lookup(vehicle_frame, root, stamp_ns))
        problems += [problem] if problem else []
    if problems:
        raise problems[0]
    if tree.lookup(vehicle_frame, root) is not None:
        return lambda stamp_ns: None
    return lambda stamp_ns: tree.lookup(vehicle_frame, root, stamp_ns)


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
