"""The transforms of a recording: a tree of frames, joined by fixed mounts and moving poses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.geometry import compose, invert, transform
from fsmde_ros.pose_track import PoseTrack

Array = NDArray[np.float64]
SAMPLED_STAMPS = 100  # tell which frames a drive is known in as well as all of its thousands
CARRIED = 0.5  # metres; less than this moves what a vehicle carries, on springs, against it


class TransformTree:
    """Frames by the names of TF, each with one parent.

    A leading slash, as ROS 1 wrote it, does not count. A frame is either fixed to its parent or
    moves; where a recording says both, the last one said counts.
    """

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}
        self._fixed: dict[str, Array] = {}
        self._moving: dict[str, PoseTrack] = {}
        self._refused: dict[str, str] = {}

    @property
    def fixed_frames(self) -> tuple[str, ...]:
        """Frames that are fixed to their parent, in the order in which they were added."""
        return tuple(self._fixed)

    def joined_frames(self, moving: bool) -> tuple[str, ...]:
        """Frames that move, or else are fixed, against their parent, and those parents, sorted."""
        children = self._moving if moving else self._fixed
        return tuple(sorted({*children, *(self._parents[child] for child in children)}))

    def add_fixed(self, parent: str, child: str, child_to_parent: Array) -> None:
        """Add a frame that keeps its place, such as a sensor on a vehicle."""
        parent, child = parent.lstrip("/"), child.lstrip("/")
        self._parents[child] = parent
        self._moving.pop(child, None)
        self._fixed[child] = child_to_parent

    def add_moving(self, parent: str, child: str, child_to_parent: Array, stamp_ns: int) -> None:
        """Add where a frame was at a stamp (nanoseconds)."""
        parent, child = parent.lstrip("/"), child.lstrip("/")
        if self._parents.get(child) != parent:
            self._moving.pop(child, None)
        self._parents[child] = parent
        self._fixed.pop(child, None)
        self._moving.setdefault(child, PoseTrack()).add(stamp_ns, child_to_parent)

    def refuse(self, child: str, reason: str) -> None:
        """Remember why a transform of a frame cannot be used; the first reason counts."""
        self._refused.setdefault(child.lstrip("/"), reason)

    def refusal(self, source: str, target: str) -> str:
        """Why a transform that ``lookup`` of these frames may lack could not be used; empty where none is known."""
        frames = (*self._path(source.lstrip("/")), *self._path(target.lstrip("/")))
        return next((self._refused[frame] for frame in frames if frame in self._refused), "")

    def lookup(self, source: str, target: str, stamp_ns: int | None = None) -> Array | None:
        """``source_to_target`` [4, 4]; without a stamp through fixed frames only.

        None where the frames are not joined, or where a moving frame between them is not known
        at the stamp (see ``PoseTrack.at``).
        """
        up, down = self._path(source.lstrip("/")), self._path(target.lstrip("/"))
        common = next((frame for frame in up if frame in down), None)
        if common is None:
            return None
        source_to_common = self._climb(up[: up.index(common)], stamp_ns)
        target_to_common = self._climb(down[: down.index(common)], stamp_ns)
        if source_to_common is None or target_to_common is None:
            return None
        return compose(invert(target_to_common), source_to_common)

    def root(self, frame: str, stamps_ns: Sequence[int]) -> str:
        """The frame to tell the motion of ``frame`` in, in a drive with these stamps (nanoseconds).

        The highest in which it is known for most of the drive, so that a link above that was published once, as by a
        localisation that never got to work, hides nothing below. Of those the lowest in which it is driven about:
        what is above, as a map above an odometry, only corrects that, in jumps. Where it moves in none, the highest
        that it is fixed to.
        """
        above = self._path(frame.lstrip("/"))
        stamps = sampled(stamps_ns)
        fixed = [top for top in above if self.lookup(frame, top) is not None]
        known = {top: self._poses(frame, top, stamps) for top in above[len(fixed) :]}
        most = max(map(len, known.values()), default=0)
        if not most:
            return fixed[-1]
        best = [top for top in known if len(known[top]) == most]
        return next((top for top in best if _travel(known[top]) > CARRIED), best[-1])

    def _poses(self, frame: str, top: str, stamps_ns: Sequence[int]) -> list[Array]:
        """``frame`` in ``top``, at those of the stamps at which it is known."""
        return [pose for stamp_ns in stamps_ns if (pose := self.lookup(frame, top, stamp_ns)) is not None]

    def _path(self, frame: str) -> list[str]:
        path = [frame]
        while path[-1] in self._parents and self._parents[path[-1]] not in path:  # a circle has no top
            path.append(self._parents[path[-1]])
        return path

    def _climb(self, frames: list[str], stamp_ns: int | None) -> Array | None:
        result = np.eye(4)
        for frame in frames:
            step = self._fixed.get(frame)
            if step is None and stamp_ns is not None and frame in self._moving:
                step = self._moving[frame].at(stamp_ns)
            if step is None:
                return None
            result = compose(step, result)
        return result


def sampled(stamps_ns: Sequence[int]) -> Sequence[int]:
    """Some of the stamps of a drive, from all of it, that tell what is known of it."""
    return stamps_ns[:: max(1, len(stamps_ns) // SAMPLED_STAMPS)]


def _travel(poses: Sequence[Array]) -> float:
    """Diagonal of the box, metres, around the places of a frame, and of a point 1 m ahead, which a turn moves, too."""
    places = np.stack([transform(pose, [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]) for pose in poses])
    return float(np.linalg.norm(np.ptp(places, axis=0), axis=-1).max())
