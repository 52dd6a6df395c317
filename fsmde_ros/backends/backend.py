"""What every backend offers."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Prediction(NamedTuple):
    """What a backend says about the views of one sweep, each [V, H, W] float32, of which it keeps no part.

    Attributes:
        depth: metres along the optical axis, always finite.
        stddev: metres.
        out_of_range: probability of sky or of a depth beyond the range.
    """

    depth: NDArray[np.float32]
    stddev: NDArray[np.float32]
    out_of_range: NDArray[np.float32]


class Backend(Protocol):
    """Runs the student on one sweep."""

    @property
    def name(self) -> str:
        """What runs where, such as ``torch cpu``."""

    def __call__(
        self,
        images: NDArray[np.uint8],
        intrinsics: NDArray[np.float64],
        camera_to_vehicle: NDArray[np.float64],
        ground_z: float,
        present: NDArray[np.bool_],
    ) -> Prediction:
        """Estimate the depth of the views of one sweep.

        Args:
            images: [V, 3, H, W] uint8 RGB of the network's input size, in any memory layout.
            intrinsics: [V, 3, 3] pixels, of images of size (H, W).
            camera_to_vehicle: [V, 4, 4] metres.
            ground_z: height of the road in the vehicle frame, metres.
            present: [V]; the image of a missing view is ignored, and its output means nothing.
        """
