"""Where the vehicle was at the stamp of an image: from an odometry topic, or from TF."""

from __future__ import annotations

import threading
from typing import Protocol

import numpy as np
from nav_msgs.msg import Odometry
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy

from fsmde_ros.errors import RigError, SourceError
from fsmde_ros.node.messages import odometry_to_pose, stamp_ns
from fsmde_ros.node.transforms import TfBuffer
from fsmde_ros.pose_track import VELOCITY_BASE_NS, PoseTrack
from fsmde_ros.stamps import NS, stamp_problem

Array = NDArray[np.float64]

NO_POSE_S = 2.0  # of sweeps without a pose, after which it is said
OUTCOMES = 50  # sweeps over which the share of those without a pose is taken
MANY_WITHOUT = 0.1
# How far the poses are followed at constant velocity: until the next of an odometry of 5 Hz, or of one that comes 0.1 s
# late. A cloud needs them relative to one another only: a car that brakes at 3 m/s2 is 1.2 m/s slower by then than the
# last two poses tell, 5 cm over the 43 ms of a sweep of nuScenes; without a pose it would be 64 cm at 15 m/s.
FOLLOWED_NS = 300_000_000
NO_MESSAGE = "no message yet"
JUMPS = "the poses of TF jump"
SPAN_NS = 10 * NS  # of poses that are kept: no sweep that is still under way is older
POSES = 20_000  # are kept at most, whatever their stamps: 10 s at 2 kHz
RESTART_NS = 1_000_000_000  # poses that are older than the newest by more than this: the clock was set back
OFTEN_ENOUGH = "let it come every 0.2 s or more often, at most 0.1 s after its stamp"  # together ``FOLLOWED_NS``
# A subscription that asks for best effort is served by every publisher.
QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)


class EgoMotion(Protocol):
    """Poses of the vehicle in a frame that stands still."""

    def pose_at(self, stamp_ns: int) -> Array | None:
        """``vehicle_to_map [4, 4]`` at a stamp, None where it is not known. Any thread may ask."""
        ...

    def served(self, stamp_ns: int, is_known: bool) -> None:
        """Whether the poses of a sweep, of this stamp, were all known. Any thread may tell."""
        ...

    def problem(self) -> str:
        """Why the sweeps of the last ``NO_POSE_S`` and more, or many of the last ``OUTCOMES``, had no pose.

        Empty where they had, or none is wanted.
        """
        ...

    def describe(self) -> str:
        """Where the poses come from, and what is wrong with them, for the diagnostics."""
        ...

    def close(self) -> None:
        """Let go of what was taken from ROS."""
        ...


class PoseGap:
    """How long the sweeps have been without a pose, by their stamps, and how many of the last ones were."""

    def __init__(self) -> None:
        # Tuples, put in one go, for other threads.
        self._span: tuple[int, int] | None = None  # first and last stamp, nanoseconds
        self._outcomes: tuple[bool, ...] = ()  # of the last sweeps, from the first with a pose on: whether they had one

    def add(self, stamp_ns: int, is_known: bool) -> None:
        """A sweep of this stamp had poses, or not."""
        if is_known or self._outcomes:  # poses that begin after the images do not come too seldom
            self._outcomes = (*self._outcomes, is_known)[-OUTCOMES:]
        span = self._span
        if is_known:
            self._span = None
        elif span is None or stamp_ns < span[1]:  # stamps that go back: a bag begins again
            self._span = stamp_ns, stamp_ns
        else:
            self._span = span[0], stamp_ns

    def describe(self) -> str:
        """For how long, in words; empty up to ``NO_POSE_S``."""
        span = self._span
        seconds = 0.0 if span is None else (span[1] - span[0]) / NS
        if seconds <= NO_POSE_S:
            return ""
        return f"the sweeps of the last {seconds:.1f} s had no pose of the vehicle, their clouds are not of one moment"

    def describe_share(self) -> str:
        """How many, in words; empty up to ``MANY_WITHOUT`` of ``OUTCOMES``, so that a few at the start are not many."""
        outcomes = self._outcomes
        without = outcomes.count(False)
        if without <= MANY_WITHOUT * OUTCOMES:
            return ""
        share = f"{100 * without / len(outcomes):.0f} % of the last sweeps"
        return f"{share} had no pose of the vehicle, their clouds are not of one moment"


class NoMotion:
    """The vehicle is taken to stand still within a sweep."""

    def pose_at(self, stamp_ns: int) -> Array | None:
        """See ``EgoMotion``."""
        return None

    def served(self, stamp_ns: int, is_known: bool) -> None:
        """See ``EgoMotion``."""

    def problem(self) -> str:
        """See ``EgoMotion``."""
        return ""

    def describe(self) -> str:
        """See ``EgoMotion``."""
        return "off"

    def close(self) -> None:
        """See ``EgoMotion``."""


