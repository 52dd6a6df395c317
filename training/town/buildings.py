"""Buildings and decks: facades along x at y = 0, the house behind them at y > 0."""

from __future__ import annotations

import colorsys

import numpy as np

from training.town.objects import Color, any_color
from training.town.primitives import Kind, Material, Rows, row

Generator = np.random.Generator
PLASTER, BRICKWORK, CURTAIN, PANELS, SIDING = range(5)  # params[4] of a facade


def wall_color(rng: Generator, style: int, saturation: float) -> Color:
    """Colour of a wall of a style."""
    if style == BRICKWORK:
        return colorsys.hsv_to_rgb(rng.uniform(0.0, 0.09), rng.uniform(0.35, 0.75) * saturation, rng.uniform(0.15, 0.5))
    if style == CURTAIN:
        return colorsys.hsv_to_rgb(rng.uniform(0.45, 0.65), rng.uniform(0.0, 0.4), rng.uniform(0.1, 0.5))
    if style == PANELS:
        return colorsys.hsv_to_rgb(rng.uniform(0.05, 0.65), rng.uniform(0.0, 0.15), rng.uniform(0.2, 0.7))
    if rng.uniform() < 0.6:
        return colorsys.hsv_to_rgb(
            rng.uniform(0.05, 0.16), rng.uniform(0.05, 0.45) * saturation, rng.uniform(0.35, 0.85)
        )
    return any_color(rng, 0.5 * saturation, 0.25, 0.8)


def facade_params(rng: Generator, style: int, height: float) -> tuple[float, ...]:
    """Window pitch (m), floor height (m), share of the pitch and of the floor that is glass, style, ground floor."""
    floor = rng.uniform(2.7, 4.0)
    shop = (
        float(rng.choice([0, 1, 2], p=[0.45, 0.4, 0.15])) if height > 5 else 0.0
    )  # plain, shop front, arcade or garage
    if style == CURTAIN:
        return (rng.uniform(1.0, 3.0), floor, rng.uniform(0.82, 0.95), rng.uniform(0.55, 0.92), style, shop)
    return (rng.uniform(1.5, 4.2), floor, rng.uniform(0.28, 0.65), rng.uniform(0.38, 0.65), style, shop)


def building(rng: Generator, width: float, depth: float, height: float, saturation: float) -> Rows:
    """A house with its front on the x axis, ``width`` along it, centred; the ground floor starts below z = 0."""
    style = int(rng.choice(5, p=[0.34, 0.26, 0.12, 0.18, 0.10]))
    color, trim = wall_color(rng, style, saturation), any_color(rng, 0.3, 0.1, 0.9)
    params, seed, sunk = facade_params(rng, style, height), rng.uniform(), 1.5
    middle = (0.0, depth / 2, (height - sunk) / 2)
    body = row(
        Kind.BOX,
        middle,
        (width / 2, depth / 2, (height + sunk) / 2),
        Material.FACADE,
        color,
        color2=trim,
        params=params,
        seed=seed,
    )
    parts = [body, *_roof(rng, width, depth, height, trim), *_front(rng, width, height, params, trim)]
    if height > 12 and rng.uniform() < 0.4:  # set back upper storeys
        up = rng.uniform(4, 14)
        parts.append(
            row(
                Kind.BOX,
                (0, depth / 2 + 1.5, height + up / 2),
                (width / 2 - rng.uniform(1, 3), depth / 2 - 2, up / 2),
                Material.FACADE,
                color,
                color2=trim,
                params=params,
                seed=seed,
            )
        )
    return np.concatenate(parts)


def _roof(rng: Generator, width: float, depth: float, height: float, trim: Color) -> list[Rows]:
    """A parapet, or two slopes for a low house."""
    tile = tuple(np.array((0.3, 0.16, 0.12)) * rng.uniform(0.4, 1.4)) if rng.uniform() < 0.5 else (0.16, 0.16, 0.17)
    if height < 11 and rng.uniform() < 0.6:
        pitch = rng.uniform(0.45, 0.8)
        rise = depth / 4 * np.tan(pitch)
        hips = float(rng.choice([0.0, 0.0, 0.5]))
        ridge = (hips, hips, 1.0) if rng.uniform() < 0.7 else (0.1, 0.1, 0.45)
        rows = [
            row(
                Kind.CABIN,
                (0, depth / 2, height + rise),
                (width / 2 + 0.3, depth / 2 + 0.35, rise),
                Material.ROOF,
                tile,
                taper=ridge,
            )
        ]
        rows.append(
            row(
                Kind.BOX,
                (width * 0.3, depth * 0.4, height + 2 * rise),
                (0.35, 0.35, 0.9),
                Material.BRICK,
                (0.3, 0.16, 0.12),
            )
        )
        return rows
    return [row(Kind.BOX, (0, -0.08, height - 0.15), (width / 2 + 0.05, 0.18, 0.3), Material.CONCRETE, trim)]


