"""What hangs on a clock or a signal is decided alike by all processes of a run, after the same step."""

import math
import time
from typing import Any

from jaxvision import processes
from jaxvision.train.signals import StopSignal

LOOK_SECONDS, MOST_CALLS = 0.5, 64
"""About how often processes ask what was decided, and the most steps or batches from one time to the next."""


class Agreement:
    """Whether to stop, whether to save, and the loss that was seen last: of one process, simply its own."""

    def __init__(self, stop: StopSignal, every_minutes: float):
        self._stop, self._every = stop, 60 * every_minutes
        self._saved_at = time.perf_counter()

    @property
    def told(self) -> int | None:
        """The signal to stop by; None: go on."""
        return self._stop.received

    @property
    def is_time_to_save(self) -> bool:
        """Whether the training state was not saved for long enough."""
        return time.perf_counter() - self._saved_at >= self._every

    def look(self, loss: float | None = None) -> float | None:
        """To be called after each call to the device in training, with the loss if it was just read, and before each
        batch of an evaluation. Brings `told` and `is_time_to_save` up to date; the loss to look at."""
        return loss

    def saved(self) -> None:
        """The training state was just saved."""
        self._saved_at = time.perf_counter()


class SharedAgreement(Agreement):
    """The same of several processes: the clock and the losses of process 0, and the first signal of any.

    About every `LOOK_SECONDS` process 0 puts a decision into the store, and says after how many calls of `look` the
    next one comes; the others wait for it, which is as long as they are ahead of process 0. The devices work on.
    """

    def __init__(self, stop: StopSignal, every_minutes: float):
        super().__init__(stop, every_minutes)
        self._told: int | None = None
        self._is_time = self._said = False
        self._loss: float | None = None
        self._calls = self._until = 1
        self._number = 0
        self._looked_at = time.perf_counter()

    @property
    def told(self) -> int | None:
        return self._told

    @property
    def is_time_to_save(self) -> bool:
        return self._is_time or self._every == 0

    def look(self, loss: float | None = None) -> float | None:
        if self._stop.received is not None and not self._said:
            self._said = True
            processes.tell(f"stop/{processes.process_index()}", int(self._stop.received))
        if loss is not None and (self._loss is None or math.isfinite(self._loss)):
            self._loss = loss
        self._until -= 1
        if self._until:
            return None
        self._number += 1
        key = f"decided/{self._number}"
        if processes.is_writer():
            decided = self._decide()
            processes.tell(key, decided)
            processes.forget(f"decided/{self._number - 1000}")  # which all have heard long since
        else:
            decided = processes.hear(key)
        self._calls = self._until = decided["calls"]
        self._told, self._is_time = decided["told"], decided["save"]
        self._loss = None
        return decided["loss"]

    def _decide(self) -> dict[str, Any]:
        now = time.perf_counter()
        fitting = int(self._calls * LOOK_SECONDS / max(now - self._looked_at, 1e-6))
        self._looked_at = now
        signals = processes.told("stop")
        return {
            "told": next(iter(signals.values()), None),
            "save": super().is_time_to_save,
            "loss": self._loss,
            "calls": max(1, min(fitting, 2 * self._calls, MOST_CALLS)),
        }

    def saved(self) -> None:
        super().saved()
        self._is_time = False


def agreement(stop: StopSignal, every_minutes: float) -> Agreement:
    """For as many processes as there are."""
    kind = Agreement if processes.process_count() == 1 else SharedAgreement
    return kind(stop, every_minutes)
