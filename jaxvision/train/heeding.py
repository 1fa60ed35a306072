"""Evaluations that end where a signal comes."""

from collections.abc import Iterator

from jaxvision.data import Feed
from jaxvision.train.agreement import Agreement
from jaxvision.types import Batch


class ToldInEvaluationError(Exception):
    """A signal came during an evaluation."""


class Heeding:
    """A feed whose batches end with an exception where a signal came."""

    def __init__(self, feed: Feed, agreement: Agreement):
        self._feed, self._agreement = feed, agreement

    def batches(self, epoch: int) -> Iterator[Batch]:
        for batch in self._feed.batches(epoch):
            self._agreement.look()
            if self._agreement.told is not None:
                raise ToldInEvaluationError
            yield batch
