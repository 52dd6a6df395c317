"""Fronts of houses: walls, windows, doors, shops."""

from __future__ import annotations

import torch
from torch import Tensor

from training.town import grain
from training.town.buildings import BRICKWORK, CURTAIN, PANELS, SIDING
from training.town.primitives import Primitives
from training.town.surface import Surface
from training.town.textures import Channel, hashed, look_up
from training.town.world import World

SUNK = 1.5  # m of a house below the ground at its anchor


def facade(world: World, primitives: Primitives, textures: Tensor, scene: Surface) -> tuple[Tensor, Tensor, Tensor]:
    """Reflectance [3, R], gloss [R] and own light [3, R] of points of houses."""
    i = scene.index
    half, params, seed = primitives.half[i].T, primitives.params[i].T, primitives.seed[i]
    x, y, z = scene.local
    on_side = (x / half[0]).abs() > (y / half[1]).abs()
    across = torch.where(on_side, y + half[1], x + half[0])
    width = 2 * torch.where(on_side, half[1], half[0])
    up = z + half[2] - SUNK
    pitch = width / (width / params[0]).round().clamp_min(1)
    floor = params[1]
    a, b = across / pitch, up / floor
    column, storey = a.floor(), b.floor()
    fa, fb = a - column, b - storey
    street_level = (storey <= 0) & ~on_side
    shop = street_level & (params[5] == 1)
    arcade = street_level & (params[5] == 2)
    share_a = torch.where(shop | arcade, 0.86, params[2])
    share_b = torch.where(shop | arcade, 0.74, params[3])
    middle_b = torch.where(street_level & (params[5] > 0), 0.42, 0.52)
    foot = scene.footprint * 1.2
    # side walls have fewer windows, and the top storey ends below the roof
    draw = hashed(column + 57 * on_side, storey, (seed * 97).floor())
    blind_side = on_side & (hashed(seed * 91, column * 0) < 0.6)
    whole = ((storey + 1) * floor < 2 * half[2] - SUNK + 0.3) & ~blind_side & (up > 0) & (z < half[2] - 0.01)
    inside_a, inside_b = (share_a / 2 - (fa - 0.5).abs()) * pitch, (share_b / 2 - (fb - middle_b).abs()) * floor
    glass = _soft(inside_a, foot) * _soft(inside_b, foot) * whole
    frame = _soft(inside_a + 0.09, foot) * _soft(inside_b + 0.09, foot) * whole
    door = street_level & (params[5] == 0) & (hashed(column, seed * 31) < 0.3)
    in_door = door & ((fa - 0.5).abs() * pitch < 0.5) & (up < 2.15) & (up > 0)
    coarse = grain.of_things(world, params[4], seed)
    wall = primitives.color[i].T * _wall(textures, params[4], across, up, scene.footprint, seed, coarse)
    trim = primitives.color2[i].T
    pane, glow = _panes(world, textures, draw, fa, fb, pitch, shop, across, up)
    albedo = torch.lerp(wall, trim * 0.9, frame)
    mullion = (((fa - 0.5).abs() * pitch < 0.035) | ((fb - 0.6).abs() * floor < 0.03)) & (scene.footprint < 0.12)
    glass = glass * ~(mullion & ~shop)
    albedo = torch.lerp(albedo, pane, glass)
    albedo = torch.where(in_door, trim * 0.5, albedo)
    glass = torch.where(in_door, torch.zeros_like(glass), glass)
    roof = scene.normal[2] > 0.7
    albedo = torch.where(roof, 0.2, albedo)
    gloss = torch.where(roof, torch.zeros_like(glass), glass * 0.75)
    return albedo, gloss, glow * (glass * ~roof)


def _soft(inside: Tensor, footprint: Tensor) -> Tensor:
    return (inside / footprint + 0.5).clamp(0, 1)


def _wall(
    textures: Tensor, style: Tensor, across: Tensor, up: Tensor, footprint: Tensor, seed: Tensor, coarse: Tensor
) -> Tensor:
    """Brightness [R] of a wall: courses, joints, and ``coarse`` times as large as usual, stains and grain."""
    stain = look_up(textures, Channel.CLOUDY, across / (9.0 * coarse) + seed * 13, up / (17.0 * coarse))
    fine = look_up(textures, Channel.GRAINY, across / (1.7 * coarse), up / (1.7 * coarse))
    near = (0.02 * coarse / footprint).clamp(0.05, 1)
    value = 0.8 + 0.35 * stain + 0.25 * near * (fine - 0.5)
    value = value * (0.8 + 0.2 * (up * 0.7).clamp(0, 1))  # splashes at the foot
    course = torch.where(style == BRICKWORK, up / 0.08, torch.where(style == SIDING, up / 0.22, up / 1.6))
    bond = torch.where(style == BRICKWORK, across / 0.24 + 0.5 * (course.floor() % 2), across / 2.4)
    thick = torch.where(style == BRICKWORK, 0.15, torch.where(style == SIDING, 0.12, 0.015))
    thin = torch.where(style == BRICKWORK, 0.06, 0.012)
    jointed = (style == BRICKWORK) | (style == SIDING) | (style == PANELS) | (style == CURTAIN)
    upright = (bond - bond.floor() < thin) & (style != SIDING)
    joint = ((course - course.floor() < thick) | upright) & jointed
    pitch = torch.where(style == BRICKWORK, 0.03, torch.where(style == SIDING, 0.06, 0.05))
    block = hashed(course.floor(), bond.floor(), seed) - 0.5
    fade = (pitch / footprint).clamp(0, 1)
    return value * (1 - 0.4 * fade * joint) * (1 + 0.35 * fade * block * (style == BRICKWORK))


def _panes(
    world: World,
    textures: Tensor,
    draw: Tensor,
    fa: Tensor,
    fb: Tensor,
    pitch: Tensor,
    shop: Tensor,
    across: Tensor,
    up: Tensor,
) -> tuple[Tensor, Tensor]:
    """Reflectance [3, R] and own light [3, R] behind glass: dark rooms, curtains, blinds, goods."""
    drawn = (draw * 17.3) % 1
    curtain = (draw < 0.3) & ((fa - 0.5).abs() > 0.08 + 0.15 * drawn)
    blind = (draw > 0.65) & (fb > 0.3 + 0.4 * drawn)
    pale = (0.35 + 0.3 * draw)[None].expand(3, -1)
    room = torch.tensor([0.03, 0.035, 0.045], device=draw.device)[:, None].expand(3, len(draw))
    pane = torch.where(curtain | blind, pale, room)
    goods = look_up(textures, Channel.CLOUDY, across / 5.0, up / 5.0)
    tint = look_up(textures, Channel.CLOUDY, across / 9.0 + 0.3, up / 3.0)
    wares = goods[None] * torch.stack([0.8 + 0.4 * tint, torch.ones_like(tint), 1.25 - 0.5 * tint])
    pane = torch.where(shop, 0.03 + 0.22 * wares**3, pane)
    bright = 0.9 if world.lighting.dusk else 0.05
    lit_rooms = ((draw * 7.3) % 1 < 0.4) | shop
    lamp = torch.tensor([1.0, 0.75, 0.45], device=draw.device)[:, None]
    return pane, lamp * bright * (lit_rooms * (0.4 + 0.6 * goods))
