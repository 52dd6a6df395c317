"""Which earlier sweeps are compared and what is kept of them; and drives, by hand and through the procedural town."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmde_ros.geometry import rigid
from fsmde_ros.motion_stereo import (
    BASELINES_M,
    FACTOR,
    Keyframe,
    MotionStereo,
    _compared,
    baseline_m,
    is_complete,
    keyframe,
)
from fsmde_ros.parallax import Sight
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.stamps import NS
from fsmde_ros.sweep import SurroundDepth
from training.town.drive import nuscenes_drive
from training.town.settings import TownSettings

SIZE = (48, 96)
DISTANCE, PX_PER_M = 6.0, 10  # of a wall along the road, and how far its picture moves while the vehicle moves 1 m
K = np.array([[DISTANCE * PX_PER_M, 0, 47.5], [0, DISTANCE * PX_PER_M, 23.5], [0, 0, 1.0]])
TO_THE_LEFT = [np.sqrt(0.5), -np.sqrt(0.5), 0.0, 0.0]  # camera z to vehicle y, camera x to vehicle x
RIG = Rig(tuple(Camera(f"left_{i}", SIZE, K, rigid(TO_THE_LEFT, [i, 0, 1])) for i in range(3)))


def at(x: float) -> np.ndarray:
    """Pose of the vehicle after ``x`` metres of a straight road."""
    return rigid([1, 0, 0, 0], [x, 0, 0])


def panorama() -> np.ndarray:
    noise = cv2.GaussianBlur(np.random.default_rng(0).normal(size=(SIZE[0], 3000)), (0, 0), 1.5)
    return np.asarray(np.clip(128 + 45 * noise / noise.std(), 0, 255), dtype=np.uint8)


PANORAMA = panorama()  # of the wall, which stands along the whole road, parallel to it


def image_from(x: float) -> np.ndarray:
    """What a camera at ``x`` sees of the wall, RGB."""
    start = 200 + round(PX_PER_M * x)
    return np.stack([PANORAMA[:, start : start + SIZE[1]]] * 3, -1)


def seconds(value: float) -> int:
    return round(value * NS)


def seen(time_s: float, x: float, rig: Rig = RIG, unknown: Iterable[str] = ()) -> Keyframe:
    """What is kept of a sweep at ``x``; the poses of the cameras ``unknown`` are not known."""
    poses = {name: None if name in unknown else at(x) for name in rig.names}
    colors = np.stack([image_from(x + camera.camera_to_vehicle[0, 3]) for camera in rig.cameras])
    return keyframe(rig, seconds(time_s), colors, poses)


def guess(rig: Rig = RIG, factor: float = 1.3) -> SurroundDepth:
    """A student's estimate of the wall, wrong by ``factor``."""
    depth = np.full((len(rig), *SIZE), factor * DISTANCE, np.float32)
    return SurroundDepth(rig, 0, depth, np.float32(0.3) * depth)


def errors(estimate: SurroundDepth) -> dict[str, float]:
    """Median relative error of each view."""
    return {
        name: float(np.median(np.abs(depth / DISTANCE - 1)))
        for name, depth in zip(estimate.rig.names, estimate.depth, strict=True)
    }


@pytest.fixture
def stereo() -> Iterator[MotionStereo]:
    stereo = MotionStereo()
    yield stereo
    stereo.close()


def standing(stamp_ns: int, places: Mapping[str, float]) -> Keyframe:
    """A sweep of cameras at these x, of which only where they are counts."""
    return Keyframe(stamp_ns, {n: Sight(np.zeros((2, 2), np.uint8), np.eye(3), at(x)) for n, x in places.items()})


def compared_places(now: Keyframe, earlier: list[Keyframe]) -> list[float]:
    """How far behind the images are that camera "a" is compared with."""
    x = now.sights["a"].camera_to_map[0, 3]
    return [float(x - s.camera_to_map[0, 3]) for s in _compared("a", now, earlier)]


