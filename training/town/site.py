"""Where a town is built: what has been put up, and which places are still free."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from training.town.ground import Ground, Street
from training.town.primitives import Rows, placed

Array = NDArray[np.float64]


class Site:
    """Collects what stands; everything is placed by street coordinates."""

    def __init__(self, streets: tuple[Street, ...]) -> None:
        self.streets = streets
        self.flat = Ground.of(streets, np.zeros((0, 4)), 0.0, "cpu")
        self.rows: list[Rows] = []
        self.anchors: list[Array] = []
        self.stiff: list[bool] = []
        self._taken: list[tuple[float, float, float]] = []

    def clear_of_roads(self, x: Array, y: Array, margin: float) -> NDArray[np.bool_]:
        """Whether places are at least ``margin`` metres from every road."""
        return (self.flat.road_distance(torch.as_tensor(x), torch.as_tensor(y)) > margin).numpy()

    def take(self, x: float, y: float, radius: float) -> None:
        """Keep woods and car parks away from a round place, metres."""
        self._taken.append((x, y, radius))

    def is_free(self, x: float, y: float, margin: float) -> bool:
        """Whether nothing has taken a place and no road is within ``margin`` metres of it."""
        if any((x - a) ** 2 + (y - b) ** 2 < radius**2 for a, b, radius in self._taken):
            return False
        return bool(self.clear_of_roads(np.array([x]), np.array([y]), margin)[0])

    def put(self, rows: Rows, x: float, y: float, heading: float, stiff: bool = False) -> None:
        """Place an object."""
        self.rows.append(placed(rows, x, y, heading))
        self.anchors.append(np.tile([x, y], (len(rows), 1)))
        self.stiff.append(stiff)
