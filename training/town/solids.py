"""Where rays enter each kind of primitive.

Every function takes the rays in the frame in which the primitive fills [-1, 1]^3 (start [M, 3, 1],
ahead [M, 3, P]), its ``taper`` [M, 3] and its half sizes ``half`` [M, 3] in metres, and returns the
distance [M, P] in lengths of the rays, inf where there is no entry ahead.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from training.town.primitives import Kind

Solver = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def box(start: Tensor, ahead: Tensor, taper: Tensor, half: Tensor) -> Tensor:
    """Entry of rays into the cube [-1, 1]^3: start [M, 3, 1], ahead [M, 3, P]; inf where missed."""
    inverse = ahead.add_(1e-9).reciprocal_()  # never 1 / 0: a ray along a face would give NaN
    middle = inverse * -start
    reach = inverse.abs_()
    near = middle - reach
    far = middle.add_(reach)
    enter = torch.maximum(torch.maximum(near[:, 0], near[:, 1]), near[:, 2])
    leave = torch.minimum(torch.minimum(far[:, 0], far[:, 1]), far[:, 2])
    return torch.where((enter < leave) & (enter > 0), enter, float("inf"))


def ellipsoid(start: Tensor, ahead: Tensor, taper: Tensor, half: Tensor) -> Tensor:
    """Entry of rays into the unit ball, as ``box``."""
    a = (ahead * ahead).sum(1)
    b = (ahead * start).sum(1)
    c = (start * start).sum(1) - 1
    distance = (-b - torch.sqrt(b * b - a * c)) / a  # NaN where missed
    return torch.where(distance > 0, distance, float("inf"))


def cone(start: Tensor, ahead: Tensor, taper: Tensor, half: Tensor) -> Tensor:
    """Entry of rays into |z| <= 1, x^2 + y^2 <= (m + q z)^2 with radius 1 at z = -1 and taper at z = 1."""
    m, q = (1 + taper[:, :1]) / 2, (taper[:, :1] - 1) / 2
    (ox, oy, oz), (dx, dy, dz) = start.unbind(1), ahead.unbind(1)
    ow, dw = m + q * oz, q * dz
    a = dx * dx + dy * dy - dw * dw
    b = ox * dx + oy * dy - ow * dw
    c = ox * ox + oy * oy - ow * ow
    root = torch.sqrt(b * b - a * c)
    infinite = torch.full_like(a, float("inf"))
    result = infinite
    for side in ((-b - root) / a, (-b + root) / a):
        valid = ((oz + side * dz).abs() <= 1) & (side > 0)
        result = torch.minimum(result, torch.where(valid, side, infinite))
    cap = (-torch.sign(dz) - oz) / dz  # the cap that faces the ray
    radius = torch.where(dz < 0, taper[:, :1], torch.ones_like(dz))
    x, y = ox + cap * dx, oy + cap * dy
    valid = (x * x + y * y <= radius * radius) & (cap > 0)
    return torch.minimum(result, torch.where(valid, cap, infinite))


def cabin_planes(taper: Tensor) -> Tensor:
    """Planes [M, 6, 4] of cabins in [-1, 1]^3: ``n . x <= d``, n in the first three columns."""
    front, back, side = (taper / 2).unbind(1)
    one, nil = torch.ones_like(front), torch.zeros_like(front)
    rows = (
        (one, nil, front, 1 - front),
        (-one, nil, back, 1 - back),
        (nil, one, side, 1 - side),
        (nil, -one, side, 1 - side),
        (nil, nil, one, one),
        (nil, nil, -one, one),
    )
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


def cabin(start: Tensor, ahead: Tensor, taper: Tensor, half: Tensor) -> Tensor:
    """Entry of rays into a box with a drawn-in top, as ``box``."""
    planes = cabin_planes(taper)
    room = planes[:, :, 3:] - torch.bmm(planes[:, :, :3], start)  # [M, 6, 1], negative outside
    slope = torch.bmm(planes[:, :, :3], ahead)
    at = room / slope
    enter = torch.where(slope < 0, at, -float("inf")).amax(1)
    leave = torch.where(slope > 0, at, float("inf")).amin(1)
    return torch.where((enter < leave) & (enter > 0), enter, float("inf"))


def crown(start: Tensor, ahead: Tensor, taper: Tensor, half: Tensor) -> Tensor:
    """First meeting with the leaves of a crown: a unit sphere with holes where ``LEAF_WAVES`` add up.

    Both shells can be met, the far one from inside. ``taper``: the sum above which there is a hole; the size of holes
    and leaves over that of ``LEAF_WAVES``; and by how much less the sum may be at the rim, which makes it ragged.
    """
    a = (ahead * ahead).sum(1)
    b = (ahead * start).sum(1)
    c = (start * start).sum(1) - 1
    root = torch.sqrt(b * b - a * c)  # NaN where missed
    vectors = LEAF_WAVES.to(start) * (half / taper[:, 1:2])[:, None]  # [M, 3, 3] rad per unit of the scaled frame
    base, rate = torch.bmm(vectors, start), torch.bmm(vectors, ahead)
    grazing = 1 - root * a.rsqrt()  # 0 where the ray meets the shell head-on, 1 at the rim
    most = torch.addcmul(taper[:, :1], -taper[:, 2:], grazing * grazing)
    result = torch.full_like(a, float("inf"))
    for distance in ((root - b) / a, (-b - root) / a):
        hole = torch.sin(torch.addcmul(base, rate, distance[:, None])).sum(1) > most
        result = torch.where((distance > 0) & ~hole, distance, result)
    return result


# rad/m along the local axes: leaves of about 0.3 to 0.6 m, and holes between them
LEAF_WAVES = torch.tensor([[8.3, 3.1, 4.4], [-3.7, 7.9, 5.2], [2.6, -5.8, 9.1]])
SOLVERS: dict[Kind, Solver] = {
    Kind.BOX: box,
    Kind.CABIN: cabin,
    Kind.CONE: cone,
    Kind.ELLIPSOID: ellipsoid,
    Kind.CROWN: crown,
}
