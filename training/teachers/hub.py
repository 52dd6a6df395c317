"""Teachers from ``transformers``: any depth estimation model, from a hub name or a local directory.

The image processors of ``transformers`` need torchvision or PIL; what they do to an image (size, mean, standard
deviation) stands in ``preprocessor_config.json``, and is done here with torch. Where a model comes without that
file, its own image size and the statistics of ImageNet are taken. Images are not padded at the borders, which
ZoeDepth's processor does by default.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForDepthEstimation
from transformers.image_processing_base import ImageProcessingMixin
from transformers.models.auto.modeling_auto import MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES

from fsmde_ros.errors import TeacherError
from training.teachers.teacher import KINDS, MIN_DEPTH, Kind, TeacherOutput, TeacherSettings

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PIL_BILINEAR = 2  # in the files of transformers: PIL's numbers
_METRIC = ("zoedepth", "glpn", "tipsv2_dpt")
_REFUSED = {"chmv2": "it estimates the height of trees seen from above"}
# What from_pretrained raises for missing files, an unreachable hub, unknown or contradicting configurations
# and damaged weights.
_LOADING_ERRORS = (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError)


@dataclass(frozen=True)
class Preprocessing:
    """What happens to an image before the network sees it.

    Attributes:
        size: (H, W) to fit; none keeps the image's own.
        keep_aspect: fit one side to ``size``, the one that changes the image least, and let the other follow.
        multiple: of which both sides must be: the network's patches.
        factor: takes 0..255 to what mean and std are of.
        mean, std: of the three channels.
        mode: how pixels are interpolated, bicubic or bilinear.
    """

    size: tuple[int, int] | None
    keep_aspect: bool
    multiple: int
    factor: float = 1 / 255
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    mode: str = "bicubic"

    def input_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(H, W) that the network sees of an image of ``image_size``."""
        target = self.size or image_size
        scales = [t / s for t, s in zip(target, image_size, strict=True)]
        if self.keep_aspect:
            scales = [min(scales, key=lambda scale: abs(1 - scale))] * 2
        height, width = (
            max(round(side * scale / self.multiple), 1) * self.multiple
            for side, scale in zip(image_size, scales, strict=True)
        )
        return height, width

    def __call__(self, images: Tensor) -> Tensor:
        """[M, 3, H, W] uint8 to the normalised float32 [M, 3, h, w] of the network."""
        pixels = images.float()
        size = self.input_size((images.shape[-2], images.shape[-1]))
        if size != tuple(images.shape[-2:]):
            pixels = F.interpolate(pixels, size, mode=self.mode, antialias=True, align_corners=False).clamp(0, 255)
        mean, std = (torch.tensor(v, device=images.device)[:, None, None] for v in (self.mean, self.std))
        return (pixels * self.factor - mean) / std


