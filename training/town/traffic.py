"""Vehicles and people, each a handful of primitives in its own frame (x ahead, y left, z up, on the ground)."""

from __future__ import annotations

import colorsys

import numpy as np

from training.town.objects import BALL, BOX, CONE, DARK, Color, Generator, any_color
from training.town.primitives import Kind, Material, Rows, row

TAIL: Color = (0.5, 0.03, 0.03)
HEAD: Color = (0.8, 0.8, 0.75)


def paint_color(rng: Generator) -> Color:
    """Colour of a car: mostly white, black, grey, silver, at times vivid."""
    if rng.uniform() < 0.7:
        value = float(rng.choice([0.02, 0.05, 0.12, 0.3, 0.55, 0.8])) * rng.uniform(0.8, 1.2)
        return (value, value * rng.uniform(0.97, 1.02), value * rng.uniform(0.95, 1.06))
    return colorsys.hsv_to_rgb(
        float(rng.choice([0.0, 0.02, 0.1, 0.15, 0.33, 0.55, 0.6, 0.65])), 0.85, rng.uniform(0.1, 0.7)
    )


def _wheels(length: float, width: float, radius: float, axles: tuple[float, ...]) -> list[Rows]:
    parts = []
    for x in axles:
        for side in (-1, 1):
            parts.append(
                row(
                    CONE,
                    (x * length, side * (width / 2 - 0.1), radius),
                    (radius, radius, 0.12),
                    Material.TYRE,
                    (0.03,) * 3,
                    roll=np.pi / 2,
                )
            )
    return parts


def _lights(length: float, width: float, z: float) -> list[Rows]:
    parts = []
    for side in (-1, 1):
        parts.append(row(BOX, (length / 2, side * width * 0.36, z), (0.03, 0.17, 0.08), Material.LAMP, HEAD))
        parts.append(row(BOX, (-length / 2, side * width * 0.38, z + 0.1), (0.03, 0.14, 0.1), Material.LAMP, TAIL))
    return parts


def car(rng: Generator) -> Rows:
    """Saloon, hatchback, estate or off-roader, 3.7-5.1 m long."""
    length, width, height = rng.uniform(3.7, 5.0), rng.uniform(1.7, 1.95), rng.uniform(1.4, 1.8)
    belt = height * rng.uniform(0.58, 0.64)
    clearance, paint, seed = rng.uniform(0.16, 0.26), paint_color(rng), rng.uniform()
    estate = rng.uniform() < 0.5 or height > 1.65
    front, back = (
        rng.uniform(0.2, 0.27) * length,
        (rng.uniform(-0.485, -0.45) if estate else rng.uniform(-0.4, -0.34)) * length,
    )
    waist = (clearance + belt) / 2
    parts = [
        _body(0.0, clearance, waist, length, width, (0.02, 0.02, 0.0), paint, seed),
        _body(0.0, waist, belt, length - 0.02, width, (0.1, 0.08, 0.1), paint, seed),
        row(
            Kind.CABIN,
            ((front + back) / 2, 0, (belt + height) / 2 - 0.01),
            ((front - back) / 2, width / 2 - 0.06, (height - belt) / 2),
            Material.GREENHOUSE,
            paint,
            taper=_insets(rng, (front - back) / 2, estate),
            seed=seed,
        ),
        row(BOX, (length / 2 - 0.02, 0, clearance + 0.18), (0.04, width * 0.33, 0.1), Material.PLAIN, DARK),
        row(BOX, (-length / 2 + 0.02, 0, clearance + 0.12), (0.05, width * 0.42, 0.1), Material.PLAIN, DARK),
    ]
    for side in (-1, 1):
        parts.append(
            row(
                BOX,
                (front - 0.35, side * (width / 2 + 0.07), belt + 0.06),
                (0.06, 0.1, 0.07),
                Material.PAINT,
                paint,
                seed=seed,
            )
        )
    for x in (-1, 1):
        parts.append(
            row(BOX, (x * length / 2, 0, 0.45 + 0.2 * (x < 0)), (0.03, 0.25, 0.06), Material.PLAIN, (0.7, 0.7, 0.65))
        )
    wheels = _wheels(length, width, rng.uniform(0.3, 0.37), (0.31, -0.29))
    return np.concatenate(parts + wheels + _lights(length, width, belt * 0.72))


