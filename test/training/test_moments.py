"""Two moments of a camera: a wall that is passed, its picture known in every pixel at any pose of the vehicle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fsmde_ros.errors import ImageError, SourceError
from fsmde_ros.geometry import pixel_grid, transform, unproject
from fsmde_ros.network.student import Student, StudentConfig
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.sources.bag_writer import write_bag
from fsmde_ros.sweep import EncodedImage, LidarScan, Sweep, View
from training.augment import AugmentSettings, augment, crop_view, drop_views, mirror
from training.batch import Sample, collate, sample_from_sweep, select_views, with_moments
from training.configuration import DistillConfig
from training.data_source import open_data
from training.datasets import CachedSweeps, TownData, town_sample
from training.loaders import Loaders
from training.mixture import read_source
from training.module import run_student
from training.moments import are_consecutive, two_moments
from training.sample_file import has_moments, load_sample, save_sample
from training.terms import LossWeights, distillation_terms

SIZE = (64, 96)
WALL_M = 9.0  # ahead of the place where the vehicle is first
FORWARD = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
STILL = ("flip", "crop", "drop_view", "style", "grey", "random_filter", "exposure", "blur", "noise", "jpeg", "cutout")
STILL += ("glare", "own_body")  # what must be 0 for an augmentation to leave the images alone
WEIGHTS = LossWeights(**dict.fromkeys(("silog", "ckd", "vrkd", "bins", "out_of_range", "gradient", "cross"), 0.0))


def pose(x: float, y: float, yaw: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    matrix[:2, 3] = x, y
    return matrix


def two_cameras() -> Rig:
    cameras = []
    for index, yaw in enumerate((0.25, -0.2)):
        matrix = pose(0.3, 0.5 - index, yaw)
        matrix[:3, :3] = matrix[:3, :3] @ FORWARD
        matrix[2, 3] = 1.5
        intrinsics = np.array([[70.0 + index, 0, 46.0], [0, 69.0, 33.0 + index], [0, 0, 1]])
        cameras.append(Camera(f"cam_{index}", SIZE, intrinsics, matrix))
    return Rig(tuple(cameras))


def look_at_wall(camera: Camera, vehicle_to_map: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Picture [H, W, 3] and depth [H, W] of a wall at x = 9 m of the map with smooth waves on it."""
    camera_to_map = vehicle_to_map @ camera.camera_to_vehicle
    ends = transform(camera_to_map, unproject(camera.intrinsics, pixel_grid(SIZE), np.ones(SIZE)))
    ray = ends - camera_to_map[:3, 3]
    depth = (WALL_M - camera_to_map[0, 3]) / ray[..., 0]
    point = camera_to_map[:3, 3] + depth[..., None] * ray
    y, z = point[..., 1], point[..., 2]
    waves = [np.sin(1.9 * y + 0.4 * z), np.sin(1.3 * y - 1.7 * z), np.sin(0.6 * y + 2.1 * z + 1)]
    return np.rint(127 + 110 * np.stack(waves, axis=-1)).astype(np.uint8).reshape(*SIZE, 3), depth.reshape(SIZE)


def sweep_at(seconds: float, vehicle_to_map: np.ndarray | None) -> Sweep:
    rig = two_cameras()
    place = np.eye(4) if vehicle_to_map is None else vehicle_to_map
    stamp = round(seconds * 1e9)
    views = {c.name: View(look_at_wall(c, place)[0], stamp, vehicle_to_map) for c in rig.cameras}
    return Sweep(rig, stamp, views)


FIRST, SECOND = pose(0, 0, 0), pose(0.8, 0.15, 0.04)


@pytest.fixture
def passed() -> Sample:
    """The wall with its true depth, at two moments."""
    first, second = sweep_at(0, FIRST), sweep_at(0.1, SECOND)
    depth = np.stack([look_at_wall(camera, FIRST)[1] for camera in first.rig.cameras])
    return with_moments(sample_from_sweep(first, SIZE, depth), first, second)


class Output:
    """Of a student that says what it is told."""

    def __init__(self, depth: torch.Tensor) -> None:
        self.depth = depth