def test_for_each_baseline_the_nearest_image_is_compared() -> None:
    now = standing(seconds(10), {"a": 0})
    earlier = [standing(seconds(10 - 0.1 * i), {"a": -0.8 * i}) for i in range(1, 15)]
    assert compared_places(now, earlier) == pytest.approx([0.8, 4.0])
    assert compared_places(now, earlier[1:]) == pytest.approx([1.6, 4.0])
    assert compared_places(now, earlier[:2]) == pytest.approx([0.8, 1.6])
    assert compared_places(now, earlier[:1]) == pytest.approx([0.8])  # 4 m is five times as far
    assert compared_places(now, [earlier[2]]) == pytest.approx([2.4])  # once, though it fits both
    assert compared_places(now, earlier[::-1]) == pytest.approx([0.8, 4.0])  # the order does not matter


@pytest.mark.parametrize(
    ("baseline", "fits"), [(0.0, False), (1e-200, False), (0.33, False), (0.34, True), (11.9, True), (12.1, False)]
)
def test_an_image_from_too_near_or_too_far_is_not_compared(baseline: float, fits: bool) -> None:
    earlier = [standing(seconds(9), {"a": -baseline})]
    assert bool(compared_places(standing(seconds(10), {"a": 0}), earlier)) == fits


@pytest.mark.parametrize(
    ("age_s", "fits"), [(1e-9, False), (0.1, True), (2.0, True), (2.001, False), (0.0, False), (-0.1, False)]
)
def test_an_image_that_is_too_old_or_of_the_future_is_not_compared(age_s: float, fits: bool) -> None:
    """Of a nanosecond ago neither: no vehicle moves a metre in that."""
    now = standing(seconds(10), {"a": 0})
    assert bool(compared_places(now, [standing(now.stamp_ns - seconds(age_s), {"a": -1})])) == fits


@pytest.mark.parametrize(("moved", "fits"), [(5.0, True), (10.2, True), (10.4, False), (1e5, False), (np.nan, False)])
def test_a_localisation_that_jumped_is_no_motion(moved: float, fits: bool) -> None:
    """100 m/s for a tenth of a second and 0.3 m."""
    now = standing(seconds(10), {"a": 0})
    assert bool(compared_places(now, [standing(seconds(9.9), {"a": -moved})])) == fits


@given(
    st.lists(st.tuples(st.integers(-NS, 3 * NS), st.floats(-30, 30)), max_size=12),
    st.floats(-30, 30),
)
def test_what_is_compared_is_what_a_plain_search_finds(sweeps: list[tuple[int, float]], x: float) -> None:
    now = standing(seconds(10), {"a": x})
    earlier = [standing(now.stamp_ns - age, {"a": place} if i % 4 else {}) for i, (age, place) in enumerate(sweeps)]
    fitting = [
        abs(place - x)
        for i, (age, place) in enumerate(sweeps)
        if i % 4 and 0 < age <= 2 * NS and 0 < abs(place - x) <= 100 * age / NS + 0.3
    ]
    expected = set()
    for wanted in BASELINES_M:
        best = min(fitting, key=lambda moved: max(moved / wanted, wanted / moved), default=0.0)
        if wanted / FACTOR <= best <= wanted * FACTOR:
            expected.add(best)
    assert {round(abs(moved), 9) for moved in compared_places(now, earlier)} == {round(b, 9) for b in expected}


def test_older_sweeps_are_of_no_use_beyond_the_span_or_the_largest_baseline() -> None:
    now = standing(seconds(10), {"a": 0, "b": 0})
    near, far = {"a": -1.0, "b": -1.0}, {"a": -4.0, "b": -5.0}
    assert not is_complete(now, [])
    assert not is_complete(now, [standing(seconds(9), near)])
    assert is_complete(now, [standing(seconds(9), near), standing(seconds(8), near)])
    assert is_complete(now, [standing(seconds(9), far)])
    assert not is_complete(now, [standing(seconds(9), {"a": -4.0, "b": -3.9})])  # of the slowest camera
    assert is_complete(now, [standing(seconds(9), {"b": -5.0})])
    assert not is_complete(now, [standing(seconds(9), {})])
    assert not is_complete(now, [standing(seconds(9), {"c": -5.0})])


