"""What a camera makes of the light: exposure, colour, vignette, blur, noise."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import conv2d, pad

from training.town.world import World


def develop(world: World, t: float, camera: str, light: Tensor) -> NDArray[np.uint8]:
    """RGB image [H, W, 3] uint8 of linear light [H, W, 3]; the noise depends on seed, time and camera."""
    look = world.lighting
    height, width, _ = light.shape
    seed = zlib.crc32(f"{world.seed} {round(t * 1e6)} {camera}".encode())
    planar = light.permute(2, 0, 1)
    if look.blur > 0.05:
        side = look.blur / 4
        kernel = torch.tensor([side, 1 - 2 * side, side], device=light.device)
        window = (kernel[:, None] * kernel[None]).expand(3, 1, 3, 3)
        planar = conv2d(pad(planar[None], (1, 1, 1, 1), mode="replicate"), window, groups=3)[0]
    y = torch.linspace(-1, 1, height, device=light.device)[:, None]
    x = torch.linspace(-1, 1, width, device=light.device)[None]
    gain = (
        _metered(planar, 0.55 if look.dusk else 0.75)
        * look.exposure
        * (1 - look.vignette * 0.5 * (x * x + y * y * (height / width) ** 2))
    )
    balance = torch.tensor(look.white_balance, device=light.device)[:, None, None]
    exposed = planar * gain * balance
    exposed = exposed * (1 + exposed * 0.16) / (1 + exposed * 0.5)  # shoulder: bright skies keep some colour
    noise = torch.from_numpy(np.random.default_rng(seed).standard_normal((3, height, width), dtype=np.float32))
    value = exposed.clamp_min(1e-5).pow(1 / look.gamma)
    value = value + look.contrast * (value - 0.42) + look.noise * noise.to(light.device)
    return (value.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()


def _metered(light: Tensor, share: float) -> Tensor:
    """Gain of an automatic exposure: it goes a ``share`` (of the logarithm) of the way to a middle grey."""
    mean = light[:, ::4, ::4].clamp(1e-4, 2.0).log().mean().exp()
    return (0.22 / mean).clamp(0.3, 6.0) ** share
