from __future__ import annotations

import copy
import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fsmde_ros.errors import RigError
from fsmde_ros.geometry import rigid
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.rig_file import read_lidars, read_rig, rig_from_mapping, rig_to_mapping, write_rig

FILE = """\
vehicle_frame: car
ground_z: -0.25
cameras:
  - name: left
    width: 640
    height: 360
    intrinsics: [500, 0, 319.5, 0, 510.5, 179.5, 0, 0, 1]
    distortion_model: plumb_bob
    distortion: [-0.3, 0.1, 1.0e-5, 0, 0]
    frame: left_optical
    self_occlusion: [[[0, 300], [639, 300], [639, 359.5], [0, 359]], [[0, 0], [9, 0], [0, 9]]]
    camera_to_vehicle: {translation: [1.5, 0.25, 1.5], rotation_wxyz: [0.5, -0.5, 0.5, -0.5]}
  - name: right
    width: 800
    height: 600
    intrinsics: [400, 0, 400, 0, 400, 300, 0, 0, 1]
    camera_to_vehicle: {translation: [1, -0.25, 1.5], rotation_wxyz: [1, 0, 0, 0]}
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_reads_every_field(tmp_path: Path) -> None:
    rig = read_rig(write(tmp_path / "rig.yaml", FILE))
    assert (rig.vehicle_frame, rig.ground_z, rig.names) == ("car", -0.25, ("left", "right"))
    left, right = rig.cameras
    assert (left.size, left.frame, left.distortion_model) == ((360, 640), "left_optical", "plumb_bob")
    np.testing.assert_array_equal(left.intrinsics, [[500, 0, 319.5], [0, 510.5, 179.5], [0, 0, 1]])
    np.testing.assert_array_equal(left.distortion, [-0.3, 0.1, 1e-5, 0, 0])
    # camera z to vehicle x, camera x to vehicle -y: worked by hand for the quaternion above
    np.testing.assert_allclose(
        left.camera_to_vehicle, [[0, 0, 1, 1.5], [-1, 0, 0, 0.25], [0, -1, 0, 1.5], [0, 0, 0, 1]], atol=1e-15
    )
    assert (right.frame, right.distortion_model, right.distortion.size) == ("right", "none", 0)
    assert [outline.tolist() for outline in left.self_occlusion] == [
        [[0, 300], [639, 300], [639, 359.5], [0, 359]],
        [[0, 0], [9, 0], [0, 9]],
    ]
    assert right.self_occlusion == ()


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3),
    st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1),
    st.floats(1e-3, 1e5),
    st.floats(-10, 10),
)
def test_round_trip(translation: list[float], quaternion: list[float], focal: float, ground_z: float) -> None:
    intrinsics = np.array([[focal, 0, 1 / 3], [0, focal * 1.1, -1e-7], [0, 0, 1]])
    rig = Rig((Camera("a", (3, 5), intrinsics, rigid(quaternion, translation)),), "v", ground_z)
    again = rig_from_mapping(yaml.safe_load(yaml.safe_dump(rig_to_mapping(rig))))
    np.testing.assert_array_equal(again.cameras[0].intrinsics, intrinsics)
    np.testing.assert_array_equal(again.cameras[0].camera_to_vehicle[:3, 3], translation)
    np.testing.assert_allclose(again.cameras[0].camera_to_vehicle, rig.cameras[0].camera_to_vehicle, atol=1e-14)
    assert (again.ground_z, again.vehicle_frame, again.cameras[0].size) == (ground_z, "v", (3, 5))


def test_file_round_trip_leaves_one_file(tmp_path: Path) -> None:
    rig = read_rig(write(tmp_path / "rig.yaml", FILE))
    write_rig(rig, tmp_path / "again.yaml")
    assert rig_to_mapping(read_rig(tmp_path / "again.yaml")) == rig_to_mapping(rig)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.yaml", "rig.yaml"]
    assert "intrinsics: [500.0, 0.0, 319.5, 0.0, 510.5, 179.5, 0.0, 0.0, 1.0]" in (tmp_path / "again.yaml").read_text()


def remove(*path: str | int) -> Any:
    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        del content[path[-1]]

    return change


def put(value: object, *path: str | int) -> Any:
    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("cameras"), "the rig file: field 'cameras' is missing"),
        (put([], "cameras"), "cameras: expected a list of at least one camera, got []"),
        (put("left", "cameras", 1), "cameras[1]: expected a mapping with name, width"),
        (remove("cameras", 1, "name"), "cameras[1]: field 'name' is missing"),
        (put("left", "cameras", 1, "name"), "unique names"),
        (put(1, "cameras", 1, "nane"), "cameras[1]: unknown field 'nane', expected name, width"),
        (put([1.0] * 8, "cameras", 1, "intrinsics"), "cameras[1].intrinsics: expected 9 numbers, got 8"),
        (put(["a"] * 9, "cameras", 1, "intrinsics"), "cameras[1].intrinsics[0]: expected a number"),
        (put("1e-5", "ground_z"), "ground_z: expected a number (such as 1.0 or 1.0e-5), got '1e-5'"),
        (put(True, "ground_z"), "ground_z: expected a number"),
        (put(float("nan"), "ground_z"), "ground_z: expected a finite number, got nan"),
        (put(10**400, "ground_z"), "ground_z: expected a finite number"),
        (put(0, "cameras", 0, "width"), "cameras[0].width: expected a whole number of pixels from 1 to 65535, got 0"),
        (put(1.5, "cameras", 0, "height"), "cameras[0].height: expected a whole number"),
        (put(7, "vehicle_frame"), "vehicle_frame: expected a text, got 7"),
        (put([0.0] * 9, "cameras", 0, "intrinsics"), "cameras[0]: camera 'left': uncalibrated"),
        (put([0.1], "cameras", 0, "distortion"), "cameras[0]: camera 'left': distortion_model 'plumb_bob' takes"),
        (put("fish_eye", "cameras", 0, "distortion_model"), "cameras[0]: camera 'left': distortion_model must be one"),
        (put([1, 1, 0, 0], "cameras", 0, "camera_to_vehicle", "rotation_wxyz"), "expected a unit quaternion"),
        (put([1, 2], "cameras", 0, "camera_to_vehicle", "translation"), "translation: expected 3 numbers, got 2"),
    ],
)
def test_names_the_field_that_is_wrong(tmp_path: Path, change: Any, message: str) -> None:
    content = copy.deepcopy(yaml.safe_load(FILE))
    change(content)
    path = write(tmp_path / "rig.yaml", yaml.safe_dump(content))
    with pytest.raises(RigError) as caught:
        read_rig(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_refuses_files_that_are_no_rig(tmp_path: Path) -> None:
    with pytest.raises(RigError, match="cannot be read"):
        read_rig(tmp_path / "none.yaml")
    with pytest.raises(RigError, match="cannot be read"):
        read_rig(tmp_path)
    with pytest.raises(RigError, match="not a YAML file"):
        read_rig(write(tmp_path / "a.yaml", "a: [1"))
    with pytest.raises(RigError, match="not a YAML file"):
        read_rig(write(tmp_path / "b.yaml", "!!python/object/apply:os.getcwd []"))
    with pytest.raises(RigError, match="not a YAML file"):
        read_rig(write(tmp_path / "c.yaml", "[" * 100_000))
    with pytest.raises(RigError, match="larger than"):
        read_rig(write(tmp_path / "d.yaml", "#" * 1_000_001))
    with pytest.raises(RigError, match="expected a mapping"):
        read_rig(write(tmp_path / "e.yaml", ""))
    (tmp_path / "f.yaml").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(RigError, match="not a YAML file"):
        read_rig(tmp_path / "f.yaml")


def test_aliases_that_multiply_stay_small(tmp_path: Path) -> None:
    lines = ["a0: &a0 [1, 1]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60)]
    with pytest.raises(RigError, match="unknown field 'a0'"):
        read_rig(write(tmp_path / "bomb.yaml", "\n".join(lines)))


def test_cannot_write_where_there_is_no_folder(tmp_path: Path) -> None:
    rig = read_rig(write(tmp_path / "rig.yaml", FILE))
    with pytest.raises(RigError, match="cannot be written"):
        write_rig(rig, tmp_path / "none" / "rig.yaml")


def test_cannot_write_where_all_is_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There a file that is not there cannot be removed either."""
    rig = read_rig(write(tmp_path / "rig.yaml", FILE))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "write_text", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(RigError, match=r"again\.yaml: the rig file cannot be written: Read-only file system"):
        write_rig(rig, tmp_path / "again.yaml")


