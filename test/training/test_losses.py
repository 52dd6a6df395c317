"""Losses against hand-computed values, invariances, empty masks and half-precision gradients."""

from __future__ import annotations

import math

import pytest
import torch

from fsmde_ros.network.bins import depth_from_bins
from training import losses


def _full(*shape: int) -> torch.Tensor:
    return torch.ones(*shape, dtype=torch.bool)


def test_silog_of_two_pixels_by_hand() -> None:
    pred, gt = torch.tensor([2.0, 8.0]), torch.tensor([1.0, 2.0])
    a, b = math.log(2), math.log(4)
    expected = math.sqrt((a * a + b * b) / 2 - 0.85 * ((a + b) / 2) ** 2)
    assert losses.silog(pred, gt, _full(2)).item() == pytest.approx(expected, abs=2e-3)
    assert losses.silog(pred[:1], gt[:1], _full(1)).item() == pytest.approx(a * math.sqrt(0.15), abs=2e-3)


def test_silog_with_lam_one_ignores_scale_and_is_zero_when_equal() -> None:
    gt = torch.rand(2, 3, 5, 7) * 50 + 1
    assert losses.silog(gt * 3.7, gt, _full(*gt.shape), lam=1.0).item() == pytest.approx(0, abs=1e-5)
    assert losses.silog(gt * 3.7, gt, _full(*gt.shape)).item() == pytest.approx(
        math.log(3.7) * math.sqrt(0.15), rel=1e-2
    )
    assert losses.silog(gt, gt, _full(*gt.shape)).item() == 0


def test_silog_does_not_see_unmasked_pixels() -> None:
    pred = torch.tensor([2.0, 3.0, 0.0], requires_grad=True)
    loss = losses.silog(pred, torch.tensor([1.0, 2.0, math.nan]), torch.tensor([True, True, False]))
    loss.backward()
    assert loss.item() == losses.silog(pred[:2], torch.tensor([1.0, 2.0]), _full(2)).item()
    assert torch.isfinite(pred.grad).all()
    assert pred.grad[2] == 0


def test_soft_bins_shares_linearly_in_log_depth() -> None:
    centers = torch.tensor([[1.0, 2.0, 8.0]])
    depth = torch.tensor([1.0, math.sqrt(2), 4.0, 0.5, 100.0]).reshape(1, 1, 1, 5)
    got = losses.soft_bins(depth, centers)[0, 0, :, 0].T
    expected = torch.tensor([[1, 0, 0], [0.5, 0.5, 0], [0, 0.5, 0.5], [1, 0, 0], [0, 0, 1.0]])
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_soft_bins_sum_to_one_and_give_the_depth_back(sigma: float) -> None:
    centers = torch.logspace(-1, 2, 64).expand(2, 64)
    depth = torch.rand(2, 5, 3, 4) * 60 + 0.5
    probability = losses.soft_bins(depth, centers, sigma)
    torch.testing.assert_close(probability.sum(2), torch.ones_like(depth))
    back = torch.einsum("bvnhw,bn->bvhw", probability, centers)
    torch.testing.assert_close(back, depth, rtol=0.01, atol=0)


def test_the_expectation_in_log_depth_undoes_soft_bins_however_few_there_are() -> None:
    centers = torch.tensor([[0.5, 3.0, 20.0, 100.0]])
    depth = torch.rand(1, 2, 3, 4) * 99 + 0.5
    logits = losses.soft_bins(depth, centers).log()  # -inf where a bin has no part
    logits = torch.cat([logits, torch.zeros_like(logits[:, :, :1])], dim=2)
    torch.testing.assert_close(depth_from_bins(logits, centers, power=0.0).depth, depth)
    assert (depth_from_bins(logits, centers).depth >= depth * 0.9999).all()  # in metres it lies further out


def test_soft_bins_of_invalid_depth_are_finite() -> None:
    """They go to the last bin."""
    depth = torch.tensor([math.nan, math.inf, 0.0, -3.0]).reshape(1, 1, 1, 4)
    got = losses.soft_bins(depth, torch.tensor([[1.0, 2.0, 4.0]]))[0, 0, :, 0]
    torch.testing.assert_close(got, torch.tensor([[0.0], [0.0], [1.0]]).expand(3, 4))


