"""The export command: what it writes, other programs can read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import training.export
from fsmde_ros.backends import build_backend, fastest_ready
from fsmde_ros.backends.built_files import CACHE_VARIABLE
from fsmde_ros.backends.onnx_graph import OUTPUTS
from fsmde_ros.backends.padded import empty_feed
from fsmde_ros.backends.torch_eager import choose_device
from fsmde_ros.benchmark.workload import prepared_sweep
from fsmde_ros.checkpoint import default_checkpoint, load_checkpoint
from fsmde_ros.estimator import Estimator, run_network
from fsmde_ros.model_card import ModelCard
from training.export import FORMATS, main
from training.town.drive import nuscenes_drive
from training.town.settings import TownSettings

onnx = pytest.importorskip("onnx")
SIZE = (64, 96)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is built into, or taken from, the cache of the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    assert main(["--output", str(folder), "--views", "3", "--size", "64x96"]) == 0
    return next(folder.iterdir())


def test_the_file_says_what_it_takes_and_gives(exported: Path) -> None:
    model = onnx.load(str(exported))
    onnx.checker.check_model(model, full_check=True)
    kinds = {np.dtype(np.uint8): "UINT8", np.dtype(np.float32): "FLOAT", np.dtype(np.bool_): "BOOL"}
    expected = {name: (kinds[array.dtype], array.shape) for name, array in empty_feed(3, SIZE).items()}
    expected |= dict.fromkeys(OUTPUTS, ("FLOAT", (1, 3, *SIZE)))
    found = {
        port.name: (
            onnx.TensorProto.DataType.Name(port.type.tensor_type.elem_type),
            tuple(dim.dim_value for dim in port.type.tensor_type.shape.dim),
        )
        for port in (*model.graph.input, *model.graph.output)
    }
    assert found == expected
    card = ModelCard.from_json({p.key: p.value for p in model.metadata_props}["card"])
    assert card.name == "small"


def test_another_program_gets_the_same_depth(exported: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    sweep = prepared_sweep(3, SIZE)
    feed = dict(empty_feed(3, SIZE))
    feed["images"][0] = sweep.images
    feed["intrinsics"][0] = sweep.network_rig.intrinsics()
    feed["camera_to_vehicle"][0] = sweep.network_rig.camera_to_vehicle()
    feed["present"][:] = True
    depth = runtime.InferenceSession(str(exported), providers=["CPUExecutionProvider"]).run(["depth"], feed)[0][0]
    student, _ = load_checkpoint(default_checkpoint())
    np.testing.assert_allclose(depth, run_network(build_backend("torch", student, "cpu"), sweep).depth, rtol=1e-3)


def test_auto_finds_what_lies_beside_the_checkpoint(exported: Path) -> None:
    pytest.importorskip("onnxruntime")
    student, _ = load_checkpoint(default_checkpoint())
    assert fastest_ready(student, choose_device("cpu"), SIZE, [exported.parent]) != "torch"


@pytest.mark.slow
def test_int8_is_calibrated_on_the_town_and_close(tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    assert main(["--format", "openvino-int8", "--sweeps", "4", "--output", str(tmp_path)]) == 0
    assert {path.suffix for path in tmp_path.iterdir()} == {".xml", ".bin"}
    student, card = load_checkpoint(default_checkpoint())
    plain = build_backend("torch", student, "cpu")
    int8 = build_backend("openvino_int8", student, "cpu", card.input_size, [tmp_path])
    drive = nuscenes_drive(3, (180, 320), TownSettings.held_out(), duration_s=1.0, camera_rate_hz=1.0)
    sweep = Estimator(plain, card).prepare(next(iter(drive)))
    change = np.median(np.abs(run_network(int8, sweep).depth / run_network(plain, sweep).depth - 1))
    assert 0 < change < 0.03


def test_a_wrong_checkpoint_and_size_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--checkpoint", "nowhere.safetensors"]) == 1
    assert "nowhere.safetensors" in capsys.readouterr().err
    for size in ("100x100", "0x0"):
        with pytest.raises(SystemExit):
            main(["--size", size])
        assert "multiples of 32" in capsys.readouterr().err


def test_no_sweeps_and_a_file_for_a_folder_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--format", "openvino-int8", "--sweeps", "0"])
    assert "must be a whole number of at least 1, got '0'" in capsys.readouterr().err
    file = tmp_path / "file"
    file.touch()
    assert main(["--output", str(file)]) == 1
    assert f"--output {file}: is no folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--views", "65"])
    assert "argument --views: must be a whole number of 1 to 64, got '65'" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not even root can write there."""
    for form in FORMATS:
        assert main(["--output", "/proc", "--format", form, "--size", "64x96"]) == 1
        assert "export: /proc: cannot be written to" in capsys.readouterr().err


def test_an_export_that_is_interrupted_leaves_no_half_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node would take it for a whole one."""

    def interrupted(student: object, views: int, size: tuple[int, int], path: Path, facts: object) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(training.export, "export", interrupted)
    with pytest.raises(KeyboardInterrupt):
        main(["--output", str(tmp_path), "--size", "64x96"])
    assert not [*tmp_path.iterdir()]
