"""Where errors are: each place by hand, and the command on a drive of the town."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from training.batch import Sample
from training.error_places import PLACES, depth_of_cells, main, points_of, rendered_depth, report


@pytest.fixture
def wall(sample: Sample) -> Sample:
    """In view 0 a wall 10 m away, from column 40 on one 20 m away; points on it, at its rim, behind it."""
    dense = np.full_like(sample.dense_depth, 10.0)
    dense[0, :, 40:] = 20.0
    camera = sample.rig.cameras[0]
    fall = camera.intrinsics[1, 1] * (camera.camera_to_vehicle[2, 3] - sample.rig.ground_z) / 10
    road_row = camera.intrinsics[1, 2] + fall  # where a level camera sees the road 10 m away
    points = [(0, 10, 20, 10.0), (0, 38, 20, 10.0), (0, 41, 20, 20.0), (0, 10, 20, 15.0), (0, 10, road_row, 10.0)]
    return replace(sample, dense_depth=dense, lidar=np.array([*points, (0, 10, 20, 90.0)], dtype=np.float32))


def test_each_point_has_its_place(wall: Sample) -> None:
    found = points_of([wall, wall], rendered_depth)
    places = [PLACES[index] for index in found.place]
    assert places == ["thing", "rim", "rim", "hidden", "road"] * 2  # what is 90 m away does not count
    scores = found.scores()
    assert [scores[name][0] for name in PLACES] == pytest.approx([0.2, 0.4, 0.2, 0.2])
    assert scores["hidden"][1].abs_rel == pytest.approx(1 / 3)  # 10 m in place of 15
    assert scores["all"][1].abs_rel == pytest.approx(1 / 15)
    assert all(scores[name][1].abs_rel == 0 for name in ("rim", "road", "thing"))


def test_cells_lose_the_rim_alone(wall: Sample) -> None:
    moved = replace(wall, dense_depth=np.roll(wall.dense_depth, -1, axis=2))  # the rim lies within a cell
    scores = points_of([moved], depth_of_cells(4)).scores()
    assert scores["rim"][1].abs_rel == 0.0  # the points themselves lie in the cells beside it
    np.testing.assert_array_equal(depth_of_cells(4)(moved)[0, 0, 36:44], [10, 10, 10, 10, 20, 20, 20, 20])
    assert moved.dense_depth[0, 0, 39] == 20


def test_the_command_prints_a_row_for_every_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--checkpoint", "small", "--drives", "1"]) == 0
    table = capsys.readouterr().out
    rows = re.findall(r"^(.{24})(\w+) +([\d.]+)% +([\d.]+) +([\d.]+) +([\d.]+)%$", table, flags=re.MULTILINE)
    assert [row[1] for row in rows] == ["all", *PLACES] * 3
    assert [row[0].strip() for row in rows[::5]] == ["small", "rendered depth", "rendered, cells of 4 px"]
    of_all = [float(row[3]) for row in rows[::5]]
    assert of_all[1] < of_all[2] < of_all[0]
    assert main(["--checkpoint", "small", "nano"]) == 1
    assert "one input size" in capsys.readouterr().err


def test_students_with_cells_of_two_sizes_have_a_row_for_each(
    sample: Sample, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever is named first; both see 448x256."""
    seen = replace(sample, images=np.zeros((5, 256, 448, 3), np.uint8), rig=sample.rig.resized((256, 448)))
    seen = replace(seen, dense_depth=sample.dense_depth.repeat(4, axis=1)[:, :, :90].repeat(5, axis=2)[:, :, :448])
    monkeypatch.setattr("training.error_places._samples", lambda _: [seen])
    for names in (["base", "nano"], ["nano", "base"]):
        assert main(["--checkpoint", *names]) == 0
        rows = re.findall(r"^(\S.*?) +all ", capsys.readouterr().out, flags=re.MULTILINE)
        assert rows == [*names, "rendered depth", "rendered, cells of 4 px", "rendered, cells of 8 px"]


def test_columns_stand_under_each_other_however_long_a_name_is(wall: Sample) -> None:
    points = points_of([wall], rendered_depth)
    lines = report({"out/distill/a_long_name.safetensors": points, "b": points}).splitlines()
    assert {len(line) for line in lines} == {len(lines[0])}
