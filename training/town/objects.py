"""Trees and street furniture, each a handful of primitives in its own frame (x ahead, y left, z up, on the ground)."""

from __future__ import annotations

import colorsys

import numpy as np

from training.town.draws import log_uniform
from training.town.primitives import Kind, Material, Rows, placed, row

Generator = np.random.Generator
BOX, BALL, CONE = Kind.BOX, Kind.ELLIPSOID, Kind.CONE
Color = tuple[float, float, float]
DARK: Color = (0.03, 0.03, 0.035)


def any_color(rng: Generator, saturation: float = 0.5, low: float = 0.05, high: float = 0.8) -> Color:
    """A random reflectance."""
    return colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0, 1) * saturation, rng.uniform(low, high))


def tree(rng: Generator, lowest: float = 4.0, highest: float = 12.0) -> Rows:
    """A broad, slim, conical or palm-like tree, between two heights in metres, small ones more often."""
    height, green = log_uniform(rng, lowest, highest), leaf_color(rng)
    trunk_height, radius = height * rng.uniform(0.25, 0.5), rng.uniform(0.012, 0.035) * height
    bark = np.array((0.16, 0.12, 0.09)) * rng.uniform(0.6, 1.8)
    style = rng.uniform()
    trunk = row(
        CONE,
        (0, 0, height * 0.35),
        (radius, radius, height * 0.35),
        Material.BARK,
        tuple(bark),
        taper=0.5,
        seed=rng.uniform(),
    )
    if style < 0.08:
        crown = row(
            CONE,
            (0, 0, height * 0.58),
            (height * 0.2, height * 0.2, height * 0.42),
            Material.FOLIAGE,
            green,
            taper=0.06,
            seed=rng.uniform(),
        )
        return np.concatenate([trunk, crown])
    spread = height * rng.uniform(0.18, 0.42)
    parts, porosity = [trunk], rng.uniform(0.2, 1.7)
    for _ in range(int(rng.integers(5, 13))):
        angle, rise = rng.uniform(0, 2 * np.pi), rng.uniform(-0.75, 0.75)
        off = spread * np.sqrt(1 - rise**2) * rng.uniform(0.1, 0.8)
        z = (trunk_height + height) / 2 + rise * (height - trunk_height) / 2
        size = spread * rng.uniform(0.35, 0.7)
        tint = np.array(green) * rng.uniform(0.75, 1.25)
        parts.append(
            row(
                Kind.CROWN,
                (off * np.cos(angle), off * np.sin(angle), z),
                (size, size * rng.uniform(0.8, 1.1), size * rng.uniform(0.6, 1.0)),
                Material.FOLIAGE,
                tuple(tint),
                yaw=angle,
                roll=rng.uniform(-0.4, 0.4),
                taper=(porosity, 1.0, 0.0),
                seed=rng.uniform(),
            )
        )
    if style > 0.8:  # bare branches show below the crown
        for _ in range(3):
            angle = rng.uniform(0, 2 * np.pi)
            parts.append(
                row(
                    CONE,
                    (0.4 * np.cos(angle), 0.4 * np.sin(angle), trunk_height + 0.6),
                    (radius * 0.4, radius * 0.4, 1.1),
                    Material.BARK,
                    tuple(bark),
                    yaw=angle,
                    pitch=0.5,
                    taper=0.6,
                )
            )
    return np.concatenate(parts)


def leaf_color(rng: Generator) -> Color:
    """Reflectance of leaves: greens, and the colours of autumn."""
    hue = rng.uniform(0.19, 0.32) if rng.uniform() < 0.9 else rng.uniform(0.05, 0.15)
    return colorsys.hsv_to_rgb(hue, rng.uniform(0.3, 0.7), rng.uniform(0.06, 0.28))


def bush(rng: Generator) -> Rows:
    """One to three low balls of leaves."""
    parts, green = [], leaf_color(rng)
    for k in range(int(rng.integers(1, 4))):
        r = rng.uniform(0.3, 0.9)
        parts.append(
            row(
                Kind.CROWN,
                (k * 0.8 - 0.8, rng.uniform(-0.2, 0.2), r * 0.6),
                (r, r * 0.8, r * 0.8),
                Material.FOLIAGE,
                green,
                taper=(1.0, 1.0, 0.0),
                seed=rng.uniform(),
            )
        )
    return np.concatenate(parts)


def hedge(rng: Generator) -> Rows:
    """A cut hedge along x."""
    length, height = rng.uniform(2, 8), rng.uniform(0.6, 2.0)
    return row(
        BOX, (0, 0, height / 2), (length / 2, 0.35, height / 2), Material.FOLIAGE, leaf_color(rng), seed=rng.uniform()
    )


