"""The training examples of several runs that are trained together: one copy of them, an order for each run."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from jaxvision.data.feed import ResidentFeed
from jaxvision.types import Stretch


class JointFeed:
    """A resident feed as runs of these seeds see it, each the batches that it would see alone."""

    resident = True

    def __init__(self, feed: ResidentFeed, seeds: Sequence[int]) -> None:
        self._feed, self._plans = feed, [replace(feed.plan, seed=seed) for seed in seeds]

    @property
    def steps_per_epoch(self) -> int:
        return self._feed.steps_per_epoch

    def stretches(self, epoch: int, lengths: Sequence[int], start: int = 0) -> Iterator[Stretch]:
        """As `Feed.stretches`, rows int32 (M, k, B) on the host."""
        orders = np.stack([plan.order(epoch, start) for plan in self._plans]).astype(np.int32)
        begin = 0
        for length in lengths:
            chosen = orders[:, begin : begin + length * self._feed.batch_size]
            begin += chosen.shape[1]
            yield Stretch(self._feed.inputs, self._feed.target, chosen.reshape(len(orders), length, -1))
