"""How fast training goes and how long it will take: a clock of steps, and the bar that shows it on a terminal."""

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from jaxvision.train.result import duration


class Clock:
    """Steps and the time they took, without compilation and without what is not training."""

    def __init__(self, total_steps: int) -> None:
        self.steps = 0
        self.timed_steps = 0
        self.timed_seconds = 0.0
        self._total = total_steps
        self._waiting: list[tuple[int, int]] = []
        self._mark = self._start = time.perf_counter()
        self.new_stretch()

    def new_stretch(self) -> None:
        self._stretch_examples = 0
        self._stretch_seconds = 0.0

    def dispatched(self, num_examples: int, steps: int = 1) -> None:
        """A call was made that takes so many steps."""
        self.steps += steps
        self._waiting.append((num_examples, steps))

    def finished(self, unfinished: int) -> None:
        """All calls dispatched so far but the last `unfinished` are known to be done by now."""
        now = time.perf_counter()
        done = self._waiting[: len(self._waiting) - unfinished]
        del self._waiting[: len(done)]
        self.timed_steps += sum(steps for _, steps in done)
        self.timed_seconds += now - self._mark
        self._stretch_examples += sum(examples for examples, _ in done)
        self._stretch_seconds += now - self._mark
        self._mark = now

    def skip(self) -> None:
        """What happened since the last look does not count; everything dispatched is done."""
        self._waiting.clear()
        self._mark = time.perf_counter()

    def compiled(self) -> None:
        """As `skip`, for time that will not come again and so says nothing about the time left."""
        self._start += time.perf_counter() - self._mark
        self.skip()

    @property
    def rate(self) -> float | None:
        return self._stretch_examples / self._stretch_seconds if self._stretch_examples else None

    @property
    def seconds_in_all(self) -> float:
        return self.timed_seconds / max(self.timed_steps, 1) * self._total

    @property
    def seconds_left(self) -> float | None:
        if not self.timed_steps:
            return None
        # With the evaluations so far, as what is left will hold as many of them a step.
        return (time.perf_counter() - self._start) / self.timed_steps * (self._total - self.steps)


class Bar:
    """A progress bar on a terminal: steps, rate, loss, time left."""

    def __init__(self, console: Console, total_steps: int, start_step: int) -> None:
        self._start = start_step
        self._progress = Progress(
            TextColumn("step"), MofNCompleteColumn(), BarColumn(bar_width=None), TextColumn("{task.fields[text]}"),
            console=console, transient=True, auto_refresh=False, expand=True,
        )  # fmt: skip
        self._task = self._progress.add_task("", total=total_steps, completed=start_step, text="compiling")
        self._progress.start()
        self._progress.refresh()

    def show(self, clock: Clock, loss: float | None) -> None:
        parts = [per_second(clock.rate)] if clock.rate is not None else []
        parts += [f"loss {loss:.4f}"] if loss is not None else []
        parts += [f"{duration(clock.seconds_left)} left"] if clock.seconds_left is not None else []
        self._progress.update(self._task, completed=self._start + clock.steps, text="  ".join(parts))
        self._progress.refresh()

    def stop(self) -> None:
        self._progress.stop()


def per_second(rate: float) -> str:
    """A rate of pictures: 1,013 img/s or 25.3 img/s."""
    return f"{rate:,.0f} img/s" if rate >= 100 else f"{rate:.3g} img/s"
