"""The cache of town drives, rendered for real at a tiny size."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from fsmde_ros.errors import ConfigError
from training.augment import AugmentSettings
from training.batch import collate
from training.datasets import CachedSweeps, TownData, _render_drive, fill_cache
from training.sample_file import load_sample

ROOT = Path(__file__).parents[2]
DATA = TownData(drives=2, sweeps_per_drive=2, spacing_s=0.5, first_seed=5, size=(64, 96))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return fill_cache(DATA, tmp_path_factory.mktemp("cache"), workers=1)


def test_rendered_lidar_agrees_with_the_dense_depth(files: list[Path]) -> None:
    assert len(files) == 4
    for file in files:
        sample = load_sample(file)
        lidar = sample.lidar_depth()
        known = np.isfinite(lidar) & np.isfinite(sample.dense_depth)
        assert known.sum() > 1000
        ratio = lidar[known] / sample.dense_depth[known]
        # moving cars and edges within a pixel differ; the bulk must not
        assert np.median(np.abs(ratio - 1)) < 0.02
        assert sample.images.std() > 10


def test_a_second_run_renders_nothing_and_only_a_lost_drive_is_rendered_again(files: list[Path]) -> None:
    root = files[0].parents[2]
    before = {file: file.stat().st_mtime_ns for file in files}
    assert fill_cache(DATA, root, workers=1) == files
    assert {file: file.stat().st_mtime_ns for file in files} == before
    pixels = load_sample(files[2]).images
    for file in files[2:]:
        file.unlink()
    files[2].parent.rmdir()
    fill_cache(DATA, root, workers=1)
    np.testing.assert_array_equal(load_sample(files[2]).images, pixels)
    assert files[0].stat().st_mtime_ns == before[files[0]]


def test_a_kill_while_a_drive_is_rendered_leaves_no_part_of_it(files: list[Path], tmp_path: Path) -> None:
    """The process is killed between the two sweeps of the drive."""
    program = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
import training.datasets as datasets
from pathlib import Path
save, count = datasets.save_sample, 0
def killed(*given):
    global count
    count += 1
    if count == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    save(*given)
datasets.save_sample = killed
datasets._render_drive({DATA!r}, 0, Path({str(tmp_path)!r}), False)
""".replace("TownData(", "datasets.TownData(")
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=240)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".drive-00000-")
    assert [file.name for file in left.iterdir()] == ["0.npz"]
    folder = DATA.cache_folder(tmp_path)
    folder.mkdir()
    left.rename(folder / left.name)
    again = fill_cache(replace(DATA, drives=1), tmp_path, workers=1)
    assert again == [folder / "drive-00000" / "0.npz", folder / "drive-00000" / "1.npz"]
    for file, expected in zip(again, files, strict=False):
        np.testing.assert_array_equal(load_sample(file).images, load_sample(expected).images)


def _rendering(tmp_path: Path, workers: int) -> subprocess.Popen[bytes]:
    """A process that fills ``tmp_path / "cache"`` with a thousand drives, in a group of its own."""
    script = tmp_path / "render.py"
    script.write_text(f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from training.datasets import TownData, fill_cache
if __name__ == "__main__":
    fill_cache({replace(DATA, drives=1000)!r}, Path({str(tmp_path / "cache")!r}), {workers})
""")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, str(script)], env=environment, start_new_session=True)


def test_processes_that_render_end_with_one_that_is_killed(tmp_path: Path) -> None:
    """It cannot end them itself; they would render all the drives that are left."""
    program = _rendering(tmp_path, workers=2)
    try:
        began = DATA.cache_folder(tmp_path / "cache")
        deadline = time.monotonic() + 240
        while not (began.is_dir() and any(began.iterdir())):
            assert program.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        workers = psutil.Process(program.pid).children(recursive=True)
        assert len(workers) >= 2
    finally:
        program.kill()
        program.wait()
    _, alive = psutil.wait_procs(workers, timeout=30)
    for worker in alive:
        worker.kill()
    assert not alive


def test_a_drive_that_cannot_be_kept_is_told_before_the_others_are_rendered(tmp_path: Path) -> None:
    """Something else has its name."""
    data = replace(DATA, drives=12, sweeps_per_drive=1)
    folder = data.cache_folder(tmp_path)
    folder.mkdir()
    (folder / "drive-00000").symlink_to(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError, match="drive-00000"):
        fill_cache(data, tmp_path, workers=1)
    left = [path.name for path in folder.iterdir() if path.is_dir()]
    assert len(left) <= 5  # one that is rendered, and those that are handed out ahead
    assert not any(name.startswith(".") for name in left)


def test_an_interrupted_run_ends_with_the_drives_that_it_has_begun(tmp_path: Path) -> None:
    """Ctrl-C, as a terminal sends it: to all processes."""
    program = _rendering(tmp_path, workers=1)
    folder = DATA.cache_folder(tmp_path / "cache")
    try:
        deadline = time.monotonic() + 240
        while not any(folder.glob("drive-*")):
            assert program.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        before = len(list(folder.glob("drive-*")))
        os.killpg(program.pid, signal.SIGINT)
        assert program.wait(240) not in (0, -signal.SIGKILL)
    finally:
        program.kill()
        program.wait()
    left = [path.name for path in folder.iterdir()]
    assert before <= len(left) <= before + 5
    assert not any(name.startswith(".") for name in left)


def test_two_who_render_the_same_drive_leave_it_once(tmp_path: Path) -> None:
    """As processes of the same number on two hosts that share a cache."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: _render_drive(DATA, 0, tmp_path, False), range(2)))
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "drive-00000",
        "drive-00000/0.npz",
        "drive-00000/1.npz",
    ]


def test_cache_folder_depends_on_what_is_rendered_only() -> None:
    folder = DATA.cache_folder(Path("c"))
    assert replace(DATA, drives=99).cache_folder(Path("c")) == folder
    for change in ({"held_out": True}, {"first_seed": 6}, {"size": (96, 96)}, {"ddad_share": 0.3}):
        assert replace(DATA, **change).cache_folder(Path("c")) != folder


def test_a_draw_gives_the_same_sample_again_and_another_draw_another(files: list[Path]) -> None:
    sweeps = CachedSweeps(files, AugmentSettings(), blur_px=0.7, seed=1)
    a, b, c = sweeps[0, 5], sweeps[0, 5], sweeps[0, 6]
    np.testing.assert_array_equal(a.images, b.images)
    np.testing.assert_array_equal(a.teacher_disparity, b.teacher_disparity)
    assert a.images.shape != c.images.shape or (a.images != c.images).any()
    batch = collate([a, sweeps[3, 7]])
    assert batch.images.shape[0] == 2


def test_rigs_are_mixed_as_asked() -> None:
    names = [replace(DATA, first_seed=0).drawn_rig(index)[0].names[0] for index in range(24)]
    assert {"cam_front", "camera_01", "camera_0"} == set(names)
    all_ddad = replace(DATA, nuscenes_share=0.0, ddad_share=1.0)
    assert all_ddad.drive(3).rig.names[0] == "camera_01"
    unusual = replace(DATA, nuscenes_share=0.0, ddad_share=0.0, unusual_share=1.0)
    assert {len(unusual.drawn_rig(index)[0]) for index in range(24)} >= {1, 2, 3, 8}


@pytest.mark.parametrize("change", [{"drives": 0}, {"spacing_s": 0.0}, {"ddad_share": 0.9}])
def test_settings_out_of_range_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        replace(DATA, **change)