def loss_of(sample: Sample, factor: float) -> tuple[float, torch.Tensor]:
    """The term where the student says the true depth times a factor, and the gradient in its depth."""
    batch = collate([sample])
    depth = (factor * torch.nan_to_num(batch.dense_depth, nan=1.0, posinf=200.0)).requires_grad_()
    weights = replace(WEIGHTS, photometric_consecutive=1.0)
    (term,) = distillation_terms(Output(depth), batch, weights, StudentConfig()).values()  # type: ignore[arg-type]
    term.backward()
    assert depth.grad is not None
    return term.item(), depth.grad


@pytest.fixture
def driven() -> Sample:
    """The wall with its true depth, each camera at another moment, far from the origin of the map."""
    origin = pose(3000, -2000, 0.9)
    first, second = sweep_at(0, FIRST), sweep_at(0.1, SECOND)
    depth = np.stack([look_at_wall(first.rig["cam_0"], FIRST)[1], look_at_wall(first.rig["cam_1"], SECOND)[1]])
    views = {
        name: replace(sweep.views[name], vehicle_to_map=origin @ place)
        for name, sweep, place in (("cam_0", first, FIRST), ("cam_1", second, SECOND))
    }
    return sample_from_sweep(replace(first, views=views), SIZE, depth)


def overlap_of(sample: Sample) -> float:
    """The loss between views where the student says the true depth."""
    batch = collate([sample])
    depth = torch.nan_to_num(batch.dense_depth, nan=1.0, posinf=200.0)
    weights = replace(WEIGHTS, overlap=1.0)
    (term,) = distillation_terms(Output(depth), batch, weights, StudentConfig()).values()  # type: ignore[arg-type]
    return term.item()


def flipped(sample: Sample) -> Sample:
    return mirror(sample)


def cut(sample: Sample) -> Sample:
    return crop_view(crop_view(sample, 0, 10, 14, 46, 69), 1, 3, 2, 50, 75)


def swapped(sample: Sample) -> Sample:
    return select_views(sample, [1, 0])


def misplaced(sample: Sample) -> Sample:
    still = dict.fromkeys(STILL, 0.0)
    told = augment(sample, AugmentSettings(tilt=0.1, lift=0.1, **still), np.random.default_rng(3))
    for camera in told.rig.cameras:
        assert not np.allclose(camera.camera_to_vehicle, sample.rig[camera.name].camera_to_vehicle, atol=0.05)
    return told


@pytest.mark.parametrize("change", [replace, flipped, cut, swapped, misplaced])
def test_a_wall_that_is_passed_has_no_loss_at_its_depth(passed: Sample, change: Callable[[Sample], Sample]) -> None:
    """Whatever the augmentation does to the geometry."""
    sample = change(passed)
    true, gradient = loss_of(sample, 1.0)
    near, far = loss_of(sample, 0.8), loss_of(sample, 1.25)
    assert true < 0.004  # grey levels are whole, and pixels between pixels are interpolated
    assert min(near[0], far[0]) > 10 * true
    assert all(torch.isfinite(g).all() for g in (gradient, near[1], far[1]))
    assert near[1].sum() < 0 < far[1].sum()  # a step against it leads to the true depth


@pytest.mark.parametrize("change", [replace, flipped, cut, swapped, misplaced])
def test_views_of_two_exposures_agree_at_the_true_depth(
    driven: Sample, change: Callable[[Sample], Sample], tmp_path: Path
) -> None:
    """What the vehicle drives between them is known to the loss, whatever the augmentation and the cache do."""
    save_sample(tmp_path / "a.npz", change(driven))
    sample = load_sample(tmp_path / "a.npz")
    assert overlap_of(sample) < 0.001  # depth is kept as float16, and pixels between pixels are interpolated
    as_if_it_stood = replace(sample, vehicle_to_common=np.tile(np.eye(4), (2, 1, 1)))
    assert overlap_of(as_if_it_stood) > 0.05  # it drove 0.8 of 9 metres


def test_a_view_without_a_pose_is_taken_to_be_of_the_same_moment() -> None:
    first, second = sweep_at(0, FIRST), sweep_at(0.1, None)
    sample = sample_from_sweep(replace(first, views={**first.views, "cam_1": second.views["cam_1"]}), SIZE)
    np.testing.assert_array_equal(sample.vehicle_to_common, np.tile(np.eye(4), (2, 1, 1)))


