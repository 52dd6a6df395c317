"""The commands, as a user calls them."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag2 import Reader, StoragePlugin, Writer

from fsmde_ros.interruption import INTERRUPTED
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.rig_file import read_lidars, read_rig
from fsmde_ros.sources import bag, ddad, nuscenes
from fsmde_ros.sources.bag_messages import RAW, TYPESTORE, camera_info
from fsmde_ros.sources.bag_writer import write_bag
from fsmde_ros.sources.convert import ddad_to_bag, main, nuscenes_to_bag, rig_from_bag
from fsmde_ros.sweep import Sweep, View

ROOT = Path(__file__).parents[2]


def same(found: Sweep, expected: Sweep) -> None:
    assert (found.stamp_ns, found.present, found.rig.names) == (expected.stamp_ns, expected.present, expected.rig.names)
    for name in expected.present:
        a, b = found.views[name], expected.views[name]
        assert (a.stamp_ns, a.image.data) == (b.stamp_ns, b.image.data)
        np.testing.assert_allclose(a.vehicle_to_map, b.vehicle_to_map, atol=1e-9)
    assert found.lidar is not None
    assert expected.lidar is not None
    assert found.lidar.stamp_ns == expected.lidar.stamp_ns
    np.testing.assert_allclose(found.lidar.points_vehicle, expected.lidar.points_vehicle, atol=5e-6)


def test_nuscenes_to_bag(nuscenes_folder: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bag"
    assert nuscenes_to_bag([str(nuscenes_folder.root), str(out)]) == 0
    # 12 scans of the 20 Hz; each of the 7 sweeps takes the nearest one
    assert "7 sweeps, 21 images, 7 scans, " in capsys.readouterr().out
    expected = list(nuscenes.sweeps(nuscenes_folder.root, all_frames=True))
    for a, b in zip(bag.sweeps(out, anchor="cam_front"), expected, strict=True):
        same(a, b)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_keyframes_only_and_a_range(nuscenes_folder: Any, tmp_path: Path) -> None:
    root = str(nuscenes_folder.root)
    assert nuscenes_to_bag([root, str(tmp_path / "a"), "--keyframes-only", "--scene", "scene-0001"]) == 0
    assert nuscenes_to_bag([root, str(tmp_path / "b"), "--keyframes-only", "--samples", "1:"]) == 0
    keyframes = list(nuscenes.sweeps(root))
    for name, expected in (("a", keyframes), ("b", keyframes[1:])):
        for a, b in zip(bag.sweeps(tmp_path / name, anchor="cam_front"), expected, strict=True):
            same(a, b)


def test_several_scenes_must_be_chosen(
    nuscenes_folder: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = nuscenes_folder.tables
    first, second = tables["scene"][0], dict(tables["scene"][0], token="scene-b", name="scene-0002")
    first["last_sample_token"] = second["first_sample_token"] = "sample-1"
    first["last_sample_token"] = tables["sample"][0]["token"]
    tables["scene"].append(second)
    tables["sample"][0]["next"] = tables["sample"][1]["prev"] = ""
    tables["sample"][1]["scene_token"] = "scene-b"
    nuscenes_folder.write()
    arguments = [str(nuscenes_folder.root), str(tmp_path / "bag")]
    assert nuscenes_to_bag(arguments) == 2
    assert "2 scenes, a bag has one; choose it with --scene: scene-0001, scene-0002" in capsys.readouterr().err
    assert nuscenes_to_bag([*arguments, "--scene", "scene-0002"]) == 0
    assert len(list(bag.sweeps(tmp_path / "bag"))) > 0


def test_ddad_to_bag(ddad_folder: Any, tmp_path: Path) -> None:
    assert ddad_to_bag([str(ddad_folder.root / "ddad.json"), str(tmp_path / "bag"), "--split", "val"]) == 0
    found = list(bag.sweeps(tmp_path / "bag"))
    for a, b in zip(found, ddad.sweeps(ddad_folder.root), strict=True):
        same(a, b)
    assert found[0].lidar is not None
    assert found[0].lidar.name == "lidar"


def test_rig_from_bag(nuscenes_folder: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert nuscenes_to_bag([str(nuscenes_folder.root), str(tmp_path / "bag"), "--keyframes-only"]) == 0
    arguments = [str(tmp_path / "bag"), str(tmp_path / "rig.yaml")]
    assert rig_from_bag([*arguments, "--ground-z", "-0.5"]) == 0
    assert f"start the node with: --ros-args -p rig_file:={tmp_path / 'rig.yaml'}\n" in capsys.readouterr().out
    found, expected = read_rig(tmp_path / "rig.yaml"), next(nuscenes.sweeps(nuscenes_folder.root)).rig
    assert (found.names, found.vehicle_frame, found.ground_z) == (expected.names, "base_link", -0.5)
    np.testing.assert_array_equal(found.intrinsics(), expected.intrinsics())
    np.testing.assert_allclose(found.camera_to_vehicle(), expected.camera_to_vehicle(), atol=1e-12)
    lidars = read_lidars(tmp_path / "rig.yaml")
    assert list(lidars) == ["lidar_top"]
    assert lidars["lidar_top"][:3, 3].tolist() == [0.9, 0, 1.8]
    capsys.readouterr()
    assert rig_from_bag(arguments) == 2
    assert "exists already; choose another name, or --overwrite" in capsys.readouterr().err
    assert rig_from_bag([*arguments, "--overwrite"]) == 0
    assert rig_from_bag([arguments[0], str(tmp_path / "b.yaml"), "--vehicle-frame", "car"]) == 2
    assert "not fixed to the vehicle frame 'car'" in capsys.readouterr().err
    assert not (tmp_path / "b.yaml").exists()


def test_rig_from_bag_of_some_cameras(nuscenes_folder: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert nuscenes_to_bag([str(nuscenes_folder.root), str(tmp_path / "bag"), "--keyframes-only"]) == 0
    arguments = [str(tmp_path / "bag"), str(tmp_path / "rig.yaml")]
    assert rig_from_bag([*arguments, "--cameras", "cam_front"]) == 0
    assert read_rig(tmp_path / "rig.yaml").names == ("cam_front",)
    capsys.readouterr()
    assert rig_from_bag([arguments[0], str(tmp_path / "b.yaml"), "--cameras", "webcam"]) == 2
    assert "no camera webcam with a camera_info; it has cam_" in capsys.readouterr().err


def raw_drive(path: Path, image: str) -> Path:
    """One camera at the origin of the vehicle with one uncompressed image on /cam/``image``."""
    camera = Camera("cam", (8, 8), np.array([[8.0, 0, 3.5], [0, 8, 3.5], [0, 0, 1]]), np.eye(4), frame="base_link")
    types = TYPESTORE.types
    header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](1, 0), "base_link")
    pixels = types[RAW](header, 8, 8, "rgb8", 0, 24, np.zeros(192, np.uint8))
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic, message in (("/cam/camera_info", camera_info(camera, 10**9)), (f"/cam/{image}", pixels)):
            link = writer.add_connection(topic, message.__msgtype__, typestore=TYPESTORE)
            writer.write(link, 10**9, TYPESTORE.serialize_cdr(message, message.__msgtype__))
    return path


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ("image_raw", "rig.yaml -p input.rectified:=false -p input.transport:=raw"),
        ("image_rect", "rig.yaml -p input.transport:=raw"),
        (
            "image_color",
            "rig.yaml -p input.rectified:=false -p input.transport:=raw -r /cam/image_raw:=/cam/image_color",
        ),
        ("image_rect_color", "rig.yaml -p input.transport:=raw -r /cam/image_rect:=/cam/image_rect_color"),
    ],
)
def test_rig_from_bag_tells_how_to_start_the_node(
    tmp_path: Path, image: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rig_from_bag([str(raw_drive(tmp_path / "bag", image)), str(tmp_path / "rig.yaml")]) == 0
    assert told in capsys.readouterr().out.splitlines()[-1]


def test_the_command_that_is_told_can_be_pasted_into_a_shell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rig = tmp_path / "my rig.yaml"
    assert rig_from_bag([str(raw_drive(tmp_path / "bag", "image_rect")), str(rig)]) == 0
    told = capsys.readouterr().out.splitlines()[-1].partition(": ")[2]
    assert shlex.split(told) == ["--ros-args", "-p", f"rig_file:={rig}", "-p", "input.transport:=raw"]


def test_a_camera_whose_images_the_node_cannot_take_beside_the_others_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under another name the images of a fisheye would be taken for rectified ones, and no one would notice."""
    k = np.array([[8.0, 0, 3.5], [0, 8, 3.5], [0, 0, 1]])
    cameras = [Camera(name, (8, 8), k, np.eye(4)) for name in ("front", "left", "right")]
    cameras.append(Camera("fish", (8, 8), k, np.eye(4), np.zeros(4), "equidistant"))
    views = {camera.name: View(np.zeros((8, 8, 3), np.uint8), 10**9) for camera in cameras}
    write_bag(tmp_path / "bag", [Sweep(Rig(tuple(cameras)), 10**9, views)])
    assert rig_from_bag([str(tmp_path / "bag"), str(tmp_path / "rig.yaml")]) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    assert "image_rect/compressed of front, left, right; of fish the bag has /fish/image_raw/compressed" in told
    assert "--cameras front left right" in told
    assert ":=" not in told


