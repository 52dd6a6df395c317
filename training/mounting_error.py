"""A rig that stands otherwise on the road than the network is told.

A car dips when it brakes, leans in a bend, is loaded; a calibration ages.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from fsmde_ros.rig import Rig


@dataclass(frozen=True)
class MountingError:
    """What is wrong with the told rig.

    Attributes:
        pitch: rad, about y of the vehicle: what lies ahead is told too low.
        roll: rad, about x of the vehicle: what lies to the left is told too high.
        lift: m, by which the road is told too high.
    """

    pitch: float = 0.0
    roll: float = 0.0
    lift: float = 0.0

    def true_to_told(self) -> NDArray[np.float64]:
        """[4, 4] from the vehicle as it stands to the vehicle as it is told."""
        turn = np.eye(4)
        turn[:3, :3] = cv2.Rodrigues(np.array([self.roll, self.pitch, 0.0]))[0]
        return turn

    def told(self, rig: Rig) -> Rig:
        """The rig with this error.

        All cameras are turned together about the origin of the vehicle: how the views lie to each other, and
        each depth along its own optical axis, stay true.
        """
        turn = self.true_to_told()
        cameras = tuple(replace(c, camera_to_vehicle=turn @ c.camera_to_vehicle) for c in rig.cameras)
        return replace(rig, cameras=cameras, ground_z=rig.ground_z + self.lift)


NONE = MountingError()