def test_a_student_learns_nothing_from_a_vehicle_that_stands(passed: Sample) -> None:
    first = sweep_at(0, FIRST)
    standing = with_moments(passed, first, sweep_at(0.1, FIRST))
    value, gradient = loss_of(standing, 1.3)
    assert value == 0
    assert not gradient.any()


def test_views_without_a_second_moment_do_not_count(passed: Sample) -> None:
    nothing, gradient = loss_of(replace(passed, moments=None), 1.2)
    assert nothing == 0
    assert not gradient.any()
    _, gradient = loss_of(drop_views(passed, [1]), 1.2)
    assert gradient[0, 0].any()
    assert not gradient[0, 1].any()
    together = collate([passed, select_views(replace(passed, moments=None), [0])])
    assert together.has_moments.tolist() == [[True, True], [False, False]]
    assert collate([replace(passed, moments=None)]).moments.shape[1] == 0


def test_moments_keep_their_colours_and_come_back_from_the_cache(passed: Sample, tmp_path: Path) -> None:
    save_sample(tmp_path / "a.npz", passed)
    back = load_sample(tmp_path / "a.npz")
    assert passed.moments is not None
    assert back.moments is not None
    for name in ("images", "motion", "known"):
        np.testing.assert_array_equal(getattr(back.moments, name), getattr(passed.moments, name))
    coloured = augment(back, AugmentSettings(flip=0, crop=0, drop_view=0, style=1.0), np.random.default_rng(1))
    assert coloured.moments is not None
    assert set(np.unique(coloured.moments.images)) == set(np.unique(passed.moments.images))
    assert not np.array_equal(coloured.images, coloured.moments.images[:, 0])
    save_sample(tmp_path / "b.npz", replace(passed, moments=None))
    assert [has_moments(tmp_path / name) for name in ("a.npz", "b.npz")] == [True, False]


def test_which_sweeps_can_be_compared() -> None:
    first = sweep_at(0, FIRST)
    assert are_consecutive(first, sweep_at(0.5, SECOND))
    assert are_consecutive(sweep_at(0.5, SECOND), first)
    assert not are_consecutive(first, sweep_at(0.7, SECOND))
    assert not are_consecutive(first, sweep_at(0.1, None))
    turned = sweep_at(0.1, SECOND)
    other_rig = Rig((turned.rig.cameras[0], replace(turned.rig.cameras[1], camera_to_vehicle=np.eye(4))))
    assert not are_consecutive(first, replace(turned, rig=other_rig))
    assert not are_consecutive(first, sweep_at(0, FIRST))
    for change in ({"name": "cam_9"}, {"size": (64, 97)}, {"intrinsics": np.diag([70.0, 70, 1])}):
        rig = Rig((turned.rig.cameras[0], replace(turned.rig.cameras[1], **change)))
        views = dict(zip(rig.names, turned.views.values(), strict=True))
        assert not are_consecutive(first, replace(turned, rig=rig, views=views))
    half = replace(turned, views={"cam_1": turned.views["cam_1"]})
    sample = with_moments(sample_from_sweep(first, SIZE), first, half)
    assert sample.moments is not None
    assert sample.moments.known.tolist() == [False, True]
    assert sample.moments.without([1]).known.tolist() == [False, False]
    assert sample.moments.known.tolist() == [False, True]


def test_the_motion_leads_from_the_first_moment_to_the_second() -> None:
    """Of a vehicle that is turned in the map: a place keeps its place there."""
    first, second = pose(10, 5, 0.5), pose(10.8, 5.3, 0.6)
    images = np.zeros((2, *SIZE, 3), np.uint8)
    moments = two_moments(sweep_at(0, first), sweep_at(0.1, second), images, images + 1)
    place = [[3.0, 1.0, 0.5]]
    for motion in moments.motion:
        np.testing.assert_allclose(transform(second, transform(motion, place)), transform(first, place))
    assert (moments.images[:, 0] == 0).all()
    assert (moments.images[:, 1] == 1).all()


def test_a_moment_that_cannot_be_decoded_is_an_error(passed: Sample) -> None:
    second = sweep_at(0.1, SECOND)
    broken = {**second.views, "cam_0": View(EncodedImage(b"no image"), 0, SECOND)}
    with pytest.raises(ImageError):
        with_moments(passed, sweep_at(0, FIRST), replace(second, views=broken))


