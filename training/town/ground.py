"""The ground of the town: streets, a smooth height field and raised sidewalks.

The height is a sum of a few plane waves, so its course along a ray is known in closed form. What
is not road is raised by the height of the kerb; the kerb itself is a vertical face.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CORNER = 5.0  # m, radius of the kerb at junctions
MARCH_STEPS = 10  # along the part of a ray that can meet the ground, where waves are longer than 100 m
SHORT_MARCH_STEPS = 24  # where they are not


@dataclass(frozen=True)
class Street:
    """An endless street: a straight axis with a bend ``amplitude * sin(2 pi u / wavelength + phase)``.

    Lengths in metres, angles in radians, map frame; v is to the left of the heading.
    """

    origin: tuple[float, float]
    heading: float
    amplitude: float
    wavelength: float
    phase: float
    lane_width: float
    lanes: int
    parking: float
    sidewalk: float
    setback: float
    crosswalk: bool
    yellow: bool
    verge: int
    is_open: bool  # lawns and woods beside it rather than house fronts

    @property
    def half_width(self) -> float:
        """From the centre line to the kerb, metres."""
        return self.lanes * self.lane_width + self.parking

    def place(self, u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map frame (x, y, heading) [..., 3] of places u along and v to the left of the centre line, metres."""
        k = 2 * np.pi / self.wavelength
        slope = np.arctan(self.amplitude * k * np.cos(k * u + self.phase))
        a = u - v * np.sin(slope)
        b = self.amplitude * np.sin(k * u + self.phase) + v * np.cos(slope)
        c, s = np.cos(self.heading), np.sin(self.heading)
        x, y = self.origin[0] + c * a - s * b, self.origin[1] + s * a + c * b
        return np.stack(np.broadcast_arrays(x, y, self.heading + slope), axis=-1)

    def across(self, x: float, y: float) -> float:
        """Distance of a place from the straight axis of the street, metres."""
        dx, dy = x - self.origin[0], y - self.origin[1]
        return float(abs(np.cos(self.heading) * dy - np.sin(self.heading) * dx))


