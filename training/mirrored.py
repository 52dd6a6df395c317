"""The world mirrored at the x-z plane of the vehicle, where left is right: for training, and to ask a network twice.

With M = diag(1, -1, 1) in the vehicle frame and N = diag(-1, 1, 1) in the camera frame a camera has the rotation M R N,
the position M t and the principal point W - 1 - cx.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.backends import Backend, Prediction

Array = NDArray[np.float64]

MIRROR = np.diag([1.0, -1.0, 1.0, 1.0])  # [4, 4] of the vehicle frame at its x-z plane, its own inverse
_MIRROR_CAMERA = np.diag([-1.0, 1.0, 1.0, 1.0])  # the same of the optical frame, which has x to the right


def mirrored_intrinsics(intrinsics: Array, width: int) -> Array:
    """[..., 3, 3] pixels, of the mirrored cameras, of those of images of ``width`` pixels."""
    mirrored = intrinsics.copy()
    mirrored[..., 0, 1] *= -1
    mirrored[..., 0, 2] = width - 1 - mirrored[..., 0, 2]
    return mirrored


def mirrored_pose(camera_to_vehicle: Array) -> Array:
    """[..., 4, 4] metres, of the mirrored cameras; a rotation again."""
    mirrored: Array = MIRROR @ camera_to_vehicle @ _MIRROR_CAMERA
    return mirrored


class MirroredBackend:
    """A backend (``fsmde_ros.backends.Backend``) shown the mirrored world; what it says is mirrored back."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @property
    def name(self) -> str:
        """What runs where, such as ``torch cpu``."""
        return self._backend.name

    def __call__(
        self,
        images: NDArray[np.uint8],
        intrinsics: Array,
        camera_to_vehicle: Array,
        ground_z: float,
        present: NDArray[np.bool_],
    ) -> Prediction:
        """See ``Backend``."""
        seen = self._backend(
            np.ascontiguousarray(images[..., ::-1]),
            mirrored_intrinsics(intrinsics, images.shape[-1]),
            mirrored_pose(camera_to_vehicle),
            ground_z,
            present,
        )
        return Prediction(*(values[..., ::-1].copy() for values in seen))
