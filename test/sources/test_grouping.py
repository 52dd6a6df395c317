from __future__ import annotations

import random

import pytest

from fsmde_ros.sources.grouping import group_frames, nearest

MS = 1_000_000
OFFSETS = {"front": 0, "right": 8, "back": 25, "left": -8}  # milliseconds


def stamps(count: int, period: int = 83) -> dict[str, list[int]]:
    return {name: [(1_000 + i * period + offset) * MS for i in range(count)] for name, offset in OFFSETS.items()}


def test_frames_of_one_moment_come_together() -> None:
    groups = group_frames(stamps(12), "front")
    assert [dict(group.frames) for group in groups] == [dict.fromkeys(OFFSETS, i) for i in range(12)]
    assert [group.stamp_ns for group in groups] == [(1_000 + i * 83) * MS for i in range(12)]


def test_a_missing_frame_leaves_its_sweep_and_its_neighbours_whole() -> None:
    frames = stamps(20)
    del frames["front"][10], frames["left"][14]
    groups = group_frames(frames, "front")
    assert len(groups) == 20
    assert sorted(groups[10].frames) == ["back", "left", "right"]
    assert sorted(groups[14].frames) == ["back", "front", "right"]
    assert abs(groups[10].stamp_ns - (1_000 + 10 * 83) * MS) <= 1 * MS
    assert all(group.frames["back"] == i for i, group in enumerate(groups))


def test_one_sweep_and_none() -> None:
    assert [dict(group.frames) for group in group_frames(stamps(1))] == [dict.fromkeys(OFFSETS, 0)]
    assert group_frames({}) == []
    assert group_frames({"front": []}) == []


@pytest.mark.parametrize("period_ms", [100, 125, 200, 1000])
def test_slow_cameras_without_a_trigger_lose_no_frame(period_ms: int, caplog: pytest.LogCaptureFixture) -> None:
    """Their views of one moment lie further apart than the node waits by default."""
    frames = {f"cam_{i}": [(1_000 + (6 * k + i) * period_ms // 6) * MS for k in range(50)] for i in range(6)}
    groups = group_frames(frames)
    assert all([group.frames[name] for group in groups if name in group.frames] == [*range(50)] for name in frames)
    assert sum(len(group.frames) == 6 for group in groups) >= 48
    assert caplog.messages == []


@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_cameras_that_fire_in_turn_at_12_hz_are_grouped_by_their_trigger(loss: float) -> None:
    rng = random.Random(0)
    offsets = dict(enumerate([0.0, 7.6, 15.5, 23.0, 32.7, 42.6]))
    sweeps = [[i for i in offsets if rng.random() >= loss] for _ in range(120)]
    frames = {
        f"cam_{i}": [round((1_000 + k * 1000 / 12 + late) * MS) for k, cameras in enumerate(sweeps) if i in cameras]
        for i, late in offsets.items()
    }
    groups = group_frames(frames, "cam_1")
    assert [sorted(group.frames) for group in groups] == [[f"cam_{i}" for i in cameras] for cameras in sweeps]


def test_a_camera_of_which_many_frames_are_in_no_sweep_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """It sends less often than in one of ``SILENT_AFTER`` sweeps, and last of all: no sweep waits for it."""
    steps = {"front": 100, "back": 100, "thermal": 5000}
    frames = {
        name: [(1_000 + k * step + 25 * i) * MS for k in range(30_000 // step)]
        for i, (name, step) in enumerate(steps.items())
    }
    groups = group_frames(frames)
    used = sum("thermal" in group.frames for group in groups)
    assert used < 5
    (warning,) = caplog.messages
    assert warning.startswith(f"thermal: only {used} of 6 frames are in one of {len(groups)} sweeps; ")


def test_nearest_within_the_limit() -> None:
    assert nearest([10, 20, 30], 24, 5) == 1
    assert nearest([10, 20, 30], 26, 5) == 2
    assert nearest([10, 20, 30], 1, 9) == 0
    assert nearest([10, 20, 30], 36, 5) is None
    assert nearest([], 0, 5) is None