def test_a_keyframe_knows_where_each_camera_was() -> None:
    poses = {"left_0": at(3), "left_1": None, "left_2": at(4)}  # they fired one after another
    kept = keyframe(RIG, 7, np.stack([image_from(0)] * 3), poses)
    assert kept.stamp_ns == 7
    assert list(kept.sights) == ["left_0", "left_2"]
    np.testing.assert_allclose(kept.sights["left_2"].camera_to_map[:3, 3], [4 + 2, 0, 1])
    assert baseline_m("left_2", kept, seen(0, 1)) == pytest.approx(3)
    with pytest.raises(ValueError, match="zip"):
        keyframe(RIG, 7, np.stack([image_from(0)] * 2), poses)


def test_a_vehicle_that_moves_sees_better(stereo: MotionStereo) -> None:
    student = guess()
    assert stereo(student, seen(0, 0)) is student  # there is nothing to compare with yet
    for i in range(1, 6):
        result = stereo(student, seen(0.1 * i, 1.0 * i))
        assert max(errors(result).values()) < 0.05, i
        assert np.median(result.stddev / result.depth) < 0.1
    assert (result.rig, result.stamp_ns, result.cameras) == (student.rig, student.stamp_ns, student.cameras)
    np.testing.assert_array_equal(student.depth, guess().depth)  # what was given is not written to
    np.testing.assert_array_equal(student.stddev, guess().stddev)


def test_a_vehicle_that_stands_changes_nothing(stereo: MotionStereo) -> None:
    student = guess()
    for i in range(10):
        assert stereo(student, seen(0.1 * i, 0.001 * i)) is student


def test_a_vehicle_that_stood_for_minutes_sees_better_as_soon_as_it_moves(stereo: MotionStereo) -> None:
    student = guess()
    for i in range(2400):
        assert stereo(student, seen(0.05 * i, 0)) is student
    moved = [stereo(student, seen(120 + 0.05 * i, 0.05 * i)) for i in range(1, 11)]
    assert [result is student for result in moved] == [True] * 6 + [False] * 4  # 0.35 m are enough, of the first metre
    assert max(errors(stereo(student, seen(120.6, 1.0))).values()) < 0.05


def test_without_poses_nothing_changes_and_a_sweep_without_them_does_no_harm(stereo: MotionStereo) -> None:
    student = guess()
    stereo(student, seen(0, 0))
    assert stereo(student, seen(0.1, 1, unknown=RIG.names)) is student
    assert stereo(student, Keyframe(seconds(0.15), {})) is student
    assert max(errors(stereo(student, seen(0.2, 2))).values()) < 0.05


def test_each_camera_is_compared_with_itself(stereo: MotionStereo) -> None:
    """One without a pose now, one without a pose then, and one that was seen."""
    student = guess()
    stereo(student, seen(0, 0, unknown=["left_1"]))
    result = stereo(student, seen(0.1, 1, unknown=["left_2"]))
    found = errors(result)
    assert found["left_0"] < 0.05
    for index in (1, 2):
        np.testing.assert_array_equal(result.depth[index], student.depth[index])
        np.testing.assert_array_equal(result.stddev[index], student.stddev[index])
    assert errors(stereo(student, seen(0.2, 2)))["left_1"] < 0.05  # by the second sweep


def test_cameras_may_be_missing_or_of_another_order(stereo: MotionStereo) -> None:
    stereo(guess(), seen(0, 0, RIG.subset(["left_2", "left_0"])))
    some = RIG.subset(["left_1", "left_2"])
    found = errors(stereo(guess(some), seen(0.1, 1, some)))
    assert found["left_1"] == pytest.approx(0.3)
    assert found["left_2"] < 0.05
    assert max(errors(stereo(guess(), seen(0.2, 2))).values()) < 0.05