def test_what_is_no_height_is_said_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("low", "nan"):
        with pytest.raises(SystemExit):
            rig_from_bag([str(tmp_path), str(tmp_path / "rig.yaml"), "--ground-z", text])
        assert f"argument --ground-z: must be a finite number, got '{text}'" in capsys.readouterr().err


def test_an_interrupted_conversion_leaves_nothing(nuscenes_folder: Any, tmp_path: Path) -> None:
    """By SIGTERM too, which ends Python on the spot unless it is told otherwise."""
    program = (
        "import os, signal, sys; from fsmde_ros.sources import bag_writer, convert\n"
        "bag_writer._SweepWriter._flush = lambda *_: os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.exit(convert.nuscenes_to_bag(['nuscenes', 'bag', '--keyframes-only']))"
    )
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == INTERRUPTED
    assert done.stderr == "interrupted; nothing was written\n"
    assert {path.name for path in tmp_path.iterdir()} - {".cache", ".config"} == {"nuscenes"}


def test_overwrite(nuscenes_folder: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(nuscenes_folder.root), str(tmp_path / "bag"), "--keyframes-only"]
    assert nuscenes_to_bag(arguments) == 0
    assert nuscenes_to_bag(arguments) == 2
    assert "exists already" in capsys.readouterr().err
    assert nuscenes_to_bag([*arguments, "--overwrite", "--samples", ":1"]) == 0
    assert len(list(bag.sweeps(tmp_path / "bag"))) == 1


