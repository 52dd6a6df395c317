"""What lies beside a street at the edge of town: woods, hills, banks, car parks, guard rails.

The same trees, bushes and walls stand near and far here, small and large, so that a student cannot
read distance off their size: where they meet the ground and how views differ has to decide.
"""

from __future__ import annotations

import numpy as np

from training.town import objects, traffic
from training.town.draws import log_uniform
from training.town.ground import Street
from training.town.primitives import Kind, Material, Rows, row
from training.town.settings import TownSettings
from training.town.site import Site

Generator = np.random.Generator
Reach = tuple[float, float]


def place_beside(street: Street, u: float, v: float) -> tuple[float, float, float]:
    """x, y (metres) and heading (radians) in the map of a place ``u`` along the street and ``v`` to its left."""
    x, y, heading = (float(value) for value in street.place(np.array(u), np.array(v)))
    return x, y, heading


def line_with_landscape(rng: Generator, settings: TownSettings, site: Site, street: Street, reach: Reach) -> None:
    """Both sides of an open street."""
    for side in (-1.0, 1.0):
        if rng.uniform() < 0.3:
            _car_park(rng, site, street, reach, side)
        if rng.uniform() < 0.6:
            _hills(rng, site, street, reach, side)
        if rng.uniform() < 0.35:
            _banks(rng, site, street, reach, side)
        if rng.uniform() < 0.3:
            _long_border(rng, site, street, reach, side)
        _woods(rng, settings, site, street, reach, side)


def wood_tree(rng: Generator, height: float, parts: int, color: objects.Color, conifer: bool) -> Rows:
    """A tree of a wood, ``height`` metres tall; ``parts`` of its crown are modelled, 1 where it stands far back."""
    radius = height * rng.uniform(0.16, 0.3)
    foot = height * (rng.uniform(0.0, 0.12) if rng.uniform() < 0.6 else rng.uniform(0.15, 0.4))  # where leaves begin
    middle, half = (foot + height) / 2, (height - foot) / 2
    tint = np.array(color) * rng.uniform(0.7, 1.3)
    bark = tuple(np.array((0.16, 0.12, 0.09)) * rng.uniform(0.6, 1.8))
    trunk = row(
        Kind.CONE, (0, 0, foot / 2 + 0.5), (0.018 * height, 0.018 * height, foot / 2 + 0.5), Material.BARK, bark
    )
    if conifer:
        size = (radius * 0.8, radius * 0.8, half)
        leaves = row(Kind.CONE, (0, 0, middle), size, Material.FOLIAGE, tint, taper=0.08, seed=rng.uniform())
        return np.concatenate([trunk, leaves])
    if parts == 1:
        size = (radius, radius * rng.uniform(0.8, 1.2), half)
        leaves = row(Kind.ELLIPSOID, (0, 0, middle), size, Material.FOLIAGE, tint, seed=rng.uniform())
        return np.concatenate([trunk, leaves])
    crown = []
    for k in range(parts):
        angle, rise = rng.uniform(0, 2 * np.pi), (2 * k + 1) / parts - 1
        off = radius * 0.6 * np.sqrt(1 - rise**2)
        center = (off * np.cos(angle), off * np.sin(angle), middle + 0.7 * rise * half)
        size = (radius * rng.uniform(0.6, 1.0), radius * rng.uniform(0.6, 1.0), half * rng.uniform(0.35, 0.6))
        holes = (rng.uniform(0.1, 1.0), 1.0, 0.0)
        crown.append(row(Kind.CROWN, center, size, Material.FOLIAGE, tint, taper=holes, seed=rng.uniform()))
    return np.concatenate([trunk, *crown])


def _woods(rng: Generator, settings: TownSettings, site: Site, street: Street, reach: Reach, side: float) -> None:
    """Stretches of wood, three trees deep, some of them beginning with bushes."""
    share, u = rng.uniform(*settings.woods), reach[0]
    near, far = settings.wood_setback
    while u < reach[1]:
        length = rng.uniform(25, 140)
        if rng.uniform() < share:
            out = street.half_width + log_uniform(rng, near, far)
            height = log_uniform(rng, *settings.wood_height)
            _wood(rng, site, street, (u, min(u + length, reach[1])), side * out, height)
        u += length * rng.uniform(0.9, 1.3)