def test_a_bag_that_restarts_begins_anew(stereo: MotionStereo) -> None:
    student = guess()
    for i in range(5):
        stereo(student, seen(100 + 0.1 * i, i))
    assert stereo(student, seen(0.5, 0)) is student  # none from the future
    assert max(errors(stereo(student, seen(0.6, 1))).values()) < 0.05
    assert max(errors(stereo(student, seen(0.6, 1))).values()) < 0.05  # the same sweep once more
    assert stereo(student, seen(3600, 2)) is student  # none from an hour ago


def test_a_jump_of_the_localisation_costs_only_what_was_before_it(stereo: MotionStereo) -> None:
    student = guess()
    stereo(student, seen(0, 0))
    stereo(student, seen(0.1, 1))
    shift = 1e6  # as from one zone of UTM to the next; the cameras see the same wall

    def jumped(time_s: float, x: float) -> Keyframe:
        poses = {name: at(x + shift) for name in RIG.names}
        colors = np.stack([image_from(x + camera.camera_to_vehicle[0, 3]) for camera in RIG.cameras])
        return keyframe(RIG, seconds(time_s), colors, poses)

    assert stereo(student, jumped(0.2, 2)) is student
    assert max(errors(stereo(student, jumped(0.3, 3))).values()) < 0.05


def test_an_earlier_sweep_is_placed_by_the_pose_that_is_known_by_now(stereo: MotionStereo) -> None:
    """Its own was the last one, followed too far."""

    def drive(pose_at: Callable[[int], np.ndarray | None] | None) -> SurroundDepth:
        stereo(guess(), replace(seen(0.0, 0.0), vehicle_to_map=at(0.0)), pose_at)
        early = keyframe(RIG, seconds(0.1), images, dict.fromkeys(RIG.names, at(1.4)))  # it was at 1.0
        stereo(guess(), replace(early, vehicle_to_map=at(1.4)), pose_at)
        return stereo(guess(), replace(seen(0.2, 2.0), vehicle_to_map=at(2.0)), pose_at)

    images = np.stack([image_from(1.0 + camera.camera_to_vehicle[0, 3]) for camera in RIG.cameras])
    trusting = drive(None)
    stereo(guess(), seen(-100.0, 0.0))  # forgets
    known = drive(lambda stamp_ns: at(10 * stamp_ns / NS))
    assert max(errors(known).values()) < 0.05
    assert min(errors(trusting).values()) > 2 * max(errors(known).values())
    stereo(guess(), seen(-100.0, 0.0))
    np.testing.assert_array_equal(drive(lambda _: None).depth, trusting.depth)  # nothing better is known


def test_in_a_hurry_a_sweep_is_only_kept(stereo: MotionStereo) -> None:
    stereo(guess(), seen(0.0, 0.0))
    alone = guess()
    assert stereo(alone, seen(0.1, 1.0), in_a_hurry=True) is alone
    unhurried = MotionStereo()
    for time_s, x in ((0.0, 0.0), (0.1, 1.0)):
        unhurried(guess(), seen(time_s, x))
    np.testing.assert_array_equal(stereo(guess(), seen(0.2, 2.0)).depth, unhurried(guess(), seen(0.2, 2.0)).depth)
    unhurried.close()


def test_two_vehicles_do_not_know_each_other(stereo: MotionStereo) -> None:
    other, student = MotionStereo(), guess()
    stereo(student, seen(0, 0))
    assert other(student, seen(0.1, 1)) is student
    other.close()
    assert max(errors(stereo(student, seen(0.1, 1))).values()) < 0.05


