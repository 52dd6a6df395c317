"""Files that are built of a checkpoint: found again, and never taken for those of another one."""

from __future__ import annotations

import copy
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from fsmde_ros.backends import built_files
from fsmde_ros.backends.built_files import CACHE_VARIABLE, BuildKey, cache_folder, hash_student, write_whole
from fsmde_ros.errors import BackendError
from fsmde_ros.network.student import Student, StudentConfig

KEY = BuildKey("abc", (192, 320), 6, ".engine", "float16", "tensorrt 10", "NVIDIA H200")
OTHER = BuildKey("abd", (192, 352), 5, ".xml", "int8", "tensorrt 11", "NVIDIA H100")


@pytest.mark.parametrize("field", [f.name for f in fields(BuildKey)])
def test_each_part_of_the_key_changes_the_name(field: str) -> None:
    changed = replace(KEY, **{field: getattr(OTHER, field)})
    assert changed.file_name != KEY.file_name


def test_the_name_can_be_read() -> None:
    assert KEY.file_name.startswith("student-192x320-6views-float16-")
    assert KEY.file_name.endswith(".engine")


def test_the_fewest_views_that_are_enough_are_taken(tmp_path: Path) -> None:
    for views in (4, 6, 10):
        (tmp_path / replace(KEY, views=views).file_name).touch()
    (tmp_path / replace(KEY, views=5, versions="tensorrt 9").file_name).touch()
    found = {views: replace(KEY, views=views).find([tmp_path]) for views in (1, 5, 6, 7, 11)}
    assert {views: file and file[1] for views, file in found.items()} == {1: 4, 5: 6, 6: 6, 7: 10, 11: None}
    assert found[5] == (tmp_path / KEY.file_name, 6)


def test_the_hash_is_that_of_weights_and_shape(trained: Student) -> None:
    other = copy.deepcopy(trained)
    assert hash_student(other) == hash_student(trained)
    with torch.no_grad():
        next(other.parameters()).view(-1)[0] += 1e-3
    assert hash_student(other) != hash_student(trained)
    near, far = (Student(StudentConfig(d_max=metres)) for metres in (80.0, 200.0))
    far.load_state_dict(near.state_dict())
    assert hash_student(near) != hash_student(far)


def test_the_hash_is_that_of_what_writes_the_files_too(
    trained: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = tmp_path / "writer.py"
    writer.write_text("old")
    monkeypatch.setattr(built_files, "_WRITERS", (*built_files._WRITERS, writer))
    before = hash_student(trained)
    assert hash_student(trained) == before
    writer.write_text("new")
    assert hash_student(trained) != before
    assert all(path.exists() for path in built_files._WRITERS)


def test_a_file_is_built_once_and_found_beside_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    built: list[Path] = []

    def build(path: Path) -> None:
        path.write_text("built")
        built.append(path)

    beside, name = tmp_path / "models", KEY.file_name
    assert KEY.find_or_build([beside], build) == (tmp_path / "cache" / name, 6)
    assert KEY.find_or_build([beside], build) == (tmp_path / "cache" / name, 6)
    assert len(built) == 1
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [name]
    beside.mkdir()
    (beside / name).write_text("shipped")
    assert KEY.find_or_build([beside], build) == (beside / name, 6)


def test_a_file_for_more_views_is_taken_only_where_none_can_be_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    fewer = replace(KEY, views=1)
    (tmp_path / KEY.file_name).touch()

    def refuse(path: Path) -> None:
        raise BackendError("refused")

    assert fewer.find_or_build([], refuse) == (tmp_path / KEY.file_name, 6)
    assert fewer.find_or_build([], lambda path: path.touch()) == (tmp_path / fewer.file_name, 1)


def test_a_build_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))

    def build(path: Path) -> None:
        path.write_text("half")
        raise BackendError("refused")

    with pytest.raises(BackendError, match="refused"):
        KEY.find_or_build([], build)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    with pytest.raises(BackendError, match=CACHE_VARIABLE):
        KEY.find_or_build([], lambda path: path.touch())


def test_a_cache_that_cannot_even_be_looked_into_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of another user; the tests may run as one whom nothing is denied."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))

    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    for name in ("glob", "is_dir", "mkdir", "unlink"):
        monkeypatch.setattr(Path, name, deny)
    with pytest.raises(BackendError, match=rf"Permission denied.*{CACHE_VARIABLE}"):
        KEY.find_or_build([], lambda path: path.touch())


def test_two_may_build_the_same_file_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with the same process number, as in two containers that share a cache."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))

    def build(path: Path) -> None:
        path.write_text("ours")
        assert KEY.find_or_build([], lambda other: other.write_text("theirs"))  # type: ignore[arg-type, return-value]

    path, _ = KEY.find_or_build([], build)
    assert path.read_text() == "ours"
    assert [file.name for file in tmp_path.iterdir()] == [KEY.file_name]


def test_a_file_is_there_when_it_is_whole_with_what_belongs_to_it(tmp_path: Path) -> None:
    path = tmp_path / "graph.xml"
    path.write_text("old")

    def interrupted(made: Path) -> None:
        made.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, interrupted)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("graph.xml", "old")]

    def write(made: Path) -> None:
        made.write_text("new")
        made.with_suffix(".bin").write_text("weights")
        assert path.read_text() == "old"

    write_whole(path, write)
    written = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert written == {"graph.xml": "new", "graph.bin": "weights"}


def test_the_cache_is_in_the_home_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/fsmde_ros")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "fsmde_ros"
