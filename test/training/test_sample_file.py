from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fsmde_ros.errors import SourceError
from training.batch import Sample
from training.sample_file import has_dense_depth, load_rig, load_sample, save_sample, stores_dense_depth


def test_samples_survive_the_cache(tmp_path: Path, sample: Sample) -> None:
    save_sample(tmp_path / "a.npz", sample)
    back = load_sample(tmp_path / "a.npz")
    np.testing.assert_array_equal(back.images, sample.images)
    np.testing.assert_array_equal(back.lidar, sample.lidar)
    np.testing.assert_allclose(back.dense_depth, sample.dense_depth, rtol=1e-3)
    assert back.usable.all()
    usable = np.random.default_rng(0).random(sample.usable.shape) < 0.5
    save_sample(tmp_path / "a.npz", replace(sample, usable=usable))
    np.testing.assert_array_equal(load_sample(tmp_path / "a.npz").usable, usable)
    for rig in (back.rig, load_rig(tmp_path / "a.npz")):
        assert (rig.names, rig.ground_z) == (sample.rig.names, sample.rig.ground_z)
        assert [camera.size for camera in rig.cameras] == [camera.size for camera in sample.rig.cameras]
        np.testing.assert_array_equal(rig.intrinsics(), sample.rig.intrinsics())
        np.testing.assert_array_equal(rig.camera_to_vehicle(), sample.rig.camera_to_vehicle())
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_depth_that_is_not_known_takes_no_room(tmp_path: Path, sample: Sample) -> None:
    save_sample(tmp_path / "dense.npz", sample)
    save_sample(tmp_path / "sparse.npz", replace(sample, dense_depth=np.full_like(sample.dense_depth, np.nan)))
    back = load_sample(tmp_path / "sparse.npz")
    assert back.dense_depth.shape == sample.dense_depth.shape
    assert not has_dense_depth(back)
    assert has_dense_depth(load_sample(tmp_path / "dense.npz"))
    assert [stores_dense_depth(tmp_path / name) for name in ("dense.npz", "sparse.npz")] == [True, False]
    saved = (tmp_path / "dense.npz").stat().st_size - (tmp_path / "sparse.npz").stat().st_size
    assert saved >= 2 * sample.dense_depth.size


def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "0.npz", depth=np.zeros(3))
    for read in (load_sample, load_rig):
        with pytest.raises(SourceError, match=r"0\.npz"):
            read(tmp_path / "0.npz")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "0.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(SourceError, match=r"0\.npz"):
        load_sample(tmp_path / "0.npz")
    with pytest.raises(SourceError, match=r"0\.npz"):
        stores_dense_depth(tmp_path / "0.npz")
    with pytest.raises(SourceError, match=r"0\.npz"):
        load_rig(tmp_path / "0.npz")