def _front(rng: Generator, width: float, height: float, params: tuple[float, ...], trim: Color) -> list[Rows]:
    """Awnings, balconies, signs, steps, pipes and pilasters."""
    rows, floor = [], params[1]
    if params[5] == 1 and rng.uniform() < 0.75:
        pitch, reach = 0.35, rng.uniform(0.5, 0.9)
        cloth = any_color(rng, 0.9, 0.1, 0.8)
        share = rng.uniform(0.4, 0.95)
        rows.append(
            row(
                Kind.BOX,
                (0, -reach, floor * 0.88),
                (width / 2 * share, reach, 0.05),
                Material.CLOTH,
                cloth,
                roll=pitch,
                params=(1.0,),
            )
        )
    if params[5] >= 1:
        rows.append(
            row(
                Kind.BOX,
                (rng.uniform(-0.2, 0.2) * width, -0.06, floor * 1.05),
                (width * rng.uniform(0.15, 0.4), 0.1, 0.32),
                Material.SIGN,
                any_color(rng, 1.0, 0.1, 0.9),
                seed=rng.uniform(),
            )
        )
    if height > 8 and rng.uniform() < 0.35:
        columns = max(1, int(width / params[0] / 2))
        for level in range(1, min(int(height / floor), 6)):
            for k in range(min(columns, 3)):
                x = (k - (min(columns, 3) - 1) / 2) * width / min(columns, 3)
                rows.append(row(Kind.BOX, (x, -0.5, level * floor + 0.1), (1.4, 0.5, 0.09), Material.CONCRETE, trim))
                rows.append(row(Kind.BOX, (x, -0.98, level * floor + 0.62), (1.4, 0.03, 0.45), Material.SLATS, trim))
    if rng.uniform() < 0.4:
        rows.append(
            row(
                Kind.BOX,
                (rng.uniform(-0.4, 0.4) * width, -0.6, 0.2),
                (0.9, 0.6, 0.25),
                Material.CONCRETE,
                (0.4, 0.4, 0.38),
            )
        )
    if rng.uniform() < 0.4:
        for x in np.linspace(-width / 2 + 0.2, width / 2 - 0.2, int(rng.integers(2, 5))):
            rows.append(row(Kind.BOX, (x, -0.08, height / 2), (0.2, 0.14, height / 2 - 0.2), Material.CONCRETE, trim))
    if rng.uniform() < 0.25:
        for side in (-1, 1):
            rows.append(
                row(
                    Kind.BOX,
                    (side * width * 0.25, -0.45, min(height * 0.4, 4.5)),
                    (width * 0.12, 0.5, min(height * 0.3, 3.0)),
                    Material.FACADE,
                    trim,
                    color2=trim,
                    params=(1.2, floor, 0.6, 0.5, 0, 0),
                )
            )
    return rows


def overpass(rng: Generator, span: float, clearance: float) -> Rows:
    """A deck across y (``span`` long) over a street along x, on piers at its ends."""
    width, concrete = rng.uniform(4, 12), tuple(np.full(3, rng.uniform(0.3, 0.5)))
    rows = [
        row(Kind.BOX, (0, 0, clearance + 0.6), (width / 2, span / 2 + 12, 0.6), Material.CONCRETE, concrete),
        row(Kind.BOX, (width / 2, 0, clearance + 1.5), (0.1, span / 2 + 12, 0.5), Material.CONCRETE, concrete),
        row(Kind.BOX, (-width / 2, 0, clearance + 1.5), (0.1, span / 2 + 12, 0.5), Material.CONCRETE, concrete),
    ]
    for side in (-1, 1):
        for x in (-width / 3, width / 3):
            rows.append(
                row(
                    Kind.CONE,
                    (x, side * (span / 2 + 0.8), clearance / 2),
                    (0.5, 0.5, clearance / 2),
                    Material.CONCRETE,
                    concrete,
                )
            )
    return np.concatenate(rows)
