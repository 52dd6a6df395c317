"""What a rig accepts, refuses, and how it is resized."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fsmde_ros.errors import RigError
from fsmde_ros.rig import Camera, Rig, distortion_of_info

K = np.array([[700.0, 0, 319.5], [0, 710.0, 179.5], [0, 0, 1]])


def camera(name: str = "cam_front", **changes: object) -> Camera:
    return replace(Camera(name, (360, 640), K, np.eye(4)), **changes)


def test_resizing_scales_each_axis_on_its_own() -> None:
    small = camera().resized((90, 320))
    assert small.size == (90, 320)
    np.testing.assert_allclose(small.intrinsics, [[350, 0, 159.5], [0, 177.5, 44.5], [0, 0, 1]])


def test_the_outline_of_the_own_vehicle_is_resized_with_the_image_and_not_kept_by_another_image() -> None:
    whole = camera(self_occlusion=([[-0.5, 299.5], [319.5, 199.5], [639.5, 359.5]],))
    [outline] = whole.resized((90, 320)).self_occlusion
    np.testing.assert_allclose(outline, [[-0.5, 74.5], [159.5, 49.5], [319.5, 89.5]])
    assert whole.rectified().self_occlusion == ()


def test_an_outline_may_end_behind_the_last_pixel_at_any_size() -> None:
    whole = camera(self_occlusion=([[-1, 300], [640, 300], [640, 360]],))
    for size, rim in (((360, 640), [639.5, 359.5]), ((720, 1280), [1279.5, 719.5]), ((123, 457), [456.5, 122.5])):
        [outline] = whole.resized(size).self_occlusion
        np.testing.assert_allclose(outline[2], rim)
        assert outline[0, 0] == pytest.approx(-0.5)


def test_fields_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValueError, match="read-only"):
        camera().intrinsics[0, 0] = 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "must have a name"),
        ({"size": (0, 640)}, "size must be"),
        ({"size": (480, 70_000)}, "size must be .* 1 to 65535"),
        ({"intrinsics": np.zeros((3, 3))}, "uncalibrated"),
        ({"intrinsics": np.diag([0.0, 9, 1])}, "uncalibrated"),
        ({"intrinsics": np.diag([9.0, 0, 1])}, "uncalibrated"),
        ({"intrinsics": np.diag([9.0, 9, 2])}, "uncalibrated"),
        ({"intrinsics": np.diag([1e-300, 9, 1])}, "focal lengths from 0.001"),
        ({"intrinsics": np.diag([9, 1e-300, 1])}, "focal lengths from 0.001"),
        ({"intrinsics": [[1e300, 0, 0], [0, 9, 0], [0, 0, 1]]}, "all values up to 1e"),
        ({"camera_to_vehicle": np.array([[1, 0, 0, 1e9], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])}, "on a vehicle"),
        ({"intrinsics": [[9, np.nan, 0], [0, 9, 0], [0, 0, 1]]}, "finite 3x3"),
        ({"intrinsics": np.eye(4)}, "finite 3x3"),
        ({"camera_to_vehicle": np.diag([1.0, 1, -1, 1])}, "right-handed"),
        ({"camera_to_vehicle": np.diag([2.0, 2, 2, 1])}, "right-handed"),
        ({"camera_to_vehicle": np.diag([1.0008, 1, 1, 1])}, "right-handed"),
        ({"camera_to_vehicle": [[1, 0, 0, np.nan], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]}, "rigid 4x4"),
        ({"camera_to_vehicle": np.diag([1.0, 1, 1, 2])}, "rigid 4x4"),
        ({"camera_to_vehicle": np.eye(5)[:, :4]}, "rigid 4x4"),
        ({"distortion": [0.1, 0.2]}, "takes 0 finite"),
        ({"distortion": [0.1, 0.2], "distortion_model": "plumb_bob"}, "takes 0 or 4 or 5"),
        ({"distortion": [0.1, 0.2, 0, np.nan], "distortion_model": "plumb_bob"}, "finite coefficients"),
        ({"distortion_model": "ocam"}, "must be one of"),
        ({"self_occlusion": [[[0, 0], [9, 9]]]}, r"self_occlusion\[0\]: expected at least 3 pixels"),
        ({"self_occlusion": [[0, 9, 9]]}, r"self_occlusion\[0\]: expected at least 3 pixels"),
        ({"self_occlusion": [[[0, 0], [9, 9], [640.5, 0]]]}, r"pixel \[640.5, 0\] lies outside .* which is 640x360"),
        ({"self_occlusion": [[[0, 0], [9, -1.5], [9, 0]]]}, r"pixel \[9, -1.5\] lies outside"),
        ({"self_occlusion": [[[0, 0], [np.nan, 9], [9, 0]]]}, r"pixel \[nan, 9\] lies outside"),
    ],
)
def test_a_camera_that_cannot_be_used_is_refused_by_field(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RigError, match=message):
        camera(**changes)


def test_what_is_just_usable_is_accepted() -> None:
    far = np.eye(4)
    far[:3, 3] = 1e4, -1e4, 1e4
    camera(size=(1, 65_535), intrinsics=[[1e-3, 0, 1e6], [0, 1e-3, -1e6], [0, 0, 1]], camera_to_vehicle=far)
    camera(camera_to_vehicle=np.diag([1.0004, 1, 1, 1]))  # rounded in a file


def test_fields_have_the_types_that_are_promised() -> None:
    assert camera(size=[360.0, 640.0]).size == (360, 640)
    rig = Rig([camera()], ground_z=np.float32(0.5))  # type: ignore[arg-type]
    assert rig.cameras == tuple(rig.cameras)
    assert type(rig.ground_z) is float


def test_a_lens_without_a_model_has_no_coefficients_unless_they_count() -> None:
    model, coefficients = distortion_of_info("", [0.0] * 5)
    assert (model, coefficients.tolist()) == ("none", [])
    assert distortion_of_info("", [0.1, 0.0])[1].tolist() == [0.1, 0.0]  # which ``Camera`` refuses


def test_rectified_is_a_matter_of_the_coefficients() -> None:
    assert camera(distortion=np.zeros(5), distortion_model="plumb_bob").is_rectified
    assert not camera(distortion=[0.1, 0, 0, 0, 0], distortion_model="plumb_bob").is_rectified
    assert not camera(distortion=np.zeros(4), distortion_model="equidistant").is_rectified  # r = f theta


def test_rig_keeps_order_and_names_what_it_has() -> None:
    rig = Rig((camera("b"), camera("a"), camera("c")))
    assert rig.names == ("b", "a", "c")
    assert rig.subset(["c", "b"]).names == ("c", "b")
    assert "a" in rig
    assert rig.intrinsics().shape == (3, 3, 3)
    assert rig.camera_to_vehicle().shape == (3, 4, 4)
    with pytest.raises(RigError, match="no camera 'd'; it has b, a, c"):
        rig["d"]


def test_a_rig_needs_cameras_with_unique_names_and_a_finite_ground() -> None:
    with pytest.raises(RigError, match="at least one camera"):
        Rig(())
    with pytest.raises(RigError, match="unique names"):
        Rig((camera("a"), camera("a")))
    with pytest.raises(RigError, match="ground_z"):
        Rig((camera("a"),), ground_z=float("nan"))


def test_a_rig_is_rectified_and_resized_camera_by_camera() -> None:
    raw = camera("b", distortion=[0.1, 0, 0, 0], distortion_model="equidistant")
    rig = Rig((camera("a", frame="a_optical"), raw), "car", 0.25)
    straight, small = rig.rectified(), rig.resized((90, 320))
    assert [(c.distortion_model, c.distortion.size, c.size) for c in straight.cameras] == [("none", 0, (360, 640))] * 2
    np.testing.assert_array_equal(straight.intrinsics(), [K, K])
    assert [c.size for c in small.cameras] == [(90, 320)] * 2
    np.testing.assert_allclose(small.intrinsics()[1], [[350, 0, 159.5], [0, 177.5, 44.5], [0, 0, 1]])
    for changed in (straight, small):
        assert (changed.names, changed.vehicle_frame, changed.ground_z) == (("a", "b"), "car", 0.25)
        assert changed["a"].frame == "a_optical"
    assert (small["b"].distortion_model, Rig((raw,)).ground_z) == ("equidistant", 0.0)
