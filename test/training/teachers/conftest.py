"""Small, randomly initialised models of transformers, saved as a user would have them on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="needs the training libraries: requirements/setup.sh .venv train")

from transformers import (
    BeitConfig,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    DepthProConfig,
    DepthProForDepthEstimation,
    Dinov2Config,
    DPTConfig,
    DPTForDepthEstimation,
    Tipsv2DptConfig,
    Tipsv2DptForDepthEstimation,
    ZoeDepthConfig,
    ZoeDepthForDepthEstimation,
)

from fsmde_ros.checkpoint import ModelCard, save_checkpoint
from fsmde_ros.network.student import Student, StudentConfig

STUDENT = StudentConfig(bins=16, attention_dim=32, attention_blocks=1, decoder_widths=(32, 16, 16))
STAGES = ["stage1", "stage2", "stage3", "stage4"]
NECK = {"neck_hidden_sizes": [8, 8, 16, 16], "fusion_hidden_size": 16}


def _dinov2() -> Dinov2Config:
    return Dinov2Config(
        image_size=56,
        patch_size=14,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        out_features=STAGES,
        reshape_hidden_states=False,
        apply_layernorm=False,
    )


def _save(model: Any, folder: Path, processor: dict[str, Any] | None) -> Path:
    # the untrained last layer says 0 after its ReLU in half of all cases: lift it
    for name, parameter in model.named_parameters():
        if name.endswith(("head.conv3.bias", "head.layers.4.bias", "head.head.4.bias")):
            torch.nn.init.constant_(parameter, 1.0)
    model.save_pretrained(folder)
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def save_depth_anything(folder: Path, kind: str = "relative", with_processor: bool = True, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    config = DepthAnythingConfig(
        backbone_config=_dinov2(),
        reassemble_hidden_size=32,
        head_hidden_size=8,
        depth_estimation_type=kind,
        max_depth=80 if kind == "metric" else 1,
        **NECK,
    )
    processor = {
        "size": {"height": 70, "width": 70},
        "keep_aspect_ratio": True,
        "ensure_multiple_of": 14,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }
    return _save(DepthAnythingForDepthEstimation(config), folder, processor if with_processor else None)


def save_zoedepth(folder: Path) -> Path:
    torch.manual_seed(0)
    beit = BeitConfig(
        image_size=64,
        patch_size=16,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=32,
        out_features=STAGES,
        reshape_hidden_states=False,
        use_relative_position_bias=True,
    )
    config = ZoeDepthConfig(
        backbone_config=beit,
        bottleneck_features=16,
        num_attractors=[4, 2, 1, 1],
        bin_embedding_dim=8,
        num_relative_features=8,
        bin_configurations=[{"n_bins": 8, "min_depth": 0.001, "max_depth": 80.0}],
        **NECK,
    )
    processor = {
        "size": {"height": 64, "width": 96},
        "keep_aspect_ratio": True,
        "ensure_multiple_of": 32,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    return _save(ZoeDepthForDepthEstimation(config), folder, processor)


def save_depth_pro(folder: Path) -> Path:
    torch.manual_seed(0)
    encoder = {
        "model_type": "dinov2",
        "image_size": 16,
        "patch_size": 4,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    config = DepthProConfig(
        patch_size=16,
        image_model_config=encoder,
        patch_model_config=dict(encoder),
        fov_model_config=dict(encoder),
        fusion_hidden_size=16,
        intermediate_hook_ids=[1, 0],
        intermediate_feature_dims=[8, 8],
        scaled_images_feature_dims=[16, 16, 8],
        merge_padding_value=1,
        use_fov_model=False,
    )
    return _save(DepthProForDepthEstimation(config), folder, None)


def save_dpt(folder: Path) -> Path:
    torch.manual_seed(0)
    config = DPTConfig(
        image_size=64,
        patch_size=16,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=32,
        backbone_out_indices=[0, 1, 2, 3],
        **NECK,
    )
    processor = {"size": {"height": 64, "width": 64}, "keep_aspect_ratio": True, "ensure_multiple_of": 1}
    return _save(DPTForDepthEstimation(config), folder, processor)


def save_tipsv2(folder: Path) -> Path:
    torch.manual_seed(0)
    backbone = {
        "model_type": "tipsv2_vision_model",
        "image_size": 56,
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "out_indices": [1, 2, 3, 4],
        "apply_layernorm": True,
        "reshape_hidden_states": False,
    }
    config = Tipsv2DptConfig(backbone_config=backbone, num_depth_bins=16, **NECK)
    return _save(Tipsv2DptForDepthEstimation(config), folder, None)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def depth_anything(model_folder: Path) -> Path:
    return save_depth_anything(model_folder / "depth_anything")


@pytest.fixture(scope="session")
def save() -> dict[str, Callable[..., Path]]:
    """Writers of one small model of each family, by name."""
    return {
        "depth_anything": save_depth_anything,
        "zoedepth": save_zoedepth,
        "depth_pro": save_depth_pro,
        "dpt": save_dpt,
        "tipsv2": save_tipsv2,
    }


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A student of this package, not trained, in a file."""
    torch.manual_seed(0)
    student = Student(STUDENT)
    with torch.no_grad():
        student.bin_logits.to_logits.weight.normal_()
    path = tmp_path / "teacher.safetensors"
    save_checkpoint(path, student, ModelCard("teacher", STUDENT, (64, 96), "none", "none", "none"), torch.float32)
    return path
