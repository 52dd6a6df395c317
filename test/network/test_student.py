"""The student as a whole: shapes, permutation of views, missing views, its ground, its gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fsmde_ros.errors import ConfigError
from fsmde_ros.geometry import ground_plane_depth, rotation_from_quaternion
from fsmde_ros.network.encoder import EncoderConfig
from fsmde_ros.network.student import Student, StudentConfig

H, W, V = 64, 96, 5
Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def sweep(batch: int = 1, dtype: torch.dtype = torch.float64) -> Inputs:
    """Five cameras in a ring, none like the other."""
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (batch, V, 3, H, W), generator=generator, dtype=torch.uint8)
    intrinsics, poses = np.zeros((V, 3, 3)), np.zeros((V, 4, 4))
    forward = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    for v in range(V):
        yaw = 2 * np.pi * v / V
        intrinsics[v] = [[70 + v, 0, 47.5], [0, 72 - v, 31.5 + v], [0, 0, 1]]
        poses[v] = np.eye(4)
        poses[v, :3, :3] = rotation_from_quaternion((np.cos(yaw / 2), 0, 0, np.sin(yaw / 2))) @ forward
        poses[v, :3, 3] = [np.cos(yaw), np.sin(yaw), 1.4 + 0.1 * v]
    rig = (torch.from_numpy(a).to(dtype).expand(batch, *a.shape) for a in (intrinsics, poses))
    return images, *rig, torch.full((batch,), -0.2, dtype=dtype), torch.ones(batch, V, dtype=torch.bool)


def seeded(config: StudentConfig | None = None) -> Student:
    """An untrained student whose heads are not the near-zero ones of the beginning."""
    torch.manual_seed(0)
    student = Student(config or StudentConfig()).double().eval()
    with torch.no_grad():
        for head in (student.bin_logits.to_logits, student.bin_centres.to_widths[-1], student.upsampling.to_weights):
            head.weight.normal_(std=0.2)
        if student.bin_logits.to_gate is not None:
            student.bin_logits.to_gate.weight.normal_(std=0.2)
    return student


@pytest.fixture(scope="module")
def student() -> Student:
    return seeded()


@torch.no_grad()
def test_shapes_and_ranges(student: Student) -> None:
    output = student(*sweep(batch=2))
    for part in output[:3]:
        assert part.shape == (2, V, H, W)
        assert torch.isfinite(part).all()
    assert output.logits.shape == (2, V, 65, H // 4, W // 4)
    assert output.centers.shape == (2, 64)
    assert output.features.shape == (2, V, 64, H // 4, W // 4)
    assert (output.depth > 0.5).all()
    assert (output.depth < 200).all()
    assert (output.stddev >= 0).all()
    assert (output.out_of_range >= 0).all()
    assert (output.out_of_range <= 1).all()


@torch.no_grad()
def test_permuting_views_with_the_rig_permutes_the_output(student: Student) -> None:
    images, intrinsics, poses, ground, present = sweep()
    present[0, 3] = False
    order = [3, 0, 4, 1, 2]
    output = student(images, intrinsics, poses, ground, present)
    permuted = student(images[:, order], intrinsics[:, order], poses[:, order], ground, present[:, order])
    for name in ("depth", "stddev", "out_of_range", "logits", "features"):
        torch.testing.assert_close(getattr(permuted, name), getattr(output, name)[:, order], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(permuted.centers, output.centers, rtol=1e-9, atol=1e-9)
    assert float((output.depth - output.depth[:, order]).abs().max()) > 0.1  # the views do differ


@torch.no_grad()
def test_a_missing_view_is_as_if_it_were_not_there(student: Student) -> None:
    images, intrinsics, poses, ground, present = sweep()
    present[0, 1] = False
    kept = [0, 2, 3, 4]
    output = student(images, intrinsics, poses, ground, present)
    alone = student(images[:, kept], intrinsics[:, kept], poses[:, kept], ground, present[:, kept])
    torch.testing.assert_close(output.depth[:, kept], alone.depth, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(output.stddev[:, kept], alone.stddev, rtol=1e-9, atol=1e-9)
    assert torch.isfinite(output.depth).all()
    noise = images.double()
    noise[:, 1] = torch.nan
    torch.testing.assert_close(student(noise, intrinsics, poses, ground, present).depth, output.depth)


@torch.no_grad()
def test_a_reduced_input_is_the_plain_student_on_images_of_half_the_size(student: Student) -> None:
    images, intrinsics, poses, ground, present = sweep()
    reduced = Student(replace(student.config, input_reduction=2)).double().eval()
    reduced.load_state_dict(student.state_dict())
    twice = images.double().repeat_interleave(2, -1).repeat_interleave(2, -2)  # whose means are the images
    twice += 3 * torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(H, W)
    finer = intrinsics.clone()  # x' = 2 (x + 0.5) - 0.5
    finer[..., :2, :] *= 2
    finer[..., :2, 2] += 0.5
    plain = student(images.double(), intrinsics, poses, ground, present)
    output = reduced(twice, finer, poses, ground, present)
    assert output.depth.shape == (1, V, 2 * H, 2 * W)
    torch.testing.assert_close(output.logits, plain.logits, rtol=1e-9, atol=1e-9)
    enlarged = torch.nn.functional.interpolate(1 / plain.depth, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(output.depth, 1 / enlarged, rtol=1e-9, atol=1e-9)


def test_sizes_that_an_input_can_have() -> None:
    assert StudentConfig().fitting((352, 640)) == (352, 640)
    assert StudentConfig(input_reduction=2).fitting((352, 640)) == (352, 640)
    assert StudentConfig(input_reduction=2).fitting((360, 640)) == (384, 640)
    assert StudentConfig(input_reduction=2).stride == 32


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(48, 96), (64, 80), (80, 112)])
def test_tokens_may_lie_half_outside(student: Student, height: int, width: int) -> None:
    images, *rig = sweep()
    wider = torch.nn.functional.pad(images, (0, 16, 0, 16))
    output = student(wider[..., :height, :width], *rig)
    for part in output[:3]:
        assert part.shape == (1, V, height, width)
        assert torch.isfinite(part).all()
    assert output.logits.shape[-2:] == (height // 4, width // 4)


@torch.no_grad()
def test_one_view_is_enough(student: Student) -> None:
    images, intrinsics, poses, ground, present = sweep()
    output = student(images[:, 2:3], intrinsics[:, 2:3], poses[:, 2:3], ground, present[:, 2:3])
    assert torch.isfinite(output.depth).all()


@torch.no_grad()
def test_sweeps_of_a_batch_do_not_mix(student: Student) -> None:
    images, intrinsics, poses, ground, present = sweep(batch=2)
    together = student(images, intrinsics, poses, ground, present)
    second = student(images[1:], intrinsics[1:], poses[1:], ground[1:], present[1:])
    torch.testing.assert_close(together.depth[1:], second.depth, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_the_untrained_student_begins_at_the_ground_plane() -> None:
    torch.manual_seed(0)
    images, intrinsics, poses, ground, present = sweep(dtype=torch.float32)
    depth = Student().eval()(images, intrinsics, poses, ground, present).depth[0].numpy()
    for v in range(V):
        expected = ground_plane_depth(intrinsics[0, v], poses[0, v], (H, W), -0.2, cap=30.0)
        near = expected < 15
        assert near.mean() > 0.2
        assert np.mean(np.abs(depth[v] / expected - 1)[near]) < 0.06


@torch.no_grad()
@pytest.mark.parametrize("flag", ["use_rays", "use_surround_attention", "use_ground_prior"])
def test_each_part_can_be_left_out(flag: str) -> None:
    config = replace(StudentConfig(), **{flag: False})
    student, inputs = seeded(config), sweep()
    assert sum(p.numel() for p in student.parameters()) < sum(p.numel() for p in Student().parameters())
    output = student(*inputs)
    assert torch.isfinite(output.depth).all()
    if flag == "use_ground_prior":
        return
    other = replace(config, use_ground_prior=False)  # the prior sees the rig in any case
    blind = seeded(other)
    images, intrinsics, poses, ground, present = inputs
    raised = blind(images, intrinsics, poses, ground - 1, present).depth
    assert torch.equal(raised, blind(*inputs).depth) == (flag == "use_rays")


def test_gradients_reach_every_trained_weight_and_no_other() -> None:
    torch.manual_seed(0)
    student = Student().train()
    images, *rig = sweep(dtype=torch.float32)
    output = student(images, *rig)
    (output.depth.log().mean() + output.stddev.mean() + output.out_of_range.mean()).backward()
    trained = {name for name, p in student.named_parameters() if p.requires_grad}
    reached = {name for name, p in student.named_parameters() if p.grad is not None and torch.isfinite(p.grad).all()}
    assert reached == trained
    assert not any(name.startswith(("encoder.stem", "encoder.stages.0.")) for name in trained)


def test_it_fits_ten_megabytes_in_half_precision() -> None:
    assert 2 * sum(tensor.numel() for tensor in Student().state_dict().values()) < 10e6


@torch.no_grad()
def test_autocast_keeps_depth_in_float32() -> None:
    torch.manual_seed(0)
    student, inputs = Student().eval(), sweep(dtype=torch.float32)
    plain = student(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = student(*inputs)
    assert half.depth.dtype == torch.float32
    assert float(((half.depth - plain.depth).abs() / plain.depth).median()) < 0.02


@pytest.mark.parametrize(
    "change",
    [
        {"bins": 1},
        {"d_min": 0.0},
        {"d_min": 300.0},
        {"attention_dim": 30, "attention_heads": 4},
        {"attention_blocks": -1},
        {"decoder_widths": (8, 8, 12)},
        {"learned_upsampling": 3},
        {"input_reduction": 3},
        {"expectation_power": 1.5},
    ],
)
def test_impossible_shapes_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="got"):
        StudentConfig(**change)


def test_a_config_is_a_value() -> None:
    assert StudentConfig(encoder=EncoderConfig()) == StudentConfig()


@torch.no_grad()
def test_stddev_power_scales_the_spread_and_leaves_the_depth(student: Student) -> None:
    before = student(*sweep())
    for exponent in (1.0, 2.0):
        fitted = Student(replace(student.config, stddev_power=(0.5, exponent))).double().eval()
        fitted.load_state_dict(student.state_dict())
        after = fitted(*sweep())
        torch.testing.assert_close(after.depth, before.depth)
        expected = 0.5 * before.stddev**exponent
        if exponent == 1:
            torch.testing.assert_close(after.stddev, expected)
        else:  # the mean of squares around a pixel, which is above the square of their mean
            assert (after.stddev > expected * (1 - 1e-9)).all()
            assert float((after.stddev / expected).median()) < 1.05


@pytest.mark.parametrize("power", [(0.0, 1.0), (1.0, -1.0), (1.0,), (float("nan"), 1.0)])
def test_a_stddev_power_without_a_meaning_is_refused(power: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="stddev_power"):
        StudentConfig(stddev_power=power)  # type: ignore[arg-type]