class OdometryMotion:
    """Poses of a ``nav_msgs/Odometry`` of the vehicle frame, between its messages interpolated."""

    def __init__(self, node: Node, topic: str, vehicle_frame: str) -> None:
        self._node, self._topic, self._vehicle_frame = node, topic, vehicle_frame
        self._lock = threading.Lock()  # the executor adds, the worker asks
        self._track = PoseTrack(limit=POSES, extrapolation_ns=FOLLOWED_NS, span_ns=SPAN_NS)
        self._problem = NO_MESSAGE
        self._gap = PoseGap()
        self._behind_s = 0.0  # by how much the newest pose was older than the last sweep that had none
        self._subscription = node.create_subscription(Odometry, topic, self.take, QOS)

    def take(self, message: Odometry) -> None:
        """Add the pose of a message; one that is no pose, or of another frame, is left out and told."""
        problem = stamp_problem(message.header.stamp.sec, message.header.stamp.nanosec)
        if message.child_frame_id.lstrip("/") != self._vehicle_frame:
            problem = (
                f"is of the frame '{message.child_frame_id}', expected '{self._vehicle_frame}'; take the motion from "
                f"TF (motion.fixed_frame: {message.header.frame_id.lstrip('/') or 'odom'}), or do without it "
                '(motion.odometry: "")'
            )
        try:
            pose = odometry_to_pose(message)
        except SourceError as error:
            problem, pose = str(error), np.eye(4)
        with self._lock:
            self._problem = problem
            if problem:
                return
            stamp, last = stamp_ns(message.header.stamp), self._track.last_ns
            if last is not None and stamp < last - RESTART_NS:
                self._track.clear()
            self._track.add(stamp, pose)

    def pose_at(self, stamp_ns: int) -> Array | None:
        """See ``EgoMotion``."""
        with self._lock:
            return self._track.at(stamp_ns)

    def served(self, stamp_ns: int, is_known: bool) -> None:
        """See ``EgoMotion``."""
        with self._lock:
            self._gap.add(stamp_ns, is_known)
            last = self._track.last_ns
            if not is_known:
                self._behind_s = 0.0 if last is None else (stamp_ns - last) / NS

    def problem(self) -> str:
        """See ``EgoMotion``; none before the first message: odometry is optional."""
        with self._lock:
            gap = self._gap.describe() or self._gap.describe_share()
            if not gap or self._problem == NO_MESSAGE:
                return ""
            return f"{gap}: {self._topic} {self._problem or self._cause()}"

    def describe(self) -> str:
        """See ``EgoMotion``."""
        with self._lock:
            problem = self._problem or self._cause()
            return f"odometry {self._topic}" + (f": {problem}" if problem else "")

    def _cause(self) -> str:
        """Why the last sweeps, or many of them, had no pose though messages come; empty where they had."""
        has_gap = bool(self._gap.describe())
        if not has_gap and not self._gap.describe_share():
            return ""
        if self._behind_s <= 0:
            return "has no poses of these times, or they jump; look at its clock"
        if has_gap:
            return f"has stopped or lags, its last pose is {self._behind_s:.1f} s older than the last sweep"
        return f"comes too late or too seldom, or had stopped; {OFTEN_ENOUGH}"

    def close(self) -> None:
        """See ``EgoMotion``."""
        self._node.destroy_subscription(self._subscription)


class TfMotion:
    """Poses of the vehicle frame in a fixed frame of TF, such as odom or map, also a little later than its newest."""

    def __init__(self, tf: TfBuffer, fixed_frame: str, vehicle_frame: str) -> None:
        self._tf, self._fixed_frame, self._vehicle_frame = tf, fixed_frame, vehicle_frame
        self._problem = ""
        self._gap, self._jumped = PoseGap(), False

    def pose_at(self, stamp_ns: int) -> Array | None:
        """See ``EgoMotion``."""
        try:
            pose: Array | None = self._tf.lookup(self._fixed_frame, self._vehicle_frame, stamp_ns)
        except RigError as error:
            pose = self._extrapolated(stamp_ns)
            self._problem = str(error) if pose is None else ""
            return pose
        self._problem = ""
        return pose

    def _extrapolated(self, stamp_ns: int) -> Array | None:
        """As ``PoseTrack`` does for an odometry, which TF itself never does: its newest is often just before an image.

        The transforms at its newest stamp and a moment before give the velocity.
        """
        track = PoseTrack(extrapolation_ns=FOLLOWED_NS)
        try:
            last = self._tf.last_ns(self._fixed_frame, self._vehicle_frame)
            if stamp_ns <= last:  # it came after the look in vain, or is older than all that TF keeps
                return self._tf.lookup(self._fixed_frame, self._vehicle_frame, stamp_ns)
            if stamp_ns > last + FOLLOWED_NS:
                return None
            for known in (last - VELOCITY_BASE_NS, last):
                track.add(known, self._tf.lookup(self._fixed_frame, self._vehicle_frame, known))
        except (RigError, ValueError):  # ValueError: a transform that is not finite
            return None
        return track.at(stamp_ns)

    def served(self, stamp_ns: int, is_known: bool) -> None:
        """See ``EgoMotion``."""
        if not is_known:
            self._jumped = not self._problem
        self._gap.add(stamp_ns, is_known)

    def problem(self) -> str:
        """See ``EgoMotion``."""
        gap, share = self._gap.describe(), self._gap.describe_share()
        if gap:
            return f"{gap}: {self._problem or JUMPS}"
        return f"{share}: {self._seldom()}" if share else ""

    def describe(self) -> str:
        """See ``EgoMotion``."""
        problem = self._problem or (self._seldom() if self._gap.describe_share() else "")
        return f"TF {self._fixed_frame}" + (f": {problem}" if problem else "")

    def _seldom(self) -> str:
        """Why many of the last sweeps had no pose."""
        if self._jumped:
            return JUMPS
        return (
            f"the transform from '{self._vehicle_frame}' to '{self._fixed_frame}' comes too late or too seldom, or had "
            f"stopped; {OFTEN_ENOUGH}"
        )

    def close(self) -> None:
        """See ``EgoMotion``; the buffer belongs to the node."""
