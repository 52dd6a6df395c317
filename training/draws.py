"""The order in which samples are drawn: endless, the same for the same seed, continued anywhere, shared out
among processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from fsmde_ros.errors import SourceError


@dataclass(frozen=True)
class Shard:
    """The draws of one of several processes: its batch j is batch ``j * processes + process`` of all."""

    process: int = 0
    processes: int = 1
    batch_size: int = 1

    def has(self, draw: int) -> bool:
        """Whether a draw belongs to this process."""
        return draw // self.batch_size % self.processes == self.process


class Draws(Sampler[tuple[int, int]]):
    """Endless (index, draw) keys from draw ``start`` on.

    The samples are those of one or more sources, laid end to end. The draws fall into blocks as long as all
    sources together, in each of which every source has its share, in another order every time. Within a source
    every sample is seen once before any is seen again.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        seed: int,
        start: int = 0,
        weights: Sequence[float] | None = None,
        shard: Shard | None = None,
    ) -> None:
        """Keys of sources.

        Args:
            lengths: number of samples of each source.
            seed: decides the order.
            start: number of the first draw, of all processes together.
            weights: share of the draws of each source, up to a factor; by default all are equal.
            shard: the process that draws; by default there is one.

        Raises:
            SourceError: a source has no samples.
        """
        if not lengths or min(lengths) < 1:
            raise SourceError("there is no sweep to train on; check the data settings")
        self.lengths = tuple(lengths)
        self.seed = seed
        self.start = start
        self.shard = shard or Shard()
        self.counts = _shares(sum(lengths), weights or [1.0] * len(lengths))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        draw = self.start
        while True:
            block, first = divmod(draw, sum(self.counts))
            for index in self._block(block)[first:]:
                if self.shard.has(draw):
                    yield int(index), draw
                draw += 1

    def _block(self, block: int) -> NDArray[np.int64]:
        if len(self.lengths) == 1:
            return self._epoch(0, block)
        turns = np.repeat(np.arange(len(self.counts)), self.counts)
        turns = np.random.default_rng([self.seed, block]).permutation(turns)
        drawn = np.empty(len(turns), dtype=np.int64)
        for source, count in enumerate(self.counts):
            epochs, places = np.divmod(np.arange(block * count, (block + 1) * count), self.lengths[source])
            own = np.empty(count, dtype=np.int64)
            for epoch in np.unique(epochs):
                own[epochs == epoch] = self._epoch(source, int(epoch))[places[epochs == epoch]]
            drawn[turns == source] = sum(self.lengths[:source]) + own
        return drawn

    def _epoch(self, source: int, epoch: int) -> NDArray[np.int64]:
        key = [self.seed, epoch, source] if source else [self.seed, epoch]
        return np.random.default_rng(key).permutation(self.lengths[source])


def evenly(count: int, most: int) -> list[int]:
    """All indices below ``count``, or of more than ``most`` so many, spread evenly over them."""
    return [place * count // most for place in range(most)] if count > most else list(range(count))


def _shares(total: int, weights: Sequence[float]) -> list[int]:
    """``total`` in whole numbers by weight, by the largest remainder, but at least 1 each."""
    exact = np.asarray(weights, dtype=np.float64) / np.sum(weights) * total
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: total - counts.sum()]] += 1
    return [max(int(count), 1) for count in counts]
