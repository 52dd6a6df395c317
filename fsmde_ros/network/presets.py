"""Named shapes of the student."""

from __future__ import annotations

from fsmde_ros.network.encoder import LITE2_STAGES, EncoderConfig
from fsmde_ros.network.student import StudentConfig

PRESETS = {
    "large": StudentConfig(
        encoder=EncoderConfig(stages=LITE2_STAGES),
        bins=128,
        attention_dim=256,
        attention_heads=8,
        attention_blocks=4,
        decoder_widths=(192, 128, 96),
    ),
    "base": StudentConfig(),  # the network of small, made for twice the pixels
    "small": StudentConfig(),
    # ImageNet features cannot be had for a thinner encoder, and without them a student is of no use on real pictures
    # (measured): nano is small on images of half the size.
    "nano": StudentConfig(input_reduction=2),
}