def _body(
    x: float, low: float, high: float, length: float, width: float, taper: Color, paint: Color, seed: float
) -> Rows:
    half = (length / 2, width / 2, (high - low) / 2)
    return row(Kind.CABIN, (x, 0, (low + high) / 2), half, Material.PAINT, paint, taper=taper, seed=seed)


def _insets(rng: Generator, half_length: float, estate: bool) -> Color:
    """How far the windscreen, the rear window and the sides of a cabin lean in, shares of its half sizes."""
    rear = rng.uniform(0.15, 0.45) if estate else rng.uniform(0.6, 0.9)
    return (rng.uniform(0.65, 1.0) / half_length, rear / half_length, rng.uniform(0.1, 0.25))


def van(rng: Generator) -> Rows:
    """Delivery van or minibus, 4.8-6.2 m long."""
    length, width, height = rng.uniform(4.8, 6.2), rng.uniform(1.9, 2.1), rng.uniform(1.9, 2.7)
    paint, seed = paint_color(rng), rng.uniform()
    parts = [
        row(
            BOX,
            (-0.45, 0, 0.3 + (height - 0.3) / 2),
            (length / 2 - 0.45, width / 2, (height - 0.3) / 2),
            Material.PAINT,
            paint,
            seed=seed,
        ),
        row(BOX, (length / 2 - 0.5, 0, 0.65), (0.5, width / 2 - 0.02, 0.4), Material.PAINT, paint, seed=seed),
        row(BOX, (length / 2 - 0.65, 0, 1.45), (0.55, width / 2 - 0.08, 0.05), Material.GLASS, DARK, pitch=0.95),
    ]
    for x in (0.2, -0.12) if rng.uniform() < 0.5 else (0.2,):
        parts.append(
            row(BOX, (x * length, 0, height * 0.68), (0.42, width / 2 + 0.01, height * 0.12), Material.GLASS, DARK)
        )
    parts.append(row(BOX, (-length / 2, 0, height * 0.68), (0.012, width * 0.36, height * 0.12), Material.GLASS, DARK))
    return np.concatenate(parts + _wheels(length, width, 0.35, (0.3, -0.3)) + _lights(length, width, 0.75))


def truck(rng: Generator) -> Rows:
    """Lorry with a box body or a flat bed, 7-10 m long."""
    length, width, height = rng.uniform(7, 10), 2.45, rng.uniform(2.9, 3.8)
    paint, load = paint_color(rng), any_color(rng, 0.4, 0.2, 0.85)
    parts = [
        row(BOX, (length / 2 - 0.95, 0, 1.45), (0.95, 1.15, 1.05), Material.PAINT, paint),
        row(BOX, (length / 2 - 0.05, 0, 1.95), (0.08, 1.0, 0.4), Material.GLASS, DARK),
        row(BOX, (length / 2 - 0.8, 0, 1.95), (0.45, 1.17, 0.35), Material.GLASS, DARK),
        row(BOX, (-0.3, 0, 0.8), (length / 2 - 0.4, 0.45, 0.15), Material.METAL, DARK),
    ]
    if rng.uniform() < 0.7:
        parts.append(
            row(
                BOX,
                (-1.0, 0, (height + 1.0) / 2),
                (length / 2 - 1.05, width / 2, (height - 1.0) / 2),
                Material.METAL,
                load,
                params=(0.6,),
            )
        )
    else:
        parts.append(row(BOX, (-1.0, 0, 1.25), (length / 2 - 1.05, width / 2, 0.3), Material.METAL, load))
    return np.concatenate(parts + _wheels(length, width, 0.48, (0.34, -0.22, -0.36)) + _lights(length, width, 0.8))