class HubTeacher:
    """A frozen depth model of ``transformers``; see ``load_teacher`` and the ``Teacher`` protocol."""

    def __init__(
        self, model: nn.Module, kind: Kind, preprocessing: Preprocessing, identity: str, settings: TeacherSettings
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.kind: Kind = kind
        self.preprocessing = preprocessing
        self.identity = identity
        self.batch = settings.batch
        self.settings = settings

    @property
    def feature_channels(self) -> int:
        """Channels of the decoder's features; see ``predict``."""
        features = self.predict(torch.zeros(1, 3, 64, 64, dtype=torch.uint8), with_features=True).features
        assert features is not None
        return features.shape[1]

    def place(self, auto: torch.device | None = None) -> HubTeacher:
        """See ``Teacher``."""
        device = self.settings.chosen_device(auto)
        self.model.to(device, self.settings.chosen_dtype(device))
        return self

    @torch.no_grad()
    def predict(self, images: Tensor, with_features: bool = False) -> TeacherOutput:
        """Disparity of images [M, 3, H, W] uint8 RGB on any device, and what the depth head saw, if asked for.

        Raises TeacherError where features are asked of a model without a depth head on decoder features.
        """
        weight = next(self.model.parameters())
        taken: list[Tensor] = []

        def take(_: nn.Module, given: tuple[Any, ...]) -> None:
            taken.append(self._decoder_features(given[0]))

        hook = self._head().register_forward_pre_hook(take) if with_features else None
        try:
            with torch.autocast(weight.device.type, enabled=False):  # its own precision, whatever the student's
                pixels = self.preprocessing(images.to(weight.device)).to(weight.dtype)
                predicted = self.model(pixel_values=pixels).predicted_depth.float()
        finally:
            if hook is not None:
                hook.remove()
        if self.kind == "depth":
            predicted = 1 / predicted.clamp(min=MIN_DEPTH)
        size = images.shape[-2:]
        disparity = F.interpolate(predicted.unsqueeze(1), size, mode="bilinear", align_corners=False).squeeze(1)
        return TeacherOutput(disparity.to(images.device), taken[-1].float() if with_features else None)

    def _head(self) -> nn.Module:
        # ZoeDepth has two, and the metric one refines the relative one's; TIPSv2's head is called its decoder
        for name in ("head", "relative_head", "decoder"):
            head = getattr(self.model, name, None)
            if isinstance(head, nn.Module):
                return head
        raise TeacherError(
            f"the teacher {self.settings.name} ({type(self.model).__name__}) has no depth head on decoder features; "
            "distil its depth instead, with method b"
        )

    def _decoder_features(self, given: Any) -> Tensor:
        if isinstance(given, Tensor):
            return given
        features: Tensor = given[getattr(self.model.config, "head_in_index", -1)]
        return features


def load_teacher(settings: TeacherSettings, placed: bool = True) -> HubTeacher:
    """Load the teacher that the settings name: frozen, in evaluation mode, on its device.

    Where it is not ``placed`` it stays on the CPU, in float32, for ``place`` to move it.

    Raises:
        TeacherError: the name is neither a model on the hub nor a directory with one, the hub cannot be
            reached, the model does not estimate depth, or its files are missing, damaged or contradict each
            other.
    """
    if settings.name.startswith("~"):  # transformers would take it for a name on the hub
        settings = replace(settings, name=str(Path(settings.name).expanduser()))
    name = settings.name
    config = _load_config(name, settings.revision)
    kind = _kind(config, settings.kind, name)
    dtype = settings.chosen_dtype(settings.chosen_device())
    try:
        model, info = AutoModelForDepthEstimation.from_pretrained(
            name, config=config, revision=settings.revision, output_loading_info=True, dtype=torch.float32
        )
    except _LOADING_ERRORS as error:
        raise TeacherError(f"the weights of the teacher {name} cannot be loaded: {_first_line(error)}") from error
    lacking = sorted([*info["missing_keys"], *(str(key) for key in info.get("mismatched_keys", ()))])
    if lacking:
        raise TeacherError(
            f"the weights of the teacher {name} lack or contradict {len(lacking)} of the model's tensors "
            f"({', '.join(lacking[:3])} …); the file and config.json do not belong together"
        )
    preprocessing = _preprocessing(config, settings)
    identity = _identity(model, config, preprocessing, kind, dtype)
    teacher = HubTeacher(model, kind, preprocessing, identity, settings)
    return teacher.place() if placed else teacher


def _load_config(name: str, revision: str) -> Any:
    """Configuration of a depth model; TeacherError where there is none or it is of something else."""
    folder = Path(name)
    if not name:
        raise TeacherError("no teacher is named; give teacher.name a hub name or a local directory")
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise TeacherError(f"the teacher directory {name} holds no config.json; save_pretrained() writes one")
    elif name.startswith(("/", ".")) or name.count("/") != 1:
        raise TeacherError(f"the teacher {name!r} is neither a directory nor a hub name (owner/model)")
    try:
        config = AutoConfig.from_pretrained(name, revision=revision)
    except _LOADING_ERRORS as error:
        if folder.is_dir():
            raise TeacherError(f"{name}/config.json cannot be read as a model: {_first_line(error)}") from error
        raise TeacherError(
            f"the teacher {name!r} is no local directory and cannot be had from the hub ({_first_line(error)}); check "
            "name and network, or give the directory of a downloaded model"
        ) from error
    if config.model_type not in MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES:
        raise TeacherError(
            f"the teacher {name} is a {config.model_type!r} model, which does not estimate depth; these do: "
            f"{', '.join(sorted(MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES))}"
        )
    if config.model_type in _REFUSED:
        raise TeacherError(f"the teacher {name} ({config.model_type}) is of no use here: {_REFUSED[config.model_type]}")
    return config


def _kind(config: Any, asked: str, name: str) -> Kind:
    """What the model's output means; DPT models fine-tuned to metres do not say so and need ``teacher.kind``."""
    for kind in KINDS:
        if asked == kind:
            return kind
    if config.model_type == "depth_pro":
        return "canonical"
    if config.model_type in _METRIC or getattr(config, "depth_estimation_type", "relative") == "metric":
        return "depth"
    logging.getLogger(__name__).info("%s: its output is taken for disparity up to scale and shift", name)
    return "disparity"


def _preprocessing(config: Any, settings: TeacherSettings) -> Preprocessing:
    """From ``preprocessor_config.json`` and the model's configuration; the settings' input size wins."""
    try:
        raw, _ = ImageProcessingMixin.get_image_processor_dict(settings.name, revision=settings.revision)
    except OSError:
        raw = {}
    backbone = getattr(config, "backbone_config", None)
    patch = getattr(backbone or config, "patch_size", None)
    multiple = patch if isinstance(patch, int) else 32
    for key in ("ensure_multiple_of", "size_divisor"):
        if isinstance(raw.get(key), int):
            multiple = math.lcm(multiple, raw[key])
    size = _size(raw, config)
    # Plain DPT takes its tokens for a square; Depth Pro cuts one into tiles.
    square = config.model_type == "depth_pro" or (
        config.model_type == "dpt" and (backbone is None or getattr(config, "is_hybrid", False))
    )
    keep_aspect = not square and bool(raw.get("keep_aspect_ratio", not raw))
    if settings.input_size is not None:
        size, keep_aspect = settings.input_size, False
        if any(side % multiple for side in size) or (square and size[0] != size[1]):
            raise TeacherError(
                f"teacher.input_size {tuple(size)} does not fit {settings.name}: it must be "
                f"{'square and ' if square else ''}a multiple of {multiple}"
            )
    mean, std = (raw.get("image_mean"), raw.get("image_std")) if raw else (IMAGENET_MEAN, IMAGENET_STD)
    normalise = raw.get("do_normalize", True) and mean is not None and std is not None
    return Preprocessing(
        size,
        keep_aspect,
        multiple,
        float(raw.get("rescale_factor", 1 / 255)) if raw.get("do_rescale", True) else 1.0,
        tuple(mean) if normalise and mean is not None else (0.0, 0.0, 0.0),
        tuple(std) if normalise and std is not None else (1.0, 1.0, 1.0),
        "bilinear" if raw.get("resample") == PIL_BILINEAR else "bicubic",
    )


def _size(raw: Mapping[str, Any], config: Any) -> tuple[int, int] | None:
    """(H, W) that the model was made for; none where any will do."""
    size = raw.get("size")
    if isinstance(size, Mapping) and "height" in size and "width" in size:
        return int(size["height"]), int(size["width"])
    if isinstance(size, int):
        return size, size
    if config.model_type == "depth_pro":
        side = round(config.patch_size / min(config.scaled_images_ratios))
        return side, side
    own = getattr(getattr(config, "backbone_config", None) or config, "image_size", None)
    if raw or own is None:
        return None
    return (own, own) if isinstance(own, int) else (int(own[0]), int(own[1]))


def _identity(model: nn.Module, config: Any, preprocessing: Preprocessing, kind: Kind, dtype: torch.dtype) -> str:
    """Hash of weights, configuration, input and precision; 24 hexadecimal digits."""
    settings = {name: value for name, value in config.to_dict().items() if not name.startswith("_")}
    settings.pop("transformers_version", None)
    described = [settings, asdict(preprocessing), kind, str(dtype)]
    digest = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:24]


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
