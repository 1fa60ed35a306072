"""Which of many evaluations was best, and whether to go on."""

import math

from jaxvision.config import Checkpoint, EarlyStop


class BestMetric:
    """Follows the monitored metric. Without a monitor the latest value is always the best. NaN never is."""

    def __init__(self, checkpoint: Checkpoint, early_stop: EarlyStop):
        self._monitor, self._sign = checkpoint.monitor, 1 if checkpoint.direction == "max" else -1
        self._early_stop = early_stop
        self._best = self._best_to_beat = -math.inf
        self._epochs_waited = 0

    @property
    def state(self) -> tuple[float, float, int]:
        """What the next answers depend on, to be kept and set again where a run is resumed."""
        return self._best, self._best_to_beat, self._epochs_waited

    @state.setter
    def state(self, state: tuple[float, float, int]) -> None:
        self._best, self._best_to_beat, self._epochs_waited = state

    def value(self, metrics: dict[str, float]) -> float | None:
        """The monitored metric; None without a monitor."""
        return None if self._monitor is None else metrics[self._monitor]

    def is_improved(self, metrics: dict[str, float]) -> bool:
        """Whether these metrics beat all before them; equal values do not, so the earliest of equals is kept."""
        if self._monitor is None:
            return True  # what is latest is kept
        if self._monitor not in metrics:
            return False  # a training metric is known at the end of an epoch only
        value = self._sign * metrics[self._monitor]
        improved = value > self._best
        self._best = value if improved else self._best
        return improved

    def should_stop(self, metrics: dict[str, float]) -> bool:
        """To be asked once an epoch: whether `patience` epochs passed without an improvement by `min_delta`."""
        if self._monitor is None or self._early_stop.patience is None:
            return False
        value = self._sign * metrics[self._monitor]
        if value > self._best_to_beat + self._early_stop.min_delta:
            self._best_to_beat, self._epochs_waited = value, 0
        else:
            self._epochs_waited += 1
        return self._epochs_waited >= self._early_stop.patience