@dataclass(frozen=True, eq=False)
class Ground:
    """Height field of a town.

    Attributes:
        streets: the streets; whatever is within the half width of one is road.
        waves: [W, 4] amplitude (m), wave vector (rad/m, rad/m), phase (rad).
        kerb: how much all but the road is raised, metres.
        corner: radius by which the corners of junctions are rounded, metres.
        table: [S, 8] the streets as numbers, on the device that casts.
    """

    streets: tuple[Street, ...]
    waves: Tensor
    kerb: float
    corner: float
    table: Tensor

    @staticmethod
    def of(streets: tuple[Street, ...], waves: NDArray[np.float64], kerb: float, device: str | torch.device) -> Ground:
        """Ground of streets and waves [W, 4], with its tensors on ``device``."""
        rows = [
            [
                s.origin[0],
                s.origin[1],
                np.cos(s.heading),
                np.sin(s.heading),
                s.amplitude,
                2 * np.pi / s.wavelength,
                s.phase,
                s.half_width,
            ]
            for s in streets
        ]

        def tensor(value: NDArray[np.float64]) -> Tensor:
            return torch.as_tensor(value, dtype=torch.float32, device=device)

        return Ground(streets, tensor(waves), kerb, CORNER, tensor(np.array(rows)))

    def height(self, x: Tensor, y: Tensor) -> Tensor:
        """Height of the road surface (without the kerb), metres, any shape."""
        result = torch.zeros_like(x)
        for amplitude, kx, ky, phase in self.waves.tolist():
            result = result + amplitude * torch.sin(kx * x + ky * y + phase)
        return result

    def gradient(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Slope of the height along x and y."""
        gx, gy = torch.zeros_like(x), torch.zeros_like(y)
        for amplitude, kx, ky, phase in self.waves.tolist():
            cosine = amplitude * torch.cos(kx * x + ky * y + phase)
            gx, gy = gx + kx * cosine, gy + ky * cosine
        return gx, gy

    def street_coordinates(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """u along and v to the left of every street, each [S, ...], metres.

        v is the distance across the axis times the cosine of the bend: exact on the centre line
        and for straight streets, within centimetres elsewhere.
        """
        us, vs = [], []
        for ox, oy, c, s, amplitude, k, phase, _ in self.table.tolist():
            dx, dy = x - ox, y - oy
            u, v = c * dx + s * dy, c * dy - s * dx
            if amplitude:
                argument = k * u + phase
                slope = amplitude * k * torch.cos(argument)
                v = (v - amplitude * torch.sin(argument)) * torch.rsqrt(1 + slope * slope)
            us.append(u)
            vs.append(v)
        return torch.stack(us), torch.stack(vs)

    def road_distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Distance to the road, metres, negative on it; the corners of junctions are rounded."""
        _, v = self.street_coordinates(x, y)
        return self.distance_of(v)

    def distance_of(self, v: Tensor) -> Tensor:
        """``road_distance`` of places whose v of every street [S, ...] is known."""
        result: Tensor | None = None
        for index, half_width in enumerate(self.table[:, 7].tolist()):
            distance = v[index].abs() - half_width
            if result is None:
                result = distance
            else:  # polynomial smooth minimum
                blend = (self.corner - (result - distance).abs()).clamp_min(0)
                result = torch.minimum(result, distance) - blend * blend / (4 * self.corner)
        assert result is not None, "a ground has at least one street"
        return result

    def surface(self, x: Tensor, y: Tensor) -> Tensor:
        """Height of what one stands on: road, or raised beside it, metres."""
        return self.height(x, y) + self.kerb * (self.road_distance(x, y) > 0)

    def intersect(self, origins: Tensor, directions: Tensor, max_range: float) -> tuple[Tensor, Tensor]:
        """First meeting of rays with the ground.

        Args:
            origins: [R, 3] metres, map frame.
            directions: [3, R], any length.
            max_range: in lengths of ``directions``.

        Returns:
            distance [R] in lengths of ``directions``, inf where there is none within ``max_range``,
            and whether the ray met the face of a kerb [R].
        """
        smooth = self._intersect_smooth(origins, directions, max_range)
        face = torch.zeros_like(smooth, dtype=torch.bool)
        near = (smooth < max_range).nonzero().squeeze(1)
        o, d, below = origins[near].T, directions[:, near], smooth[near]
        above = self._raised(o, d, below)
        side_above = self.road_distance(o[0] + above * d[0], o[1] + above * d[1])
        side_below = self.road_distance(o[0] + below * d[0], o[1] + below * d[1])
        onto_face = (side_above <= 0) & (side_below > 0)
        crossing = above + (below - above) * side_above / (side_above - side_below)
        distance = torch.where(side_above > 0, above, torch.where(onto_face, crossing, below))
        smooth[near] = distance
        face[near] = onto_face
        return smooth, face

    def _raised(self, o: Tensor, d: Tensor, below: Tensor) -> Tensor:
        """Distance at which the rays meet the ground raised by the kerb: Newton from the road."""
        above = below
        for _ in range(2):
            x, y = o[0] + above * d[0], o[1] + above * d[1]
            gx, gy = self.gradient(x, y)
            fall = (d[2] - gx * d[0] - gy * d[1]).clamp_max(-1e-4)
            above = above - (o[2] + above * d[2] - self.height(x, y) - self.kerb) / fall
        return torch.minimum(above, below).clamp_min(1e-3)

    def _intersect_smooth(self, origins: Tensor, directions: Tensor, max_range: float) -> Tensor:
        """Meeting with the road surface continued everywhere, [R], inf where there is none."""
        bound = float(self.waves[:, 0].abs().sum()) if len(self.waves) else 0.0
        oz, dz = origins[:, 2], directions[2]
        down = torch.where(dz < 0, dz, -1e-9)
        result = torch.full_like(dz, float("inf"))
        if bound == 0.0:
            distance = -oz / down
            return torch.where((dz < 0) & (distance > 0) & (distance < max_range), distance, result)
        start = ((bound - oz) / down).clamp_min(0)
        end = ((-bound - oz) / down).clamp_max(max_range)
        rising = dz >= 0
        end = torch.where(rising, ((bound - oz) / dz.clamp_min(1e-9)).clamp_max(max_range), end)
        start = torch.where(rising, torch.zeros_like(start), start)
        some = (start < end).nonzero().squeeze(1)
        if len(some):
            result[some] = self._march(origins[some], directions[:, some], start[some], end[some])
        return result

    @cached_property
    def _march_steps(self) -> int:
        shortest = 2 * np.pi / float(torch.hypot(self.waves[:, 1], self.waves[:, 2]).max())
        return MARCH_STEPS if shortest > 100.0 else SHORT_MARCH_STEPS

    def _march(self, origins: Tensor, directions: Tensor, start: Tensor, end: Tensor) -> Tensor:
        """First root of (height of the ray - height of the ground) between ``start`` and ``end``, [R]."""
        waves = [
            (a, kx * origins[:, 0] + ky * origins[:, 1] + phase, kx * directions[0] + ky * directions[1])
            for a, kx, ky, phase in self.waves.tolist()
        ]

        def clearance(distance: Tensor) -> Tensor:
            value = origins[:, 2] + distance * directions[2]
            for amplitude, base, rate in waves:
                value = value - amplitude * torch.sin(torch.addcmul(base, rate, distance))
            return value

        low, low_value = start, clearance(start)
        high, high_value = torch.full_like(start, float("inf")), torch.full_like(start, -1.0)
        previous, previous_value = low, low_value
        steps = self._march_steps
        for step in range(1, steps + 1):
            # a hair beyond the end, so that a flat stretch of the lowest ground is not missed
            distance = start + (end - start) * ((step / steps) ** 1.5 * 1.0001) + 1e-3 * (step == steps)
            value = clearance(distance)
            found = (value <= 0) & (previous_value > 0) & torch.isinf(high)
            low, low_value = torch.where(found, previous, low), torch.where(found, previous_value, low_value)
            high, high_value = torch.where(found, distance, high), torch.where(found, value, high_value)
            previous, previous_value = distance, value
        hit = torch.isfinite(high)
        high = torch.where(hit, high, end)
        for _ in range(4):  # Illinois-like: halve the value of the end that stays
            middle = low + (high - low) * low_value / (low_value - high_value)
            value = clearance(middle)
            over = value > 0
            low, low_value = torch.where(over, middle, low), torch.where(over, value, low_value * 0.5)
            high, high_value = torch.where(over, high, middle), torch.where(over, high_value * 0.5, value)
        middle = low + (high - low) * low_value / (low_value - high_value)
        return torch.where(hit, middle, float("inf"))