def test_soft_bins_of_a_width_are_normal_in_log_depth() -> None:
    centers = torch.tensor([[1.0, math.e, math.e**2]])
    got = losses.soft_bins(torch.full((1, 1, 1, 1), math.e), centers, sigma=0.5)[0, 0, :, 0, 0]
    aside = math.exp(-2)  # at two widths
    torch.testing.assert_close(got, torch.tensor([aside, 1, aside]) / (1 + 2 * aside))


def test_bin_coverage_by_hand() -> None:
    centers = torch.tensor([[1.0, 10.0], [2.0, 50.0]], requires_grad=True)
    depth = torch.tensor([[2.0, 100.0, 3.0], [2.0, 0.5, math.nan]]).reshape(2, 1, 1, 3)
    mask = torch.tensor([[True, True, False], [True, True, False]]).reshape(2, 1, 1, 3)
    expected = (math.log(2) + math.log(10) + 0 + math.log(4)) / 4
    loss = losses.bin_coverage(centers, depth, mask)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert torch.isfinite(centers.grad).all()
    assert losses.bin_coverage(centers, depth, torch.zeros_like(mask)).item() == 0


def test_bin_coverage_equals_the_plain_search() -> None:
    torch.manual_seed(2)
    centers = (torch.rand(3, 17) * 60 + 1).sort(1).values
    depth = torch.rand(3, 5, 4, 7) * 90 + 0.2
    distance = (depth.log().flatten(1)[:, :, None] - centers.log()[:, None]).abs().min(2).values
    mask = torch.ones_like(depth, dtype=torch.bool)
    torch.testing.assert_close(losses.bin_coverage(centers, depth, mask), distance.mean())


def test_ckd_by_hand_and_zero_when_equal() -> None:
    teacher = torch.tensor([0.5, 0.25, 0.25]).reshape(1, 1, 3, 1, 1)
    uniform = torch.zeros(1, 1, 3, 1, 1)
    expected = 0.5 * math.log(0.5 * 3) + 0.5 * math.log(0.25 * 3)
    assert losses.ckd(teacher, uniform, _full(1, 1, 1, 1)).item() == pytest.approx(expected, rel=1e-5)
    for temperature in (1.0, 3.0):
        zero = losses.ckd(teacher, teacher.log() + 7, _full(1, 1, 1, 1), temperature)
        assert zero.item() == pytest.approx(0, abs=1e-5)


def test_ckd_temperature_by_hand() -> None:
    teacher = torch.tensor([0.8, 0.2]).reshape(1, 1, 2, 1, 1)
    softened = [0.8**0.5, 0.2**0.5]
    p = [v / sum(softened) for v in softened]
    expected = 4 * sum(v * math.log(v / 0.5) for v in p)
    got = losses.ckd(teacher, torch.zeros(1, 1, 2, 1, 1), _full(1, 1, 1, 1), temperature=2.0)
    assert got.item() == pytest.approx(expected, rel=1e-5)


def test_ckd_gives_no_gradient_to_the_teacher() -> None:
    teacher = torch.softmax(torch.randn(1, 2, 4, 3, 5), 2).requires_grad_()
    student = torch.randn(1, 2, 4, 3, 5, requires_grad=True)
    losses.ckd(teacher, student, _full(1, 2, 3, 5)).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


def test_vrkd_is_zero_for_equal_relations_and_follows_permuted_views() -> None:
    torch.manual_seed(0)
    teacher = torch.softmax(torch.randn(2, 5, 8, 12, 20) * 3, 2)
    student = torch.softmax(torch.randn(2, 5, 8, 12, 20) * 3, 2)
    pairs = torch.tensor([[0, 0, 1], [0, 1, 4], [1, 3, 2]])
    assert losses.vrkd(teacher, teacher, pairs).item() == pytest.approx(0, abs=1e-6)
    value = losses.vrkd(teacher, student, pairs)
    assert value > 0.001
    order = torch.tensor([3, 0, 4, 2, 1])
    moved = pairs.clone()
    moved[:, 1:] = torch.argsort(order)[pairs[:, 1:]]
    torch.testing.assert_close(losses.vrkd(teacher[:, order], student[:, order], moved), value)


