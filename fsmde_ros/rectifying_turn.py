"""Rectified images of a stereo pair look along other axes than the lens: by R of their CameraInfo.

Their extrinsics have to be those of the images. Whether the frame of a driver is that of the lens or that of the
images no message says, so nothing is turned here; the user is asked to look.
"""

from __future__ import annotations

from typing import Any

import numpy as np

LEAST_DEG = 0.2  # less does no harm, and is what a calibration may be wrong by
REMEDY = (
    "the frame of a camera must be that of its rectified images, or the network is told a wrong pitch or roll: where "
    "TF or the rig file has the frame of the lens, multiply its camera_to_vehicle by the transpose of R from the right"
)


def rectifying_turn(info: Any, rectified: bool) -> float:
    """Angle between a lens and its images, degrees, of a CameraInfo of rclpy or of rosbags.

    0 where it is at most ``LEAST_DEG``, where the images are not ``rectified`` by the message's P, and where R is not
    filled in.
    """
    rotation = np.reshape(info.r, (3, 3))
    if not rectified or info.p[0] == 0 or not rotation.any():
        return 0.0
    sine = np.linalg.norm(rotation - np.eye(3)) / np.sqrt(8)  # of half the angle
    turn = float(np.degrees(2 * np.arcsin(np.minimum(sine, 1))))
    return turn if turn > LEAST_DEG else 0.0  # so that NaN is none


def describe_turn(turn: float) -> str:
    """An angle of ``rectifying_turn``, degrees, in words."""
    return f"its rectified images are turned by {turn:.1f} degrees against its lens (R of its CameraInfo)"
