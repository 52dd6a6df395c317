"""Where the cameras are mounted: from the rig file, or from TF where ROS is installed."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time

from fsmde_ros.errors import ConfigError, RigError
from fsmde_ros.geometry import rigid
from fsmde_ros.rig import Rig

Array = NDArray[np.float64]

CLOCK_BACK_S = 1.0  # as tf2 has it: a clock that goes back by less has not been set back


class Extrinsics(Protocol):
    """Mounting of the cameras.

    Attributes:
        vehicle_frame: TF frame that ``camera_to_vehicle`` leads to.
        ground_z: height of the road in that frame, metres.
    """

    vehicle_frame: str
    ground_z: float

    def camera_to_vehicle(self, camera: str, frame: str) -> Array:
        """[4, 4] of a camera and the frame of its images; raises RigError where it is not known."""
        ...


class RigFileExtrinsics:
    """The mounting that a rig file gives, by name of the camera."""

    def __init__(self, rig: Rig, source: str) -> None:
        self._rig, self._source = rig, source
        self.vehicle_frame, self.ground_z = rig.vehicle_frame, rig.ground_z

    def camera_to_vehicle(self, camera: str, frame: str) -> Array:
        """See ``Extrinsics``."""
        if camera not in self._rig:
            raise RigError(
                f"no extrinsics: camera '{camera}' is not in the rig file {self._source}, which has "
                f"{', '.join(self._rig.names)}; add it, or make the file anew with rig_from_bag"
            )
        return self._rig[camera].camera_to_vehicle


class TfBuffer:
    """TF as the node hears it."""

    def __init__(self, node: Node, wanted_by: str) -> None:
        """Listen to TF; raises ConfigError, which begins with ``wanted_by``, where tf2_ros is not installed."""
        try:
            import tf2_ros
        except ImportError as error:
            raise ConfigError(
                f"{wanted_by}, or install ROS 2: TF cannot be used, because tf2_ros is not installed"
            ) from error
        self._errors: type[Exception] = tf2_ros.TransformException
        self._buffer: Any = tf2_ros.Buffer()
        # A buffer takes nothing older than what it has: where a bag begins again, it must forget. By itself it looks
        # at the system clock (Jazzy) or at none (Humble); with the node given, it would offer a service as well.
        back = JumpThreshold(min_forward=None, min_backward=Duration(seconds=-CLOCK_BACK_S), on_clock_change=True)
        self._jumps = node.get_clock().create_jump_callback(back, post_callback=lambda jump: self._buffer.clear())
        self._listener: Any = tf2_ros.TransformListener(self._buffer, node, spin_thread=False)

    def lookup(self, target: str, source: str, stamp_ns: int = 0) -> Array:
        """``source_to_target [4, 4]`` at a stamp, by default the newest; raises RigError where TF has none.

        Frames may begin with a slash, as those of ROS 1 and of bridges to it; tf2 itself refuses it.
        """
        target, source = target.lstrip("/"), source.lstrip("/")
        try:
            found = self._buffer.lookup_transform(target, source, Time(nanoseconds=stamp_ns))
            q, t = found.transform.rotation, found.transform.translation
            return rigid([q.w, q.x, q.y, q.z], [t.x, t.y, t.z])
        except (self._errors, ValueError) as error:  # ValueError: a quaternion of no length
            raise RigError(f"TF has no transform from '{source}' to '{target}': {error}") from error

    def last_ns(self, target: str, source: str) -> int:
        """Stamp of the newest transform that ``lookup`` has, nanoseconds; 0 where all are fixed.

        Frames as for ``lookup``. Raises RigError where TF has none.
        """
        target, source = target.lstrip("/"), source.lstrip("/")
        try:
            return int(self._buffer.get_latest_common_time(target, source).nanoseconds)
        except self._errors as error:
            raise RigError(f"TF has no transform from '{source}' to '{target}': {error}") from error

    def close(self) -> None:
        """Stop listening."""
        self._listener.unregister()
        self._jumps.unregister()


class TfExtrinsics:
    """The mounting that TF gives, by frame of the images. No transform says where the road is: ``ground_z`` does."""

    def __init__(self, tf: TfBuffer, vehicle_frame: str, ground_z: float = 0.0) -> None:
        self._tf, self.vehicle_frame, self.ground_z = tf, vehicle_frame, ground_z

    def camera_to_vehicle(self, camera: str, frame: str) -> Array:
        """See ``Extrinsics``."""
        try:
            return self._tf.lookup(self.vehicle_frame, frame)
        except RigError as error:
            raise RigError(
                f"no extrinsics of camera '{camera}': {error}; publish it on /tf_static, or set rig_file"
            ) from error
