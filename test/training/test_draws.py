from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from fsmde_ros.errors import SourceError
from training.draws import Draws, Shard, evenly


def take(draws: Draws, count: int) -> list[tuple[int, int]]:
    return list(islice(draws, count))


def test_every_sweep_is_seen_once_an_epoch_and_draws_continue_anywhere() -> None:
    first = take(Draws([7], seed=3), 21)
    assert [draw for _, draw in first] == list(range(21))
    for epoch in range(3):
        assert sorted(index for index, _ in first[7 * epoch : 7 * epoch + 7]) == list(range(7))
    assert first[:7] != first[7:14]
    assert take(Draws([7], seed=3, start=11), 10) == first[11:]


def test_sources_have_their_share_and_each_is_seen_whole_before_again() -> None:
    draws = take(Draws([10, 4, 2], seed=1, weights=[2.0, 1.0, 1.0]), 320)
    own = {"a": range(10), "b": range(10, 14), "c": range(14, 16)}
    seen = {name: [index for index, _ in draws if index in places] for name, places in own.items()}
    assert {name: len(indices) for name, indices in seen.items()} == {"a": 160, "b": 80, "c": 80}
    for name, indices in seen.items():
        whole = list(own[name])
        for start in range(0, len(indices), len(whole)):
            assert sorted(indices[start : start + len(whole)]) == whole


@pytest.mark.parametrize("start", [1, 16, 37, 255])
def test_a_mixture_continues_anywhere(start: int) -> None:
    whole = take(Draws([10, 4, 2], seed=1, weights=[0.2, 0.7, 0.1]), 300)
    assert take(Draws([10, 4, 2], seed=1, start=start, weights=[0.2, 0.7, 0.1]), 300 - start) == whole[start:]


def test_small_weights_still_count() -> None:
    seen = [index for index, _ in take(Draws([100, 3], seed=0, weights=[1.0, 1e-6]), 104 * 3)]
    assert sorted(index for index in seen if index >= 100) == [100, 101, 102]


@pytest.mark.parametrize("start", [0, 12])
def test_processes_share_the_draws_batch_by_batch(start: int) -> None:
    """The j-th batches of all processes, in their order, are the batches of one process."""
    whole = take(Draws([7, 5], seed=2, start=start), 36)
    shares = [take(Draws([7, 5], seed=2, start=start, shard=Shard(process, 3, 2)), 12) for process in range(3)]
    together = [share[2 * j : 2 * j + 2] for j in range(6) for share in shares]
    np.testing.assert_array_equal(np.concatenate(together), whole)


def test_nothing_to_draw_from() -> None:
    for lengths in ([], [0], [3, 0]):
        with pytest.raises(SourceError, match="no sweep to train on"):
            Draws(lengths, seed=0)


def test_of_too_many_some_are_spread_evenly_over_all() -> None:
    assert evenly(10, 4) == [0, 2, 5, 7]
    assert evenly(4, 4) == evenly(4, 9) == [0, 1, 2, 3]
    assert evenly(0, 4) == []
