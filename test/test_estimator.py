"""The estimator: encoded, distorted, missing and broken views to depth at the network's size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fsmde_ros.backends import Prediction, build_backend
from fsmde_ros.checkpoint import save_checkpoint
from fsmde_ros.errors import BackendError, CheckpointError, ImageError
from fsmde_ros.estimator import Estimator
from fsmde_ros.geometry import scale_intrinsics
from fsmde_ros.images import decode, encode_jpeg, resize
from fsmde_ros.model_card import ModelCard
from fsmde_ros.network.student import Student, StudentConfig
from fsmde_ros.rectify import rectify, rectifying_size, undistortion_maps
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.sources.nuscenes import sweeps
from fsmde_ros.sweep import EncodedImage, Sweep, View, lidar_in_view
from training.quantise import feed_of

NUSCENES = Path(__file__).parents[2] / "shared" / "data" / "nuscenes"

SIZE, INPUT = (120, 200), (64, 96)  # H, W
NAMES = ("cam_front", "cam_left", "cam_back")
CARD = ModelCard("test", StudentConfig(), INPUT, "none", "none", "none")


class Recorder:
    """A backend that keeps what it was given and answers with a known depth."""

    name = "recorder"

    def __init__(self) -> None:
        self.given: tuple[NDArray[np.generic], ...] = ()
        self.ground_z = np.nan

    def __call__(
        self,
        images: NDArray[np.uint8],
        intrinsics: NDArray[np.float64],
        camera_to_vehicle: NDArray[np.float64],
        ground_z: float,
        present: NDArray[np.bool_],
    ) -> Prediction:
        self.given, self.ground_z = (images, intrinsics, camera_to_vehicle, present), ground_z
        shape = (len(images), *images.shape[2:])
        depth = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + 1
        out_of_range = np.zeros(shape, np.float32)
        out_of_range[:, :10], out_of_range[:, 10] = 0.9, 0.5
        return Prediction(depth, depth / 10, out_of_range)


def rig(**change: object) -> Rig:
    cameras = []
    for index, name in enumerate(NAMES):
        pose = np.array([[0.0, 0, 1, 1.5], [-1, 0, 0, index], [0, -1, 0, 1.4], [0, 0, 0, 1]])
        cameras.append(Camera(name, SIZE, [[150.0 + index, 0, 99.5], [0, 136, 59.5], [0, 0, 1]], pose))
    cameras[1] = replace(cameras[1], **change)
    return Rig(tuple(cameras), ground_z=-0.25)


def picture(seed: int) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 10, 3), dtype=np.uint8)
    return np.asarray(resize(coarse, SIZE))


def sweep(the_rig: Rig | None = None, names: tuple[str, ...] = NAMES) -> Sweep:
    return Sweep(the_rig or rig(), 7, {name: View(picture(NAMES.index(name)), 7) for name in names})


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_camera_that_is_mounted_turned_gives_the_depth_it_would_give_upright(turns: int) -> None:
    """Another view sees the same thing in both cases, and the views know of each other."""
    estimator = Estimator.from_checkpoint("nano", device="cpu", backend="torch")
    size = height, width = estimator.card.input_size
    upright = rig(size=size, intrinsics=[[300, 0, width / 2 - 0.5], [0, 300, height / 2 - 0.5], [0, 0, 1]])
    mounted = upright.cameras[1]
    about_axis = np.linalg.matrix_power(np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), turns)
    turned = replace(
        mounted,
        size=size[::-1] if turns % 2 else size,
        intrinsics=mounted.intrinsics[[1, 0, 2]][:, [1, 0, 2]] if turns % 2 else mounted.intrinsics,
        camera_to_vehicle=mounted.camera_to_vehicle @ about_axis,
    )
    own = np.asarray(resize(picture(1), size))
    views = {name: View(picture(NAMES.index(name)), 7) for name in NAMES} | {NAMES[1]: View(own, 7)}
    plain = estimator(Sweep(upright, 7, views))
    views[NAMES[1]] = View(np.ascontiguousarray(np.rot90(own, turns)), 7)
    hung = replace(upright, cameras=(upright.cameras[0], turned, upright.cameras[2]))
    prepared = estimator.prepare(Sweep(hung, 7, views))
    result = estimator.infer(prepared)
    np.testing.assert_allclose(result.rig.cameras[1].camera_to_vehicle, turned.camera_to_vehicle)
    got = (result.depth[1], result.stddev[1], prepared.colors()[1].transpose(2, 0, 1))
    for values, before in zip(got, (plain.depth[1], plain.stddev[1], own.transpose(2, 0, 1)), strict=True):
        back = np.rot90(before, turns, axes=(-2, -1))
        rows, columns = (((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(size, back.shape[-2:], strict=True))
        np.testing.assert_allclose(values, back[..., rows[:, None], columns], rtol=1e-2, atol=1e-2)


def test_an_image_of_another_shape_has_a_depth_at_each_of_its_pixels() -> None:
    backend = Recorder()
    narrow = rig(size=(120, 120), intrinsics=np.array([[150.0, 0, 59.5], [0, 150, 59.5], [0, 0, 1]]))
    views = {**sweep().views, NAMES[1]: View(picture(1)[:, 40:160].copy(), 7)}
    prepared = Estimator(backend, CARD).prepare(Sweep(narrow, 7, views))
    result = Estimator(backend, CARD).infer(prepared)
    given_intrinsics = backend.given[1]
    assert given_intrinsics[1, 0, 0] / given_intrinsics[1, 1, 1] == pytest.approx(1, abs=0.02)
    assert result.rig["cam_left"].intrinsics[0, 0] == pytest.approx(150 * 96 / 120)
    depth, stddev = result.view("cam_left")
    assert np.isfinite(depth[11:]).all()
    assert np.isfinite(stddev[11:]).all()
    inner = (depth[40] - 1) % 96  # the columns of the input that the backend was asked for
    assert (inner[0], inner[-1]) == (prepared.views[1].columns[0], prepared.views[1].columns[1] - 1)
    assert (np.diff(inner) >= 0).all()
    assert prepared.colors().shape == (3, *INPUT, 3)
    middle = resize(picture(1)[:, 40:160].copy(), INPUT).astype(int)
    assert np.abs(prepared.colors()[1].astype(int) - middle).mean() < 8


def test_the_own_vehicle_has_no_depth_and_the_rest_of_its_image_the_same() -> None:
    lower_half = [[-0.5, 59.5], [199.5, 59.5], [199.5, 119.5], [-0.5, 119.5]]
    plain = Estimator(Recorder(), CARD)(sweep())
    result = Estimator(Recorder(), CARD)(sweep(rig(self_occlusion=(lower_half,))))
    for got, without in ((result.depth, plain.depth), (result.stddev, plain.stddev)):
        assert np.isnan(got[1, 32:]).all()
        np.testing.assert_array_equal(got[1, :31], without[1, :31])
        np.testing.assert_array_equal(got[[0, 2]], without[[0, 2]])


def test_the_own_vehicle_is_found_in_the_view_that_it_belongs_to_where_others_are_missing() -> None:
    everything = [[-0.5, -0.5], [199.5, -0.5], [199.5, 119.5], [-0.5, 119.5]]
    occluded = rig(self_occlusion=(everything,))
    estimator = Estimator(Recorder(), CARD)
    for names in (NAMES[1:], NAMES[:2], NAMES):
        result = estimator(sweep(occluded, names))
        assert [bool(np.isnan(view).all()) for view in result.depth] == [name == NAMES[1] for name in names]


def test_the_backend_gets_images_and_rig_at_its_size() -> None:
    backend = Recorder()
    result = Estimator(backend, CARD)(sweep())
    images, intrinsics, poses, present = backend.given
    assert images.shape == (3, 3, *INPUT)
    for index in range(3):
        np.testing.assert_array_equal(images[index], resize(picture(index), INPUT).transpose(2, 0, 1))
        expected = scale_intrinsics(rig().cameras[index].intrinsics, SIZE, INPUT)
        np.testing.assert_allclose(intrinsics[index], expected)
        np.testing.assert_array_equal(poses[index], rig().cameras[index].camera_to_vehicle)
    assert present.tolist() == [True] * 3
    assert backend.ground_z == -0.25
    assert (result.rig.names, result.stamp_ns) == (NAMES, 7)
    np.testing.assert_allclose(result.rig["cam_left"].intrinsics, intrinsics[1])


def test_out_of_range_is_infinite_without_stddev() -> None:
    result = Estimator(Recorder(), CARD)(sweep())
    assert np.isposinf(result.depth[:, :10]).all()
    assert np.isnan(result.stddev[:, :10]).all()
    assert np.isfinite(result.depth[:, 10:]).all()
    assert result.depth[1, 20, 5] == 64 * 96 + 20 * 96 + 5 + 1
    np.testing.assert_allclose(result.stddev[:, 10:], result.depth[:, 10:] / 10)
    assert (result.depth.dtype, result.stddev.dtype) == (np.float32, np.float32)


@pytest.mark.parametrize("error", [MemoryError("no room"), cv2.error("remap: too wide")])
def test_whatever_goes_wrong_with_a_view_costs_that_view_only(error: Exception) -> None:
    def broken() -> NDArray[np.uint8]:
        raise error

    estimator, given = Estimator(Recorder(), CARD), rig()
    sources = {name: (lambda index=index: picture(index)) for index, name in enumerate(NAMES)} | {NAMES[1]: broken}
    prepared = estimator.gather(
        given, 7, {name: estimator.load(source, given[name]) for name, source in sources.items()}
    )
    assert prepared.rig.names == (NAMES[0], NAMES[2])
    assert str(prepared.failed[NAMES[1]]).startswith(f"camera '{NAMES[1]}': ")
    assert str(error) in str(prepared.failed[NAMES[1]])


def test_missing_views_are_left_out_in_the_order_of_the_rig() -> None:
    backend = Recorder()
    views = sweep(names=("cam_back", "cam_front"))
    result = Estimator(backend, CARD)(views)
    assert result.rig.names == ("cam_front", "cam_back")
    assert result.cameras == NAMES
    np.testing.assert_array_equal(backend.given[0][1], resize(picture(2), INPUT).transpose(2, 0, 1))
    assert backend.given[1][1, 0, 0] == pytest.approx(152 * 96 / 200)


def test_encoded_views_are_decoded() -> None:
    backend = Recorder()
    plain = sweep()
    encoded = {name: replace(view, image=encode_jpeg(view.image, 95)) for name, view in plain.views.items()}  # type: ignore[arg-type]
    Estimator(backend, CARD)(replace(plain, views=encoded))
    for index in range(3):
        expected = resize(picture(index), INPUT).transpose(2, 0, 1).astype(int)
        assert np.abs(backend.given[0][index].astype(int) - expected).mean() < 3


@pytest.mark.parametrize("seen_reduction", [1, 2])
def test_a_jpeg_is_decoded_no_larger_than_what_the_encoder_sees(seen_reduction: int) -> None:
    encoded = {name: View(encode_jpeg(picture(index), 95), 7) for index, name in enumerate(NAMES)}
    backend = Recorder()
    card = replace(CARD, student=StudentConfig(input_reduction=seen_reduction))
    Estimator(backend, card)(replace(sweep(), views=encoded))
    for index, view in enumerate(encoded.values()):
        assert isinstance(view.image, EncodedImage)
        expected = resize(decode(view.image, reduction=seen_reduction), INPUT)  # half of 120x200 is above 32x48
        np.testing.assert_array_equal(backend.given[0][index], expected.transpose(2, 0, 1))


def test_a_broken_view_is_left_out_and_reported() -> None:
    estimator = Estimator(Recorder(), CARD)
    views = dict(sweep().views)
    views["cam_left"] = View(EncodedImage(b"\xff\xd8nonsense"), 7)
    prepared = estimator.prepare(replace(sweep(), views=views))
    assert prepared.rig.names == ("cam_front", "cam_back")
    assert list(prepared.failed) == ["cam_left"]
    assert isinstance(prepared.failed["cam_left"], ImageError)
    assert estimator.infer(prepared).depth.shape == (2, *INPUT)
    assert estimator.infer(prepared).cameras == NAMES
    assert estimator(replace(sweep(), views=views)).rig.names == ("cam_front", "cam_back")


def test_an_image_of_another_size_than_its_camera_is_reported() -> None:
    views = {**sweep().views, "cam_back": View(picture(2)[:60], 7)}
    failed = Estimator(Recorder(), CARD).prepare(replace(sweep(), views=views)).failed
    assert "'cam_back' has shape (60, 200, 3)" in str(failed["cam_back"])
    assert "(120, 200, 3)" in str(failed["cam_back"])


def test_a_sweep_without_a_usable_view_is_refused() -> None:
    views = {"cam_left": View(EncodedImage(b""), 7)}
    with pytest.raises(ImageError, match=r"no view.*cam_left.*0 bytes"):
        Estimator(Recorder(), CARD)(replace(sweep(), views=views))


@pytest.mark.parametrize(
    ("model", "distortion"), [("plumb_bob", (-0.3, 0.1, 0.001, 0.002)), ("equidistant", (0.1, 0.0, 0.0, 0.0))]
)
def test_a_distorted_camera_is_rectified(model: str, distortion: tuple[float, ...]) -> None:
    backend = Recorder()
    bent = rig(distortion_model=model, distortion=np.array(distortion))
    result = Estimator(backend, CARD)(sweep(bent))
    maps = undistortion_maps(bent["cam_left"].resized(rectifying_size(SIZE, INPUT)))
    straight = rectify(picture(1), maps, INPUT)
    np.testing.assert_array_equal(backend.given[0][1], straight.transpose(2, 0, 1))
    assert np.abs(straight.astype(int) - resize(picture(1), INPUT)).max() > 20
    assert result.rig["cam_left"].is_rectified
    np.testing.assert_array_equal(backend.given[0][0], resize(picture(0), INPUT).transpose(2, 0, 1))


def test_a_jpeg_of_a_distorted_camera_is_decoded_at_what_rectifying_needs() -> None:
    backend, size = Recorder(), (16, 32)
    square = [[150, 0, 99.5], [0, 180, 59.5], [0, 0, 1]]  # what it shows are squares in an input of that size
    bent = rig(intrinsics=square, distortion_model="plumb_bob", distortion=np.array((-0.3, 0.1, 0.001, 0.002)))
    encoded = {name: View(encode_jpeg(picture(index), 95), 7) for index, name in enumerate(NAMES)}
    Estimator(backend, replace(CARD, input_size=size))(Sweep(bent, 7, encoded))
    half = decode(encode_jpeg(picture(1), 95), reduction=2)  # of 120x200 is above 32x64, a quarter is not
    maps = undistortion_maps(bent["cam_left"].resized((32, 64)))
    np.testing.assert_array_equal(backend.given[0][1], rectify(half, maps, size).transpose(2, 0, 1))


def test_views_that_come_one_by_one_make_the_sweep_of_all_at_once() -> None:
    estimator, whole = Estimator(Recorder(), CARD), sweep()
    loading = {
        name: estimator.load(lambda view=whole.views[name]: view.image, whole.rig[name]) for name in whole.present
    }
    gathered, prepared = estimator.gather(whole.rig, whole.stamp_ns, loading), estimator.prepare(whole)
    np.testing.assert_array_equal(gathered.images, prepared.images)
    assert gathered.rig.names == prepared.rig.names == NAMES
    assert gathered.stamp_ns == whole.stamp_ns
    with pytest.raises(ImageError, match="no view"):
        estimator.gather(whole.rig, 0, {})


def test_the_network_runs_from_a_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(0)
    student = Student()
    save_checkpoint(tmp_path / "x.safetensors", student, CARD, dtype=torch.float32)
    estimator = Estimator.from_checkpoint(tmp_path / "x.safetensors", device="cpu", backend="torch")
    result = estimator(sweep())
    assert result.depth.shape == (3, *INPUT)
    assert not np.isnan(result.depth).any()
    same = Estimator(build_backend("torch", student, "cpu"), CARD)(sweep())
    np.testing.assert_array_equal(result.depth, same.depth)
    with pytest.raises(BackendError, match="backend"):
        Estimator.from_checkpoint(tmp_path / "x.safetensors", backend="nonsense")
    with pytest.raises(CheckpointError, match=r"y\.safetensors"):
        Estimator.from_checkpoint(tmp_path / "y.safetensors")


def test_a_missing_view_changes_the_others_as_if_the_rig_had_none() -> None:
    torch.manual_seed(0)
    estimator = Estimator(build_backend("torch", Student(), "cpu"), CARD)
    two = ("cam_front", "cam_back")
    missing = estimator(sweep(names=two))
    smaller = estimator(replace(sweep(names=two), rig=rig().subset(two)))
    np.testing.assert_array_equal(missing.depth, smaller.depth)


@pytest.mark.skipif(not NUSCENES.exists(), reason=f"needs the real keyframe in ../shared/data/{NUSCENES.name}")
def test_the_untrained_student_scores_as_the_ground_plane_on_a_real_keyframe() -> None:
    """The published baseline, AbsRel 0.318 and d1 0.563 with a cap of 20 m, through the whole estimator."""
    torch.manual_seed(0)
    card = replace(CARD, input_size=(192, 320))
    real = next(iter(sweeps(NUSCENES)))
    result = Estimator(build_backend("torch", Student(), "cpu"), card)(real)
    scores = []
    for name in real.present:
        pixels, truth = lidar_in_view(real, name)
        scale = np.divide(card.input_size[::-1], real.rig[name].size[::-1])
        x, y = np.rint((pixels + 0.5) * scale - 0.5).astype(int).clip(0, (319, 191)).T
        kept = truth < 80
        depth, truth = np.minimum(result.view(name)[0][y, x], 20.0)[kept], truth[kept]
        scores.append(
            (np.mean(np.abs(depth - truth) / truth), np.mean(np.maximum(depth / truth, truth / depth) < 1.25))
        )
    assert np.mean(scores, axis=0) == pytest.approx((0.318, 0.563), abs=0.01)


def test_what_is_exported_or_measured_is_told_of_the_cameras_as_the_node_tells_the_network() -> None:
    narrow = rig(size=(120, 120), intrinsics=np.array([[150.0, 0, 59.5], [0, 150, 59.5], [0, 0, 1]]))
    views = {**sweep().views, NAMES[1]: View(picture(1)[:, 40:160].copy(), 7)}
    backend = Recorder()
    prepared = Estimator(backend, CARD).prepare(Sweep(narrow, 7, views))
    Estimator(backend, CARD).infer(prepared)
    np.testing.assert_array_equal(prepared.network_rig.intrinsics(), backend.given[1])
    np.testing.assert_array_equal(prepared.network_rig.camera_to_vehicle(), backend.given[2])
    assert not np.allclose(prepared.network_rig.intrinsics(), prepared.rig.intrinsics())
    feed = feed_of(prepared, 4)
    np.testing.assert_allclose(feed["intrinsics"][0, :3], backend.given[1], rtol=1e-6)
