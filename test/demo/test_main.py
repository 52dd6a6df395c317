"""What the demo says of options that cannot be, before it spends minutes on a drive."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo import __main__ as demo


@pytest.fixture(autouse=True)
def no_town(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is rendered, and the signals of the tests stay as they are."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a drive is made for a demo that cannot be")

    monkeypatch.setattr(demo, "prepare", refuse)
    monkeypatch.setattr(demo, "end_on_signals", lambda: None)


def test_a_checkpoint_that_is_not_there_is_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--out", str(tmp_path / "out"), "--checkpoint", "smal"]) == 1
    said = capsys.readouterr().err
    assert "demo: checkpoint 'smal': no such file; the package has base, nano, small, small_any_rig" in said


@pytest.mark.parametrize("option", ["--rate=0", "--rate=nan", "--duration=-1", "--duration=nan", "--duration=inf"])
def test_a_number_that_cannot_be_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        demo.main([option])
    assert f"argument {option.partition('=')[0]}: must be a number above 0" in capsys.readouterr().err


def test_a_folder_that_takes_no_files_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert demo.main(["--out", str(tmp_path / "file" / "out")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("demo: ")
    assert f"cannot be written: {tmp_path / 'file' / 'out'}" in said
    assert said.count("\n") == 1
