"""The student: the views of a sweep and their rig in, metric depth and its uncertainty out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fsmde_ros.errors import ConfigError
from fsmde_ros.network.attention import SurroundAttention
from fsmde_ros.network.bins import BinCentres, BinLogits, depth_from_parts
from fsmde_ros.network.decoder import NORM_GROUPS, Decoder
from fsmde_ros.network.encoder import Encoder, EncoderConfig
from fsmde_ros.network.rays import POSITION_CHANNELS, RAY_CHANNELS, RayMaps, ray_maps
from fsmde_ros.network.upsample import FACTORS, ConvexUpsampling, FullSize

STRIDE = 32  # of the tokens, to what the encoder sees; the last row and column may lie half outside
SIZE_STEP = 16  # what the encoder sees must be a multiple of it
BIN_STRIDE = 4  # of the bins, to what the encoder sees
REDUCTIONS = (1, 2)
OUT_OF_RANGE = 0.5  # probability from which a pixel counts as sky, or beyond d_max
ADDED_LATER = "added later"  # metadata of a field that older checkpoints lack: they are what its default says


@dataclass(frozen=True)
class StudentConfig:
    """Shape of the student."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    bins: int = 64
    d_min: float = 0.5  # metres; nearer is the car itself
    d_max: float = 200.0  # metres; the range of DDAD, which contains that of nuScenes
    attention_dim: int = 160
    attention_heads: int = 4
    attention_blocks: int = 2
    decoder_widths: tuple[int, int, int] = (128, 80, 64)  # at strides 16, 8, 4
    # From stride 4; with 2, the rest to the size of the input is bilinear.
    learned_upsampling: int = field(default=4, metadata={ADDED_LATER: True})
    # The encoder sees images this many times smaller; depth comes out at the size of the input all the same. The
    # weights do not depend on it, the work does: 2 costs a quarter of 1.
    input_reduction: int = field(default=1, metadata={ADDED_LATER: True})
    # The depth is the expectation over the bins of its q-th power, to the power 1 / q: 1 in metres, 0 in log depth. May
    # be changed after training.
    expectation_power: float = field(default=1.0, metadata={ADDED_LATER: True})
    use_rays: bool = True  # the three flags exist for the ablation
    use_surround_attention: bool = True
    use_ground_prior: bool = True
    # Scale and exponent that make of the spread of the bins (metres) the size of the errors; fitted after training.
    stddev_power: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "decoder_widths", tuple(self.decoder_widths))
        object.__setattr__(self, "stddev_power", tuple(self.stddev_power))
        if not 2 <= self.bins <= 1024:
            raise ConfigError(f"bins must be 2 to 1024, got {self.bins}")
        if not 0 < self.d_min < self.d_max <= 1e4:
            raise ConfigError(f"the depth range must be 0 < d_min < d_max <= 10000 m, got {self.d_min}, {self.d_max}")
        if not 1 <= self.attention_dim <= 4096 or not 1 <= self.attention_heads <= self.attention_dim:
            raise ConfigError(f"attention_dim must be 1 to 4096 and hold its heads, got {self.attention_dim}")
        if self.attention_dim % self.attention_heads:
            raise ConfigError(
                f"attention_dim must be a multiple of attention_heads, got {self.attention_dim}, {self.attention_heads}"
            )
        if not 0 <= self.attention_blocks <= 64:
            raise ConfigError(f"attention_blocks must be 0 to 64, got {self.attention_blocks}")
        if len(self.stddev_power) != 2 or not all(0 < number < 100 for number in self.stddev_power):
            raise ConfigError(f"stddev_power must be a scale and an exponent above 0, got {self.stddev_power}")
        if self.learned_upsampling not in FACTORS:
            raise ConfigError(f"learned_upsampling must be one of {FACTORS}, got {self.learned_upsampling}")
        if not 0 <= self.expectation_power <= 1:
            raise ConfigError(f"expectation_power must be 0 to 1, got {self.expectation_power}")
        if self.input_reduction not in REDUCTIONS:
            raise ConfigError(f"input_reduction must be one of {REDUCTIONS}, got {self.input_reduction}")
        if len(self.decoder_widths) != 3 or any(w % NORM_GROUPS or not 0 < w <= 4096 for w in self.decoder_widths):
            raise ConfigError(
                f"decoder_widths must be three multiples of {NORM_GROUPS} up to 4096, got {self.decoder_widths}"
            )

    @property
    def depth_range(self) -> tuple[float, float]:
        """(d_min, d_max), metres."""
        return self.d_min, self.d_max

    @property
    def shape(self) -> StudentConfig:
        """What the weights depend on: two students are one network where it is the same.

        The rest, here at its defaults, is how they are used (the size that the encoder sees, and what is chosen after
        training) and which of them are trained.
        """
        encoder = replace(self.encoder, frozen_stages=0, freeze_batch_norm=True)
        return replace(self, encoder=encoder, input_reduction=1, expectation_power=1.0, stddev_power=(1.0, 1.0))

    @property
    def stride(self) -> int:
        """Pixels of which the height and width of the input must be multiples."""
        return SIZE_STEP * self.input_reduction

    def fitting(self, size: tuple[int, int]) -> tuple[int, int]:
        """The smallest size (H, W) of input that is nowhere smaller than ``size``."""
        height, width = (self.stride * -(-side // self.stride) for side in size)
        return height, width


class StudentOutput(NamedTuple):
    """What the student says about a batch of sweeps.

    Attributes:
        depth: [B, V, H, W] metres along the optical axis, always finite: the expectation over the
            depth bins, also where ``out_of_range`` is high.
        stddev: [B, V, H, W] metres: the spread of the bins, brought to the size of the errors by ``stddev_power``.
        out_of_range: [B, V, H, W] probability of sky or of a depth beyond d_max.
        logits: [B, V, N + 1, h, w], the last channel "out of range"; h = H / 4 and w = W / 4, or half of that
            where the encoder sees images of half the size.
        centers: [B, N] metres, ascending.
        features: [B, V, C, h, w] of the decoder.
    """

    depth: Tensor
    stddev: Tensor
    out_of_range: Tensor
    logits: Tensor
    centers: Tensor
    features: Tensor


class Student(nn.Module):
    """Metric depth of all views of a sweep at once."""

    def __init__(self, config: StudentConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or StudentConfig()
        self.encoder = Encoder(config.encoder)
        *skips, bottom = config.encoder.tap_channels
        self.attention = SurroundAttention(
            bottom,
            POSITION_CHANNELS if config.use_rays else 0,
            config.attention_dim,
            config.attention_heads,
            config.attention_blocks if config.use_surround_attention else 0,
        )
        rays = RAY_CHANNELS if config.use_rays else 0
        self.decoder = Decoder(config.attention_dim, skips[::-1], rays, config.decoder_widths)
        self.bin_centres = BinCentres(config.attention_dim, config.bins, config.depth_range)
        self.bin_logits = BinLogits(config.decoder_widths[-1], config.bins, config.use_ground_prior)
        self.upsampling = ConvexUpsampling(
            config.decoder_widths[-1], config.learned_upsampling, BIN_STRIDE * config.input_reduction
        )

    def forward(
        self, images: Tensor, intrinsics: Tensor, camera_to_vehicle: Tensor, ground_z: Tensor, present: Tensor
    ) -> StudentOutput:
        """Estimate the depth of a batch of sweeps.

        Args:
            images: [B, V, 3, H, W] uint8 or float RGB, 0 to 255; H and W multiples of ``StudentConfig.stride``.
            intrinsics: [B, V, 3, 3] pixels, of images of size (H, W).
            camera_to_vehicle: [B, V, 4, 4] metres.
            ground_z: [B] height of the road in the vehicle frame, metres.
            present: [B, V] bool; the image of a missing view is ignored, and its output means
                nothing, but is finite.
        """
        rig = (intrinsics, camera_to_vehicle, ground_z)
        shape = images.shape[:2]
        pixels = images.to(self.upsampling.to_weights.weight.dtype)
        pixels = torch.where(present[:, :, None, None, None], pixels, pixels.new_zeros(())).flatten(0, 1)
        reduction = self.config.input_reduction
        height, width = pixels.shape[-2] // reduction, pixels.shape[-1] // reduction
        taps = self.encoder(pixels.contiguous(memory_format=torch.channels_last), reduction)

        sizes = {s: ((height + s - 1) // s, (width + s - 1) // s) for s in (BIN_STRIDE, 8, 16, STRIDE)}
        maps = {s: self.rays(rig, size, s) for s, size in sizes.items()}
        positions = maps[STRIDE].positions() if self.config.use_rays else None
        bottom, pooled = self.attention(taps[-1].unflatten(0, shape), positions, present)
        rays = [maps[s].features().flatten(0, 1) if self.config.use_rays else None for s in (16, 8, BIN_STRIDE)]
        features = self.decoder(bottom.flatten(0, 1), taps[-2::-1], rays).unflatten(0, shape)

        centers = self.bin_centres(pooled)
        fine = maps[BIN_STRIDE]
        bins, beyond = self.bin_logits.parts(features, centers, fine.log_ground_depth, fine.meets_ground)
        depth, stddev, out_of_range = self.full_size(features, bins, beyond, centers)
        logits = torch.cat([bins, beyond[:, :, None]], dim=2)
        return StudentOutput(depth, stddev, out_of_range, logits, centers, features)

    def full_size(self, features: Tensor, bins: Tensor, beyond: Tensor, centers: Tensor) -> FullSize:
        """What the bins say, at the size of the input: depth, stddev and out_of_range, each [B, V, H, W].

        Args:
            features: [B, V, C, h, w] of the decoder.
            bins: [B, V, N, h, w] logits. beyond: [B, V, h, w] logit of "out of range".
            centers: [B, N] metres.
        """
        shape = features.shape[:2]
        coarse = depth_from_parts(bins, beyond, centers, self.config.expectation_power)
        scale, exponent = self.config.stddev_power
        spread = scale * (coarse.stddev if exponent == 1 else coarse.stddev.pow(exponent))
        parts = (part.flatten(0, 1) for part in (coarse.depth, spread, coarse.out_of_range))
        full = self.upsampling(features.flatten(0, 1), *parts)
        return FullSize(*(part.unflatten(0, shape) for part in full))

    def rays(self, rig: tuple[Tensor, Tensor, Tensor], size: tuple[int, int], stride: int) -> RayMaps:
        """Rays of a feature map of ``size`` (h, w) at ``stride`` to what the encoder sees.

        Args:
            rig: intrinsics, camera_to_vehicle and ground_z as in ``forward``.
            size: (h, w).
            stride: pixels that the encoder sees, per cell.
        """
        return ray_maps(*rig, size, stride, self.config.depth_range, self.config.input_reduction)
