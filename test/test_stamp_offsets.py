"""Offsets of cameras that fire in turn stay as learned; those of free-running cameras stay within a period."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsmde_ros.stamp_offsets import StampOffsets

MS = 1_000_000


def stamps(periods_ms, starts_ms, frames, rng, jitter_ms=0.0):
    """(stamp ns, camera) in order of time."""
    return sorted(
        (round((1e6 + start + k * period + rng.uniform(-1, 1) * jitter_ms) * MS), f"cam_{i}")
        for i, (period, start) in enumerate(zip(periods_ms, starts_ms, strict=True))
        for k in range(frames)
    )


def follow(pairs, cameras, anchor=""):
    """The offsets of all cameras, ns, after each stamp once all are known."""
    offsets = StampOffsets(tuple(f"cam_{i}" for i in range(cameras)), anchor, 50 * MS)
    for at, (stamp, camera) in enumerate(pairs):
        offsets.learn(camera, stamp)
        if at >= 12 * cameras:
            yield [-offsets.aligned(f"cam_{i}", 0) for i in range(cameras)]


def test_offsets_period_and_window_by_hand():
    offsets = StampOffsets(("a", "b", "c"), "b", 50 * MS)
    assert (offsets.anchor, offsets.period_ns, offsets.window_ns, offsets.gap_ns) == ("", None, 50 * MS, 30 * MS)
    offsets.learn("a", 10**12)
    assert offsets.anchor == "a"  # the configured one has not sent yet
    for k in range(12):
        for camera, late in (("a", 0), ("b", 10), ("c", 25)):
            if (k, camera) != (0, "a"):
                offsets.learn(camera, 10**12 + (100 * k + late) * MS)
    assert (offsets.anchor, offsets.period_ns) == ("b", 100 * MS)
    assert offsets.window_ns == offsets.gap_ns == 45 * MS
    assert [offsets.aligned(camera, 0) // MS for camera in "abc"] == [10, 0, -15]


def test_when_a_slow_camera_sends_nothing_by_hand():
    """Camera b comes 30 ms late, at every second sweep; one of its frames, of the sweep at 1600 ms, is lost."""
    offsets = StampOffsets(("a", "b"), "a", 50 * MS)
    for k in range(25):
        offsets.learn("a", 100 * k * MS)
        if k == 12:
            assert not offsets.sends_nothing_at("b", 1100 * MS)  # six frames are too few to tell
        if k % 2 == 0 and k != 16:
            offsets.learn("b", (100 * k + 30) * MS)
    for jitter in (-10, 0, 10):
        nothing = [k for k in range(28) if offsets.sends_nothing_at("b", (100 * k + jitter) * MS)]
        # where a frame is missing anything may have been lost; after the last one at 2400 ms the next is due at 2600
        assert nothing == [1, 3, 5, 7, 9, 11, 13, 19, 21, 23, 25]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 6), st.sampled_from([1000 / 30, 100.0]), st.sampled_from(["", "cam_0"]))
def test_constant_offsets_are_never_folded(seed, cameras, period, anchor):
    rng = random.Random(seed)
    starts = [rng.uniform(0, period) for _ in range(cameras)]
    history = list(follow(stamps([period] * cameras, starts, 120, rng, 0.03 * period), cameras, anchor))
    for camera in range(cameras):
        known = [offsets[camera] for offsets in history]
        assert max(known) - min(known) < 0.2 * period * MS


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("period", [1000 / 30, 100.0])
def test_a_pair_that_drifts_is_never_much_more_than_half_a_period_apart(sign, period):
    pairs = stamps([period, period * (1 + sign * 1e-3)], [0.0, 1.0], 2500, random.Random(0), 0.02 * period)
    history = [b - a for a, b in follow(pairs, 2, "cam_0")]
    assert max(abs(offset) for offset in history) < 0.6 * period * MS
    folds = [b - a for a, b in itertools.pairwise(history) if abs(b - a) > 0.5 * period * MS]
    # 2.5 periods of drift pass half a period at 0.5, 1.5 and 2.5 of them; jitter folds nothing back
    assert 2 <= len(folds) <= 3
    assert all(fold * sign < 0 and abs(fold) == pytest.approx(period * MS, rel=0.08) for fold in folds)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32), st.integers(3, 6))
def test_many_that_drift_lie_as_close_together_as_they_can(seed, cameras):
    rng = random.Random(seed)
    periods = [100.0 * (1 + rng.uniform(-1e-3, 1e-3)) for _ in range(cameras)]
    starts = [rng.uniform(0, 10) for _ in range(cameras)]
    for offsets in follow(stamps(periods, starts, 1000, rng, 1.0), cameras):
        assert max(offsets) - min(offsets) < (1 - 1 / cameras + 0.2) * 100 * MS


def test_drift_folds_nothing_where_frames_do_not_come_a_period_apart():
    """nuScenes leaves 50, 100 or 150 ms between frames: a period further there is no frame."""
    rng = random.Random(1)
    starts = [0.0]
    for _ in range(800):
        starts.append(starts[-1] + rng.choice([50, 100, 100, 150]))
    pairs = sorted(
        (round((1e6 + start + offset) * MS), f"cam_{i}")
        for k, start in enumerate(starts)
        for i, offset in enumerate([0.0, 20.0, 15 + k * 0.03])
    )
    for offsets in follow(pairs, 3, "cam_0"):
        assert 14 * MS < offsets[2] < 40 * MS


class Counted(StampOffsets):
    """Counts how often all offsets are learned anew, which takes all pairs of cameras."""

    chosen = 0

    def _choose_anchor(self, seen):
        self.chosen += 1
        super()._choose_anchor(seen)


@pytest.mark.parametrize("images", [1, 3, 7])
@pytest.mark.parametrize("anchor", ["", "cam_5"])
def test_a_camera_that_dies_while_the_offsets_are_learned_does_not_keep_them_from_settling(images, anchor):
    offsets = Counted(tuple(f"cam_{i}" for i in range(6)), anchor, 50 * MS)
    counts = []
    for k in range(60):
        for i in range(6):
            if i < 5 or k < images:
                offsets.learn(f"cam_{i}", 10**12 + (100 * k + 8 * i) * MS)
        counts.append(offsets.chosen)
        known = [offsets.aligned("cam_0", 0) - offsets.aligned(f"cam_{i}", 0) for i in range(5)]
        assert known == [8 * i * MS for i in range(5)]
    assert counts[25] == counts[-1]


@pytest.mark.parametrize("images", [3, 30])
def test_a_camera_that_comes_late_is_measured_against_one_that_sends(images):
    """One that is silent has no stamps near those of the others: it would tear them apart."""
    offsets = StampOffsets(("cam_0", "cam_1", "cam_2", "cam_3"), "", 50 * MS)
    for k in range(90):
        for i in range(4):
            if (i < 3 or k < images) and (i != 1 or k >= 60):
                offsets.learn(f"cam_{i}", 10**12 + (100 * k + 12 * i) * MS)
        known = [offsets.aligned("cam_0", 0) - offsets.aligned(f"cam_{i}", 0) for i in (1, 2)]
        assert known == [12 * MS if k >= 60 else 0, 24 * MS]
