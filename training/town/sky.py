"""Sky, clouds, sun and the far skyline; beyond the range of depth."""

from __future__ import annotations

import torch
from torch import Tensor

from training.town.textures import Channel, hashed, look_up
from training.town.world import Lighting


def sky(look: Lighting, textures: Tensor, seed: int, view: Tensor) -> Tensor:
    """Linear light [3, R] of the sky in unit directions [3, R], with far roofs, trees or hills."""
    light = _clear(look, view)
    height = view[2].clamp_min(0.02) + 0.1
    u, v = view[0] / height, view[1] / height
    cloud = look_up(textures, Channel.CLOUDY, u * 0.09 + seed * 0.37, v * 0.09)
    cloud = (cloud - 1 + look.clouds * 1.3).mul_(2.2).clamp_(0, 1)
    horizon = torch.tensor(look.horizon_color, device=view.device)[:, None]
    detail = look_up(textures, Channel.CLOUDY, u * 0.21, v * 0.21 + 0.3)
    light = torch.lerp(light, horizon * (0.75 + 0.5 * detail), cloud * 0.9)
    sun = torch.tensor(look.sun, device=view.device)
    toward = (sun @ view).clamp_min(0)
    glare = (toward**700 * 6 + toward**40 * 0.35 + toward**8 * 0.15) * (1 - 0.85 * look.clouds)
    light = light + torch.tensor(look.sun_color, device=view.device)[:, None] * glare
    return torch.where(view[2] < _skyline(textures, seed, view), _far(look, textures, view), light)


def reflected(look: Lighting, textures: Tensor, view: Tensor, normal: Tensor) -> Tensor:
    """Linear light [3, R] that a mirror shows: sky above, houses around, road below."""
    mirror = view - 2 * (view * normal).sum(0) * normal
    light = _clear(look, mirror)
    wobble = look_up(textures, Channel.CLOUDY, mirror[0] * 0.8, mirror[1] * 0.8 + mirror[2] * 0.4)
    roofs = 0.05 + 0.45 * wobble
    dark = torch.tensor(look.horizon_color, device=view.device)[:, None] * (0.12 + 0.25 * wobble)
    return torch.where(mirror[2] < roofs, dark, light)


def _clear(look: Lighting, view: Tensor) -> Tensor:
    low = torch.tensor(look.horizon_color, device=view.device)[:, None]
    high = torch.tensor(look.sky_color, device=view.device)[:, None]
    return torch.lerp(low, high, view[2].clamp(0, 1).sqrt())


def _skyline(textures: Tensor, seed: int, view: Tensor) -> Tensor:
    """Height (sine of elevation) of the far skyline in each direction."""
    azimuth = torch.atan2(view[1], view[0])
    cell = (azimuth * 9).floor()
    houses = 0.012 + 0.05 * hashed(cell, cell * 0 + seed % 101) ** 2
    trees = (0.02 + 0.07 * ((seed % 13) / 13)) * look_up(
        textures, Channel.CLOUDY, azimuth * 0.6, azimuth * 0 + (seed % 89) / 89
    )
    return torch.maximum(houses, trees)


def _far(look: Lighting, textures: Tensor, view: Tensor) -> Tensor:
    horizon = torch.tensor(look.horizon_color, device=view.device)[:, None]
    tone = look_up(textures, Channel.LEAVES, torch.atan2(view[1], view[0]) * 2.2, view[2] * 5)
    green = torch.tensor([0.85, 1.0, 0.8], device=view.device)[:, None]
    veil = min(1.0, 0.25 + look.haze * 150)  # the air between, more where there is haze
    return horizon * torch.lerp(0.06 + 0.35 * tone * green, torch.tensor(0.8, device=view.device), veil)
