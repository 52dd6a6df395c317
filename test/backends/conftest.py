"""The shipped student, a sweep of the town for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from fsmde_ros.checkpoint import default_checkpoint, load_checkpoint
from fsmde_ros.network.student import Student
from training.town.drive import nuscenes_drive
from training.town.settings import TownSettings

SIZE = (192, 320)


class Inputs(NamedTuple):
    """Arguments of a backend."""

    images: NDArray[np.uint8]
    intrinsics: NDArray[np.float64]
    camera_to_vehicle: NDArray[np.float64]
    ground_z: float
    present: NDArray[np.bool_]


@pytest.fixture(scope="session")
def make() -> Callable[..., Inputs]:
    """``make(views, first)``: arguments of a backend for a sweep through the held-out town, at 192x320.

    Pictures of the kind that the student knows: on noise it is unsure, and rounding moves its depth much more.
    """
    drive = nuscenes_drive(7, SIZE, TownSettings.held_out(), duration_s=0.5, camera_rate_hz=2.0)
    sweep = drive.sweep(0)
    pictures = np.stack([np.asarray(view.image) for view in sweep.views.values()])
    rig = sweep.rig

    def inputs(views: int, first: int = 0) -> Inputs:
        # Channels last in memory, as the estimator has them; beyond six views the ring begins anew.
        chosen = (first + np.arange(views)) % len(rig)
        images = np.ascontiguousarray(pictures[chosen]).transpose(0, 3, 1, 2)
        poses, present = rig.camera_to_vehicle()[chosen], np.ones(views, dtype=bool)
        return Inputs(images, rig.intrinsics()[chosen], poses, rig.ground_z, present)

    return inputs


@pytest.fixture(scope="session")
def trained() -> Student:
    """The student that is shipped."""
    return load_checkpoint(default_checkpoint())[0]
