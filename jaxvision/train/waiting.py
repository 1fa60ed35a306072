"""How long a run waits for its data."""

import time
from collections.abc import Callable, Iterable, Iterator

from jaxvision.types import Stretch


class Waiting(Iterator[Stretch]):
    """Iterates and adds up the seconds spent waiting for the next stretch while the device had nothing to do."""

    def __init__(self, stretches: Iterable[Stretch], is_idle: Callable[[], bool]):
        self._stretches, self._is_idle, self.seconds = iter(stretches), is_idle, 0.0

    def __next__(self) -> Stretch:
        started = time.perf_counter()
        try:
            return next(self._stretches)
        finally:
            if self._is_idle():
                self.seconds += time.perf_counter() - started
