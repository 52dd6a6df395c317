"""Convex solids that the town is made of, and how they are put together and placed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Rows = NDArray[np.float64]


class Kind(IntEnum):
    """Shape of a primitive; all are convex and fill [-1, 1]^3 of their scaled local frame."""

    BOX = 0
    ELLIPSOID = 1
    CONE = 2  # along local z; radius 1 at the foot and ``taper[0]`` at the top
    CABIN = 3  # a box whose top is drawn in by the shares ``taper`` at +x, -x and both y: cabins, roofs
    CROWN = 4  # the shell of an ellipsoid with holes; ``solids.crown`` says what its ``taper`` means


class Material(IntEnum):
    """What a primitive is made of, for shading and for the reflectance of the LiDAR."""

    PLAIN = 0
    FACADE = 1
    FOLIAGE = 2
    PAINT = 3
    GLASS = 4
    LAMP = 5
    BARK = 6
    METAL = 7
    CLOTH = 8
    BRICK = 9
    SLATS = 10
    ROOF = 11
    CONCRETE = 12
    SIGN = 13
    TYRE = 14
    GREENHOUSE = 15  # the cabin of a car: windows between painted pillars below a painted roof


# columns of a row: one primitive in the frame of its object (z up, metres, radians)
KIND, CENTER, HALF, YAW, PITCH, ROLL, MATERIAL = 0, slice(1, 4), slice(4, 7), 7, 8, 9, 10
TAPER, COLOR, COLOR2, PARAMS, SEED, WIDTH = slice(11, 14), slice(14, 17), slice(17, 20), slice(20, 26), 26, 27


def row(
    kind: Kind,
    center: Sequence[float],
    half: Sequence[float],
    material: Material,
    color: Sequence[float] | NDArray[np.floating[Any]],
    *,
    yaw: float = 0.0,
    pitch: float = 0.0,
    roll: float = 0.0,
    taper: float | Sequence[float] = 1.0,
    color2: Sequence[float] = (0.0, 0.0, 0.0),
    params: Sequence[float] = (),
    seed: float = 0.0,
) -> Rows:
    """One primitive [1, WIDTH] in the frame of its object: centre and half sizes in metres, colours 0 to 1."""
    result = np.zeros((1, WIDTH))
    result[0, KIND], result[0, CENTER], result[0, HALF] = kind, center, half
    result[0, YAW], result[0, PITCH], result[0, ROLL], result[0, TAPER] = yaw, pitch, roll, taper
    result[0, MATERIAL], result[0, COLOR], result[0, COLOR2], result[0, SEED] = material, color, color2, seed
    result[0, PARAMS][: len(params)] = params
    return result


def placed(rows: Rows, x: float, y: float, heading: float, z: float = 0.0) -> Rows:
    """Rows of an object put at (x, y, z) in metres with a heading in radians."""
    result = rows.copy()
    c, s = np.cos(heading), np.sin(heading)
    result[:, 1] = x + c * rows[:, 1] - s * rows[:, 2]
    result[:, 2] = y + s * rows[:, 1] + c * rows[:, 2]
    result[:, 3] += z
    result[:, YAW] += heading
    return result


def rotations(yaw: Rows, pitch: Rows, roll: Rows) -> Rows:
    """Rotations ``Rz(yaw) Ry(pitch) Rx(roll)``, [N, 3, 3]."""
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    return np.stack(
        [
            np.stack([cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr], axis=-1),
            np.stack([sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr], axis=-1),
            np.stack([-sp, cp * sr, cp * cr], axis=-1),
        ],
        axis=-2,
    )


@dataclass(frozen=True, eq=False)
class Primitives:
    """N primitives at one time, in the map frame.

    Attributes:
        kind: [N] int64, see ``Kind``.
        center: [N, 3] metres.
        axes: [N, 3, 3] unit local axes as rows: ``local = axes @ (point - center)``.
        half: [N, 3] half sizes along the axes, metres.
        taper: [N, 3] see ``Kind``.
        velocity: [N, 3] m/s; what stands has 0.
        material: [N] int64, see ``Material``.
        color, color2: [N, 3] reflectance 0 to 1.
        params: [N, 6] numbers of the material.
        seed: [N] a number in [0, 1) that varies the texture.
        owner: [N] int64, index of the object that the primitive belongs to.
    """

    kind: Tensor
    center: Tensor
    axes: Tensor
    half: Tensor
    taper: Tensor
    velocity: Tensor
    material: Tensor
    color: Tensor
    color2: Tensor
    params: Tensor
    seed: Tensor
    owner: Tensor

    def __len__(self) -> int:
        return len(self.kind)

    @staticmethod
    def of(rows: Rows, owner: NDArray[np.int64], device: str | torch.device) -> Primitives:
        """Primitives of rows in the map frame, all at rest, on ``device``."""

        def real(columns: int | slice) -> Tensor:
            return torch.as_tensor(rows[:, columns].astype(np.float32), device=device)

        axes = rotations(rows[:, YAW], rows[:, PITCH], rows[:, ROLL]).transpose(0, 2, 1)
        return Primitives(
            kind=real(KIND).long(),
            center=real(CENTER),
            axes=torch.as_tensor(np.ascontiguousarray(axes, dtype=np.float32), device=device),
            half=real(HALF),
            taper=real(TAPER),
            velocity=torch.zeros(len(rows), 3, device=device),
            material=real(MATERIAL).long(),
            color=real(COLOR),
            color2=real(COLOR2),
            params=real(PARAMS),
            seed=real(SEED),
            owner=torch.as_tensor(owner, device=device),
        )
