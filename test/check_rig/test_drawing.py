"""What is drawn of a rig, read from the picture itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from fsmde_ros.check_rig.drawing import draw_rig
from fsmde_ros.geometry import rigid
from fsmde_ros.rig import Rig


def test_a_camera_on_its_side_has_the_field_of_its_height(ring: Rig, tmp_path: Path) -> None:
    """The same wedges and the same label as of the camera with upright images that it is."""
    standing = ring["cam_front"]
    turn = rigid([np.sqrt(0.5), 0, 0, np.sqrt(0.5)], [0, 0, 0])
    lying = replace(standing, camera_to_vehicle=standing.camera_to_vehicle @ turn)
    k = standing.intrinsics
    upright = replace(
        standing, size=standing.size[::-1], intrinsics=[[k[1, 1], 0, k[1, 2]], [0, k[0, 0], k[0, 2]], [0, 0, 1]]
    )
    for name, camera in (("lying", lying), ("upright", upright)):
        draw_rig(Rig((camera,)), [], [], tmp_path / f"{name}.png")
    lies, stands = (cv2.imread(str(tmp_path / f"{name}.png")) for name in ("lying", "upright"))
    assert np.mean(lies != stands) < 1e-4  # the rim of a line, where a float is another in its last digit
