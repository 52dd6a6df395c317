"""Each view of a sweep beside what the same camera saw a moment before or after, for the photometric loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.geometry import compose, invert
from fsmde_ros.images import resize
from fsmde_ros.rig import Rig
from fsmde_ros.sweep import Sweep
from training.mirrored import MIRROR

MOST_APART_S = 0.6  # the key frames of nuScenes are half a second apart; after more, little is seen twice

Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Moments:
    """Two moments of the V cameras of a sample.

    Attributes:
        images: [V, 2, H, W, 3] uint8 RGB: the view of the sample, and the same camera at the other moment. Neither
            is recoloured by the augmentation, because the loss compares their brightness.
        motion: [V, 4, 4] from the vehicle at the first moment to the vehicle at the second.
        known: [V] bool; where not, there is no second moment.
    """

    images: Image
    motion: NDArray[np.float64]
    known: NDArray[np.bool_]

    def select(self, order: Sequence[int]) -> Moments:
        """Only the views ``order``, in that order."""
        index = np.asarray(order, dtype=np.int64)
        return Moments(self.images[index], self.motion[index], self.known[index])

    def mirrored(self) -> Moments:
        """Of the world mirrored at the x-z plane of the vehicle."""
        return replace(
            self, images=np.ascontiguousarray(self.images[:, :, :, ::-1]), motion=MIRROR @ self.motion @ MIRROR
        )

    def turned(self, true_to_told: NDArray[np.float64]) -> Moments:
        """Of the same cameras in a vehicle frame that is turned by [4, 4]: what a camera sees move stays the same."""
        return replace(self, motion=true_to_told @ self.motion @ invert(true_to_told))

    def cropped(self, view: int, window: tuple[slice, slice]) -> Moments:
        """With a window (rows, columns) of one camera enlarged to the full size again, at both moments."""
        images = self.images.copy()
        for image in images[view]:
            image[:] = resize(image[window].copy(), image.shape[:2])
        return replace(self, images=images)

    def without(self, views: Sequence[int]) -> Moments:
        """As if the cameras ``views`` had been silent."""
        known = self.known.copy()
        known[list(views)] = False
        return replace(self, known=known)


def are_consecutive(sweep: Sweep, other: Sweep) -> bool:
    """Whether the views of two sweeps can be compared: same rig, little time between, the motion is known."""
    apart_s = abs(sweep.stamp_ns - other.stamp_ns) * 1e-9
    return 0 < apart_s <= MOST_APART_S and _same_rig(sweep.rig, other.rig) and bool(_comparable(sweep, other))


def two_moments(sweep: Sweep, other: Sweep, images: Image, other_images: Image) -> Moments:
    """The views of ``sweep`` beside those of ``other``, for which ``are_consecutive`` holds.

    ``images`` and ``other_images``: [V, H, W, 3] of the two, in the order of the rig.
    """
    motion = np.tile(np.eye(4), (len(sweep.rig), 1, 1))
    known = np.zeros(len(sweep.rig), dtype=np.bool_)
    for index, name in enumerate(sweep.rig.names):
        if name in _comparable(sweep, other):
            first, second = sweep.views[name].vehicle_to_map, other.views[name].vehicle_to_map
            assert first is not None
            assert second is not None
            motion[index] = compose(invert(second), first)
            known[index] = True
    return Moments(np.stack([images, other_images], axis=1), motion, known)


def _comparable(sweep: Sweep, other: Sweep) -> set[str]:
    """Cameras with a view and a pose in both."""
    placed = [{name for name, view in s.views.items() if view.vehicle_to_map is not None} for s in (sweep, other)]
    return placed[0] & placed[1]


def _same_rig(rig: Rig, other: Rig) -> bool:
    return rig.names == other.names and all(
        a.size == b.size
        and np.allclose(a.intrinsics, b.intrinsics)
        and np.allclose(a.camera_to_vehicle, b.camera_to_vehicle)
        for a, b in zip(rig.cameras, other.cameras, strict=True)
    )