def test_relation_by_hand() -> None:
    probability = torch.zeros(1, 2, 2, 1, 2)
    probability[0, 0, :, 0] = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # cells of view 0: bin 0, bin 1
    probability[0, 1, :, 0] = torch.tensor([[1.0, 1.0], [0.0, 0.0]])  # cells of view 1: bin 0 twice
    got = losses.relation(probability, torch.tensor([[0, 1, 0]]), grid=(1, 2), temperature=1.0)
    near, far = math.log(math.e / (math.e + 1)), math.log(1 / (math.e + 1))
    torch.testing.assert_close(got, torch.tensor([[[near, far], [near, far]]]))
    sharper = losses.relation(probability, torch.tensor([[0, 1, 0]]), grid=(1, 2), temperature=0.5)
    torch.testing.assert_close(sharper[0, 0].diff().item(), -2.0)


def test_vrkd_by_hand() -> None:
    """Mean over the cells of KL(R_T || R_S): those of the teacher's view are alike, the student's are not."""
    teacher, student = torch.zeros(2, 1, 2, 2, 1, 2)
    student[0, :, :, 0] = torch.eye(2)  # [B, V, N, h, w]: two cells, each wholly in a bin of its own
    teacher[0, 0, :, 0] = torch.eye(2)
    teacher[0, 1, 0, 0] = 1.0  # both cells in bin 0
    p = math.e / (math.e + 1)
    even = torch.tensor([0.5, 0.5])
    # from view 0 the teacher's two cells are equally near; the student's cell finds its like
    expected = (even * (even / torch.tensor([p, 1 - p])).log()).sum().item()
    got = losses.vrkd(teacher, student, torch.tensor([[0, 0, 1]]), (1, 2), temperature=1.0)
    assert got.item() == pytest.approx(expected, rel=1e-5)


def _plain_mean(terms: list[float]) -> float:
    return sum(terms) / len(terms)