def test_a_fisheye_may_have_its_name_of_camera_info(tmp_path: Path) -> None:
    text = FILE.replace("plumb_bob", "fisheye").replace("1.0e-5, 0, 0]", "1.0e-5, 0]")
    left = read_rig(write(tmp_path / "rig.yaml", text))["left"]
    assert left.distortion_model == "equidistant"
    np.testing.assert_array_equal(left.distortion, [-0.3, 0.1, 1e-5, 0])


def test_a_slash_before_a_frame_does_not_count(tmp_path: Path) -> None:
    """ROS 1 wrote it; tf2 takes no such frame."""
    text = FILE.replace("car", "/robot/car").replace("left_optical", "/robot/left")
    rig = read_rig(write(tmp_path / "rig.yaml", text))
    assert (rig.vehicle_frame, rig["left"].frame) == ("robot/car", "robot/left")


def test_lidars_are_an_optional_section(tmp_path: Path) -> None:
    rig = read_rig(write(tmp_path / "rig.yaml", FILE))
    assert read_lidars(tmp_path / "rig.yaml") == {}
    lidar_to_vehicle = rigid([0.5, 0.5, -0.5, 0.5], [0.9, 0.0, 1.8])
    write_rig(rig, tmp_path / "more.yaml", {"lidar_top": lidar_to_vehicle})
    assert read_rig(tmp_path / "more.yaml").names == rig.names
    lidars = read_lidars(tmp_path / "more.yaml")
    assert list(lidars) == ["lidar_top"]
    np.testing.assert_allclose(lidars["lidar_top"], lidar_to_vehicle, atol=1e-12)
    (tmp_path / "more.yaml").write_text((tmp_path / "more.yaml").read_text().replace("lidar_top", "/lidar_top"))
    assert list(read_lidars(tmp_path / "more.yaml")) == ["lidar_top"]  # as ROS 1 wrote it
    pose = "lidar_to_vehicle: {translation: [0, 0, 2], rotation_wxyz: [1, 0, 0, 0]}"
    twice = FILE + f"lidars: [{{frame: top, {pose}}}, {{frame: top, {pose}}}]\n"
    with pytest.raises(RigError, match=r"lidars\[1\]\.frame: 'top' is there twice"):
        read_rig(write(tmp_path / "twice.yaml", twice))
    broken = FILE + "lidars: [{frame: lidar_top}]\n"
    for read in (read_rig, read_lidars):
        with pytest.raises(RigError, match=r"lidars\[0\]: field 'lidar_to_vehicle' is missing"):
            read(write(tmp_path / "broken.yaml", broken))