def lamp_post(rng: Generator) -> Rows:
    """A street lamp whose arm reaches to y > 0."""
    height, color = rng.uniform(5, 9.5), any_color(rng, 0.2, 0.05, 0.5)
    reach = rng.uniform(0.8, 2.5)
    return np.concatenate(
        [
            row(CONE, (0, 0, height / 2), (0.1, 0.1, height / 2), Material.METAL, color, taper=0.55),
            row(BOX, (0, reach / 2, height), (0.04, reach / 2, 0.04), Material.METAL, color),
            row(BOX, (0, reach, height - 0.05), (0.14, 0.35, 0.06), Material.LAMP, (0.8, 0.75, 0.6)),
        ]
    )


def traffic_light(rng: Generator) -> Rows:
    """Signals facing +x, some on an arm over the road (to y > 0)."""
    pole, case = any_color(rng, 0.3, 0.05, 0.4), (0.04, 0.04, 0.03) if rng.uniform() < 0.6 else (0.6, 0.45, 0.05)
    places = [(0.0, 2.9)]
    parts = []
    if rng.uniform() < 0.5:
        reach = rng.uniform(3, 6)
        parts.append(row(CONE, (0, 0, 3.0), (0.11, 0.11, 3.0), Material.METAL, pole, taper=0.8))
        parts.append(row(BOX, (0, reach / 2, 5.7), (0.05, reach / 2, 0.06), Material.METAL, pole))
        places.append((reach - 0.3, 5.5))
    else:
        parts.append(row(CONE, (0, 0, 1.7), (0.08, 0.08, 1.7), Material.METAL, pole))
    lit = int(rng.integers(0, 3))
    for y, z in places:
        parts.append(row(BOX, (0.12, y, z), (0.12, 0.18, 0.5), Material.PLAIN, case))
        for k, color in enumerate(((0.9, 0.05, 0.03), (0.9, 0.5, 0.03), (0.05, 0.8, 0.35))):
            shade = color if k == lit else tuple(0.08 * c for c in color)
            material = Material.LAMP if k == lit else Material.PLAIN
            parts.append(row(BALL, (0.24, y, z + 0.32 - 0.32 * k), (0.04, 0.11, 0.11), material, shade))
    return np.concatenate(parts)


def sign_post(rng: Generator) -> Rows:
    """A traffic sign facing +x."""
    height, face = rng.uniform(2.0, 3.0), any_color(rng, 1.0, 0.3, 0.8)
    parts = [row(CONE, (0, 0, height / 2), (0.035, 0.035, height / 2), Material.METAL, (0.35, 0.35, 0.36))]
    if rng.uniform() < 0.5:
        parts.append(
            row(
                CONE,
                (0.05, 0, height - 0.1),
                (0.33, 0.33, 0.015),
                Material.SIGN,
                face,
                pitch=np.pi / 2,
                seed=rng.uniform(),
            )
        )
    else:
        parts.append(
            row(
                BOX,
                (0.05, 0, height),
                (0.015, rng.uniform(0.2, 0.6), rng.uniform(0.2, 0.45)),
                Material.SIGN,
                face,
                seed=rng.uniform(),
            )
        )
    return np.concatenate(parts)


def bin_(rng: Generator) -> Rows:
    """A litter bin, a wheeled bin or a hydrant."""
    color = any_color(rng, 0.9, 0.05, 0.5)
    style = rng.integers(0, 3)
    if style == 0:
        return row(CONE, (0, 0, 0.45), (0.27, 0.27, 0.45), Material.PLAIN, color, taper=1.15)
    if style == 1:
        body = row(BOX, (0, 0, 0.55), (0.3, 0.36, 0.5), Material.PLAIN, color)
        return np.concatenate([body, row(BOX, (0.03, 0, 1.07), (0.34, 0.38, 0.04), Material.PLAIN, color, pitch=0.1)])
    hydrant = row(CONE, (0, 0, 0.3), (0.13, 0.13, 0.3), Material.PAINT, color)
    return np.concatenate([hydrant, row(BALL, (0, 0, 0.62), (0.14, 0.14, 0.12), Material.PAINT, color)])


def bench(rng: Generator) -> Rows:
    """A bench that looks to +x."""
    wood = tuple(np.array((0.3, 0.2, 0.12)) * rng.uniform(0.5, 1.6))
    parts = [
        row(BOX, (0, 0, 0.45), (0.22, 0.85, 0.03), Material.BARK, wood),
        row(BOX, (-0.22, 0, 0.72), (0.03, 0.85, 0.2), Material.BARK, wood, pitch=-0.2),
    ]
    parts += [row(BOX, (0, y, 0.21), (0.2, 0.04, 0.21), Material.METAL, DARK) for y in (-0.7, 0.7)]
    return np.concatenate(parts)


def bollards(rng: Generator) -> Rows:
    """A row of posts along x, or of traffic cones."""
    count = int(rng.integers(2, 7))
    if rng.uniform() < 0.3:
        cone = [
            row(CONE, (k * 1.8, 0, 0.36), (0.2, 0.2, 0.36), Material.CLOTH, (0.8, 0.2, 0.04), taper=0.15)
            for k in range(count)
        ]
        return np.concatenate(
            cone + [row(BOX, (k * 1.8, 0, 0.02), (0.22, 0.22, 0.02), Material.PLAIN, DARK) for k in range(count)]
        )
    color = any_color(rng, 0.4, 0.04, 0.7)
    return np.concatenate(
        [row(CONE, (k * 1.6, 0, 0.45), (0.08, 0.08, 0.45), Material.METAL, color) for k in range(count)]
    )


