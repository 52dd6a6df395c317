"""Light and materials at the points that rays met."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from training.town import grain
from training.town.facades import facade
from training.town.pavement import pavement
from training.town.primitives import Material, Primitives
from training.town.raycast import GROUND, SKY, Hits
from training.town.shadows import ShadowMap, lit, shadow_map
from training.town.sky import reflected, sky
from training.town.surface import Surface
from training.town.textures import Channel, atlas, hashed, look_up
from training.town.world import World

#                 period m, noise, gloss, channel
LOOKS: dict[Material, tuple[float, float, float, Channel]] = {
    Material.PLAIN: (3.0, 0.15, 0.03, Channel.CLOUDY),
    Material.FOLIAGE: (3.5, 1.0, 0.0, Channel.LEAVES),
    Material.PAINT: (6.0, 0.06, 0.55, Channel.CLOUDY),
    Material.GLASS: (6.0, 0.2, 0.9, Channel.CLOUDY),
    Material.LAMP: (3.0, 0.0, 0.2, Channel.CLOUDY),
    Material.BARK: (1.0, 0.5, 0.0, Channel.CLOUDY),
    Material.METAL: (4.0, 0.2, 0.15, Channel.CLOUDY),
    Material.CLOTH: (1.2, 0.4, 0.0, Channel.CLOUDY),
    Material.BRICK: (5.0, 0.3, 0.0, Channel.CLOUDY),
    Material.SLATS: (5.0, 0.2, 0.05, Channel.CLOUDY),
    Material.ROOF: (4.0, 0.4, 0.02, Channel.CLOUDY),
    Material.CONCRETE: (7.0, 0.35, 0.0, Channel.CLOUDY),
    Material.SIGN: (1.0, 0.1, 0.1, Channel.CLOUDY),
    Material.TYRE: (1.0, 0.2, 0.0, Channel.CLOUDY),
    Material.GREENHOUSE: (6.0, 0.06, 0.55, Channel.CLOUDY),
}


def shade(world: World, times: Tensor, origins: Tensor, directions: Tensor, hits: Hits, pixel: Tensor) -> Tensor:
    """Linear light [T, P, 3] that comes along rays [T, P, 3] from where they hit.

    ``pixel`` [T] is the size of a pixel over its depth.
    """
    primitives = world.primitives_at(float(times.mean()))
    count = directions.shape[1]
    view = torch.nn.functional.normalize(directions.reshape(-1, 3), dim=1).T.contiguous()
    index = hits.primitive.view(-1)
    distance = hits.distance.view(-1)
    textures = atlas(world.seed, str(world.device))
    light = torch.empty_like(view)
    above = (index == SKY).nonzero().squeeze(1)
    light[:, above] = sky(world.lighting, textures, world.seed, view[:, above])
    solid = (index != SKY).nonzero().squeeze(1)
    footprint = pixel.repeat_interleave(count)[solid] * distance[solid]
    scene = Surface(
        point=hits.point.view(-1, 3)[solid].T.contiguous(),
        normal=hits.normal.view(-1, 3)[solid].T.contiguous(),
        local=hits.local.view(-1, 3)[solid].T.contiguous(),
        index=index[solid],
        footprint=footprint,
        view=view[:, solid],
    )
    color = _lit_scene(world, primitives, textures, scene, origins.mean(0))
    fog = torch.exp(-world.lighting.haze * distance[solid])
    haze_color = torch.tensor(world.lighting.horizon_color, device=view.device)[:, None]
    light[:, solid] = color * fog + haze_color * (1 - fog)
    return light.T.view(*directions.shape)


def _lit_scene(world: World, primitives: Primitives, textures: Tensor, scene: Surface, center: Tensor) -> Tensor:
    """Linear light [3, R] of the points of a scene."""
    look, device = world.lighting, scene.point.device
    if world.layout.rough:
        scene = _with_boughs(primitives, textures, scene)
    albedo, gloss, glow = _materials(world, primitives, textures, scene)
    sun = torch.tensor(look.sun, device=device)
    shadow = shadow_map(primitives, sun, center, size=64 if look.soft else 320)
    direct = lit(shadow, scene.point + 0.05 * scene.normal, _far_shadows(world, primitives, sun, center))
    facing = (sun @ scene.normal).clamp_min(0)
    up = scene.normal[2]
    if look.soft:  # the map tells of the open sky above: walls see it at a slant only
        direct = 1 - (1 - direct) * up.clamp_min(0)
    height = scene.point[2] - world.ground.height(scene.point[0], scene.point[1])
    open_sky = (0.56 + 0.44 * up) * (0.55 + 0.45 * (height.abs() * 1.2 + 0.25 * (scene.index == GROUND)).clamp(0, 1))
    open_sky = open_sky * (0.65 + 0.35 * direct)
    sky_color = (torch.tensor(look.sky_color, device=device) + torch.tensor(look.horizon_color, device=device)) / 2
    bounce = 0.12 * (1 - up) * float(sum(look.sun_color)) / 3
    sun_color = torch.tensor(look.sun_color, device=device)[:, None]
    irradiance = sky_color[:, None] * (open_sky * 0.78) + sun_color * (direct * facing * 0.9 + bounce * 0.5)
    result = albedo * irradiance
    shiny = (gloss > 0.01).nonzero().squeeze(1)
    mirror = reflected(look, textures, scene.view[:, shiny], scene.normal[:, shiny])
    cosine = (scene.view[:, shiny] * scene.normal[:, shiny]).sum(0).abs()
    strength = gloss[shiny] * (0.12 + 0.88 * (1 - cosine) ** 4)
    result[:, shiny] = result[:, shiny] * (1 - strength) + mirror * strength
    return result + glow


def _far_shadows(world: World, primitives: Primitives, sun: Tensor, center: Tensor) -> ShadowMap | None:
    """A coarse map of what lies outside that around the car: its rays are not parallel, but far things have shade."""
    reach, size = world.settings.shadow_reach, 640
    if reach == 0:
        return None
    bias = 0.9 * 2 * reach / size  # nearly a texel
    return shadow_map(primitives, sun, center, reach, size // 4 if world.lighting.soft else size, bias)


def _materials(world: World, primitives: Primitives, textures: Tensor, scene: Surface) -> tuple[Tensor, Tensor, Tensor]:
    """Reflectance [3, R], gloss [R] and own light [3, R]."""
    albedo, glow = torch.zeros_like(scene.point), torch.zeros_like(scene.point)
    gloss = torch.zeros_like(scene.footprint)
    ground = (scene.index == GROUND).nonzero().squeeze(1)
    albedo[:, ground], gloss[ground] = pavement(world, textures, scene.at(ground))
    things = (scene.index >= 0).nonzero().squeeze(1)
    material = primitives.material[scene.index[things]]
    walls = things[material == Material.FACADE]
    albedo[:, walls], gloss[walls], glow[:, walls] = facade(world, primitives, textures, scene.at(walls))
    rest = things[material != Material.FACADE]
    albedo[:, rest], gloss[rest], glow[:, rest] = _things(world, primitives, textures, scene.at(rest))
    return albedo, gloss, glow


def _things(world: World, primitives: Primitives, textures: Tensor, scene: Surface) -> tuple[Tensor, Tensor, Tensor]:
    """As ``_materials``, of all that is neither ground nor facade."""
    i = scene.index
    material = primitives.material[i]
    table = torch.tensor([LOOKS.get(m, (1.0, 0.0, 0.0, 0)) for m in Material], device=i.device)[material]
    period, noise, gloss, _ = table.unbind(1)
    seed = primitives.seed[i]
    u, v = _flat(scene, primitives)
    coarse = grain.of_things(world, material, seed)
    period = period * coarse
    value = look_up(textures, Channel.CLOUDY, u / period + seed * 7, v / period)
    fine = look_up(textures, Channel.GRAINY, u / period * 2 + seed * 3, v / period * 2)
    fade = (period * 0.01 / scene.footprint).clamp(0, 1)
    factor = 1 + noise * (value - 0.5) + 0.5 * noise * (fine - 0.5) * fade
    leaves = (material == Material.FOLIAGE).nonzero().squeeze(1)
    factor[leaves] = _leaves(primitives, textures, scene.at(leaves), u[leaves], v[leaves], coarse[leaves])
    factor = factor * _relief(material, u, v, scene.footprint, primitives.params[i, 0])
    color = primitives.color[i].T * factor
    signs = (material == Material.SIGN).nonzero().squeeze(1)
    if len(signs):
        ink = _lettering(u[signs], v[signs], seed[signs])
        color[:, signs] = torch.where(ink, 0.85 - color[:, signs], color[:, signs])
    cabins = (material == Material.GREENHOUSE).nonzero().squeeze(1)
    if len(cabins):
        window = _car_windows(scene.at(cabins), primitives)
        color[:, cabins] = torch.where(window, 0.03, color[:, cabins])
        gloss[cabins] = torch.where(window, 0.9, gloss[cabins])
    lamp = material == Material.LAMP
    strength = torch.where(lamp, 2.5 if world.lighting.dusk else 0.12, 0.0)
    return color, gloss, primitives.color[i].T * strength


def _flat(scene: Surface, primitives: Primitives) -> tuple[Tensor, Tensor]:
    """Two coordinates on the face of a primitive, metres; the second is upright where the face is."""
    x, y, z = scene.local
    scaled = (scene.local / primitives.half[scene.index].T).abs()
    on_x, on_z = scaled[0] >= scaled.amax(0), scaled[2] >= scaled.amax(0)
    return torch.where(on_x, y, x), torch.where(on_z, y, z)


def _leaves(primitives: Primitives, textures: Tensor, scene: Surface, u: Tensor, v: Tensor, coarse: Tensor) -> Tensor:
    """Brightness of leaves: clumps, single leaves while they are larger than a pixel, and in a rough town boughs.

    ``params`` of foliage: the period of its clumps, metres, the contrast of its boughs, how much they stand out;
    ``coarse``: factor of all periods.
    """
    seed, (period, contrast, _) = primitives.seed[scene.index], primitives.params[scene.index, :3].unbind(1)
    period = torch.where(period > 0, period, 4.2) * coarse
    clumps = look_up(textures, Channel.LEAVES, u / period + seed * 11, v / period + seed * 5)
    single = look_up(textures, Channel.LEAVES, u / (1.3 * coarse) + seed, v / (1.3 * coarse))
    fade = (0.03 * coarse / scene.footprint).clamp(0, 1)
    boughs = look_up(textures, Channel.CLOUDY, u / (3 * period) + seed * 3, v / (3 * period) + seed * 7)
    bright = 0.1 + 1.25 * clumps + fade * 1.1 * (single - 0.4)
    return (bright * (1 + contrast * (boughs - 0.5))).clamp_min(0.04)


def _with_boughs(primitives: Primitives, textures: Tensor, scene: Surface) -> Surface:
    """The scene, with leaves that look every way at once: part of them is in the light, and part in the shadow."""
    leaves = (scene.index >= 0) & (primitives.material[scene.index.clamp_min(0)] == Material.FOLIAGE)
    some = leaves.nonzero().squeeze(1)
    part = scene.at(some)
    seed, (period, _, relief) = primitives.seed[part.index], primitives.params[part.index, :3].unbind(1)
    u, v = (flat / (2 * period) for flat in _flat(part, primitives))
    shifts = ((0.0, 0.3), (0.4, 0.7), (0.8, 0.1))
    bumps = [look_up(textures, Channel.CLOUDY, u + seed + across, v + along) - 0.5 for across, along in shifts]
    normal = scene.normal.clone()
    normal[:, some] = torch.nn.functional.normalize(part.normal + relief * torch.stack(bumps), dim=0)
    return replace(scene, normal=normal)


def _relief(material: Tensor, u: Tensor, v: Tensor, footprint: Tensor, stripes: Tensor) -> Tensor:
    """Darker joints of bricks, slats and tiles, and stripes of awnings and containers, [R]."""
    pitch = torch.where(material == Material.BRICK, 0.085, torch.where(material == Material.ROOF, 0.28, 0.16))
    jointed = (material == Material.BRICK) | (material == Material.SLATS) | (material == Material.ROOF)
    along = torch.where(material == Material.SLATS, u, v) / pitch
    joint = (along - along.floor()) < 0.16
    depth = 0.45 * (pitch * 0.3 / footprint).clamp(0, 1)
    result = 1 - depth * (joint & jointed)
    wide = u / 0.35
    striped = (
        ((wide - wide.floor()) < 0.5) & (stripes > 0) & ((material == Material.CLOTH) | (material == Material.METAL))
    )
    return result * torch.where(striped, 1.6, 1.0)


def _car_windows(scene: Surface, primitives: Primitives) -> Tensor:
    """Which points of car cabins are glass, [R]: not the roof, the rim of the panes, nor the middle pillar."""
    half = primitives.half[scene.index].T
    along, up = scene.local[0], scene.local[2] / half[2]
    lean = primitives.taper[scene.index].T * half[0] / 2
    front = half[0] - lean[0] * (up + 1) - along  # to the windscreen and to the rear window, metres
    back = half[0] - lean[1] * (up + 1) + along
    across = half[1] * (1 - primitives.taper[scene.index, 2] * (up + 1) / 2) - scene.local[1].abs()
    on_end = torch.minimum(front, back) < 0.02
    sides = (front > 0.08) & (back > 0.1) & ((along - 0.05).abs() > 0.05)
    return (up > -0.85) & (up < 0.82) & torch.where(on_end, across > 0.06, sides)


def _lettering(u: Tensor, v: Tensor, seed: Tensor) -> Tensor:
    """Where a sign is printed, [R]: rows of blocks the size of letters, with gaps between words and lines."""
    height = 0.12 + 0.3 * seed
    line, letter = v / height, u / (height * 0.45)
    row, column = line.floor(), letter.floor()
    printed = (line - row > 0.25) & (hashed((column / 6).floor(), row, seed) < 0.7)
    stroke = hashed((letter * 2).floor(), (line * 3).floor(), seed * 3) < 0.55
    return printed & stroke & (letter - column > 0.12)
