"""The training step: which terms there are, what they do to the student, and its optimiser."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from fsmde_ros.errors import ConfigError
from fsmde_ros.network.encoder import EncoderConfig
from fsmde_ros.network.rays import ray_maps
from fsmde_ros.network.student import Student, StudentConfig
from training.augment import AugmentSettings, augment
from training.batch import Sample, SweepBatch, collate, select_views
from training.module import DistillModule, Optimisation, parameter_groups, rate_share, run_student, score_views
from training.shared_bins import TeacherAdapter, ask_teacher, teacher_logits
from training.teachers.teacher import Kind, TeacherOutput
from training.terms import (
    LossWeights,
    SharedBins,
    _out_of_range_term,
    around_centres,
    distillation_terms,
    mean_where,
    teacher_bins,
)

TERMS = ("silog", "ckd", "vrkd", "bins", "out_of_range", "gradient", "smoothness", "overlap", "photometric")
METHOD_A = ("cross", "vrkd_features")
OFF = LossWeights(**dict.fromkeys((*TERMS, *METHOD_A), 0.0))
CONFIG = StudentConfig(bins=16, attention_dim=32, attention_blocks=1, decoder_widths=(32, 16, 16))


@pytest.fixture
def batch(sample: Sample) -> SweepBatch:
    return collate([sample, select_views(sample, [3, 0, 1])])


@pytest.fixture
def student() -> Student:
    torch.manual_seed(0)
    return Student(CONFIG).train()


def test_a_term_is_there_where_its_weight_is_above_zero(batch: SweepBatch, student: Student) -> None:
    output = run_student(student, batch)
    assert distillation_terms(output, batch, OFF, CONFIG) == {}
    for term in TERMS:
        terms = distillation_terms(output, batch, replace(OFF, **{term: 1.0}), CONFIG)
        assert set(terms) == {term}
        assert torch.isfinite(terms[term])
        assert terms[term] > 0


def test_teacher_terms_vanish_where_the_teacher_cannot_be_aligned(batch: SweepBatch, student: Student) -> None:
    blind = batch._replace(lidar_depth=torch.full_like(batch.lidar_depth, torch.nan))
    terms = distillation_terms(run_student(student, blind), blind, LossWeights(), CONFIG)
    assert {name: value.item() for name, value in terms.items() if name != "vrkd"} == dict.fromkeys(
        ("silog", "bins", "ckd", "out_of_range", "gradient"), 0.0
    )
    torch.stack(list(terms.values())).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in student.parameters() if p.grad is not None)


def test_distillation_does_not_move_the_bin_centres(batch: SweepBatch, student: Student) -> None:
    for term in ("ckd", "vrkd", "out_of_range"):
        student.zero_grad()
        terms = distillation_terms(run_student(student, batch), batch, replace(OFF, **{term: 1.0}), CONFIG)
        terms[term].backward()
        moved = [p.grad for p in student.bin_centres.parameters() if p.grad is not None]
        assert all(not gradient.any() for gradient in moved), term


def test_pixels_without_surroundings_teach_nothing(batch: SweepBatch, student: Student) -> None:
    """Whatever a teacher or another view says of the rim of an input, or of the vehicle itself."""
    output = run_student(student, batch)
    usable = batch.usable.clone()
    usable[..., 32:, :] = False
    hidden = batch._replace(usable=usable)
    nonsense = hidden._replace(
        teacher_disparity=torch.where(usable, batch.teacher_disparity, 7.0),
        clean=torch.where(usable.unsqueeze(2), batch.clean, 255),
        images=torch.where(usable.unsqueeze(2), batch.images, 255),  # smoothness looks at them
    )
    for term in ("ckd", "vrkd", "out_of_range", "gradient", "smoothness", "overlap", "photometric"):
        weights = replace(OFF, **{term: 1.0})
        before, among_usable, with_nonsense = (
            distillation_terms(output, b, weights, CONFIG)[term].item() for b in (batch, hidden, nonsense)
        )
        assert with_nonsense == pytest.approx(among_usable, rel=1e-5), term
        assert among_usable != pytest.approx(before, rel=1e-5), term


def test_a_few_steps_on_one_batch_lower_the_loss(batch: SweepBatch, student: Student) -> None:
    optimizer = torch.optim.AdamW(parameter_groups(student, Optimisation(rate=3e-3)))
    weights, history = LossWeights(), []
    for _ in range(25):
        terms = distillation_terms(run_student(student, batch), batch, weights, CONFIG)
        loss = torch.stack([getattr(weights, name) * value for name, value in terms.items()]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.7 * history[0]


@pytest.mark.parametrize("is_frozen", [True, False])
def test_statistics_of_batch_norm_move_only_where_they_are_not_frozen(batch: SweepBatch, is_frozen: bool) -> None:
    """In a run of Lightning, which calls train() on nothing, and again after its validation."""
    encoder = EncoderConfig(freeze_batch_norm=is_frozen)
    module = DistillModule(Student(replace(CONFIG, encoder=encoder)), replace(OFF, silog=1.0))
    before = [buffer.clone() for buffer in module.student.encoder.buffers()]
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(accelerator="cpu", max_steps=4, val_check_interval=2, num_sanity_val_steps=0, **options)
    batches = [DataLoader([batch] * count, batch_size=None) for count in (4, 1)]
    trainer.fit(module, *batches)
    same = [torch.equal(a, b) for a, b in zip(before, module.student.encoder.buffers(), strict=True)]
    assert all(same) == is_frozen
    averaged = [torch.equal(a, b) for a, b in zip(before, module.average.encoder.buffers(), strict=True)]
    assert averaged == same


def test_parameter_groups_hold_every_trainable_parameter_once(student: Student) -> None:
    groups = parameter_groups(student, Optimisation())
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in student.parameters() if p.requires_grad)
    slow = {id(p) for group in groups if group["lr"] == Optimisation().encoder_rate for p in group["params"]}
    assert {id(p) for p in student.bin_centres.parameters()} <= slow
    assert not {id(p) for p in student.decoder.parameters()} & slow


BIN_MAP = (16, 24)  # of images of 64 x 96


class Convolution:
    """A teacher with features: two fixed random convolutions; its network can be looked at for gradients."""

    identity = "convolution"
    batch = 3
    kind: Kind = "disparity"

    def __init__(self) -> None:
        torch.manual_seed(7)
        self.model = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 8, 8), torch.nn.Conv2d(6, 1, 1))
        self.asked: list[int] = []

    def predict(self, images: torch.Tensor, with_features: bool = False) -> TeacherOutput:
        self.asked.append(len(images))
        features = self.model[0](images.float() / 255)
        disparity = torch.nn.functional.interpolate(self.model[1](features), images.shape[-2:])[:, 0]
        return TeacherOutput(disparity.detach(), features.detach() if with_features else None)


def _shared(student: Student, batch: SweepBatch) -> tuple[SharedBins, TeacherAdapter, Convolution]:
    teacher, adapter = Convolution(), TeacherAdapter(6, CONFIG.decoder_widths[-1])
    output, view = run_student(student, batch), ask_teacher(teacher, batch, BIN_MAP)
    return SharedBins(teacher_logits(student, adapter, view, output, batch), view), adapter, teacher


def test_a_teacher_is_asked_about_present_views_only(batch: SweepBatch) -> None:
    teacher = Convolution()
    view = ask_teacher(teacher, batch, BIN_MAP)
    assert sum(teacher.asked) == int(batch.present.sum()) == 8
    assert view.features.shape == (2, 5, 6, 16, 24)
    assert torch.isnan(view.disparity[1, 3:]).all()
    assert not view.features[1, 3:].any()
    alone = teacher.predict(batch.images[1, 1:2], with_features=True)
    assert alone.features is not None
    finer = torch.nn.functional.interpolate(alone.features, (16, 24), mode="bilinear", align_corners=False)
    torch.testing.assert_close(view.features[1, 1], finer[0])
    torch.testing.assert_close(view.disparity[1, 1], alone.disparity[0])


def test_method_a_trains_adapter_head_and_centres_and_not_the_teacher(batch: SweepBatch, student: Student) -> None:
    shared, adapter, teacher = _shared(student, batch)
    assert shared.logits.shape == (2, 5, 17, 16, 24)
    only = replace(OFF, cross=1.0)
    terms = distillation_terms(run_student(student, batch), batch, only, CONFIG, shared)
    assert set(terms) == {"cross"}
    terms["cross"].backward()
    for part in (adapter, student.bin_logits, student.bin_centres):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters()), part
    assert all(p.grad is None for p in teacher.model.parameters())
    assert all(p.grad is None for p in student.decoder.parameters())  # the teacher's way does not pass the decoder


def test_in_method_a_the_student_follows_the_teacher_and_not_the_other_way(batch: SweepBatch, student: Student) -> None:
    shared, adapter, _ = _shared(student, batch)
    for term in ("ckd", "vrkd", "vrkd_features"):
        student.zero_grad()
        weights = replace(OFF, **{term: 1.0})
        terms = distillation_terms(run_student(student, batch), batch, weights, CONFIG, shared)
        assert set(terms) == {term}
        assert terms[term] > 0
        terms[term].backward()
        assert all(p.grad is None for p in adapter.parameters()), term
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in student.decoder.parameters()), term


def test_relations_of_features_are_of_usable_cells_alone(batch: SweepBatch, student: Student) -> None:
    usable = batch.usable.clone()
    usable[..., 32:, :] = False
    hidden = batch._replace(usable=usable)
    shared, _, _ = _shared(student, batch)
    output, weights = run_student(student, batch), replace(OFF, vrkd_features=1.0)
    nonsense = shared.view.features.clone()
    nonsense[..., nonsense.shape[-2] // 2 :, :] = 1000.0
    other = shared._replace(view=shared.view._replace(features=nonsense))
    values = [
        distillation_terms(output, b, weights, CONFIG, given)["vrkd_features"].item()
        for b, given in ((hidden, shared), (hidden, other), (batch, shared))
    ]
    assert values[1] == pytest.approx(values[0], rel=1e-5)
    assert values[2] != pytest.approx(values[0], rel=1e-3)


def test_two_steps_of_method_a_move_adapter_and_student_and_leave_the_teacher(batch: SweepBatch) -> None:
    torch.manual_seed(0)
    teacher = Convolution()
    before = [p.detach().clone() for p in teacher.model.parameters()]
    module = DistillModule(Student(CONFIG).train(), LossWeights(), Optimisation(), teacher, 6)
    module.trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    module.log = module.log_dict = lambda *_, **__: None  # type: ignore[method-assign,assignment]  # it runs no loop
    groups = [*parameter_groups(module.student, Optimisation()), {"params": module.adapter.parameters()}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    start = {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}
    values = []
    for _ in range(2):
        loss = module.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert np.isfinite(values).all()
    moved = {name for name, p in module.named_parameters() if name in start and not torch.equal(p, start[name])}
    assert {name for name in start if name.startswith("adapter.")} <= moved
    assert any(name.startswith("student.decoder.") for name in moved)
    assert all(torch.equal(p, old) for p, old in zip(teacher.model.parameters(), before, strict=True))
    assert not any(name.startswith("teacher") for name in module.state_dict())


def test_gradients_of_method_a_are_finite_under_autocast(batch: SweepBatch, student: Student) -> None:
    teacher, adapter = Convolution(), TeacherAdapter(6, CONFIG.decoder_widths[-1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, view = run_student(student, batch), ask_teacher(teacher, batch, BIN_MAP)
        shared = SharedBins(teacher_logits(student, adapter, view, output, batch), view)
        weights = replace(LossWeights(), vrkd_features=0.1, photometric=0.1, overlap=0.1, smoothness=0.1)
        terms = distillation_terms(output, batch, weights, CONFIG, shared)
        torch.stack(list(terms.values())).sum().backward()
    assert set(terms) == {*TERMS, *METHOD_A}
    for module in (student, adapter):
        assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)


def test_features_are_refused_without_a_teacher_that_has_them(student: Student) -> None:
    with pytest.raises(ConfigError, match="vrkd_features"):
        DistillModule(student, LossWeights(vrkd_features=0.1))
    with pytest.raises(ConfigError, match=r"losses\.cross"):
        DistillModule(student, LossWeights(cross=0), None, Convolution(), 6)


def test_rate_rises_then_falls_to_its_final_share() -> None:
    shares = [rate_share(step, 100, 10, 0.05) for step in range(101)]
    assert shares[0] == pytest.approx(0.1)
    assert shares[9] == shares[10] == 1
    assert shares[55] == pytest.approx(0.05 + 0.95 * 0.5)
    assert shares[100] == pytest.approx(0.05)


def test_a_run_that_goes_on_with_more_steps_has_their_rates_from_its_first_step_on(
    batch: SweepBatch, tmp_path: Path
) -> None:
    settings = Optimisation(rate=1e-3, warmup_steps=1)
    rates: list[float] = []

    class Seen(lightning.Callback):
        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            rates.append(max(group["lr"] for group in optimizer.param_groups))

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 4:
                trainer.save_checkpoint(tmp_path / "state.ckpt")

    for steps, state in ((4, None), (8, tmp_path / "state.ckpt")):
        options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = lightning.Trainer(accelerator="cpu", max_steps=steps, callbacks=[Seen()], **options)
        module = DistillModule(Student(CONFIG), replace(OFF, silog=1.0), settings)
        trainer.fit(module, DataLoader([batch] * 9, batch_size=None), ckpt_path=state, weights_only=state is not None)
    assert rates[:4] == pytest.approx([1e-3 * rate_share(step, 4, 1, settings.final_share) for step in range(4)])
    assert rates[4:] == pytest.approx([1e-3 * rate_share(step, 8, 1, settings.final_share) for step in range(4, 8)])


def test_the_four_pixels_around_the_centre_of_a_cell() -> None:
    full = torch.rand(2, 3, 8, 12)
    four = around_centres(full, torch.zeros(2, 3, 5, 2, 3))
    assert four.shape == (4, 2, 3, 2, 3)
    torch.testing.assert_close(four[0], full[..., 1::4, 1::4])
    torch.testing.assert_close(four[3], full[..., 2::4, 2::4])
    assert set(four[:, 0, 0, 1, 2].tolist()) == set(full[0, 0, 5:7, 9:11].flatten().tolist())


def test_a_mean_is_of_what_is_known() -> None:
    values = torch.tensor([[1.0, torch.nan, torch.nan], [3.0, 5.0, torch.inf]])
    known = torch.tensor([[True, False, False], [True, True, False]])
    torch.testing.assert_close(mean_where(values, known), torch.tensor([2.0, 5.0, 0.0]))


@pytest.mark.parametrize("reduction", [1, 2])
def test_of_a_plane_the_teacher_says_the_depth_of_the_centre_of_a_cell(reduction: int) -> None:
    """Half a pixel lower, a road of 192 rows is 2 % nearer at 15 m and 7 % at 60 m."""
    size, stride = (192, 320), 4 * reduction
    camera_to_vehicle = torch.tensor([[0.0, 0, 1, 1.7], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])[None, None]
    intrinsics = torch.tensor([[253.0, 0, 163], [0, 253, 98], [0, 0, 1]])[None, None]
    rig = (intrinsics, camera_to_vehicle, torch.zeros(1))
    cells = (size[0] // stride, size[1] // stride)
    fine = ray_maps(*rig, size, 1, CONFIG.depth_range)
    there = ray_maps(*rig, cells, 4, CONFIG.depth_range, reduction).log_ground_depth
    centers = torch.linspace(*np.log(CONFIG.depth_range), 64).exp()[None]
    logits = torch.zeros(1, 1, 65, *cells)
    inside = around_centres(fine.meets_ground > 0, logits)
    said, kept = teacher_bins(around_centres(fine.log_ground_depth.exp(), logits), inside, centers, sigma=0.0)
    torch.testing.assert_close(said.sum(2)[kept], torch.ones(int(kept.sum())))
    log_depth = (said * centers.log()[:, None, :, None, None]).sum(2)
    near = inside.all(0) & (there < np.log(70.0))
    assert near.float().mean() > 0.3
    torch.testing.assert_close(log_depth[near], there[near], atol=0.01, rtol=0)


def _hits(batch: SweepBatch, logits: torch.Tensor) -> torch.Tensor:
    """[B, V, h, w] bool: cells with a point of the LiDAR that the student can say."""
    lidar = batch.lidar_depth
    known = batch.present[:, :, None, None] & (lidar >= CONFIG.d_min) & (lidar <= CONFIG.d_max)
    hit: torch.Tensor = around_centres(known, logits).any(0)
    assert hit.any()
    return hit


def test_a_return_of_the_lidar_is_in_range_whatever_a_teacher_says(batch: SweepBatch, student: Student) -> None:
    disparity = batch.teacher_disparity.clone()
    disparity[..., 48:] = 0.0  # the right half of every view is sky to it
    sky = batch._replace(teacher_disparity=disparity)
    output = run_student(student, sky)
    output.logits.retain_grad()
    distillation_terms(output, sky, replace(OFF, out_of_range=1.0), CONFIG)["out_of_range"].backward()
    assert output.logits.grad is not None
    assert (output.logits.grad[:, :, -1][_hits(sky, output.logits)] > 0).all()  # downhill is less of it


def test_without_a_teacher_only_a_return_that_is_called_sky_is_mended(batch: SweepBatch, student: Student) -> None:
    """In its own sweep: beside one that has a teacher, whose hits all count."""
    disparity = batch.teacher_disparity.clone()
    disparity[0] = torch.nan
    given = batch._replace(teacher_disparity=disparity)
    output = run_student(student, given)
    logits = output.logits.detach().clone()
    logits[..., :12, -1:, :, :8] = 20.0  # a part of every view is called sky
    logits.requires_grad_()
    distillation_terms(output._replace(logits=logits), given, replace(OFF, out_of_range=1.0), CONFIG)[
        "out_of_range"
    ].backward()
    assert logits.grad is not None
    beyond, hit = logits.grad[:, :, -1], _hits(given, logits)
    called = torch.softmax(logits.detach(), dim=2)[:, :, -1] > 0.5
    assert (hit & called)[0].any()
    assert (beyond[hit & called] > 0).all()
    assert not beyond[0][~(hit & called)[0]].any()
    assert (beyond[1][hit[1]] > 0).all()


def test_the_lidar_alone_keeps_the_sky_and_mends_what_is_wrongly_called_so() -> None:
    """The head alone, on fixed features: AdamW makes whole steps of any gradient that keeps its sign."""
    is_sky = torch.zeros(1, 1, 16, 24, dtype=torch.bool)
    is_sky[..., :6, :] = True
    is_white_wall = torch.zeros_like(is_sky)
    is_white_wall[..., 10:12, 4:8] = True
    features = torch.randn(4, *is_sky.shape, generator=torch.Generator().manual_seed(0)) * 0.1
    features[0] += torch.where(is_sky | is_white_wall, 1.0, -1.0)
    features[1] += is_white_wall.float()
    weight, bias = torch.tensor([4.0, 0.0, 0.0, 0.0], requires_grad=True), torch.tensor(0.0, requires_grad=True)

    def logits() -> torch.Tensor:
        beyond = torch.einsum("cbvhw,c->bvhw", features, weight) + bias
        return torch.stack([torch.zeros_like(beyond), beyond], dim=2)

    nothing = torch.zeros_like(is_sky)
    optimizer = torch.optim.AdamW([weight, bias], lr=1e-2)
    assert (logits()[:, :, 1] > 0)[is_sky | is_white_wall].all()
    for _ in range(600):
        optimizer.zero_grad()
        _out_of_range_term(logits(), nothing.float(), nothing, ~is_sky).backward()
        optimizer.step()
    is_called_sky = logits()[:, :, 1] > 0
    assert not is_called_sky[~is_sky].any()
    assert is_called_sky[is_sky].float().mean() > 0.95


def test_scores_are_of_present_views_only(batch: SweepBatch) -> None:
    depth = torch.nan_to_num(batch.dense_depth, nan=1.0, posinf=CONFIG.d_max)
    scores = score_views(depth, batch, CONFIG)
    assert len(scores) == 8
    assert all(score.abs_rel == pytest.approx(0, abs=1e-6) for _, score in scores)
    doubled = dict(score_views(depth * 2, batch, CONFIG))
    assert doubled["view_1"].d1 == 0
    assert np.isfinite(doubled["view_1"].rmse)


def test_a_validation_is_in_float32_whatever_the_training_is_in(batch: SweepBatch, student: Student) -> None:
    """As the card says of its figures."""
    module = DistillModule(student)
    boards = []
    for lowered in (False, True):
        module.on_validation_epoch_start()
        with torch.autocast("cpu", torch.bfloat16, enabled=lowered):
            module.validation_step(batch, 0)
        boards.append(module.board.overall())
    assert boards[0].n > 1000
    assert boards[0] == boards[1]


@pytest.mark.parametrize("views", [[0, 2], [3]])
def test_a_rig_without_overlap_trains_on_what_is_left(sample: Sample, student: Student, views: list[int]) -> None:
    """Two cameras back to back, and one alone: no relations, no comparison of views, and no NaN."""
    alone = collate([select_views(sample, views)])
    assert not alone.adjacent.any()
    everything = LossWeights(photometric=1.0, overlap=1.0, smoothness=1.0, photometric_consecutive=1.0)
    terms = distillation_terms(run_student(student, alone), alone, everything, CONFIG)
    between_views = {"vrkd", "overlap", "photometric", "photometric_consecutive"}
    assert {name for name, value in terms.items() if value == 0} == between_views
    torch.stack(list(terms.values())).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in student.parameters() if p.grad is not None)


def test_views_are_compared_by_their_pictures_before_each_was_recoloured(sample: Sample, student: Student) -> None:
    """At the true depth they are as much alike as they are, whatever an augmentation makes of each."""
    moved = AugmentSettings(drop_view=0, style=0, grey=0, hard_light=0, random_filter=0, exposure=0, blur=0, noise=0,
                            jpeg=0, cutout=0, glare=0, own_body=0)  # fmt: skip
    spoilt = replace(moved, style=1, exposure=0.3, blur=1, noise=1, glare=0.5, cutout=1, own_body=1)

    def at_the_truth(settings: AugmentSettings, seed: int) -> float:
        batch = collate([augment(sample, settings, np.random.default_rng(seed))])
        truth = torch.nan_to_num(batch.dense_depth, nan=1.0, posinf=CONFIG.d_max)
        output = run_student(student, batch)._replace(depth=truth)
        return distillation_terms(output, batch, replace(OFF, photometric=1.0), CONFIG)["photometric"].item()

    for seed in range(4):
        assert 0 < at_the_truth(spoilt, seed) == at_the_truth(moved, seed) < 0.05


@pytest.mark.parametrize(
    ("settings", "field", "value"),
    [
        (LossWeights, "losses.silog_lam", 1.5),
        (LossWeights, "losses.ckd_temperature", 0.0),
        (LossWeights, "losses.vrkd_temperature", 0.0),
        (LossWeights, "losses.ckd", float("nan")),
        (LossWeights, "losses.ckd", float("inf")),
        (Optimisation, "optimisation.rate", 0.0),
        (Optimisation, "optimisation.encoder_rate", float("nan")),
        (Optimisation, "optimisation.clip_norm", -1.0),
        (Optimisation, "optimisation.weight_decay", -0.1),
        (Optimisation, "optimisation.warmup_steps", -1),
        (Optimisation, "optimisation.final_share", 1.1),
        (Optimisation, "optimisation.average_decay", 1.0),
    ],
)
def test_settings_that_would_spoil_a_run_are_refused_by_name(
    settings: type[LossWeights] | type[Optimisation], field: str, value: float
) -> None:
    with pytest.raises(ConfigError, match=rf"{field} must be .*, got"):
        settings(**{field.partition(".")[2]: value})


@pytest.mark.parametrize("name", [field.name for field in fields(LossWeights)])
def test_negative_weights_are_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        LossWeights(**{name: -1.0})
