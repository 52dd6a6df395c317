"""Named shapes of the student."""

from __future__ import annotations

from fsmde_ros.network.encoder import LITE2_STAGES, EncoderConfig, StageConfig
from fsmde_ros.network.student import StudentConfig

# Half the width of EfficientNet-Lite0 and fewer blocks: no ImageNet weights exist for it, so all of it is trained, and
# its BatchNorm has to find its statistics in the training data.
NANO_STAGES = (
    StageConfig(3, 1, 1, 8, 1),
    StageConfig(3, 2, 4, 16, 1),
    StageConfig(3, 2, 4, 24, 2),
    StageConfig(3, 2, 4, 48, 2),
    StageConfig(3, 2, 4, 96, 2),
)

PRESETS = {
    "base": StudentConfig(
        encoder=EncoderConfig(stages=LITE2_STAGES),
        bins=128,
        attention_dim=256,
        attention_heads=8,
        attention_blocks=4,
        decoder_widths=(192, 128, 96),
    ),
    "small": StudentConfig(),
    "nano": StudentConfig(
        encoder=EncoderConfig(stem_channels=16, stages=NANO_STAGES, freeze_batch_norm=False, frozen_stages=0),
        bins=32,
        attention_dim=96,
        attention_heads=4,
        attention_blocks=1,
        decoder_widths=(48, 32, 16),
        learned_upsampling=2,
    ),
}