def bus(rng: Generator) -> Rows:
    """City bus, 10-12 m long."""
    length, width, height, paint = rng.uniform(10, 12), 2.5, rng.uniform(2.9, 3.2), any_color(rng, 0.9, 0.3, 0.8)
    parts = [
        row(BOX, (0, 0, (height + 0.35) / 2), (length / 2, width / 2, (height - 0.35) / 2), Material.PAINT, paint),
        row(BOX, (0, 0, 1.85), (length / 2 - 0.3, width / 2 + 0.015, 0.5), Material.GLASS, DARK),
        row(BOX, (0, 0, 1.8), (length / 2 + 0.02, width / 2 - 0.12, 0.7), Material.GLASS, DARK),
        row(BOX, (-0.1 * length, 0, height + 0.12), (length * 0.2, width * 0.35, 0.14), Material.PAINT, paint),
    ]
    for x in np.arange(-length / 2 + 1.4, length / 2 - 0.5, 1.5):
        parts.append(row(BOX, (x, 0, 1.85), (0.06, width / 2 + 0.02, 0.52), Material.PAINT, paint))
    return np.concatenate(parts + _wheels(length, width, 0.48, (0.3, -0.28)) + _lights(length, width, 0.8))


def vehicle(rng: Generator) -> tuple[Rows, str]:
    """Any vehicle, in about the shares of a city, and its category in nuScenes."""
    kinds = ((car, "vehicle.car"), (van, "vehicle.car"), (truck, "vehicle.truck"), (bus, "vehicle.bus.rigid"))
    build, category = kinds[int(rng.choice(4, p=[0.8, 0.11, 0.06, 0.03]))]
    return build(rng), category


def person(rng: Generator, stride: float | None = None) -> Rows:
    """A standing or walking person, 1.2-1.95 m tall."""
    h = rng.uniform(1.45, 1.9) if rng.uniform() < 0.9 else rng.uniform(1.0, 1.4)
    shirt, trousers = any_color(rng, 0.9, 0.03, 0.8), any_color(rng, 0.5, 0.02, 0.35)
    skin = np.array((0.75, 0.52, 0.4)) * rng.uniform(0.35, 1.0)
    swing = rng.uniform(0.0, 0.45) if stride is None else stride
    parts = [
        row(BALL, (0, 0, 0.64 * h), (0.075 * h, 0.125 * h, 0.19 * h), Material.CLOTH, shirt),
        row(BALL, (0, 0, 0.93 * h), (0.058 * h, 0.05 * h, 0.07 * h), Material.CLOTH, tuple(skin)),
        row(
            BALL,
            (-0.012 * h, 0, 0.95 * h),
            (0.056 * h, 0.052 * h, 0.062 * h),
            Material.CLOTH,
            any_color(rng, 0.5, 0.01, 0.2),
        ),
    ]
    for side in (-1, 1):
        lean = swing * side
        foot = (np.sin(lean) * -0.24 * h, side * 0.05 * h, 0.25 * h)
        parts.append(row(CONE, foot, (0.05 * h, 0.05 * h, 0.255 * h), Material.CLOTH, trousers, pitch=lean, taper=1.4))
        arm = (np.sin(lean) * 0.15 * h, side * 0.14 * h, 0.63 * h)
        parts.append(row(CONE, arm, (0.025 * h, 0.025 * h, 0.18 * h), Material.CLOTH, shirt, pitch=-lean, taper=1.3))
    return np.concatenate(parts)


def cyclist(rng: Generator) -> Rows:
    """A person on a bicycle or a motor scooter."""
    rider = person(rng, stride=0.5)
    rider[:, 3] += 0.32
    frame = any_color(rng, 0.9, 0.05, 0.6)
    parts = [rider]
    for x in (-0.52, 0.52):
        parts.append(row(CONE, (x, 0, 0.34), (0.34, 0.34, 0.02), Material.TYRE, (0.04,) * 3, roll=np.pi / 2))
    parts.append(row(BOX, (0, 0, 0.62), (0.42, 0.03, 0.05), Material.PAINT, frame))
    parts.append(row(BOX, (0.45, 0, 0.75), (0.03, 0.28, 0.28), Material.METAL, frame))
    return np.concatenate(parts)