def _neighbours(height: int, width: int, down: int, right: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    return [((y, x), (y + down, x + right)) for y in range(height - down) for x in range(width - right)]


def test_gradient_matching_equals_the_plain_loop() -> None:
    torch.manual_seed(6)
    pred, target = torch.rand(2, 1, 1, 18, 21) * 20 + 1
    mask = torch.rand(1, 1, 18, 21) > 0.2
    expected = 0.0
    for step in (1, 2, 4, 8):
        residual = (pred / target).log()[0, 0, ::step, ::step]
        known = mask[0, 0, ::step, ::step]
        for direction in ((1, 0), (0, 1)):
            pairs = [(a, b) for a, b in _neighbours(*known.shape, *direction) if known[a] and known[b]]
            expected += _plain_mean([abs(residual[a] - residual[b]).item() for a, b in pairs]) if pairs else 0.0
    assert losses.gradient_matching(pred, target, mask).item() == pytest.approx(expected, rel=1e-4)


def test_smoothness_equals_the_plain_loop() -> None:
    torch.manual_seed(7)
    depth, images = torch.rand(1, 2, 5, 8) * 20 + 1, torch.rand(1, 2, 3, 5, 8) * 60
    mask = torch.rand(1, 2, 5, 8) > 0.2
    expected = 0.0
    for direction in ((1, 0), (0, 1)):
        terms = []
        for d, image, known in zip(depth[0], images[0], mask[0], strict=True):
            disparity = (1 / d) / (1 / d[known]).mean()
            for a, b in _neighbours(5, 8, *direction):
                if known[a] and known[b]:
                    edge = _plain_mean([abs(c[a] - c[b]).item() / 25.5 for c in image])
                    terms.append(abs(disparity[a] - disparity[b]).item() * math.exp(-edge))
        expected += _plain_mean(terms)
    assert losses.edge_aware_smoothness(depth, images, mask).item() == pytest.approx(expected, rel=1e-4)


def test_out_of_range_by_hand() -> None:
    logits = torch.tensor([0.3, -0.2, 1.0]).reshape(1, 1, 3, 1, 1)
    p = torch.softmax(logits, 2)[0, 0, -1, 0, 0].item()
    for truth, expected in ((True, -math.log(p)), (False, -math.log(1 - p))):
        got = losses.out_of_range_loss(logits, torch.tensor([[[[truth]]]]), _full(1, 1, 1, 1))
        assert got.item() == pytest.approx(expected, rel=1e-5)


def test_out_of_range_counts_where_the_truth_is_known() -> None:
    logits = torch.tensor([[0.3, -0.2, 1.0], [2.0, 1.0, -3.0]]).T.reshape(1, 1, 3, 1, 2)
    truth, known = torch.tensor([[[[True, True]]]]), torch.tensor([[[[True, False]]]])
    p = torch.softmax(logits, 2)[0, 0, -1, 0, 0].item()
    assert losses.out_of_range_loss(logits, truth, known).item() == pytest.approx(-math.log(p), rel=1e-5)


def test_gradient_matching_ignores_scale_and_counts_a_step() -> None:
    target = torch.rand(1, 2, 16, 24) * 20 + 1
    assert losses.gradient_matching(target * 2.5, target, _full(1, 2, 16, 24)).item() == pytest.approx(0, abs=1e-5)
    step = torch.ones(1, 1, 2, 4)
    step[..., 2:] = math.e
    got = losses.gradient_matching(step, torch.ones(1, 1, 2, 4), _full(1, 1, 2, 4), scales=1)
    assert got.item() == pytest.approx(1 / 3)


def test_smoothness_is_zero_for_flat_depth_and_smaller_at_edges() -> None:
    images = torch.zeros(1, 1, 3, 4, 6)
    mask = _full(1, 1, 4, 6)
    assert losses.edge_aware_smoothness(torch.full((1, 1, 4, 6), 7.0), images, mask).item() == 0
    depth = torch.full((1, 1, 4, 6), 5.0)
    depth[..., 3:] = 20.0
    flat = losses.edge_aware_smoothness(depth, images, mask)
    images[..., 3:] = 255
    assert losses.edge_aware_smoothness(depth, images, mask) < flat * 0.01


def _two_cameras() -> tuple[torch.Tensor, torch.Tensor]:
    intrinsics = torch.tensor([[20.0, 0, 15.5], [0, 20.0, 9.5], [0, 0, 1]]).expand(1, 2, 3, 3)
    camera_to_vehicle = torch.eye(4).repeat(1, 2, 1, 1)
    camera_to_vehicle[0, 1, 2, 3] = -1.0  # the second camera stands one metre behind the first
    return intrinsics, camera_to_vehicle


def test_overlap_consistency_of_a_wall() -> None:
    intrinsics, camera_to_vehicle = _two_cameras()
    depth = torch.full((1, 2, 20, 32), 9.0)
    depth[0, 1] = 10.0
    pairs = torch.tensor([[0, 0, 1], [0, 1, 0]])
    args = (intrinsics, camera_to_vehicle, pairs, torch.ones(1, 2, 20, 32, dtype=torch.bool))
    assert losses.overlap_consistency(depth, *args).item() == pytest.approx(0, abs=1e-5)
    depth[0, 1] = 11.0
    expected = (math.log(1.1) + math.log(10 / 9)) / 2
    assert losses.overlap_consistency(depth, *args).item() == pytest.approx(expected, rel=0.02)
    depth[0, 1] = 12.0
    expected = (math.log(1.2) + math.log(11 / 9)) / 2
    assert losses.overlap_consistency(depth, *args).item() == pytest.approx(expected, rel=0.02)
    depth[0, 1] = 13.0  # beyond the tolerance: hidden, not inconsistent
    assert losses.overlap_consistency(depth, *args).item() == 0


def test_views_are_compared_only_where_both_show_the_surroundings() -> None:
    intrinsics, camera_to_vehicle = _two_cameras()
    depth = torch.full((1, 2, 20, 32), 9.0)
    depth[0, 1] = 10.0
    depth[0, 0, :, 20:] = 10.0  # wrong by a ninth, but on the own vehicle, say
    pairs = torch.tensor([[0, 0, 1], [0, 1, 0]])
    usable = torch.ones(1, 2, 20, 32, dtype=torch.bool)
    assert losses.overlap_consistency(depth, intrinsics, camera_to_vehicle, pairs, usable) > 0.02
    usable[0, 0, :, 20:] = False
    value = losses.overlap_consistency(depth, intrinsics, camera_to_vehicle, pairs, usable)
    assert value.item() == pytest.approx(0, abs=1e-5)
    moved = losses.reproject(depth[:, 0], intrinsics[:, 0], intrinsics[:, 0], torch.eye(4)[None])
    kept = losses.among(moved, usable[:, 0], torch.ones_like(usable[:, 0]))
    assert torch.equal(kept.inside, moved.inside & usable[:, 0])
    seen = losses.among(moved, torch.ones_like(usable[:, 0]), usable[:, 0])
    assert torch.equal(seen.inside[..., :19], moved.inside[..., :19])
    assert not seen.inside[..., 20:].any()
    assert torch.equal(kept.grid, moved.grid)


def test_overlap_consistency_between_lenses() -> None:
    """Two lenses at one place before a wall that recedes to the right: z = 10 + x / 2."""
    intrinsics = torch.tensor(
        [[[20.0, 0, 15.5], [0, 20.0, 9.5], [0, 0, 1]], [[26.0, 0, 14.0], [0, 25.0, 11.0], [0, 0, 1]]]
    )
    slope = (torch.arange(32) - intrinsics[:, :1, 2]) / intrinsics[:, :1, 0]  # [V, W] x / z
    depth = (10 / (1 - slope / 2))[None, :, None].expand(1, 2, 20, 32)
    pairs = torch.tensor([[0, 0, 1], [0, 1, 0]])
    everywhere = torch.ones(1, 2, 20, 32, dtype=torch.bool)
    value = losses.overlap_consistency(depth, intrinsics[None], torch.eye(4).expand(1, 2, 4, 4), pairs, everywhere)
    assert value.item() < 1e-3
    assert value.item() > 0  # something was compared: between pixels it is linear in depth


def test_features_are_centred_over_usable_cells() -> None:
    features = torch.tensor([1.0, 3.0, 100.0]).reshape(1, 3, 1, 1, 1).repeat(1, 1, 2, 4, 5)
    features[0, 0, :, 0] = 77.0
    usable = torch.ones(1, 3, 8, 10, dtype=torch.bool)
    usable[0, 2] = False
    usable[0, 0, 1] = False  # one of two rows of the cells of the first row
    got = losses.centred(features, usable)
    mean = (15 * 1.0 + 20 * 3.0) / 35
    torch.testing.assert_close(got[0, 0, :, 1:], torch.full((2, 3, 5), 1 - mean))
    torch.testing.assert_close(got[0, 1], torch.full((2, 4, 5), 3 - mean))
    assert not got[0, 0, :, 0].any()
    assert not got[0, 2].any()
    two = losses.centred(features.repeat(2, 1, 1, 1, 1).half(), torch.cat([usable, torch.zeros_like(usable)]))
    torch.testing.assert_close(two[0], got[0])
    assert not two[1].any()


def test_relations_of_features_ignore_their_common_part_scale_and_size() -> None:
    torch.manual_seed(3)
    student = torch.randn(1, 3, 7, 12, 20)
    pairs, usable = torch.tensor([[0, 0, 1], [0, 2, 1]]), _full(1, 3, 24, 40)
    teacher = 5 * torch.nn.functional.interpolate(student.flatten(0, 1), scale_factor=2).unflatten(0, (1, 3)) + 300
    args = (losses.centred(teacher, usable), losses.centred(student, usable), pairs)
    assert losses.vrkd(*args).item() == pytest.approx(0, abs=1e-4)
    assert losses.vrkd(args[0], losses.centred(torch.randn_like(student), usable), pairs) > 0.1


def _identity_motion(height: int, width: int) -> losses.Reprojection:
    intrinsics = torch.tensor([[[20.0, 0, 7.5], [0, 20.0, 5.5], [0, 0, 1]]])
    return losses.reproject(torch.rand(1, height, width) + 3, intrinsics, intrinsics, torch.eye(4)[None])


def test_reprojection_by_hand() -> None:
    intrinsics = torch.tensor([[[20.0, 0, 7.5], [0, 20.0, 5.5], [0, 0, 1]]])
    i_to_j = torch.eye(4)[None].clone()
    i_to_j[0, 0, 3] = -0.5  # camera j stands half a metre to the right: at 10 m one pixel of 20 px focal length
    i_to_j[0, 2, 3] = 0.0
    moved = losses.reproject(torch.full((1, 12, 16), 10.0), intrinsics, intrinsics, i_to_j)
    x = ((moved.grid[0, 4, :, 0] + 1) * 16 - 1) / 2
    torch.testing.assert_close(x[1:], torch.arange(15.0), atol=1e-4, rtol=0)
    assert not moved.inside[0, :, 0].any()  # it left the image
    assert moved.inside[0, :, 1:].all()
    for back, seen in ((-9.85, True), (-9.95, False), (-20.0, False)):  # 15 and 5 cm before camera j, and behind it
        i_to_j = torch.eye(4)[None].clone()
        i_to_j[0, 2, 3] = back
        moved = losses.reproject(torch.full((1, 1, 1), 10.0), torch.eye(3)[None], torch.eye(3)[None], i_to_j)
        assert moved.inside.item() == seen


def test_reprojection_equals_the_plain_loop() -> None:
    """Between cameras of different lenses and sizes, one turned against the other."""
    torch.manual_seed(8)
    intrinsics_i = torch.tensor([[6.0, 0, 3.2], [0, 5.0, 2.1], [0, 0, 1]])
    intrinsics_j = torch.tensor([[9.0, 0, 4.1], [0, 8.0, 6.2], [0, 0, 1]])
    i_to_j = torch.eye(4)
    i_to_j[:3, :3] = torch.linalg.matrix_exp(torch.tensor([[0, -0.2, 0.1], [0.2, 0, -0.1], [-0.1, 0.1, 0.0]]))
    i_to_j[:3, 3] = torch.tensor([0.4, -0.2, -1.0])
    depth, size_j = torch.rand(5, 7) * 6 + 0.5, (11, 9)
    moved = losses.reproject(depth[None], intrinsics_i[None], intrinsics_j[None], i_to_j[None], size_j)
    seen = 0
    for y in range(5):
        for x in range(7):
            ray = torch.tensor([(x - 3.2) / 6, (y - 2.1) / 5, 1.0])
            point = i_to_j[:3, :3] @ (ray * depth[y, x]) + i_to_j[:3, 3]
            z = point[2].item()
            column, row = 9 * point[0].item() / z + 4.1, 8 * point[1].item() / z + 6.2
            inside = z > 0.1 and -0.5 < column < size_j[1] - 0.5 and -0.5 < row < size_j[0] - 0.5
            place = [2 * (column + 0.5) / size_j[1] - 1, 2 * (row + 0.5) / size_j[0] - 1] if inside else [0.0, 0.0]
            assert moved.inside[0, y, x].item() == inside
            assert moved.grid[0, y, x].tolist() == pytest.approx(place, abs=1e-5)
            assert moved.depth[0, y, x].item() == pytest.approx(z, abs=1e-5)
            seen += inside
    assert 5 < seen < 30


def test_motion_of_the_vehicle_is_applied_between_the_cameras() -> None:
    camera_i, camera_j, vehicle = (torch.eye(4) for _ in range(3))
    camera_i[0, 3], camera_j[0, 3], vehicle[0, 3] = 1.0, 5.0, 10.0
    turn = torch.tensor([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    got = losses.view_to_view(camera_i, camera_j, vehicle @ turn) @ torch.tensor([0.0, 2, 0, 1])
    # camera i: (0, 2); vehicle then: (1, 2); turned (-2, 1), moved (8, 1); camera j: (3, 1)
    torch.testing.assert_close(got, torch.tensor([3.0, 1, 0, 1]))


def test_photometric_of_two_greys_by_hand() -> None:
    a, b = 0.5, 0.25
    luminance = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    images = [torch.full((1, 3, 12, 16), 255 * grey) for grey in (a, b)]
    got = losses.photometric(*images, _identity_motion(12, 16))
    assert got.item() == pytest.approx(0.85 * (1 - luminance) / 2 + 0.15 * 0.25, rel=1e-4)
    assert losses.photometric(images[0], images[0], _identity_motion(12, 16)).item() == pytest.approx(0, abs=1e-6)


def _plain_ssim(a: list[float], b: list[float]) -> float:
    """Of two windows of nine pixels, range 0 to 1 (Wang et al., 2004)."""
    mean_a, mean_b = _plain_mean(a), _plain_mean(b)
    variances = _plain_mean([(x - mean_a) ** 2 for x in a]) + _plain_mean([(y - mean_b) ** 2 for y in b])
    covariance = _plain_mean([(x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True)])
    luminance = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
    return luminance * (2 * covariance + 0.03**2) / (variances + 0.03**2)


def test_photometric_equals_the_plain_loop() -> None:
    """Of a picture that is moved by a column, which leaves the first one of the second view unseen."""
    torch.manual_seed(9)
    height, width = 5, 8
    wanted, source = torch.rand(2, 1, 3, height, width) * 255
    intrinsics = torch.tensor([[[20.0, 0, 3.5], [0, 20.0, 2.0], [0, 0, 1]]])
    i_to_j = torch.eye(4)[None].clone()
    i_to_j[0, 0, 3] = -0.5  # one pixel at 10 m
    moved = losses.reproject(torch.full((1, height, width), 10.0), intrinsics, intrinsics, i_to_j)
    target, warped = wanted[0] / 255, torch.roll(source[0], 1, dims=2) / 255
    terms = []
    # a window that holds a pixel of the first column does not count; beyond the image the picture is mirrored
    mirrored = [1, *range(width), width - 2], [1, *range(height), height - 2]
    for y in range(height):
        for x in range(2, width):
            window = [(mirrored[1][y + j], mirrored[0][x + i]) for j in range(3) for i in range(3)]
            ssim = [
                _plain_ssim([a[p].item() for p in window], [b[p].item() for p in window])
                for a, b in zip(target, warped, strict=True)
            ]
            structure = _plain_mean([min(max((1 - s) / 2, 0), 1) for s in ssim])
            terms.append(0.85 * structure + 0.15 * (target - warped)[:, y, x].abs().mean().item())
    assert losses.photometric(wanted, source, moved).item() == pytest.approx(_plain_mean(terms), rel=1e-3)


def test_photometric_is_least_at_the_true_depth_and_pulls_towards_it() -> None:
    torch.manual_seed(4)
    intrinsics = torch.tensor([[[20.0, 0, 15.5], [0, 20.0, 9.5], [0, 0, 1]]])
    coarse = torch.rand(1, 3, 5, 8) * 255
    source = torch.nn.functional.interpolate(coarse, (20, 32), mode="bicubic").clamp(0, 255)
    target = torch.roll(source, 2, dims=3)  # a wall at 10 m, seen from 1 m to the left
    i_to_j = torch.eye(4)[None].clone()
    i_to_j[0, 0, 3] = -1.0

    def value(depth: float) -> tuple[float, float]:
        z = torch.full((1, 20, 32), depth, requires_grad=True)
        loss = losses.photometric(target, source, losses.reproject(z, intrinsics, intrinsics, i_to_j))
        loss.backward()
        return loss.item(), z.grad.sum().item()

    assert value(10.0)[0] == pytest.approx(0, abs=1e-4)
    (near, down), (far, up) = value(8.5), value(12.0)
    assert near > 0.01
    assert far > 0.01
    assert down < 0 < up


def test_photometric_leaves_out_what_moves_with_the_camera() -> None:
    """The left half is the own car, the right half a wall that comes by."""
    torch.manual_seed(5)
    intrinsics = torch.tensor([[[20.0, 0, 15.5], [0, 20.0, 9.5], [0, 0, 1]]])
    source = torch.nn.functional.interpolate(torch.rand(1, 3, 5, 8) * 255, (20, 32), mode="bicubic").clamp(0, 255)
    target = torch.cat([source[..., :16], torch.roll(source, 2, dims=3)[..., 16:]], dim=3)
    i_to_j = torch.eye(4)[None].clone()
    i_to_j[0, 0, 3] = -1.0
    depth = torch.full((1, 20, 32), 10.0, requires_grad=True)
    moved = losses.reproject(depth, intrinsics, intrinsics, i_to_j)
    with_car = losses.photometric(target, source, moved)
    assert with_car > 0.05
    losses.photometric(target, source, moved, ignore_still=True).backward()
    assert depth.grad is not None
    assert not depth.grad[..., :14].any()
    assert depth.grad[..., 18:].any()
    assert losses.photometric(target, source, moved, ignore_still=True) < 0.2 * with_car


def test_empty_masks_and_no_pairs_give_zero_loss_and_zero_gradient() -> None:
    depth = (torch.rand(1, 2, 6, 8) + 1).requires_grad_()
    logits = torch.randn(1, 2, 5, 6, 8, requires_grad=True)
    nothing = torch.zeros(1, 2, 6, 8, dtype=torch.bool)
    nan = torch.full((1, 2, 6, 8), math.nan)
    no_pairs = torch.zeros(0, 3, dtype=torch.long)
    eye = torch.eye(4).expand(1, 2, 4, 4)
    probability = torch.softmax(logits, 2)
    values = [
        losses.silog(depth, nan, nothing),
        losses.ckd(probability, logits, nothing),
        losses.vrkd(probability, probability, no_pairs),
        losses.out_of_range_loss(logits, nothing, nothing),
        losses.gradient_matching(depth, nan, nothing),
        losses.edge_aware_smoothness(depth, torch.zeros(1, 2, 3, 6, 8), nothing),
        losses.overlap_consistency(depth, eye[..., :3, :3], eye, no_pairs, ~nothing),
        losses.photometric(
            torch.zeros(2, 3, 6, 8),
            torch.ones(2, 3, 6, 8),
            losses.reproject(depth[0], eye[0, :, :3, :3], eye[0, :, :3, :3], eye[0] - torch.eye(4) * 2),
        ),
        losses.photometric(
            *torch.zeros(2, 0, 3, 6, 8),
            losses.reproject(depth[0, :0], *torch.zeros(2, 0, 3, 3), torch.zeros(0, 4, 4)),
        ),
    ]
    assert [value.item() for value in values] == [0] * len(values)
    torch.stack(values).sum().backward()
    assert depth.grad.abs().sum() == 0
    assert logits.grad.abs().sum() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gradients_are_finite_for_half_precision_inputs_under_autocast(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    logits = (torch.randn(1, 2, 9, 12, 20) * 30).to(dtype).requires_grad_()
    depth = (torch.rand(1, 2, 12, 20) * 80 + 0.1).to(dtype).requires_grad_()
    gt = torch.rand(1, 2, 12, 20) * 80 + 0.1
    mask = torch.rand(1, 2, 12, 20) > 0.3
    pairs = torch.tensor([[0, 0, 1], [0, 1, 0]])
    intrinsics, camera_to_vehicle = _two_cameras()
    with torch.autocast("cpu", dtype=dtype):
        teacher = losses.soft_bins(gt, torch.logspace(-1, 2, 8).expand(1, 8))
        total = (
            losses.silog(depth, gt, mask)
            + losses.ckd(teacher, logits[:, :, :-1], mask, 2.0)
            + losses.vrkd(teacher, torch.softmax(logits[:, :, :-1], 2), pairs)
            + losses.out_of_range_loss(logits, gt > 40, mask)
            + losses.gradient_matching(depth, gt, mask)
            + losses.edge_aware_smoothness(depth, torch.rand(1, 2, 3, 12, 20) * 255, mask)
            + losses.overlap_consistency(depth, intrinsics, camera_to_vehicle, pairs, mask)
            + losses.photometric(
                torch.rand(1, 3, 12, 20) * 255,
                (torch.rand(1, 3, 12, 20) * 255).to(dtype),
                losses.reproject(depth[:, 0], intrinsics[:, 0], intrinsics[:, 1], torch.eye(4)[None]),
            )
        )
    assert total.dtype == torch.float32
    total.backward()
    assert torch.isfinite(logits.grad).all()
    assert torch.isfinite(depth.grad).all()