def fence(rng: Generator) -> Rows:
    """Posts and rails, a wall, slats or a construction hoarding along x, 4-14 m long."""
    length, height = rng.uniform(4, 14), rng.uniform(0.8, 2.2)
    style = rng.uniform()
    if style < 0.4:
        color = any_color(rng, 0.4, 0.05, 0.7)
        posts = [
            row(BOX, (x, 0, height / 2), (0.04, 0.04, height / 2), Material.METAL, color)
            for x in np.arange(-length / 2, length / 2, 2.0)
        ]
        rails = [
            row(BOX, (0, 0, z * height), (length / 2, 0.025, 0.03), Material.METAL, color) for z in (0.4, 0.7, 0.97)
        ]
        return np.concatenate(posts + rails)
    material = Material.BRICK if style < 0.6 else Material.CONCRETE if style < 0.75 else Material.SLATS
    color = (
        any_color(rng, 0.5, 0.15, 0.65) if material != Material.BRICK else (0.36 * rng.uniform(0.6, 1.3), 0.17, 0.12)
    )
    wall = row(BOX, (0, 0, height / 2), (length / 2, 0.1, height / 2), material, color, seed=rng.uniform())
    cap = row(BOX, (0, 0, height + 0.03), (length / 2, 0.14, 0.04), Material.CONCRETE, (0.4, 0.39, 0.37))
    return np.concatenate([wall, cap])


def barriers(rng: Generator) -> Rows:
    """A row of road works barriers along x, of two colours in turn."""
    colors = (
        ((0.6, 0.6, 0.58), any_color(rng, 1.0, 0.3, 0.7))
        if rng.uniform() < 0.5
        else ((0.75, 0.74, 0.7), (0.7, 0.16, 0.05))
    )
    half = (0.75, 0.24, 0.45)
    return np.concatenate(
        [
            row(Kind.CABIN, (k * 1.65, 0, 0.45), half, Material.PLAIN, colors[k % 2], taper=(0.05, 0.05, 0.6))
            for k in range(int(rng.integers(3, 9)))
        ]
    )


def thicket(rng: Generator, width: float, depth: float) -> Rows:
    """Trees and bushes over a plot ``width`` along x and ``depth`` along y > 0."""
    parts = []
    for _ in range(int(width * depth / 45) + 2):
        thing = tree(rng) if rng.uniform() < 0.6 else bush(rng)
        parts.append(placed(thing, rng.uniform(-width / 2, width / 2), rng.uniform(0.5, depth), rng.uniform(0, 6)))
    return np.concatenate(parts)


def colonnade(rng: Generator, width: float) -> Rows:
    """A canopy on pillars along x, over y from -3 to 0."""
    height, color = rng.uniform(3.2, 7.0), any_color(rng, 0.15, 0.2, 0.7)
    parts = [row(BOX, (0, -1.5, height + 0.25), (width / 2, 1.7, 0.25), Material.CONCRETE, color)]
    lean, thick = rng.uniform(-0.25, 0.25), rng.uniform(0.15, 0.5)
    for x in np.arange(-width / 2 + 0.6, width / 2, rng.uniform(3.0, 6.0)):
        if rng.uniform() < 0.5:
            parts.append(row(CONE, (x, -2.6, height / 2), (thick, thick, height / 2), Material.CONCRETE, color))
        else:
            parts.append(
                row(BOX, (x, -2.6, height / 2), (thick, thick, height / 2), Material.CONCRETE, color, pitch=lean)
            )
    return np.concatenate(parts)


def shelter(rng: Generator) -> Rows:
    """A bus stop that opens to y > 0."""
    parts = [row(BOX, (0, 0, 2.45), (2.0, 0.8, 0.06), Material.METAL, (0.2, 0.2, 0.22))]
    parts += [row(BOX, (x, -0.7, 1.2), (0.05, 0.05, 1.2), Material.METAL, (0.2, 0.2, 0.22)) for x in (-1.9, 1.9)]
    parts.append(row(BOX, (0, -0.75, 1.3), (1.85, 0.02, 0.9), Material.GLASS, DARK))
    parts.append(
        row(BOX, (1.9, 0, 1.25), (0.08, 0.6, 0.9), Material.SIGN, any_color(rng, 0.9, 0.2, 0.8), seed=rng.uniform())
    )
    parts.append(row(BOX, (0, -0.45, 0.48), (1.4, 0.18, 0.03), Material.METAL, (0.3, 0.3, 0.3)))
    return np.concatenate(parts)


FURNITURE = (bin_, bench, bollards, sign_post, bush, shelter, barriers)
FURNITURE_SHARES = (0.26, 0.1, 0.13, 0.26, 0.17, 0.03, 0.05)