@pytest.mark.parametrize(
    ("rate_hz", "speed", "at_most"), [(30, 20.0, 61), (40, 20.0, 81), (200, 20.0, 81), (500, 0.0, 77)]
)
def test_of_a_fast_camera_no_more_is_kept_than_of_one_at_40_hz(
    rate_hz: int, speed: float, at_most: int, stereo: MotionStereo
) -> None:
    student, count = guess(RIG.subset(["left_0"])), 0
    for i in range(5 * rate_hz // 2):
        time_s = i / rate_hz
        result = stereo(student, seen(time_s, speed * time_s, student.rig))
        count = max(count, sum(len(kept.sights) for kept in stereo._earlier))
        assert (result is student) == (speed * time_s < 1 / FACTOR)
    assert count == at_most
    assert speed == 0 or errors(result)["left_0"] < 0.05


def test_cameras_that_come_in_turns_are_all_kept(stereo: MotionStereo) -> None:
    """Each at 30 Hz, the second 2 ms after the first; and a third at 500 Hz."""
    names = {i: ["left_2"] for i in range(200)}
    for i in range(0, 200, 17):
        names[i] = ["left_0", "left_2"]
        names[i + 1] = ["left_1", "left_2"]
    for i in range(200):
        rig = RIG.subset(names[i])
        stereo(guess(rig), seen(0.002 * i, 0.02 * i, rig))
    kept = [name for keyframe in stereo._earlier for name in keyframe.sights]
    assert [kept.count(name) for name in RIG.names] == [12, 12, 16]
    assert max(errors(stereo(guess(), seen(0.4, 4.0))).values()) < 0.05


def test_earlier_sweeps_may_be_given_and_are_then_not_kept(stereo: MotionStereo) -> None:
    student = guess()
    assert max(errors(stereo.correct(student, seen(0.1, 1), [seen(0, 0)])).values()) < 0.05
    assert stereo.correct(student, seen(0.1, 1), []) is student
    assert stereo(student, seen(0.2, 2)) is student


def test_the_threads_end() -> None:
    before = set(threading.enumerate())
    stereo = MotionStereo()
    stereo(guess(), seen(0, 0))
    stereo(guess(), seen(0.1, 1))
    threads = set(threading.enumerate()) - before
    assert threads
    stereo.close()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    stereo.close()  # twice does no harm


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 7])
def test_in_the_town_the_error_of_a_disturbed_depth_shrinks(seed: int, stereo: MotionStereo) -> None:
    """A third at least: by 0.75 to 1.3, smoothly over each view, with a stddev to match."""
    size = (192, 320)
    drive = nuscenes_drive(seed, size, TownSettings.held_out(), duration_s=0.5, camera_rate_hz=10.0)
    names, rng = drive.rig.names, np.random.default_rng(seed)
    for i in range(len(drive)):
        views, depths = drive.render(i)
        truth = np.stack([depths[name] for name in names])
        logs = [cv2.resize(rng.uniform(np.log(0.75), np.log(1.3), (4, 6)), size[::-1]) for _ in names]
        depth = (truth * np.exp(logs)).astype(np.float32)
        stddev = np.where(np.isfinite(truth), 0.16 * depth, np.nan).astype(np.float32)
        images = np.stack([np.asarray(views[name].image) for name in names])
        stamp_ns = drive.scan_stamp_ns(drive.scan_index(i))
        now = keyframe(drive.rig, stamp_ns, images, {name: view.vehicle_to_map for name, view in views.items()})
        result = stereo(SurroundDepth(drive.rig, stamp_ns, depth, stddev), now)
    near = truth < 40
    before, after = (np.abs(np.log(values[near] / truth[near])) for values in (depth, result.depth))
    assert np.median(after) < 0.67 * np.median(before)
    np.testing.assert_array_equal(np.isfinite(result.depth), np.isfinite(truth))
    claimed = np.median((result.stddev / result.depth)[near])
    assert np.median(after) < claimed < np.median((stddev / depth)[near])
