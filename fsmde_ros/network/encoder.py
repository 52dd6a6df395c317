"""EfficientNet-Lite: MBConv with ReLU6 and without squeeze-excite, shared by all views.

Architecture and widths: M. Tan and Q. Le, *EfficientNet* (ICML 2019), and its Lite variants
(TensorFlow TPU repository, ``models/official/efficientnet/lite``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeGuard

import torch
from torch import Tensor, nn

from fsmde_ros.errors import CheckpointError, ConfigError

PIXEL_MEAN, PIXEL_SCALE = 127.0, 128.0  # EfficientNet-Lite was trained on (x - 127) / 128
# Behind the trunk of a classifier: a 1x1 convolution, its BatchNorm (5 tensors), weight and bias.
_CLASSIFIER_TENSORS = 8


@dataclass(frozen=True)
class StageConfig:
    """A run of MBConv blocks of one width; only the first block has the stride."""

    kernel: int
    stride: int
    expansion: int
    channels: int
    blocks: int


LITE0_STAGES = (
    StageConfig(3, 1, 1, 16, 1),
    StageConfig(3, 2, 6, 24, 2),
    StageConfig(5, 2, 6, 40, 2),
    StageConfig(3, 2, 6, 80, 3),
    StageConfig(5, 1, 6, 112, 3),
    StageConfig(5, 2, 6, 192, 4),
    StageConfig(3, 1, 6, 320, 1),
)
LITE2_STAGES = (  # 1.1 times as wide, to multiples of 8, and 1.2 times as deep
    StageConfig(3, 1, 1, 16, 1),
    StageConfig(3, 2, 6, 24, 3),
    StageConfig(5, 2, 6, 48, 3),
    StageConfig(3, 2, 6, 88, 4),
    StageConfig(5, 1, 6, 120, 4),
    StageConfig(5, 2, 6, 208, 5),
    StageConfig(3, 1, 6, 352, 1),
)


@dataclass(frozen=True)
class EncoderConfig:
    """Shape of the encoder and what of it is trained."""

    stem_channels: int = 32
    stages: tuple[StageConfig, ...] = LITE0_STAGES
    # The statistics of a toy town's pictures are the first thing that breaks on real streets
    # (measured in a trial), so the encoder normalises with those of ImageNet, in training too.
    freeze_batch_norm: bool = True
    frozen_stages: int = 2  # the stem and this many stages keep their ImageNet weights; 0 trains all

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        if not 0 < self.stem_channels <= 4096 or not 0 < len(self.stages) <= 32:
            raise ConfigError(
                "an encoder must have stem_channels 1 to 4096 and 1 to 32 stages, "
                f"got {self.stem_channels}, {len(self.stages)}"
            )
        for stage in self.stages:
            if stage.kernel not in (3, 5) or stage.stride not in (1, 2):
                raise ConfigError(f"a stage must have kernel 3 or 5 and stride 1 or 2, got {stage}")
            if not (0 < stage.expansion <= 16 and 0 < stage.channels <= 4096 and 0 < stage.blocks <= 64):
                raise ConfigError(
                    f"a stage must have expansion 1 to 16, channels 1 to 4096 and blocks 1 to 64, got {stage}"
                )
        if not 0 <= self.frozen_stages <= len(self.stages):
            raise ConfigError(f"frozen_stages must be 0 to {len(self.stages)}, got {self.frozen_stages}")
        if self.strides[-1] != 32:
            raise ConfigError(f"the stages must lead to stride 32, got {self.strides[-1]}")

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride to the input after each stage."""
        strides, stride = [], 2
        for stage in self.stages:
            stride *= stage.stride
            strides.append(stride)
        return tuple(strides)

    @property
    def tap_channels(self) -> tuple[int, int, int, int]:
        """Channels of the features at strides 4, 8, 16 and 32."""
        widths = dict(zip(self.strides, (stage.channels for stage in self.stages), strict=True))
        return widths[4], widths[8], widths[16], widths[32]


