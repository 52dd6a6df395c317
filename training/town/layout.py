"""Where the streets of a town run and what stands and moves along them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.town import buildings, objects, traffic
from training.town.ground import Street
from training.town.landscape import line_with_landscape
from training.town.primitives import WIDTH, Rows
from training.town.settings import TownSettings
from training.town.site import Site
from training.town.skyline import line_with_skyline
from training.town.streets import draw_path, draw_streets, draw_waves

Array = NDArray[np.float64]
Generator = np.random.Generator
AHEAD = 210.0  # m that the main street goes on before and after the drive
SIDE = 150.0  # m that a cross street goes on


@dataclass(frozen=True, eq=False)
class Mover:
    """Something under way on a straight course along (or ``across``) a street, or on the path of the car.

    Attributes:
        rows: its primitives, in its own frame.
        category: what nuScenes calls it.
        street: index of the street, or None: ``start`` metres ahead of the car on its path.
        start: u at t = 0, metres.
        lateral: v at t = 0, metres.
        speed: m/s along u (along v if ``across``), signed.
        backward: it looks against the heading of the street.
        across: it crosses the street.
        on_sidewalk: it stands on the raised ground.
    """

    rows: Rows
    category: str
    street: int | None
    start: float
    lateral: float = 0.0
    speed: float = 0.0
    backward: bool = False
    across: bool = False
    on_sidewalk: bool = False


@dataclass(frozen=True, eq=False)
class Layout:
    """A town before it gets its heights.

    Attributes:
        streets: the first is the main street.
        waves: [W, 4] of ``Ground``.
        kerb: metres.
        path: [M, 4] distance (m), x, y, heading (unwrapped) of the car.
        rows: [N, WIDTH] of all that stands; z is above the ground at the anchor.
        anchors: [N, 2] x, y of the object, metres.
        stiff: [N] the whole object gets the height of its anchor (houses); else each part its own.
        owners: [N] index of the object.
        movers: what moves.
        raised: [sum of their rows] 1 on the sidewalk.
        rough: its leaves and lawns are, see ``roughness``.
    """

    streets: tuple[Street, ...]
    waves: Array
    kerb: float
    path: Array
    rows: Rows
    anchors: Array
    stiff: NDArray[np.bool_]
    owners: NDArray[np.int64]
    movers: tuple[Mover, ...]
    raised: Array
    rough: bool = False


def lay_out(rng: Generator, settings: TownSettings, travel: Array) -> Layout:
    """Draw a town around a drive that is at ``travel`` = (first, 0, last) metres."""
    # not drawn where there is none: the towns without stay what they are
    if settings.wide_probability > 0 and rng.uniform() < settings.wide_probability:
        settings = settings.widened()
    length = float(travel[2])
    left_hand = rng.uniform() < settings.left_hand_probability
    side = 1.0 if left_hand else -1.0  # sign of v of the lanes along the heading
    streets, turn_street = draw_streets(rng, settings, length)
    path = draw_path(rng, streets, turn_street, side, travel)
    site = Site(streets)
    for k, street in enumerate(streets):
        reach = (-AHEAD, length + AHEAD) if k == 0 else ((-SIDE, SIDE) if k != turn_street else (-AHEAD, AHEAD))
        _line_with_buildings(rng, settings, site, street, reach)
        if street.is_open:
            line_with_landscape(rng, settings, site, street, reach)
        _line_with_greenery(rng, settings, site, street, reach)
        _line_with_furniture(rng, settings, site, street, reach, side)
        _park(rng, settings, site, street, reach, side)
        if settings.skyline[1] > 0:
            line_with_skyline(rng, settings, site, street, reach)
    if rng.uniform() < settings.overpass_probability:
        u = rng.uniform(30, length + 120)
        x, y, heading = streets[0].place(np.array(u), np.array(0.0))
        span = 2 * streets[0].half_width + 3
        site.put(buildings.overpass(rng, span, rng.uniform(4.8, 6.5)), float(x), float(y), float(heading), True)
    movers = _traffic(rng, settings, streets, length, side) + _people(rng, settings, streets, length)
    counts = [len(rows) for rows in site.rows]
    return Layout(
        streets,
        draw_waves(rng, settings),
        float(rng.uniform(*settings.kerb)),
        path,
        np.concatenate(site.rows) if counts else np.zeros((0, WIDTH)),
        np.concatenate(site.anchors) if counts else np.zeros((0, 2)),
        np.repeat(np.array(site.stiff, dtype=bool), counts),
        np.repeat(np.arange(len(counts)), counts),
        tuple(movers),
        np.zeros(0),
    )


def _line_with_buildings(
    rng: Generator, settings: TownSettings, site: Site, street: Street, reach: tuple[float, float]
) -> None:
    """Houses side by side, and woods on plots that are not built on."""
    density = rng.uniform(*(settings.open_density if street.is_open else settings.building_density))
    saturation, woods = rng.uniform(*settings.saturation), rng.uniform(*settings.vegetation)
    low, high = settings.building_height
    high = min(high, 14.0) if street.is_open else high
    typical = rng.uniform(low, low + 0.6 * (high - low))
    terrace = rng.uniform() < 0.5  # houses touch each other
    for side in (-1.0, 1.0):
        u = reach[0]
        while u < reach[1]:
            hall = street.is_open and rng.uniform() < 0.25  # a market, a works
            width, depth = (
                (rng.uniform(25, 60), rng.uniform(15, 35)) if hall else (rng.uniform(7, 28), rng.uniform(9, 20))
            )
            height = float(np.clip(typical * rng.uniform(0.5, 1.7), low, high))
            setback = street.setback + (
                rng.uniform(0, 0.6) if terrace else rng.uniform(0, 12.0 if street.is_open else 4.0)
            )
            gap = 0.0 if terrace and rng.uniform() < 0.85 else rng.uniform(0.8, 6.0)
            place = street.place(
                np.array(u + width / 2), np.array(side * (street.half_width + street.sidewalk + setback))
            )
            x, y, heading = (float(value) for value in place)
            facing = heading + (0.0 if side > 0 else np.pi)  # the front (y = 0) looks to the street
            if _plot_is_clear(site, (x, y, facing), width, depth, street.sidewalk * 0.9):
                if rng.uniform() < density:
                    site.put(buildings.building(rng, width, depth, height, saturation), x, y, facing, stiff=True)
                    site.take(x - np.sin(facing) * depth / 2, y + np.cos(facing) * depth / 2, max(width, depth) * 0.6)
                    if setback > 3.2 and rng.uniform() < 0.3:
                        site.put(objects.colonnade(rng, width), x, y, facing, stiff=True)
                elif not street.is_open and rng.uniform() < woods:
                    site.put(objects.thicket(rng, width, depth), x, y, facing)
            u += width + gap


def _plot_is_clear(site: Site, pose: tuple[float, float, float], width: float, depth: float, margin: float) -> bool:
    x, y, facing = pose
    local = np.array([[a, b] for a in (-width / 2, 0, width / 2) for b in (0, depth / 2, depth)])
    c, s = np.cos(facing), np.sin(facing)
    xs, ys = x + c * local[:, 0] - s * local[:, 1], y + s * local[:, 0] + c * local[:, 1]
    return bool(site.clear_of_roads(xs, ys, margin).all())


def _line_with_greenery(
    rng: Generator, settings: TownSettings, site: Site, street: Street, reach: tuple[float, float]
) -> None:
    density = rng.uniform(*settings.vegetation)
    for side in (-1.0, 1.0):
        spacing, row_of_trees = rng.uniform(8, 16), rng.uniform() < 0.6
        for u in np.arange(reach[0], reach[1], spacing):
            if rng.uniform() > density:
                continue
            out = (
                0.9
                if row_of_trees and street.sidewalk > 2.2
                else street.sidewalk + rng.uniform(0.5, 3 + street.setback)
            )
            x, y, heading = street.place(np.array(u + rng.uniform(-1, 1)), np.array(side * (street.half_width + out)))
            if site.clear_of_roads(x[None], y[None], 0.6)[0]:
                site.put(objects.tree(rng, *settings.tree_height), float(x), float(y), float(heading))
    step = 9.0 if rng.uniform() < 0.6 else 2.5  # single plants, or a green belt
    for u in np.arange(reach[0], reach[1], step):
        side = float(rng.choice([-1, 1]))
        if rng.uniform() > density or street.setback < 1.5:
            continue
        out = street.sidewalk + rng.uniform(0.6, max(street.setback - 0.6, 0.7))
        x, y, heading = street.place(np.array(u), np.array(side * (street.half_width + out)))
        if site.clear_of_roads(x[None], y[None], 1.0)[0]:
            choice = int(rng.integers(0, 3)) if step > 5 else 0
            thing = (objects.bush, objects.hedge, objects.fence)[choice](rng)
            site.put(thing, float(x), float(y), float(heading))


def _line_with_furniture(
    rng: Generator, settings: TownSettings, site: Site, street: Street, reach: tuple[float, float], traffic_side: float
) -> None:
    density = rng.uniform(*settings.furniture)
    for side in (-1.0, 1.0):
        inward = 0.0 if side < 0 else np.pi  # local y > 0 reaches to the road
        every = rng.uniform(20, 38)
        for u in np.arange(reach[0], reach[1], every):
            x, y, heading = street.place(np.array(u), np.array(side * (street.half_width + 0.5)))
            if rng.uniform() < 0.85 and site.clear_of_roads(x[None], y[None], 0.35)[0]:
                site.put(objects.lamp_post(rng), float(x), float(y), float(heading) + inward)
        for u in np.arange(reach[0], reach[1], 7.0):
            if rng.uniform() > density * 0.6:
                continue
            thing = objects.FURNITURE[int(rng.choice(len(objects.FURNITURE), p=objects.FURNITURE_SHARES))]
            out = rng.uniform(0.6, max(street.sidewalk - 0.5, 0.7))
            x, y, heading = street.place(np.array(u + rng.uniform(-3, 3)), np.array(side * (street.half_width + out)))
            if site.clear_of_roads(x[None], y[None], 0.5)[0]:
                turn = inward + float(rng.choice([0.0, np.pi / 2])) * (thing in (objects.bench, objects.sign_post))
                site.put(thing(rng), float(x), float(y), float(heading) + turn)
    others = [s for s in site.streets if s is not street]
    for other in others:  # signals at the junctions
        if rng.uniform() < 0.5:
            u0 = float(np.hypot(other.origin[0] - street.origin[0], other.origin[1] - street.origin[1]))
            for along in (-1.0, 1.0):
                v = traffic_side * along * (street.half_width + 0.6)
                x, y, heading = street.place(np.array(u0 + along * (other.half_width + 5.0)), np.array(v))
                if site.clear_of_roads(x[None], y[None], 0.3)[0]:
                    site.put(
                        objects.traffic_light(rng), float(x), float(y), float(heading) + (np.pi if along > 0 else 0)
                    )


def _park(
    rng: Generator, settings: TownSettings, site: Site, street: Street, reach: tuple[float, float], traffic_side: float
) -> None:
    """Cars at the kerb, looking the way of the traffic."""
    if street.parking == 0.0 and rng.uniform() < 0.6:
        return
    for side in (-1.0, 1.0):
        share, u = rng.uniform(*settings.parked), reach[0]
        while u < reach[1]:
            u += rng.uniform(5.3, 7.0)
            if rng.uniform() > share:
                continue
            rows = traffic.vehicle(rng)[0] if rng.uniform() < 0.3 else traffic.car(rng)
            length = float(np.abs(rows[:, 1]).max()) * 2
            inset = 1.1 if street.parking else -1.3  # on the sidewalk's edge where there is no lane for it
            u += max(length - 5.0, 0.0)
            place = street.place(np.array(u), np.array(side * (street.half_width - inset)))
            x, y = float(place[0]), float(place[1])
            if any(s.across(x, y) < s.half_width + 7 + s.amplitude for s in site.streets if s is not street):
                continue
            flip = np.pi if side != traffic_side else 0.0
            site.put(rows, x, y, float(place[2]) + flip + rng.normal(0, 0.02))


def _traffic(
    rng: Generator, settings: TownSettings, streets: tuple[Street, ...], length: float, side: float
) -> list[Mover]:
    movers = []
    for gap in (rng.uniform(9, 35), -rng.uniform(9, 30)):
        if rng.uniform() < 0.5:
            movers.append(Mover(*traffic.vehicle(rng), None, float(gap)))
    for _ in range(int(rng.integers(settings.moving[0], settings.moving[1] + 1))):
        k = 0 if rng.uniform() < 0.65 else int(rng.integers(0, len(streets)))
        street = streets[k]
        backward = bool(rng.uniform() < 0.6)
        sign = -1.0 if backward else 1.0
        speed = sign * rng.uniform(2, 14)
        start = rng.uniform(-60, length + 140) if k == 0 else rng.uniform(-90, 90)
        if rng.uniform() < 0.12:
            lateral = street.half_width - street.parking - 0.5
            thing = (traffic.cyclist(rng), "vehicle.bicycle")
            speed = sign * rng.uniform(2, 6)
        else:
            lateral, thing = street.lane_width * (int(rng.integers(0, street.lanes)) + 0.5), traffic.vehicle(rng)
        movers.append(Mover(*thing, k, float(start), side * sign * lateral, float(speed), backward))
    return movers


def _people(rng: Generator, settings: TownSettings, streets: tuple[Street, ...], length: float) -> list[Mover]:
    movers = []
    for _ in range(int(rng.integers(settings.people[0], settings.people[1] + 1))):
        k = 0 if rng.uniform() < 0.7 else int(rng.integers(0, len(streets)))
        street = streets[k]
        start = rng.uniform(-50, length + 70) if k == 0 else rng.uniform(-50, 50)
        thing = (traffic.person(rng), "human.pedestrian.adult")
        speed = float(rng.choice([0.0, 1.0, 1.3, 1.6])) * float(rng.choice([-1, 1]))
        if rng.uniform() < 0.12:  # crosses the street
            begin = -np.sign(speed or 1.0) * street.half_width * rng.uniform(0.2, 1.0)
            movers.append(Mover(*thing, k, float(start), float(begin), speed or 1.2, across=True))
            continue
        out = street.half_width + rng.uniform(0.5, max(street.sidewalk, 0.8))
        lateral = float(rng.choice([-1, 1])) * out
        movers.append(Mover(*thing, k, float(start), lateral, speed, speed < 0, on_sidewalk=True))
    return movers