def _wood(rng: Generator, site: Site, street: Street, stretch: Reach, edge: float, height: float) -> None:
    """A wood along ``stretch`` whose first row of trees stands ``edge`` metres from the centre line (signed)."""
    color, conifers, dense = objects.leaf_color(rng), rng.choice([0.0, 0.2, 0.9]), rng.uniform(0.3, 0.55)
    undergrowth = rng.uniform() < 0.5
    for depth in range(3):
        step = max(height * dense, 2.5)
        for u in np.arange(stretch[0], stretch[1], step):
            tall = height * rng.uniform(0.65, 1.25) * (1 + 0.08 * depth)
            v = edge + np.sign(edge) * (depth * step * 0.9 + rng.uniform(-0.25, 0.25) * step)
            x, y, heading = place_beside(street, u + rng.normal(0, step / 4), v)
            if not site.is_free(x, y, 1.5 + 0.1 * tall):
                continue
            parts = 1 if depth else int(rng.integers(2, 6))
            site.put(wood_tree(rng, tall, parts, color, rng.uniform() < conifers), x, y, heading)
            if depth == 0 and undergrowth:
                low = (step * 0.6, step * 0.4, tall * rng.uniform(0.06, 0.18))
                bush = row(Kind.ELLIPSOID, (0, 0, 0), low, Material.FOLIAGE, np.array(color) * 0.7, seed=rng.uniform())
                site.put(bush, x, y, heading)


def _hills(rng: Generator, site: Site, street: Street, reach: Reach, side: float) -> None:
    """Wooded or grassy hills as a backdrop."""
    for _ in range(int(rng.integers(2, 7))):
        half = (rng.uniform(15, 60), rng.uniform(8, 25), rng.uniform(3, 26))
        out = street.half_width + half[1] + rng.uniform(30, 150)
        u = rng.uniform(*reach)
        place = street.place(u + half[0] * np.array([0.0, -1.0, -0.5, 0.5, 1.0]), np.full(5, side * out))
        if not site.clear_of_roads(place[:, 0], place[:, 1], half[1] + 4).all():
            continue
        x, y, heading = (float(value) for value in place[0])
        color = np.array(objects.leaf_color(rng))
        site.put(row(Kind.ELLIPSOID, (0, 0, 0), half, Material.FOLIAGE, color, seed=rng.uniform()), x, y, heading)


def _banks(rng: Generator, site: Site, street: Street, reach: Reach, side: float) -> None:
    """Grass banks, one behind the other along the street."""
    height, width = rng.uniform(0.6, 3.5), rng.uniform(2.5, 8.0)
    out = street.half_width + street.sidewalk + width + rng.uniform(0.3, 6.0)
    color = np.array(objects.leaf_color(rng)) * rng.uniform(0.8, 1.5)
    for u in np.arange(*reach, 12.0):
        x, y, heading = place_beside(street, u, side * out)
        if site.is_free(x, y, width + 0.2):
            half = (14.0, width, height * rng.uniform(0.85, 1.15))
            site.put(row(Kind.ELLIPSOID, (0, 0, 0), half, Material.CLOTH, color, seed=rng.uniform()), x, y, heading)


def _car_park(rng: Generator, site: Site, street: Street, reach: Reach, side: float) -> None:
    """Rows of parked cars on an open lot."""
    begin, out = rng.uniform(reach[0], reach[1] - 40), street.half_width + street.sidewalk + rng.uniform(4, 25)
    turn = float(rng.choice([0.0, np.pi / 2, np.pi / 2]))
    for lane in range(int(rng.integers(1, 4))):
        for u in np.arange(begin, begin + rng.uniform(12, 45), 5.6 if turn == 0.0 else 2.8):
            if rng.uniform() > 0.6:
                continue
            v = side * (out + 7.5 * lane)
            x, y, heading = place_beside(street, u, v)
            if site.is_free(x, y, 3.0):
                site.put(traffic.car(rng), x, y, heading + turn + float(rng.choice([0.0, np.pi])))
                site.take(x, y, 2.5)


def _long_border(rng: Generator, site: Site, street: Street, reach: Reach, side: float) -> None:
    """A guard rail at the kerb, or a hedge or wall along the far edge of a lawn, for a long stretch."""
    begin = rng.uniform(*reach)
    style = rng.uniform()
    rail = style < 0.4
    out = street.half_width + (0.4 if rail else street.sidewalk + rng.uniform(0.5, max(street.setback, 1.0)))
    height = 0.45 if rail else rng.uniform(0.8, 2.8)
    thick = 0.04 if rail else rng.uniform(0.1, 0.6)
    color = objects.leaf_color(rng) if style > 0.7 else objects.any_color(rng, 0.3, 0.15, 0.6)
    material = Material.METAL if rail else Material.FOLIAGE if style > 0.7 else Material.CONCRETE
    low = 0.45 if rail else 0.0
    for u in np.arange(begin, min(begin + rng.uniform(30, 160), reach[1]), 4.0):
        x, y, heading = place_beside(street, u, side * out)
        if site.is_free(x, y, 0.3):
            half = (2.05, thick, 0.16 if rail else height / 2)
            parts = [row(Kind.BOX, (0, 0, low + half[2]), half, material, color, seed=rng.uniform())]
            if rail:
                parts.append(row(Kind.BOX, (0, 0, 0.3), (0.06, 0.06, 0.3), Material.METAL, (0.3, 0.3, 0.3)))
            site.put(np.concatenate(parts), x, y, heading)
