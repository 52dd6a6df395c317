"""The points that are shaded."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Surface:
    """R points that rays met.

    Attributes:
        point: [3, R] metres, map frame.
        normal: [3, R] unit, outward.
        local: [3, R] metres in the axes of the primitive.
        index: [R] primitive, -1 = ground.
        footprint: [R] size of a pixel there, metres.
        view: [3, R] unit directions of the rays.
    """

    point: Tensor
    normal: Tensor
    local: Tensor
    index: Tensor
    footprint: Tensor
    view: Tensor

    def at(self, some: Tensor) -> Surface:
        """The points with indices ``some``."""
        return Surface(
            self.point[:, some],
            self.normal[:, some],
            self.local[:, some],
            self.index[some],
            self.footprint[some],
            self.view[:, some],
        )
