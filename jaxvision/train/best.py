"""Which of many evaluations was best, and whether to go on."""

import math

from jaxvision.config import Checkpoint, EarlyStop
from jaxvision.train.metrics import Direction


class BestMetric:
    """Follows the monitored metric over a phase. Without a monitor the latest is always the best. NaN never is."""

    def __init__(self, checkpoint: Checkpoint, early_stop: EarlyStop, direction: Direction):
        """direction: of the metric, where `checkpoint.direction` may leave it to that."""
        self._monitor, self._sign = checkpoint.monitor, 1 if direction == "max" else -1
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
        """The monitored metric; None without a monitor, or where these metrics do not have it."""
        return None if self._monitor is None else metrics.get(self._monitor)

    def is_missing(self, metrics: dict[str, float]) -> bool:
        """Whether these metrics, of a whole epoch, lack the monitored one, as that of a class that is nowhere."""
        return self._monitor is not None and "train/loss" in metrics and self._monitor not in metrics

    def is_improved(self, metrics: dict[str, float]) -> bool:
        """Whether the model with these metrics is to be kept: they beat all before them; equal values do not, so the
        earliest of equals is kept. Until the monitored metric is first measured, the model of the latest epoch is."""
        value = self.value(metrics)
        if value is None:  # a training metric is known at the end of an epoch only
            return self._monitor is None or (self._best == -math.inf and self.is_missing(metrics))
        improved = self._sign * value > self._best
        self._best = self._sign * value if improved else self._best
        return improved

    def should_stop(self, metrics: dict[str, float]) -> bool:
        """To be asked once an epoch: whether `patience` epochs passed without an improvement by `min_delta`. An epoch
        without the metric is not counted."""
        value = self.value(metrics)
        if value is None or self._early_stop.patience is None:
            return False
        if self._sign * value > self._best_to_beat + self._early_stop.min_delta:
            self._best_to_beat, self._epochs_waited = self._sign * value, 0
        else:
            self._epochs_waited += 1
        return self._epochs_waited >= self._early_stop.patience
