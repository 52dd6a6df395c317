"""Sharper depth from the motion of the vehicle: which earlier sweeps are compared, and what is kept of them.

``parallax`` says how one view is corrected; here are the sweeps. Of each camera the images from about
``BASELINES_M`` behind are compared: from nearby most of the picture looks the same, from farther away small
differences of large depths are seen. A vehicle that stands still has none, and keeps the student's depth.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.ego_motion import MAX_SPEED, SLACK_M, PoseAt
from fsmde_ros.geometry import compose, invert
from fsmde_ros.parallax import Sight, correct, sight
from fsmde_ros.rig import Rig
from fsmde_ros.stamps import NS
from fsmde_ros.sweep import SurroundDepth

Array = NDArray[np.float64]

BASELINES_M = (1.0, 4.0)  # between the camera now and then
FACTOR = 3.0  # by which a baseline may be shorter or longer
SPAN_NS = 2 * NS  # what is older is not compared: too much has moved since
SETTLED_NS = NS // 2  # after which a pose does not change: an odometry is followed for less than that
INTERVAL_NS = NS // 40  # between the images that are kept of a camera: of a fast one there would be too many


@dataclass(frozen=True, eq=False)
class Keyframe:
    """What is kept of a sweep: of each camera whose pose is known its image, and where it was.

    Attributes:
        stamp_ns: its reference stamp.
        sights: by camera.
        vehicle_to_map: pose [4, 4] at that stamp by which the cameras were placed, where a better one may come.
    """

    stamp_ns: int
    sights: Mapping[str, Sight]
    vehicle_to_map: Array | None = None


def keyframe(
    rig: Rig, stamp_ns: int, colors: NDArray[np.uint8], vehicle_to_map: Mapping[str, Array | None]
) -> Keyframe:
    """What is kept of a sweep.

    Args:
        rig: its rectified cameras, at the size of ``colors``.
        stamp_ns: its reference stamp.
        colors: [V, H, W, 3] RGB.
        vehicle_to_map: pose [4, 4] of the vehicle at the exposure of each camera; None: not known.
    """
    sights = {}
    for camera, image in zip(rig.cameras, colors, strict=True):
        pose = vehicle_to_map.get(camera.name)
        if pose is not None:
            sights[camera.name] = sight(image, camera.intrinsics, compose(pose, camera.camera_to_vehicle))
    return Keyframe(stamp_ns, sights)


def baseline_m(name: str, now: Keyframe, then: Keyframe) -> float:
    """How far a camera of both has moved from one to the other, metres."""
    a, b = now.sights[name].camera_to_map, then.sights[name].camera_to_map
    return float(np.linalg.norm(a[:3, 3] - b[:3, 3]))


def is_complete(now: Keyframe, earlier: Sequence[Keyframe]) -> bool:
    """Whether what is older than ``earlier`` (latest first) is of no use: too old, or from farther away than needed."""
    if not earlier:
        return False
    last = earlier[-1]
    shared = [name for name in now.sights if name in last.sights]
    is_far = bool(shared) and min(baseline_m(name, now, last) for name in shared) >= BASELINES_M[-1]
    return now.stamp_ns - last.stamp_ns >= SPAN_NS or is_far


def _compared(name: str, now: Keyframe, earlier: Sequence[Keyframe]) -> list[Sight]:
    """The earlier images of a camera that are compared: for each baseline the nearest to it, if any."""
    candidates = []
    for then in earlier:
        age = now.stamp_ns - then.stamp_ns
        if name not in then.sights or not 0 < age <= SPAN_NS:
            continue
        moved = baseline_m(name, now, then)
        if moved <= MAX_SPEED * age / NS + SLACK_M:  # else the localisation jumped
            candidates.append((moved, then.sights[name]))
    chosen: dict[int, Sight] = {}
    for wanted in BASELINES_M:
        fitting = [(max(moved / wanted, wanted / moved), s) for moved, s in candidates if moved > 0]
        ratio, best = min(fitting, key=lambda pair: pair[0], default=(np.inf, None))
        if best is not None and ratio <= FACTOR:
            chosen[id(best)] = best
    return list(chosen.values())


def _is_fresh(then: Keyframe, now: Keyframe) -> bool:
    return now.stamp_ns - then.stamp_ns <= SETTLED_NS


def _placed_anew(then: Keyframe, pose_at: PoseAt) -> Keyframe:
    """The cameras of a sweep by the pose that its vehicle is known to have had by now."""
    pose = None if then.vehicle_to_map is None else pose_at(then.stamp_ns)
    if pose is None or then.vehicle_to_map is None:
        return then
    moved = compose(pose, invert(then.vehicle_to_map))
    sights = {
        name: replace(seen, camera_to_map=compose(moved, seen.camera_to_map)) for name, seen in then.sights.items()
    }
    return replace(then, sights=sights, vehicle_to_map=pose)


class MotionStereo:
    """Corrects the depth of one sweep after another by the sweeps before it.

    May be used by one thread at a time. It keeps at most 81 images of each camera: 5 MB of those of 320x192.
    """

    def __init__(self) -> None:
        self._earlier: list[Keyframe] = []  # the latest first
        self._threads = ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="parallax")

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False)

    def correct(self, estimate: SurroundDepth, now: Keyframe, earlier: Sequence[Keyframe]) -> SurroundDepth:
        """The estimate of a sweep after its views were compared with ``earlier`` ones, the latest first.

        A view without a pose, or without an earlier one from a place that fits, stays as it is.
        """
        jobs = {}
        for index, name in enumerate(estimate.rig.names):
            seen = _compared(name, now, earlier) if name in now.sights else []
            if seen:
                depth, stddev = estimate.depth[index], estimate.stddev[index]
                jobs[index] = self._threads.submit(correct, depth, stddev, now.sights[name], seen)
        if not jobs:
            return estimate
        depth, stddev = estimate.depth.copy(), estimate.stddev.copy()
        for index, job in jobs.items():
            depth[index], stddev[index] = job.result()
        return replace(estimate, depth=depth, stddev=stddev)

    def __call__(
        self, estimate: SurroundDepth, now: Keyframe, pose_at: PoseAt | None = None, in_a_hurry: bool = False
    ) -> SurroundDepth:
        """The same with the sweeps of earlier calls, of which this one is then kept, ``in_a_hurry`` without a look.

        ``pose_at``: poses as they are known by now. That of a sweep may have been the last one, followed at constant
        velocity; by the time it is compared the next has come.
        """
        # none from the future either: a bag from the beginning, a clock set back
        self._earlier = [k for k in self._earlier if 0 < now.stamp_ns - k.stamp_ns <= SPAN_NS]
        if in_a_hurry:
            self._keep(now)
            return estimate
        if pose_at is not None:
            self._earlier = [_placed_anew(k, pose_at) if _is_fresh(k, now) else k for k in self._earlier]
        corrected = self.correct(estimate, now, self._earlier)
        self._keep(now)
        return corrected

    def _keep(self, now: Keyframe) -> None:
        """Thinned by time: a vehicle that starts needs images of just before, which thinning by motion would not have.

        Each camera by itself: those of a rig may come in turns, each in every other sweep.
        """
        recent = {name for k in self._earlier if now.stamp_ns - k.stamp_ns < INTERVAL_NS for name in k.sights}
        sights = {name: kept for name, kept in now.sights.items() if name not in recent}
        if sights:
            self._earlier.insert(0, replace(now, sights=sights))
