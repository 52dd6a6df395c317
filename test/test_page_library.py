"""The Python of docs/library.md, as a user would copy it."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fsmde_ros.backends.onnx_graph import OUTPUTS
from fsmde_ros.backends.padded import empty_feed
from fsmde_ros.checkpoint import find_checkpoint
from fsmde_ros.estimator import Estimator
from fsmde_ros.geometry import rigid
from fsmde_ros.rig import Rig
from fsmde_ros.rig_file import read_rig, write_rig
from fsmde_ros.sweep import Sweep, View
from training.export import main

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "library.md").read_text()
CAMERAS = ("cam_front", "cam_front_left", "cam_back", "cam_front_right")
NAMES = ("front", "left", "back", "right")


def function(name: str) -> Callable[..., Any]:
    """A function of the page, with the imports above it."""
    blocks = re.findall(r"^    (?:import|from) .*?(?=^\S)", PAGE, flags=re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(textwrap.dedent(next(block for block in blocks if f"def {name}(" in block)), names)
    found: Callable[..., Any] = names[name]
    return found


@pytest.fixture
def made_rig() -> Rig:
    rig = read_rig(ROOT / "config" / "nuscenes_rig.yaml").resized((192, 320)).subset(CAMERAS)
    return replace(rig, cameras=tuple(replace(c, name=name) for c, name in zip(rig.cameras, NAMES, strict=True)))


def pictures(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [cv2.resize(rng.integers(0, 256, (6, 10, 3), dtype=np.uint8), (320, 192)) for _ in range(count)]


def test_depth_and_points_of_image_files(made_rig: Rig, tmp_path: Path) -> None:
    write_rig(made_rig, tmp_path / "rig.yaml")
    files = {}
    for name, image in zip(NAMES[1:], pictures(3), strict=True):  # the first camera is missing
        files[name] = str(tmp_path / f"{name}.png")
        cv2.imwrite(files[name], cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    depth, cloud = function("surround_depth")(tmp_path / "rig.yaml", files)
    assert depth.rig.names == NAMES[1:]
    assert depth.depth.shape == (3, 192, 320)
    assert (depth.view("left")[0][np.isfinite(depth.view("left")[0])] > 0).all()
    assert len(cloud) > 100
    assert set(cloud.view) <= {1, 2, 3}


def test_depths_of_a_drive_are_corrected_by_its_motion(made_rig: Rig) -> None:
    estimator = Estimator.from_checkpoint(find_checkpoint("small"), device="cpu", backend="torch")
    sweeps = []
    for index in range(3):
        pose = rigid([1, 0, 0, 0], [index, 0, 0])
        views = {name: View(image, index, pose) for name, image in zip(NAMES, pictures(4), strict=True)}
        sweeps.append(Sweep(made_rig, index * 100_000_000, views))
    first, *later = function("corrected_depths")(estimator, sweeps)
    alone = estimator(sweeps[0])  # all see the same
    np.testing.assert_array_equal(first.depth, alone.depth)
    assert all((depth.stddev != alone.stddev)[np.isfinite(alone.stddev)].mean() > 0.9 for depth in later)


def test_the_exported_graph_says_what_the_package_says(made_rig: Rig, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("onnxruntime")
    assert main(["--checkpoint", "small", "--output", str(tmp_path), "--views", "4"]) == 0
    file = capsys.readouterr().out.strip()
    images = np.stack(pictures(4)).transpose(0, 3, 1, 2)
    depth, stddev = function("run")(file, images, made_rig.intrinsics(), made_rig.camera_to_vehicle())
    estimator = Estimator.from_checkpoint(find_checkpoint("small"), device="cpu", backend="torch")
    views = {name: View(image, 0) for name, image in zip(NAMES, pictures(4), strict=True)}
    expected = estimator(Sweep(made_rig, 0, views))
    finite = np.isfinite(depth) & np.isfinite(expected.depth)
    assert np.mean(np.isfinite(depth) == np.isfinite(expected.depth)) > 0.99
    np.testing.assert_allclose(depth[finite], expected.depth[finite], rtol=0.01)
    np.testing.assert_allclose(stddev[finite], expected.stddev[finite], rtol=0.05)


def test_the_table_names_what_the_graph_takes_and_gives() -> None:
    rows = re.findall(r"^\| (in|out) \| (.*?) \|", PAGE, flags=re.MULTILINE)
    named = {way: re.findall(r"`(\w+)`", " ".join(cell for w, cell in rows if w == way)) for way in ("in", "out")}
    assert named == {"in": list(empty_feed(1, (32, 32))), "out": list(OUTPUTS)}
