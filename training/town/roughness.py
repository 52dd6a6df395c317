"""What makes a town rough: leaves of any grain with ragged rims, and small things beside the road.

The plain town has leaves and holes between them of one size in metres, which tells how far a tree is, and crowns with
smooth rims. Real ones have neither.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from training.town import objects
from training.town.draws import log_uniform
from training.town.ground import Street
from training.town.layout import AHEAD, SIDE, Layout
from training.town.primitives import HALF, KIND, MATERIAL, PARAMS, TAPER, Kind, Material, Rows, placed, row
from training.town.settings import TownSettings
from training.town.site import Site

Generator = np.random.Generator
LARGEST_CROWN = 14.0  # m, half size; what is larger is a hill


def roughened(layout: Layout, settings: TownSettings, rng: Generator) -> Layout:
    """The layout, or a rough form of it: the same town but for its leaves and what more stands beside its roads."""
    if rng.uniform() >= settings.rough_probability:
        return layout
    site = Site(layout.streets)
    for street in layout.streets:
        _line_with_small_things(rng, site, street)
    counts = [len(rows) for rows in site.rows]
    first = int(layout.owners.max(initial=-1)) + 1
    return replace(
        layout,
        rows=with_rough_leaves(np.concatenate([layout.rows, *site.rows]), rng),
        anchors=np.concatenate([layout.anchors, *site.anchors]),
        stiff=np.concatenate([layout.stiff, np.zeros(sum(counts), dtype=bool)]),
        owners=np.concatenate([layout.owners, first + np.repeat(np.arange(len(counts)), counts)]),
        rough=True,
    )


def with_rough_leaves(rows: Rows, rng: Generator) -> Rows:
    """Rows [N, WIDTH] with crowns in place of smooth leaves, and all leaves of a grain of their own.

    The ``params`` of ``Material.FOLIAGE`` are drawn here; see ``shading``.
    """
    rows = rows.copy()
    count = len(rows)
    leaves = rows[:, MATERIAL] == Material.FOLIAGE
    smooth = leaves & (rows[:, KIND] == Kind.ELLIPSOID) & (rows[:, HALF].max(1) < LARGEST_CROWN)
    rows[smooth, KIND] = Kind.CROWN
    rows[smooth, TAPER.start] = rng.uniform(1.0, 3.0, count)[smooth]  # dense
    crowns = leaves & (rows[:, KIND] == Kind.CROWN)
    rows[crowns, TAPER.start + 1] = log_uniform(rng, 0.5, 2.2, count)[crowns]
    rows[crowns, TAPER.start + 2] = rng.uniform(0.0, 3.5, count)[crowns]
    grain = np.stack(
        [log_uniform(rng, 1.3, 8.0, count), rng.uniform(0.3, 1.7, count), rng.uniform(0.1, 3.0, count)], axis=1
    )
    rows[leaves, PARAMS.start : PARAMS.start + 3] = grain[leaves]
    return rows


def sapling(rng: Generator) -> Rows:
    """A young tree or an open shrub: thin stems and few leaves, much of what is behind shows."""
    height, green, bark = rng.uniform(0.9, 3.2), objects.leaf_color(rng), (0.14, 0.11, 0.08)
    parts = []
    for _ in range(int(rng.integers(1, 5))):
        lean, angle = rng.uniform(0.0, 0.35), rng.uniform(0, 2 * np.pi)
        x, y = 0.5 * height * lean * np.cos(angle), 0.5 * height * lean * np.sin(angle)
        stem = (0.02, 0.02, height * 0.48)
        parts.append(row(Kind.CONE, (x, y, stem[2]), stem, Material.BARK, bark, yaw=angle, pitch=lean, taper=0.4))
        spread = height * rng.uniform(0.12, 0.3)
        center, half = (2 * x, 2 * y, height * rng.uniform(0.6, 0.95)), (spread, spread, spread * 1.2)
        holes = (rng.uniform(-0.6, 0.4), 1.0, 0.0)
        parts.append(row(Kind.CROWN, center, half, Material.FOLIAGE, green, taper=holes, seed=rng.uniform()))
    return np.concatenate(parts)


def board(rng: Generator) -> Rows:
    """A board on two posts, turned at random: for sale, a name, an advertisement."""
    width, height, low = rng.uniform(0.4, 2.4), rng.uniform(0.3, 1.4), rng.uniform(0.1, 1.2)
    face, metal = objects.any_color(rng, 1.0, 0.2, 0.85), objects.any_color(rng, 0.2)
    panel = (0.02, width / 2, height / 2)
    parts = [row(Kind.BOX, (0, 0, low + panel[2]), panel, Material.SIGN, face, seed=rng.uniform())]
    post = (0.03, 0.03, (low + height) / 2)
    parts += [row(Kind.BOX, (0.03, y, post[2]), post, Material.METAL, metal) for y in (-0.4 * width, 0.4 * width)]
    return placed(np.concatenate(parts), 0.0, 0.0, rng.uniform(0, np.pi))


def cabinet(rng: Generator) -> Rows:
    """A letter box on a post, a switch cabinet or a boulder."""
    style, color = rng.integers(0, 3), objects.any_color(rng, 0.4, 0.05, 0.6)
    if style == 0:
        post = row(Kind.BOX, (0, 0, 0.5), (0.05, 0.05, 0.5), Material.BARK, (0.2, 0.16, 0.12))
        return np.concatenate([post, row(Kind.BOX, (0, 0, 1.1), (0.25, 0.09, 0.12), Material.PLAIN, color)])
    if style == 1:
        half = (rng.uniform(0.15, 0.6), rng.uniform(0.15, 0.4), rng.uniform(0.4, 0.8))
        return row(Kind.BOX, (0, 0, half[2]), half, Material.PLAIN, color)
    stone, size = objects.any_color(rng, 0.15, 0.15, 0.45), rng.uniform(0.2, 0.8, 3).tolist()
    return row(Kind.ELLIPSOID, (0, 0, 0.2), size, Material.CONCRETE, stone, seed=rng.uniform())


SMALL_THINGS = (sapling, board, cabinet, objects.bush)


def _line_with_small_things(rng: Generator, site: Site, street: Street) -> None:
    """Within a few metres of the kerb, more of them close to it."""
    begin, end = (-AHEAD, 2 * AHEAD) if street is site.streets[0] else (-SIDE, SIDE)
    share, widest = rng.uniform(0.1, 0.7), street.sidewalk + max(street.setback - 0.5, 0.5)
    for u in np.arange(begin, end, 5.0):
        side = float(rng.choice([-1.0, 1.0]))
        out = log_uniform(rng, 0.4, min(widest, 12.0))
        thing = SMALL_THINGS[int(rng.integers(len(SMALL_THINGS)))](rng)
        x, y, heading = street.place(np.array(u + rng.uniform(-2, 2)), np.array(side * (street.half_width + out)))
        room = 0.3 + float(np.hypot(thing[:, 1], thing[:, 2]).max())  # its parts must not hang over the road either
        if rng.uniform() < share and site.clear_of_roads(x[None], y[None], room)[0]:
            site.put(thing, float(x), float(y), float(heading) + rng.uniform(0, 2 * np.pi))
