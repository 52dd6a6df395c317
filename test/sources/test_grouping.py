from __future__ import annotations

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


def test_nearest_within_the_limit() -> None:
    assert nearest([10, 20, 30], 24, 5) == 1
    assert nearest([10, 20, 30], 26, 5) == 2
    assert nearest([10, 20, 30], 1, 9) == 0
    assert nearest([10, 20, 30], 36, 5) is None
    assert nearest([], 0, 5) is None