@pytest.mark.parametrize("has_poses", [True, False])
def test_sweeps_of_a_bag_stand_beside_the_next_or_the_last(tmp_path: Path, has_poses: bool) -> None:
    places = [pose(0.3 * i, 0, 0) for i in range(3)]
    sweeps = []
    for i, place in enumerate(places):
        sweep = sweep_at(1 + 0.1 * i, place if has_poses else None)
        points = np.column_stack([np.full(50, 8.0), np.linspace(-2, 2, 50), np.ones(50)])
        scan = LidarScan(points, sweep.stamp_ns, vehicle_to_map=place if has_poses else None)
        sweeps.append(replace(sweep, lidar=scan))
    write_bag(tmp_path / "bag", sweeps)
    source = open_data(f"bag:{tmp_path / 'bag'}")
    if not has_poses:
        with pytest.raises(SourceError, match=r"bag.*photometric_consecutive needs .*pose.*set it to 0"):
            read_source(source, SIZE, tmp_path / "cache", workers=1, consecutive=True)
        return
    files, _ = read_source(source, SIZE, tmp_path / "cache", workers=1, consecutive=True)
    alone, _ = read_source(source, SIZE, tmp_path / "cache", workers=1)
    assert not has_moments(alone[0])
    assert alone[0].parent != files[0].parent
    samples = [load_sample(file) for file in files]
    motions = [sample.moments.motion[0, 0, 3] for sample in samples if sample.moments is not None]
    assert motions == pytest.approx([-0.3, -0.3, 0.3], abs=1e-4)  # what was ahead is nearer a moment later
    np.testing.assert_array_equal(samples[0].moments.images[:, 1], samples[1].images)  # type: ignore[union-attr]
    np.testing.assert_array_equal(samples[2].moments.images[:, 1], samples[1].images)  # type: ignore[union-attr]


def test_a_drive_without_lidar_teaches_by_its_motion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the bag to a step that moves the student; where nothing else teaches, the same drive is refused."""
    write_bag(tmp_path / "bag", [sweep_at(1 + 0.1 * i, pose(0.3 * i, 0, 0)) for i in range(3)])
    config = DistillConfig(
        data=f"bag:{tmp_path / 'bag'}",
        val_data="town",
        val=TownData(drives=1, sweeps_per_drive=1, size=SIZE, held_out=True),
        train=TownData(size=SIZE),
        cache=tmp_path / "cache",
        student=StudentConfig(bins=16, attention_dim=32, attention_blocks=1, decoder_widths=(32, 16, 16)),
        losses=LossWeights(photometric_consecutive=1.0),
        imagenet=False,
    )
    loaders = Loaders(config)
    loaders.fill(tell=True)
    assert loaders.training.lengths == [3]
    assert loaders.left_out == ()
    said = capsys.readouterr().err
    assert "3 of 3 recorded sweeps to train on have no LiDAR point in any view" in said
    assert "losses photometric_consecutive teach" in said
    samples = CachedSweeps(loaders.training.files, config.augment, 0.0, 0)
    batch = collate([samples[0, 0], samples[1, 1]])
    student = Student(config.student).train()
    terms = distillation_terms(run_student(student, batch), batch, config.losses, config.student)
    assert terms["photometric_consecutive"] > 0
    assert terms["silog"] == terms["bins"] == terms["out_of_range"] == 0
    torch.stack([getattr(config.losses, name) * value for name, value in terms.items()]).sum().backward()
    gradients = [weight.grad for weight in student.parameters() if weight.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert sum(float(gradient.abs().sum()) for gradient in gradients) > 0

    with pytest.raises(SourceError, match="no LiDAR point falls into any view, and nothing else supervises it"):
        Loaders(replace(config, losses=LossWeights())).fill(tell=False)


def test_in_the_town_the_true_depth_fits_best() -> None:
    # held out: towns to train in may be wide and dark, with little to tell one depth from another
    data = TownData(drives=1, sweeps_per_drive=1, first_seed=5, size=SIZE, held_out=True)
    sample = town_sample(data.drive(0), 0, SIZE, consecutive=True)
    assert sample.moments is not None
    assert sample.moments.known.all()
    values = [loss_of(sample, factor)[0] for factor in (0.6, 1.0, 1.7)]
    assert values[1] < min(values[0], values[2])
    assert data.cache_folder(Path("c"), consecutive=True) != data.cache_folder(Path("c"))