def test_a_failure_half_way_leaves_the_old_bag_and_nothing_else(nuscenes_folder: Any, tmp_path: Path) -> None:
    arguments = [str(nuscenes_folder.root), str(tmp_path / "bag"), "--overwrite"]
    assert nuscenes_to_bag(arguments) == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "bag").iterdir()}
    nuscenes_folder.frame("CAM_FRONT", 6).write_bytes(b"")
    assert nuscenes_to_bag(arguments) == 2
    assert {path.name: path.read_bytes() for path in (tmp_path / "bag").iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bag", "nuscenes"]


@pytest.mark.parametrize("samples", ["5", "a:b", ""])
def test_a_range_that_is_none(tmp_path: Path, samples: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        nuscenes_to_bag([str(tmp_path), str(tmp_path / "bag"), "--samples", samples])
    assert caught.value.code == 2
    assert f"'{samples}' is no range, expected start:stop" in capsys.readouterr().err


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fsmde_ros.sources.convert", *arguments]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_as_a_process(nuscenes_folder: Any, tmp_path: Path) -> None:
    done = run("nuscenes_to_bag", "nuscenes", "bag", "--keyframes-only", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    # of 8 images and scans the first scan and the first image share a stamp, and so a pose
    assert done.stdout.splitlines()[-1] == "bag: 2 sweeps, 6 images, 2 scans, 7 poses"
    with Reader(tmp_path / "bag") as reader:
        assert reader.message_count == 6 * 2 + 2 + 7 * 2 + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nuscenes_to_bag", "none", "bag"), "error: none: no such folder, expected the root of a nuScenes dataset"),
        (
            ("nuscenes_to_bag", "nuscenes", "bag", "--version", "v9"),
            "error: nuscenes: no version 'v9', expected one of",
        ),
        (("nuscenes_to_bag", "nuscenes", "bag", "--scene", "x"), "error: nuscenes: no scene 'x'; it has scene-0001"),
        (("ddad_to_bag", "none.json", "bag"), "error: none.json: no such file or folder, expected ddad.json"),
        (("rig_from_bag", "none", "rig.yaml"), "error: bag none: cannot be opened: "),
        (("rig_from_bag", "nuscenes", "rig.yaml"), "error: bag nuscenes: cannot be opened: "),
    ],
)
def test_what_is_wrong_is_said_without_a_traceback(
    nuscenes_folder: Any, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = run(*arguments, folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    # .cache and .config: matplotlib, which the devkit imports, makes them in any home
    assert {path.name for path in tmp_path.iterdir()} - {".cache", ".config"} == {"nuscenes"}


def test_the_module_names_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bag_to_nuscenes"])
    assert "nuscenes_to_bag" in capsys.readouterr().err
