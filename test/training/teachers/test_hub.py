"""Teachers of transformers through the real path: saved to disk, loaded, asked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("transformers", reason="needs the training libraries: requirements/setup.sh .venv train")

from transformers import AutoModelForDepthEstimation, BertConfig, BertModel
from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil

from fsmde_ros.errors import ConfigError, TeacherError
from training.teachers.hub import HubTeacher, Preprocessing, load_teacher
from training.teachers.teacher import TeacherSettings, metric_scale

KINDS = {
    "depth_anything": "disparity",
    "zoedepth": "depth",
    "depth_pro": "canonical",
    "dpt": "disparity",
    "tipsv2": "depth",
}
Save = dict[str, Callable[..., Path]]


def _load(folder: Path, **changes: object) -> HubTeacher:
    return load_teacher(replace(TeacherSettings(str(folder), device="cpu"), **changes))


def _images(count: int = 2, height: int = 48, width: int = 80) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=torch.manual_seed(5))


@pytest.mark.parametrize("name", KINDS)
def test_every_family_loads_and_gives_a_map_of_the_images_size(name: str, save: Save, tmp_path: Path) -> None:
    teacher = _load(save[name](tmp_path))
    assert teacher.kind == KINDS[name]
    images = _images()
    output = teacher.predict(images, with_features=True)
    assert output.disparity.shape == (2, 48, 80)
    assert output.disparity.dtype == torch.float32
    assert torch.isfinite(output.disparity).all()
    assert (output.disparity >= 0).all()
    assert output.disparity.std() > 0
    assert output.features is not None
    assert output.features.shape[:2] == (2, 16)
    assert teacher.feature_channels == 16
    # frozen, and the same again
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())
    assert not teacher.model.training
    assert torch.equal(teacher.predict(images).disparity, output.disparity)
    # each image by itself
    torch.testing.assert_close(teacher.predict(images[1:]).disparity[0], output.disparity[1], rtol=1e-3, atol=1e-4)


class Headless(torch.nn.Module):
    """Depth from pixels at once: there are no features of a decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(predicted_depth=self.scale + pixel_values.mean(1))


def test_a_model_without_a_head_gives_its_depth_and_no_features() -> None:
    teacher = HubTeacher(Headless(), "disparity", Preprocessing((48, 80), False, 1), "id", TeacherSettings("plain"))
    assert teacher.predict(_images()).disparity.shape == (2, 48, 80)
    with pytest.raises(TeacherError, match=r"plain \(Headless\) has no depth head .* method b"):
        teacher.predict(_images(), with_features=True)


@pytest.mark.parametrize(("device", "expected"), [("auto", "meta"), ("cpu", "cpu")])
def test_it_is_loaded_on_the_cpu_and_placed_once_the_device_is_known(
    depth_anything: Path, device: str, expected: str
) -> None:
    settings = TeacherSettings(str(depth_anything), device=device, dtype="bfloat16")
    teacher = load_teacher(settings, placed=False)
    assert {(weight.device.type, weight.dtype) for weight in teacher.model.parameters()} == {("cpu", torch.float32)}
    assert teacher.feature_channels == 16
    teacher.place(torch.device("meta"))
    placed = {(weight.device.type, weight.dtype) for weight in teacher.model.parameters()}
    assert placed == {(expected, torch.bfloat16)}


def test_depth_anything_sees_what_its_own_recipe_says(depth_anything: Path) -> None:
    teacher = _load(depth_anything)
    assert teacher.preprocessing.input_size((48, 80)) == (42, 70)  # 80 to 70 is the smaller change; patches of 14
    images = _images(1, 42, 70)  # nothing to resize: the normalisation by hand
    pixels = (images.float() / 255 - torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).reshape(3, 1, 1)
    model = AutoModelForDepthEstimation.from_pretrained(depth_anything).eval()
    with torch.no_grad():
        expected = model(pixel_values=pixels).predicted_depth
    torch.testing.assert_close(teacher.predict(images).disparity, expected, rtol=1e-4, atol=1e-5)


def test_metric_depth_becomes_disparity(save: Save, tmp_path: Path) -> None:
    folder = save["depth_anything"](tmp_path, kind="metric")
    teacher = _load(folder)
    assert teacher.kind == "depth"
    images = _images(1, 42, 70)
    model = AutoModelForDepthEstimation.from_pretrained(folder).eval()
    with torch.no_grad():
        metres = model(pixel_values=teacher.preprocessing(images)).predicted_depth
    torch.testing.assert_close(teacher.predict(images).disparity, 1 / metres, rtol=1e-4, atol=0)


def test_without_a_recipe_the_models_own_size_and_imagenet_statistics_are_taken(save: Save, tmp_path: Path) -> None:
    teacher = _load(save["depth_anything"](tmp_path, with_processor=False))
    assert teacher.preprocessing == Preprocessing((56, 56), keep_aspect=True, multiple=14)
    pro = _load(save["depth_pro"](tmp_path / "pro"))
    assert pro.preprocessing.input_size((48, 80)) == (64, 64)  # tiles of 16 at a quarter of the size