class SamePadConv(nn.Conv2d):
    """Convolution with the padding of TensorFlow's SAME for inputs that the stride divides.

    With stride 2 the padding is one pixel larger at the right and bottom than at the left and
    top. The ImageNet weights were trained so; symmetric padding shifts every feature.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        before, after = (kernel - stride) // 2, (kernel - stride + 1) // 2
        self_padding = before if before == after else 0
        super().__init__(inputs, outputs, kernel, stride, self_padding, groups=groups, bias=False)
        self.border = None if before == after else (before, after, before, after)

    def forward(self, x: Tensor) -> Tensor:
        """Filter ``x`` [B, C, H, W] to [B, outputs, H / stride, W / stride]."""
        return self.filter(x, self.weight, self.bias)

    def filter(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """As ``forward``, with another ``weight`` and ``bias``."""
        if self.border is None:
            return self._conv_forward(x, weight, bias)
        if x.is_cpu and not torch.onnx.is_in_onnx_export():
            # The same sums: PyTorch on the CPU takes longer to pad a map than to filter it, unless all sides are alike.
            weight = nn.functional.pad(weight, (1, 0, 1, 0))
            return nn.functional.conv2d(x, weight, bias, self.stride, self.border[1], groups=self.groups)
        return self._conv_forward(nn.functional.pad(x, self.border), weight, bias)


def _even(x: Tensor) -> Tensor:
    """``x`` [B, C, H, W] with a row and a column of zeros where H and W are odd, as ``SamePadConv`` pads too."""
    below, beside = x.shape[2] % 2, x.shape[3] % 2
    return nn.functional.pad(x, (0, beside, 0, below)) if below or beside else x


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _relu6() -> nn.ReLU6:
    return nn.ReLU6(inplace=True)  # nothing else reads what it is given


class Filters(nn.Sequential):
    """Convolutions, norms and activations one after another.

    A BatchNorm whose statistics stand still is applied to the weights of the convolution before it, in training too:
    the same function and gradients without a pass over the map.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [B, C, H, W] through all layers."""
        layers = list(self)
        for layer, following in zip(layers, [*layers[1:], None], strict=True):
            if isinstance(layer, SamePadConv) and _stands_still(following):
                x = layer.filter(x, *_with_norm(layer, following))
            elif not _stands_still(layer):  # else it has been applied
                x = layer(x)
        return x


def _stands_still(layer: nn.Module | None) -> TypeGuard[nn.BatchNorm2d]:
    return isinstance(layer, nn.BatchNorm2d) and not layer.training


def _with_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of ``conv`` followed by ``norm``, with their gradients, which torch's own function cuts off."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    offset = -norm.running_mean if conv.bias is None else conv.bias - norm.running_mean
    return conv.weight * scale[:, None, None, None], norm.bias + offset * scale


class MBConv(nn.Module):
    """Expand, filter depthwise, project; added to the input where the shapes allow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers += [SamePadConv(inputs, hidden, 1), _norm(hidden), _relu6()]
        layers += [SamePadConv(hidden, hidden, kernel, stride, groups=hidden), _norm(hidden), _relu6()]
        layers += [SamePadConv(hidden, outputs, 1), _norm(outputs)]
        self.layers = Filters(*layers)
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [B, C, H, W] to [B, outputs, H / stride, W / stride]."""
        y: Tensor = self.layers(x)
        return x + y if self.is_residual else y


class Encoder(nn.Module):
    """Images to features at strides 4, 8, 16 and 32."""

    pixel_mean: Tensor
    pixel_scale: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN), persistent=False)
        self.register_buffer("pixel_scale", torch.tensor(PIXEL_SCALE), persistent=False)
        self.stem = nn.Sequential(SamePadConv(3, config.stem_channels, 3, 2), _norm(config.stem_channels), _relu6())
        channels = config.stem_channels
        stages = []
        for stage in config.stages:
            blocks = []
            for index in range(stage.blocks):
                stride = stage.stride if index == 0 else 1
                blocks.append(MBConv(channels, stage.channels, stage.kernel, stride, stage.expansion))
                channels = stage.channels
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self._initialise()
        if config.frozen_stages:
            for part in (self.stem, *self.stages[: config.frozen_stages]):
                part.requires_grad_(False)
        self.train()  # freezes BatchNorm from the first step on: Lightning does not call train()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def train(self, mode: bool = True) -> Encoder:
        """As ``nn.Module.train``, but BatchNorm stays in evaluation mode where it is frozen."""
        super().train(mode)
        if self.config.freeze_batch_norm:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, images: Tensor, reduction: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features [B, C, H / s, W / s] for s = 4, 8, 16, 32 of RGB ``images`` [B, 3, H, W], 0 to 255.

        ``reduction``: of images that are so many times smaller, H and W after that; each pixel is the mean of a square
        of those given. H and W must be multiples of 16; where they are none of 32, H / 32 and W / 32 are rounded up.
        """
        first, *rest = self.stem
        x = self._filter((images - self.pixel_mean) / self.pixel_scale, first, reduction)
        for layer in rest:
            x = layer(x)
        taps: dict[int, Tensor] = {}
        for stride, stage in zip(self.config.strides, self.stages, strict=True):
            x = stage(x if stride in taps else _even(x))  # the first stage of a stride halves the map
            taps[stride] = x
        return taps[4], taps[8], taps[16], taps[32]

    @staticmethod
    def _filter(x: Tensor, first: nn.Module, reduction: int) -> Tensor:
        """The first convolution, on means of squares of pixels: one with larger steps, and no smaller image between.

        Runtimes pool in a layout of their own: the network takes a quarter less time so, with OpenVINO.
        """
        if reduction == 1:
            out: Tensor = first(x)
            return out
        assert isinstance(first, nn.Conv2d)
        outputs, inputs, rows, columns = first.weight.shape
        shares = first.weight[:, :, :, None, :, None] / reduction**2
        weight = shares.expand(-1, -1, -1, reduction, -1, reduction)
        weight = weight.reshape(outputs, inputs, rows * reduction, columns * reduction)
        x = nn.functional.pad(x, (0, reduction, 0, reduction))  # as SamePadConv does where the stride is 2
        return nn.functional.conv2d(x, weight, first.bias, stride=2 * reduction)


def load_imagenet(encoder: Encoder, state: Mapping[str, Tensor]) -> None:
    """Copy the trunk of a plain EfficientNet-Lite classifier into ``encoder``, by order and shape.

    The tensors of ``state`` must be those of the trunk in the order of its layers, and then the 8
    of the classifier, which are left out; their names do not matter.

    Raises CheckpointError naming the first tensor that differs.
    """
    ours = encoder.state_dict()
    theirs = list(state.items())
    trunk = theirs[: max(len(theirs) - _CLASSIFIER_TENSORS, 0)]
    for mine, given in zip_longest(ours.items(), trunk):
        if mine is None or given is None or mine[1].shape != given[1].shape:
            found, wanted = _describe(given), _describe(mine)
            raise CheckpointError(
                f"the ImageNet weights do not fit the encoder: found {found} where {wanted} was expected, "
                f"{len(theirs)} tensors against {len(ours)} + {_CLASSIFIER_TENSORS}; use weights of the same variant"
            )
    encoder.load_state_dict({name: tensor for name, (_, tensor) in zip(ours, trunk, strict=True)}, strict=True)


def _describe(item: tuple[str, Tensor] | None) -> str:
    return "nothing" if item is None else f"'{item[0]}' {tuple(item[1].shape)}"
