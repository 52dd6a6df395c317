"""The cache of teacher outputs: exact keys, damaged entries, killed writers, several processes."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from fsmde_ros.errors import TeacherError
from training.teachers.cache import CachedTeacher, decode_entry, encode_entry, fill_teacher_cache
from training.teachers.teacher import Kind, TeacherOutput

ROOT = Path(__file__).parents[3]


class Brightness:
    """A teacher that takes what is bright for near; counts what it is asked."""

    identity = "brightness"
    batch = 3

    def __init__(self, kind: Kind = "disparity") -> None:
        self.kind: Kind = kind
        self.asked: list[int] = []

    def predict(self, images: torch.Tensor, with_features: bool = False) -> TeacherOutput:
        self.asked.append(len(images))
        return TeacherOutput(images.float().mean(1) * 100 - 5000, None)


def _sweeps(count: int = 4, views: int = 2, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (views, 6, 10, 3), dtype=np.uint8) for _ in range(count)]


def test_what_the_teacher_said_comes_back(tmp_path: Path) -> None:
    teacher, sweeps = Brightness(), _sweeps()
    cached = fill_teacher_cache(teacher, sweeps, tmp_path)
    assert teacher.asked == [3, 3, 2]
    for sweep in sweeps:
        got = cached.lookup(sweep)
        assert got is not None
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, sweep.mean(-1) * 100 - 5000, rtol=1e-3, atol=20000 * 2**-11)
    fill_teacher_cache(teacher, sweeps, tmp_path)
    assert teacher.asked == [3, 3, 2]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name.startswith(".")]


def test_unknown_images_other_teachers_and_absent_views(tmp_path: Path) -> None:
    sweep = _sweeps(1)[0]
    cached = fill_teacher_cache(Brightness(), [sweep[:1]], tmp_path)
    assert cached.lookup(sweep) is None
    got = cached.lookup(sweep, np.array([True, False]))
    assert got is not None
    assert np.isnan(got[1]).all()
    assert np.isfinite(got[0]).all()
    changed = sweep[:1].copy()
    changed[0, 3, 4, 1] ^= 1
    assert cached.lookup(changed) is None
    assert CachedTeacher(tmp_path, "another", "disparity").lookup(sweep[:1]) is None
    again = pickle.loads(pickle.dumps(cached))
    np.testing.assert_array_equal(again.lookup(sweep[:1]), got[:1])


def test_images_of_several_sizes_are_asked_apart(tmp_path: Path) -> None:
    teacher = Brightness()
    small, large = _sweeps(1)[0], np.zeros((2, 8, 12, 3), dtype=np.uint8)
    cached = fill_teacher_cache(teacher, [small, large], tmp_path)
    assert cached.lookup(small) is not None
    assert cached.lookup(large) is not None


def test_same_bytes_of_another_shape_are_another_image(tmp_path: Path) -> None:
    cached = CachedTeacher(tmp_path, "x", "disparity")
    image = np.zeros((6, 10, 3), dtype=np.uint8)
    assert cached.path(image) != cached.path(image.reshape(10, 6, 3))


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e7])
def test_an_entry_keeps_any_range(factor: float) -> None:
    values = (np.linspace(-1, 1, 60).reshape(6, 10) * factor).astype(np.float32)
    back = decode_entry(encode_entry(values), (6, 10))
    np.testing.assert_allclose(back, values, rtol=1e-3, atol=factor * 1e-6)
    zero = decode_entry(encode_entry(np.zeros((6, 10), dtype=np.float32)), (6, 10))
    np.testing.assert_array_equal(zero, 0)


def test_a_damaged_entry_is_seen_and_made_again(tmp_path: Path) -> None:
    teacher, sweeps = Brightness(), _sweeps(1)
    cached = fill_teacher_cache(teacher, sweeps, tmp_path)
    whole = cached.path(sweeps[0][0]).read_bytes()
    for position in (0, 9, 17, 21, 30, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        assert decode_entry(bytes(damaged), (6, 10)) is None
    for damage in (whole[:-1], b"", whole[:7]):
        cached.path(sweeps[0][0]).write_bytes(damage)
        assert cached.lookup(sweeps[0]) is None
        fill_teacher_cache(teacher, sweeps, tmp_path)
        assert cached.path(sweeps[0][0]).read_bytes() == whole


def test_views_of_a_canonical_teacher_become_comparable(tmp_path: Path) -> None:
    sweep = _sweeps(1)[0]
    cached = fill_teacher_cache(Brightness("canonical"), [sweep], tmp_path)
    plain, scaled = cached.lookup(sweep), cached.lookup(sweep, focal_px=np.array([5.0, 20.0]))
    assert plain is not None
    np.testing.assert_allclose(scaled, plain * np.array([2.0, 0.5])[:, None, None], rtol=1e-6)


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    class Broken(Brightness):
        def predict(self, images: torch.Tensor, with_features: bool = False) -> TeacherOutput:
            return TeacherOutput(torch.full((len(images), 6, 10), torch.nan), None)

    with pytest.raises(TeacherError, match="not finite"):
        fill_teacher_cache(Broken(), _sweeps(1), tmp_path)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TeacherError, match=r"teacher\.cache"):
        fill_teacher_cache(Brightness(), _sweeps(1), tmp_path / "file")


WRITER = """
import sys, numpy as np
from pathlib import Path
from training.teachers.cache import CachedTeacher
cached = CachedTeacher(Path(sys.argv[1]), "t", "disparity")
rng = np.random.default_rng(0)
images = rng.integers(0, 256, (50, 96, 128, 3), dtype=np.uint8)
print("ready", flush=True)
while True:
    for image in images:
        cached.write(image, image.mean(-1).astype(np.float32))
"""


def test_killed_writers_leave_whole_entries_only(tmp_path: Path) -> None:
    """Two processes write the same entries over and over and are killed; every entry must be whole."""
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
        deadline = time.monotonic() + 60
        while len(list(tmp_path.rglob("*.disparity"))) < 50 and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.3)
    finally:
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
            writer.communicate()
    cached = CachedTeacher(tmp_path, "t", "disparity")
    images = np.random.default_rng(0).integers(0, 256, (50, 96, 128, 3), dtype=np.uint8)
    got = cached.lookup(images)
    assert got is not None
    np.testing.assert_allclose(got, images.mean(-1), rtol=1e-3)


FILLER = """
import sys, time, numpy as np, torch
from pathlib import Path
from training.teachers.cache import fill_teacher_cache
from training.teachers.teacher import TeacherOutput
class Slow:
    identity, kind, batch = "brightness", "disparity", 1
    def predict(self, images, with_features=False):
        print("asked", flush=True)
        time.sleep(0.02)
        return TeacherOutput(images.float().mean(1) * 100 - 5000, None)
rng = np.random.default_rng(0)
fill_teacher_cache(Slow(), (rng.integers(0, 256, (2, 6, 10, 3), dtype=np.uint8) for _ in range(500)), Path(sys.argv[1]))
"""


def test_a_killed_fill_goes_on_where_it_was(tmp_path: Path) -> None:
    filler = subprocess.Popen([sys.executable, "-c", FILLER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    assert filler.stdout is not None
    for _ in range(12):
        assert filler.stdout.readline() == b"asked\n"
    os.kill(filler.pid, signal.SIGKILL)
    filler.communicate()
    teacher, sweeps = Brightness(), _sweeps(500)
    cached = fill_teacher_cache(teacher, sweeps, tmp_path)
    assert 0 < sum(teacher.asked) <= 1000 - 11  # the last answer may have been lost, no other
    assert cached.lookup(sweeps[-1]) is not None