@pytest.mark.parametrize(
    ("keep", "multiple", "expected"),
    [(True, 14, (518, 924)), (True, 32, (512, 928)), (False, 14, (518, 518)), (True, 1, (518, 921))],
)
def test_input_sizes_by_hand(keep: bool, multiple: int, expected: tuple[int, int]) -> None:
    # 900 x 1600 to 518: the height changes by 0.576, the width by 0.324, so the height decides: 1600 * 0.5756 = 920.9
    assert Preprocessing((518, 518), keep, multiple).input_size((900, 1600)) == expected


@pytest.mark.parametrize("size", [(48, 80), (90, 160), (200, 71)])
def test_images_are_prepared_as_by_the_processor_of_transformers(
    depth_anything: Path, size: tuple[int, int], tmp_path: Path
) -> None:
    recipe = json.loads((depth_anything / "preprocessor_config.json").read_text())
    coarse = torch.rand(1, 3, 6, 8, generator=torch.manual_seed(2)) * 255
    image = torch.nn.functional.interpolate(coarse, size, mode="bilinear").to(torch.uint8)
    for number, mode in ((2, "bilinear"), (3, "bicubic")):
        folder = shutil.copytree(depth_anything, tmp_path / mode)
        (folder / "preprocessor_config.json").write_text(json.dumps({**recipe, "resample": number}))
        expected = DPTImageProcessorPil(**recipe, resample=number)(images=image[0].numpy(), return_tensors="pt")
        got = _load(folder).preprocessing(image)
        assert got.shape == expected["pixel_values"].shape
        # PIL rounds to whole grey levels: 1 / 255 / 0.225 is 0.017
        torch.testing.assert_close(got, expected["pixel_values"], atol=0.04, rtol=0)


def test_an_asked_input_size_must_fit_the_patches(depth_anything: Path) -> None:
    wide = _load(depth_anything, input_size=(28, 84))
    assert wide.preprocessing.input_size((48, 80)) == (28, 84)
    assert wide.identity != _load(depth_anything).identity
    with pytest.raises(TeacherError, match=r"\(30, 84\).*multiple of 14"):
        _load(depth_anything, input_size=(30, 84))


def test_identity_follows_the_weights_and_not_the_folder(save: Save, depth_anything: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(depth_anything, tmp_path / "copy")
    assert _load(copy).identity == _load(depth_anything).identity
    other = save["depth_anything"](tmp_path / "other", seed=1)
    assert _load(other).identity != _load(depth_anything).identity
    assert _load(depth_anything, dtype="bfloat16").identity != _load(depth_anything).identity


def test_half_precision_stays_near_single(depth_anything: Path) -> None:
    half = _load(depth_anything, dtype="bfloat16").predict(_images()).disparity
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, _load(depth_anything).predict(_images()).disparity, rtol=0.1, atol=0.05)


def test_views_of_a_canonical_teacher_are_scaled_by_their_focal_lengths() -> None:
    focal = torch.tensor([400.0, 800.0])
    torch.testing.assert_close(metric_scale("canonical", focal, 1600), torch.tensor([4.0, 2.0]))
    assert metric_scale("canonical", None, 1600) is None
    assert metric_scale("disparity", focal, 1600) is None


def test_a_directory_of_another_model_is_refused_by_its_type(tmp_path: Path) -> None:
    config = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(TeacherError, match=r"'bert'.*does not estimate depth.*depth_anything"):
        _load(tmp_path)


def test_missing_damaged_and_foreign_files_are_told(depth_anything: Path, tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=r"no config\.json"):
        _load(tmp_path)
    with pytest.raises(TeacherError, match="neither a directory nor a hub name"):
        _load(Path("/nowhere/at/all"))
    with pytest.raises(TeacherError, match="no teacher is named"):
        load_teacher(TeacherSettings())
    broken = shutil.copytree(depth_anything, tmp_path / "broken")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(TeacherError, match="cannot be loaded"):
        _load(broken)
    weights.unlink()
    with pytest.raises(TeacherError, match="cannot be loaded"):
        _load(broken)
    (broken / "config.json").write_text("{")
    with pytest.raises(TeacherError, match=r"config\.json"):
        _load(broken)


def test_a_tilde_is_the_home_folder(depth_anything: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As YAML and ``--teacher.name=~/...`` hand it on."""
    monkeypatch.setenv("HOME", str(depth_anything.parent))
    there = load_teacher(TeacherSettings(f"~/{depth_anything.name}", device="cpu"))
    assert there.identity == _load(depth_anything).identity
    with pytest.raises(TeacherError, match=rf"{depth_anything.parent}/none' is neither a directory nor a hub name"):
        load_teacher(TeacherSettings("~/none", device="cpu"))


def test_weights_of_another_size_are_refused(depth_anything: Path, tmp_path: Path) -> None:
    mixed = shutil.copytree(depth_anything, tmp_path / "mixed")
    config = json.loads((mixed / "config.json").read_text())
    (mixed / "config.json").write_text(json.dumps({**config, "head_hidden_size": 12}))
    with pytest.raises(TeacherError, match=r"mixed"):
        _load(mixed)


def test_a_hub_that_cannot_be_reached_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(TeacherError, match=r"no-owner/no-model.*hub.*network"):
        load_teacher(TeacherSettings("no-owner/no-model", device="cpu"))


@pytest.mark.parametrize(
    ("field", "value"), [("kind", "metres"), ("dtype", "int8"), ("batch", 0), ("input_size", (0, 14))]
)
def test_settings_out_of_range_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"teacher.{field}"):
        TeacherSettings(**{field: value})
