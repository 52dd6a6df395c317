"""Sweeps out of messages: the spread, loss, jitter and reordering of real cameras."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsmde_ros.errors import ConfigError
from fsmde_ros.sweep_assembler import SILENT_AFTER, AssemblerConfig, SweepAssembler

MS = 1_000_000
# Stamps of the first keyframe of nuScenes scene-0061, from its front left camera.
NUSCENES = {
    "cam_front_left": 0.0,
    "cam_front": 7.6,
    "cam_front_right": 15.5,
    "cam_back_right": 23.0,
    "cam_back": 32.7,
    "cam_back_left": 42.6,
}
PERIOD_MS = 1000 / 12


def drive(offsets, starts_ms, lost=lambda sweep, camera: False, jitter=lambda: 0.0, delay=lambda: 1.0):
    """Messages (arrival s, camera, stamp ns, sweep index), in order of arrival."""
    messages = []
    for index, start in enumerate(starts_ms):
        for camera, offset in offsets.items():
            if not lost(index, camera):
                stamp_ms = start + offset + jitter()
                messages.append(((stamp_ms + delay()) / 1e3, camera, round((1e6 + stamp_ms) * MS), index))
    return sorted(messages)


def run(assembler, messages, tick_s=0.01):
    out, now = [], messages[0][0]
    for arrival, camera, stamp, index in messages:
        while now + tick_s < arrival:
            now += tick_s
            out += assembler.tick(now)
        out += assembler.add(camera, stamp, index, arrival)
    for step in range(1, 30):
        out += assembler.tick(messages[-1][0] + step * tick_s)
    assert assembler.waiting == 0
    return out


def sources(sweep):
    return {arrival.payload for arrival in sweep.views.values()}


def check_invariants(out):
    stamps = [sweep.stamp_ns for sweep in out]
    assert all(a < b for a, b in itertools.pairwise(stamps))
    used = [(c, a.stamp_ns) for sweep in out for c, a in sweep.views.items()]
    assert len(used) == len(set(used))
    assert all(sweep.views for sweep in out)


def test_a_single_sweep_leaves_with_its_last_message():
    assembler = SweepAssembler(AssemblerConfig(tuple(NUSCENES)))
    out = []
    for arrival, camera, stamp, index in drive(NUSCENES, [0.0]):
        assert out == []
        out = assembler.add(camera, stamp, index, arrival)
    assert set(out[0].views) == set(NUSCENES)
    assert out[0].missing == ()
    assert out[0].first_arrival == pytest.approx(0.001)
    assert assembler.counters.complete == 1


def test_an_incomplete_single_sweep_leaves_at_its_deadline():
    assembler = SweepAssembler(AssemblerConfig(tuple(NUSCENES), deadline_s=0.1))
    for arrival, camera, stamp, index in drive(NUSCENES, [0.0], lost=lambda _, c: c == "cam_back"):
        assert assembler.add(camera, stamp, index, arrival) == []
    assert assembler.due == pytest.approx(0.1 + min(drive(NUSCENES, [0.0]))[0])
    assert assembler.tick(assembler.due - 1e-6) == []
    (sweep,) = assembler.tick(assembler.due + 1e-6)
    assert sweep.missing == ("cam_back",)
    assert len(sweep.views) == 5
    assert assembler.due is None


def test_the_stamp_is_that_of_the_anchor():
    assembler = SweepAssembler(AssemblerConfig(tuple(NUSCENES), anchor="cam_back_right"))
    out = run(
        assembler,
        drive(NUSCENES, [PERIOD_MS * k for k in range(10)], lost=lambda k, c: (k, c) == (7, "cam_back_right")),
    )
    assert len(out) == 10
    for index, sweep in enumerate(out):
        assert sweep.stamp_ns == pytest.approx((1e6 + PERIOD_MS * index + 23.0) * MS, abs=1000)
    assert out[7].missing == ("cam_back_right",)


def test_five_percent_loss_delivers_every_sweep():
    """message_filters (ApproximateTime, slop 0.05 s) delivers 180 of 240 sweeps of this drive."""
    for seed in range(5):
        rng = random.Random(seed)
        lost = {(k, c) for k in range(240) for c in NUSCENES if rng.random() < 0.05}
        messages = drive(NUSCENES, [PERIOD_MS * k for k in range(240)], lambda k, c, lost=lost: (k, c) in lost)
        assembler = SweepAssembler(AssemblerConfig(tuple(NUSCENES)))
        out = run(assembler, messages)
        check_invariants(out)
        assert [sources(sweep) for sweep in out] == [{k} for k in range(240)]
        assert sum(len(sweep.views) for sweep in out) == len(messages)
        assert assembler.counters.late == 0


@pytest.mark.parametrize("first_camera", range(6))
def test_joining_in_the_middle_of_a_sweep(first_camera):
    """The first message may be of any camera: the sweeps after it are whole, none is mixed."""
    messages = drive(NUSCENES, [PERIOD_MS * k for k in range(6)])[first_camera:]
    out = run(SweepAssembler(AssemblerConfig(tuple(NUSCENES))), messages)
    assert [sources(sweep) for sweep in out] == [{k} for k in range(6)]
    assert [len(sweep.missing) for sweep in out] == [first_camera, 0, 0, 0, 0, 0]


def test_the_uneven_steps_of_real_nuscenes_cameras():
    """Frames 50, 100 or 150 ms apart with 42.6 ms between first and last camera: 7.4 ms of gap."""
    rng = random.Random(3)
    starts = [0.0]
    for _ in range(150):
        starts.append(starts[-1] + rng.choice([50, 100, 100, 100, 150]))
    lost = {(k, c) for k in range(20, 151) for c in NUSCENES if rng.random() < 0.05}
    messages = drive(NUSCENES, starts, lambda k, c: (k, c) in lost, jitter=lambda: rng.uniform(-1, 1))
    out = run(SweepAssembler(AssemblerConfig(tuple(NUSCENES))), messages)
    check_invariants(out)
    settled = [sweep for sweep in out if min(sources(sweep)) >= 20]
    assert [sources(sweep) for sweep in settled] == [{k} for k in range(20, 151)]


@settings(max_examples=120, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from([33.3, PERIOD_MS, 100.0, 500.0, 1000.0]),
    st.integers(1, 8),
    st.floats(0, 0.5),
    st.floats(0, 0.3),
)
def test_random_rigs_never_mix_and_never_lose(seed, period, cameras, spread, loss):
    """After eight whole sweeps, any loss, small jitter and delays below the gap between sweeps."""
    rng = random.Random(seed)
    spread_ms = min(spread * period, 45.0)
    offsets = {f"cam_{i}": rng.uniform(0, spread_ms) for i in range(cameras)}
    lost = {(k, c) for k in range(8, 40) for c in offsets if rng.random() < loss}
    messages = drive(
        offsets,
        [period * k for k in range(40)],
        lambda k, c: (k, c) in lost,
        jitter=lambda: rng.uniform(-1, 1) * min(0.02 * period, 3.0),
        delay=lambda: rng.uniform(0, min(0.3 * period, 40.0)),
    )
    assembler = SweepAssembler(AssemblerConfig(tuple(offsets)))
    out = run(assembler, messages)
    check_invariants(out)
    assert all(len(sources(sweep)) == 1 for sweep in out)
    assert {index for sweep in out for index in sources(sweep)} == {message[3] for message in messages}
    assert len(out) == len({message[3] for message in messages})


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-300, 3000), st.floats(-0.5, 1.0)), max_size=150))
def test_any_input_keeps_the_invariants(steps):
    """Arbitrary stamps and clocks: bounded memory, each message at most once, everything counted."""
    assembler = SweepAssembler(AssemblerConfig(("a", "b", "c")))
    now, used, count = 0.0, [], 0
    for camera, stamp_ms, step in steps:
        now += step
        for sweep in assembler.add("abc"[camera], stamp_ms * MS, count, now):
            used += [arrival.payload for arrival in sweep.views.values()]
        count += 1
        assert assembler.waiting <= 3 * 8 + 1
        assert (assembler.due is None) == (assembler.waiting == 0)
    used += [arrival.payload for sweep in assembler.flush() for arrival in sweep.views.values()]
    counters = assembler.counters
    assert len(used) == len(set(used))
    suspects = counters.messages - len(used) - counters.duplicate - counters.late - counters.strayed
    assert 0 <= suspects <= 6  # those that may yet turn out to be a jump
    assert counters.messages == count


def test_a_silent_camera_is_waited_for_only_at_first_and_again_when_it_returns():
    messages = drive(NUSCENES, [PERIOD_MS * k for k in range(40)], lambda k, c: c == "cam_back_left" and k < 20)
    assembler = SweepAssembler(AssemblerConfig(tuple(NUSCENES), deadline_s=0.2))
    out, waits = [], []
    now = 0.0
    for arrival, camera, stamp, index in messages:
        while now < arrival - 0.01:
            now += 0.01
            for sweep in assembler.tick(now):
                out.append(sweep)
                waits.append(now - sweep.first_arrival)
        for sweep in assembler.add(camera, stamp, index, arrival):
            out.append(sweep)
            waits.append(arrival - sweep.first_arrival)
    assert [sources(sweep) for sweep in out] == [{k} for k in range(40)]
    assert all(wait > 0.19 for wait in waits[:SILENT_AFTER])
    assert all(wait < 0.05 for wait in waits[SILENT_AFTER + 2 : 20])
    assert [len(sweep.views) for sweep in out[22:]] == [6] * 18


def test_a_camera_that_sets_the_anchor_may_die():
    messages = drive(NUSCENES, [PERIOD_MS * k for k in range(60)], lambda k, c: c == "cam_front" and 20 <= k < 50)
    assembler = SweepAssembler(AssemblerConfig(tuple(NUSCENES), anchor="cam_front"))
    out = run(assembler, messages)
    check_invariants(out)
    assert [sources(sweep) for sweep in out] == [{k} for k in range(60)]
    for index, sweep in enumerate(out):
        assert sweep.stamp_ns == pytest.approx((1e6 + PERIOD_MS * index + 7.6) * MS, abs=MS)


def test_duplicates_late_and_out_of_order_are_counted():
    assembler = SweepAssembler(AssemblerConfig(("a", "b")))
    base = 10**12
    assembler.add("a", base, 0, 0.0)
    assembler.add("a", base, 1, 0.001)
    assert assembler.counters.duplicate == 1
    (sweep,) = assembler.add("b", base + MS, 2, 0.002)
    assert [arrival.payload for arrival in sweep.views.values()] == [0, 2]
    assembler.add("a", base + 200 * MS, 3, 0.2)
    (lonely,) = assembler.tick(0.31)
    assert lonely.missing == ("b",)
    assert assembler.add("b", base + 201 * MS, 4, 0.32) == []
    assert assembler.counters.late == 1
    assembler.add("a", base + 400 * MS, 5, 0.4)
    assembler.add("a", base + 300 * MS, 6, 0.41)
    assert assembler.counters.out_of_order == 1
    assert [sweep.stamp_ns - base for sweep in assembler.tick(0.6)] == [300 * MS, 400 * MS]


@pytest.mark.parametrize("pause", [0.1, 5.0])
def test_a_bag_that_starts_again_is_a_reset_and_loses_nothing(pause):
    offsets = {"a": 0.0, "b": 3.0, "c": 7.0}
    once = drive(offsets, [PERIOD_MS * k for k in range(12)])
    again = [(arrival + once[-1][0] + pause, *rest) for arrival, *rest in once]
    assembler = SweepAssembler(AssemblerConfig(tuple(offsets)))
    out = run(assembler, once + again)
    assert [sources(sweep) for sweep in out] == [{k} for k in range(12)] * 2
    assert assembler.counters.resets == 1


def test_a_bag_of_one_sweep_can_be_played_again():
    once = drive(NUSCENES, [0.0])
    again = [(arrival + 3.0, *rest) for arrival, *rest in once]
    assembler = SweepAssembler(AssemblerConfig(tuple(NUSCENES)))
    out = run(assembler, once + again)
    assert [len(sweep.views) for sweep in out] == [6, 6]
    assert (assembler.counters.resets, assembler.counters.duplicate) == (1, 0)


def test_a_straggler_is_no_jump_back():
    messages = drive({"a": 0.0, "b": 5.0}, [100.0 * k for k in range(20)])
    straggler = (messages[30][0] + 1e-4, "a", messages[0][2] - 50 * MS, 99)
    assembler = SweepAssembler(AssemblerConfig(("a", "b")))
    out = run(assembler, sorted([*messages, straggler]))
    check_invariants(out)
    assert [sources(sweep) for sweep in out] == [{k} for k in range(20)]
    assert (assembler.counters.resets, assembler.counters.late) == (0, 1)


@pytest.mark.parametrize("first_s", [3600, -1])
def test_one_camera_far_ahead_and_one_far_back_are_no_jump(first_s):
    """Most of the cameras must have jumped the same way."""
    messages = drive({"a": 0.0, "b": 5.0}, [100.0 * k for k in range(20)])
    at, newest = messages[30][0], messages[30][2]
    apart = [
        (at + 1e-4, "a", newest + first_s * 1000 * MS, 99),
        (at + 2e-4, "b", newest + (3599 - first_s) * 1000 * MS, 99),
    ]
    assembler = SweepAssembler(AssemblerConfig(("a", "b")))
    out = run(assembler, sorted([*messages, *apart]))
    assert [sources(sweep) for sweep in out] == [{k} for k in range(20)]
    assert (assembler.counters.resets, assembler.counters.late, assembler.counters.strayed) == (0, 1, 1)


def whole_sweeps(count, cameras="abcdef"):
    """An assembler after ``count`` sweeps at 10 Hz, and the stamp and arrival (s) of the last message."""
    assembler = SweepAssembler(AssemblerConfig(tuple(cameras)))
    for k in range(count):
        for i, name in enumerate(cameras):
            assembler.add(name, newest := 10**12 + (100 * k + 5 * i) * MS, k, now := 0.1 * k + 0.005 * i)
    assert assembler.counters.complete == count
    return assembler, newest, now


def test_more_than_half_of_the_cameras_make_a_jump():
    assembler, newest, now = whole_sweeps(5)
    resets = []
    for i, name in enumerate("abcd"):
        assembler.add(name, newest + (10 * i - 3000) * MS, None, now + 0.01 * i)
        resets.append(assembler.counters.resets)
    assert resets == [0, 0, 0, 1]
    assert assembler.counters.late == 0


def test_only_cameras_that_are_alive_can_jump():
    """Of six only one has sent anything for ``SILENT_AFTER`` sweeps: it is one of one."""
    assembler, newest, now = whole_sweeps(5)
    for k in range(1, SILENT_AFTER + 1):
        assembler.add("f", newest + 200 * k * MS, k, now + 0.2 * k)
        assembler.tick(now + 0.2 * k + 0.11)
    assert assembler.silent() == tuple("abcde")
    left = assembler.add("f", newest + 3_600_000 * MS, "x", now + 0.2 * k + 0.2)
    left += assembler.add("f", newest + 3_600_100 * MS, "y", now + 0.2 * k + 0.3)
    assert [sources(sweep) for sweep in left] == [{"x"}, {"y"}]
    assert assembler.add("f", newest, "back", now + 0.2 * k + 0.4) == [], "a single one may be a straggler"
    left = assembler.add("f", newest + 100 * MS, "z", now + 0.2 * k + 0.5)
    left += assembler.tick(now + 0.2 * k + 0.7)
    assert [sources(sweep) for sweep in left] == [{"back"}, {"z"}]


@pytest.mark.parametrize("cameras", [("a",), ("a", "b", "c")])
def test_a_slow_camera_that_is_played_fast_loses_nothing(cameras):
    """One camera of a bag at 1 Hz, also of a rig whose others deliver nothing, as fast as the node takes its images."""
    assembler = SweepAssembler(AssemblerConfig(cameras))
    out, now = [], 0.0
    for k in range(20):
        out += assembler.add("a", 10**12 + k * 1000 * MS, k, now)
        now += 0.11
        out += assembler.tick(now)
        assert [sources(sweep) for sweep in out] == [{k} for k in range(k + 1)], "it waits for each report"
    assert (assembler.counters.strayed, assembler.counters.resets) == (0, 0)


def test_a_first_image_far_ahead_of_the_only_camera_so_far_waits():
    """It is another camera that jumped."""
    assembler = SweepAssembler(AssemblerConfig(("a", "b", "c")))
    assembler.add("a", 10**12, 0, 0.0)
    assembler.add("b", 10**12 + 3_600_000 * MS, 0, 0.001)
    assembler.add("c", 10**12 + 2 * MS, 0, 0.002)
    assert assembler.camera_counters["b"].strayed == 1


def test_one_of_six_jumps_alone_only_if_it_goes_on_and_on():
    assembler, newest, now = whole_sweeps(5)
    for k in range(13):
        assert assembler.counters.resets == 0
        assembler.add("f", newest + (50 * k - 9000) * MS, k, now + 0.05 * k)
    assert assembler.counters.resets == 1


def test_far_is_measured_against_the_time_that_has_passed():
    assembler, newest, now = whole_sweeps(2, "ab")
    assembler.add("a", newest + 2000 * MS, 2, now + 2)  # a slow camera
    assembler.add("a", newest + 2500 * MS, 3, now + 2)  # half a second is not far
    assembler.add("a", newest + 2800 * MS, 4, now + 2)
    assert [sources(sweep) for sweep in assembler.tick(now + 2.2)] == [{2}, {3}, {4}]
    assembler.add("a", newest + 2300 * MS, 5, now + 2.2)  # nor is it back
    assert assembler.counters.late == 1
    assembler.add("a", newest + 5000 * MS, 6, now + 3)  # 2.2 seconds within one
    assert assembler.tick(now + 3.2) == []


def test_a_repeated_stamp_beside_a_stray_one_is_a_duplicate():
    assembler, newest, now = whole_sweeps(3, "ab")
    assembler.add("a", newest + 3_600_000 * MS, None, now + 0.01)
    assembler.add("b", newest, None, now + 0.02)
    assert (assembler.counters.strayed, assembler.counters.duplicate) == (1, 1)


def test_cameras_that_begin_later_in_a_short_bag_are_part_of_its_restart():
    """Their first frames repeat what lies less than a jump back."""
    frames = [(0.1 * k, name) for k in range(8) for name in "abc" if name == "a" or k >= 4]
    assembler = SweepAssembler(AssemblerConfig(("a", "b", "c")))
    for play in range(2):
        for k, (at, name) in enumerate(frames):
            assembler.add(name, 10**12 + round(at * 1e9) + k, None, 0.9 * play + at + 0.001 * k)
    assert (assembler.counters.resets, assembler.counters.duplicate, assembler.counters.late) == (1, 0, 0)


def test_a_message_that_waits_for_its_jump_is_counted_where_the_clock_goes_back():
    assembler, newest, now = whole_sweeps(3, "ab")
    assembler.add("a", newest + 3_600_000 * MS, None, now + 0.01)
    assembler.tick(now - 1)
    assert (assembler.counters.strayed, assembler.counters.resets) == (1, 1)


def test_a_clock_that_runs_backwards_lets_go_of_what_waits():
    assembler = SweepAssembler(AssemblerConfig(("a", "b")))
    assembler.add("a", 10**12, 0, 100.0)
    (sweep,) = assembler.tick(5.0)
    assert sweep.missing == ("b",)
    assert assembler.counters.resets == 1


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"cameras": ()}, "at least one name"),
        ({"cameras": ("a", "a")}, "each once"),
        ({"cameras": ("a",), "anchor": "b"}, "anchor must be one of"),
        ({"cameras": ("a",), "window_s": 0.0}, "above 0 seconds"),
        ({"cameras": ("a",), "deadline_s": float("nan")}, "above 0 seconds"),
    ],
)
def test_bad_configuration_is_refused(settings_, message):
    with pytest.raises(ConfigError, match=message):
        AssemblerConfig(**settings_)


def test_a_camera_that_is_not_configured_is_refused():
    assembler = SweepAssembler(AssemblerConfig(("a", "b")))
    with pytest.raises(ValueError, match=r"one of \['a', 'b'\], got 'c'"):
        assembler.add("c", 0, None, 0.0)
    assert assembler.counters.messages == 0


def test_the_anchor_is_known_with_the_first_message():
    assembler = SweepAssembler(AssemblerConfig(("a", "b")))
    assert assembler.anchor == ""
    assembler.add("b", 10**12, None, 0.0)
    assert assembler.anchor == "b"


def test_counters_tell_what_became_of_sweeps():
    assembler = SweepAssembler(AssemblerConfig(tuple(NUSCENES)))
    run(assembler, drive(NUSCENES, [PERIOD_MS * k for k in range(9)], lambda k, c: k in (3, 5) and c == "cam_back"))
    assert assembler.counters.as_dict() == {
        "messages": 52, "duplicate": 0, "late": 0, "out_of_order": 0, "strayed": 0,
        "complete": 7, "partial": 2, "resets": 0,
    }  # fmt: skip
    assert assembler.camera_counters["cam_back"].messages == 7


def test_a_sweep_leaves_before_its_deadline_where_too_many_messages_wait():
    assembler = SweepAssembler(AssemblerConfig(("a", "b"), deadline_s=1000.0))
    out = [assembler.add("a", 10**12 + k * 100 * MS, k, 0.1 * k) for k in range(18)]
    assert [[sources(sweep) for sweep in sweeps] for sweeps in out] == [[]] * 16 + [[{0}], [{1}]]
    assert assembler.waiting == 16
    assert [sources(sweep) for sweep in assembler.flush()] == [{k} for k in range(2, 18)]
    assert assembler.waiting == 0


SIX = ("a", "b", "c", "d", "e", "f")


def rounds(assembler, count, wrong=(), ahead_ns=3_600_000_000_000):
    """``count`` sweeps of six cameras at 10 Hz; the cameras ``wrong`` have a clock that is ahead."""
    out = []
    for k in range(count):
        for i, name in enumerate(SIX):
            stamp = 10**12 + k * 100_000_000 + i * 7_000_000
            out += assembler.add(name, stamp + (ahead_ns if name in wrong else 0), k, k * 0.1 + i * 0.007)
        out += assembler.tick(k * 0.1 + 0.06)
    return out + assembler.tick(count * 0.1 + 1)


@pytest.mark.parametrize("wrong", [("f",), ("a",), ("b", "e"), ("e", "f"), ("a", "b")])
def test_a_camera_whose_clock_is_ahead_costs_only_its_own_views(wrong):
    assembler = SweepAssembler(AssemblerConfig(SIX))
    out = rounds(assembler, 20, wrong)
    good = [sweep for sweep in out if set(sweep.views) == set(SIX) - set(wrong)]
    assert len(good) >= 18
    assert [s.stamp_ns for s in out[2:]] == sorted(s.stamp_ns for s in out[2:])
    for name in wrong:
        assert assembler.camera_counters[name].strayed >= 17
    assert sum(c.strayed for n, c in assembler.camera_counters.items() if n not in wrong) == 0
    assert sum(c.messages for c in assembler.camera_counters.values()) == assembler.counters.messages == 120


@pytest.mark.parametrize("wrong", [("f",), ("a",), ("b", "e"), ("e", "f"), ("a", "b")])
def test_a_camera_whose_clock_is_behind_costs_only_its_own_views(wrong):
    assembler = SweepAssembler(AssemblerConfig(SIX))
    out = rounds(assembler, 20, wrong, ahead_ns=-2_000_000_000)
    assert sum(set(sweep.views) == set(SIX) - set(wrong) for sweep in out) >= 18
    for name in wrong:
        assert assembler.camera_counters[name].late >= 17
    assert sum(c.late + c.strayed for n, c in assembler.camera_counters.items() if n not in wrong) == 0


@settings(max_examples=60, deadline=None)
@given(st.permutations((*SIX, "g")), st.integers(2, 7), st.data())
def test_cameras_with_two_clocks_settle_on_the_clock_of_most(order, count, data):
    """In any order of arrival; of two halves on either. The others are named as often as they send."""
    cameras = order[:count]
    wrong = set(data.draw(st.permutations(cameras))[: data.draw(st.integers(1, count // 2))])
    ahead_ns = data.draw(st.sampled_from([-3600, -2, 2, 3600])) * 10**9
    assembler = SweepAssembler(AssemblerConfig(tuple(sorted(cameras))))
    out = []
    for k in range(30):
        if k == 10:
            before = {name: c.late + c.strayed for name, c in assembler.camera_counters.items()}
        for i, name in enumerate(cameras):
            stamp = 10**13 + (100 * k + 7 * i) * MS + (ahead_ns if name in wrong else 0)
            out += assembler.add(name, stamp, k, 0.1 * k + 0.007 * i)
    assert assembler.counters.resets <= 1
    views = set(out[-1].views)
    assert {frozenset(sweep.views) for sweep in out[-15:]} == {frozenset(views)}
    assert views == set(cameras) - wrong or (2 * len(wrong) == count and views == wrong)
    after = {name: c.late + c.strayed - before[name] for name, c in assembler.camera_counters.items()}
    assert all(named == 0 if name in views else 19 <= named <= 20 for name, named in after.items())


def test_a_clock_that_is_set_forward_moves_all_cameras_and_loses_nothing():
    assembler = SweepAssembler(AssemblerConfig(SIX))
    out = rounds(assembler, 10)
    later = rounds_from(assembler, 10, shift_ns=3_600_000_000_000)
    assert [len(sweep.views) for sweep in out + later] == [6] * 20
    assert assembler.counters.strayed == assembler.counters.late == 0


def rounds_from(assembler, start, shift_ns):
    out = []
    for k in range(start, start + 10):
        for i, name in enumerate(SIX):
            stamp = 10**12 + k * 100_000_000 + i * 7_000_000 + shift_ns
            out += assembler.add(name, stamp, k, 1 + k * 0.1 + i * 0.007)
    return out


def free_running(rates_hz, seconds, rng, jitter_s=0.0, delay_s=(0.002, 0.012)):
    """Messages (arrival s, camera, stamp ns) of cameras without a trigger, each with a clock of its own."""
    messages = []
    for i, rate in enumerate(rates_hz):
        start = rng.uniform(0, 1 / rate)
        for k in range(round(seconds * rate)):
            stamp = start + k / rate + rng.uniform(-1, 1) * jitter_s
            messages.append((stamp + rng.uniform(*delay_s), f"cam_{i}", round((1e3 + stamp) * 1e9)))
    return sorted(messages)


def leave(assembler, messages, tick_s=0.005):
    """The sweeps of the messages, each with the moment it left, seconds."""
    out, now = [], messages[0][0]
    for arrival, camera, stamp in messages:
        while now + tick_s < arrival:
            now += tick_s
            out += [(now, sweep) for sweep in assembler.tick(now)]
        now = arrival
        out += [(now, sweep) for sweep in assembler.add(camera, stamp, None, now)]
    return out


def width_s(sweep):
    stamps = [arrival.stamp_ns for arrival in sweep.views.values()]
    return (max(stamps) - min(stamps)) / 1e9


@pytest.mark.parametrize("anchor", ["", "cam_0", "cam_2"])
def test_three_free_running_cameras_stay_together(anchor):
    """10.00, 10.01 and 9.99 Hz: every pair slips by a whole period in 50 or 100 s."""
    assembler = SweepAssembler(AssemblerConfig(("cam_0", "cam_1", "cam_2"), anchor=anchor))
    out = leave(assembler, free_running([10.0, 10.01, 9.99], 210, random.Random(0)))
    check_invariants([sweep for _, sweep in out])
    for start in range(0, 210, 30):
        part = [(now, sweep) for now, sweep in out if start <= now < start + 30]
        assert sum(not sweep.missing for _, sweep in part) >= 296
        # at phases of a third of a period each, the closest three images span two thirds
        assert max(width_s(sweep) for _, sweep in part) < 0.067 + 0.015
        assert sum(now - sweep.first_arrival > 0.095 for now, sweep in part) <= 2


@pytest.mark.parametrize("returns", [False, True])
@pytest.mark.parametrize("anchor", ["", "cam_0", "cam_1", "cam_2"])
@pytest.mark.parametrize("dead", [0, 1, 2])
def test_free_running_cameras_outlive_one_of_them(anchor, dead, returns):
    """Also that against which the offsets are measured; and are three again where it comes back."""
    assembler = SweepAssembler(AssemblerConfig(("cam_0", "cam_1", "cam_2"), anchor=anchor))
    messages = free_running([10.0, 10.01, 9.99], 210, random.Random(0))
    start = messages[0][0]
    messages = [m for m in messages if m[1] != f"cam_{dead}" or m[0] < start + 40 or (returns and m[0] > start + 140)]
    out = leave(assembler, messages)
    check_invariants([sweep for _, sweep in out])
    for begin in range(45, 210, 5):
        whole = 3 if returns and begin >= 145 else 2
        if begin == 140:
            continue  # while the one that comes back is learned anew
        part = [sweep for now, sweep in out if begin <= now - start < begin + 5]
        assert sum(len(sweep.views) == whole for sweep in part) >= 47, begin
        assert max(width_s(sweep) for sweep in part) < 0.067 + 0.015
    assert assembler.silent() == (() if returns else (f"cam_{dead}",))


def test_free_running_cameras_stay_together_where_one_dies_at_once():
    """After three images, before the offsets are known."""
    rates = [10.0, 10.01, 9.99, 10.005, 10.0]
    messages = free_running(rates, 100, random.Random(0))
    start = messages[0][0]
    messages = [m for m in messages if m[1] != "cam_4" or m[0] < start + 0.3]
    out = leave(SweepAssembler(AssemblerConfig(tuple(f"cam_{i}" for i in range(5)))), messages)
    assert sum(len(sweep.views) == 4 for _, sweep in out) >= 980


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 6), st.sampled_from([10, 30]), st.sampled_from([20, 200, 1000]))
def test_free_running_cameras_lose_a_sweep_or_two_for_each_slip(seed, cameras, rate, ppm):
    rng = random.Random(seed)
    rates = [rate * (1 + rng.uniform(-ppm, ppm) * 1e-6) for _ in range(cameras)]
    assembler = SweepAssembler(AssemblerConfig(tuple(f"cam_{i}" for i in range(cameras))))
    out = leave(assembler, free_running(rates, 1500 / rate, rng, jitter_s=0.02 / rate, delay_s=(0.0, 0.1 / rate)))
    check_invariants([sweep for _, sweep in out])
    slips = sum(abs(a - b) for a, b in itertools.combinations(rates, 2)) * 1500 / rate
    complete = sum(not sweep.missing for _, sweep in out)
    assert complete >= min(len(out), 1500) - 3 - 2 * (slips + cameras)
    assert max(width_s(sweep) for _, sweep in out[10:]) * rate < 1 - 1 / cameras + 0.2
    assert assembler.silent() == ()


def test_a_camera_that_missed_the_deadline_for_a_while_is_waited_for_again():
    fast = drive({"cam_0": 0.0}, [100.0 * k for k in range(60)])
    slow = [
        message
        for k in range(60)
        for message in drive({"cam_1": 1.0}, [100.0 * k], delay=lambda k=k: 150.0 if k < 30 else 60.0)
    ]
    assembler = SweepAssembler(AssemblerConfig(("cam_0", "cam_1"), deadline_s=0.1))
    out = [sweep for _, sweep in leave(assembler, sorted(message[:3] for message in fast + slow))]
    assert [sweep.missing for sweep in out[10:30]] == [("cam_1",)] * 20
    assert [sweep.missing for sweep in out[33:]] == [()] * len(out[33:])


@pytest.mark.parametrize("ratio", [2, 3, 12])
@pytest.mark.parametrize("slow", [("cam_back",), tuple(set(NUSCENES) - {"cam_front"})])
def test_cameras_of_two_rates_leave_whole_where_they_can_and_at_once_where_not(slow, ratio):
    """No sweep waits for a frame that its camera will not send, and a slow camera is not taken to be silent."""
    period = 40.0
    messages = drive(NUSCENES, [period * k for k in range(240)], lambda k, c: c in slow and k % ratio != 0)
    assembler = SweepAssembler(AssemblerConfig(tuple(NUSCENES), window_s=0.05, deadline_s=0.5))
    out = leave(assembler, [message[:3] for message in messages])
    check_invariants([sweep for _, sweep in out])
    begun = [(now, sweep) for now, sweep in out if now > 10 * ratio * period / 1e3]
    whole = [not sweep.missing for _, sweep in begun]
    assert sum(whole) == pytest.approx(len(begun) / ratio, abs=1)
    assert all(sweep.missing in ((), tuple(name for name in NUSCENES if name in slow)) for _, sweep in begun)
    assert max(now - sweep.first_arrival for now, sweep in begun) < 0.06
    assert assembler.counters.late == 0
    assert assembler.silent() == ()
    rest = [(m[0] + 100, m[1], m[2]) for m in messages if m[1] not in slow]  # the slow ones die
    dead = leave(assembler, [(arrival, camera, stamp + 100 * 10**9) for arrival, camera, stamp in rest])
    assert set(assembler.silent()) == set(slow)
    assert max(now - sweep.first_arrival for now, sweep in dead[2 * SILENT_AFTER * ratio :]) < 0.06
