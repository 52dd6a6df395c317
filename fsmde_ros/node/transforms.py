"""Where the cameras are mounted: from the rig file, or from TF where ROS is installed."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.time import Time

from fsmde_ros.errors import ConfigError, RigError
from fsmde_ros.geometry import rigid
from fsmde_ros.rig import Rig

Array = NDArray[np.float64]


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

    def close(self) -> None:
        """Let go of what was taken from ROS."""
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

    def close(self) -> None:
        """See ``Extrinsics``."""


class TfExtrinsics:
    """The mounting that TF gives, by frame of the images. The ground is at z = 0 (REP 105)."""

    ground_z = 0.0

    def __init__(self, node: Node, vehicle_frame: str) -> None:
        """Listen to TF; raises ConfigError where tf2_ros is not installed."""
        try:
            import tf2_ros
        except ImportError as error:
            raise ConfigError(
                "parameter rig_file is empty and TF cannot be used, because tf2_ros is not installed; set rig_file "
                "to a rig file (rig_from_bag makes one), or install ROS 2"
            ) from error
        self.vehicle_frame = vehicle_frame
        self._errors: type[Exception] = tf2_ros.TransformException
        self._buffer: Any = tf2_ros.Buffer()
        self._listener: Any = tf2_ros.TransformListener(self._buffer, node, spin_thread=False)

    def camera_to_vehicle(self, camera: str, frame: str) -> Array:
        """See ``Extrinsics``."""
        try:
            found = self._buffer.lookup_transform(self.vehicle_frame, frame, Time())
        except self._errors as error:
            raise RigError(
                f"no extrinsics: TF has no transform from '{frame}' of camera '{camera}' to '{self.vehicle_frame}': "
                f"{error}; publish it on /tf_static, or set rig_file"
            ) from error
        q, t = found.transform.rotation, found.transform.translation
        return rigid([q.w, q.x, q.y, q.z], [t.x, t.y, t.z])

    def close(self) -> None:
        """See ``Extrinsics``."""
        self._listener.unregister()
