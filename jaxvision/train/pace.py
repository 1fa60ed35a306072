"""How fast training goes, told on the terminal while it does: a bar or lines, the first step, the time it will take;
and the profiler's trace."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np
from etils import epath
from rich.console import Console

from jaxvision.config import Run
from jaxvision.train.progress import Bar, Clock, per_second
from jaxvision.train.result import duration

REFRESH_SECONDS = 0.5
"""Least time between two looks at the device: each waits for a step to finish."""
ESTIMATE_STEPS = 10
ESTIMATE_SECONDS = 1.0
LONG_RUN_SECONDS = 60.0
TELLING_WAIT = 0.05
"""Share of an epoch spent waiting for data from which on it is printed; timing.jsonl has it always."""


class Pace:
    """Of a run, or of several that are trained together; a context manager.

    ```
    with Pace(run, total_steps=4690) as pace:
        pace.profile(1); state, losses = stretch(...); pace.step(64, losses)
        with pace.not_training(): ...evaluate...
        pace.tell([{"phase": 0, "epoch": 1, "step": 938, "train/loss": 0.2, ...}])
        pace.end_epoch(data_wait_share=0.0)
    ```
    """

    def __init__(
        self,
        run: Run,
        *,
        total_steps: int,
        start_step: int = 0,
        runs: int = 1,
        profile: epath.PathLike | None = None,
        progress: bool = True,
        started: float | None = None,
        console: Console | None = None,
    ) -> None:
        """Starts the clock.

        Args:
          total_steps: optimizer steps of all phases together.
          start_step: steps already taken, where the run is resumed.
          runs: how many are trained together; rates are those of one.
          profile: the folder that the trace of `run.log.profile_steps` goes to.
          progress: print; a bar on a terminal, otherwise a line for each record.
          started: `time.perf_counter()` when the run began; None: now.
          console: where to print; None: standard output.
        """
        self._run, self._all, self._runs, self._profile = run, runs, runs, profile
        self._console = console or Console(quiet=not progress, highlight=False, soft_wrap=True)
        self._clock = Clock(total_steps - start_step)
        self._bar = Bar(self._console, total_steps, start_step) if progress and self._console.is_terminal else None
        self._profiling = False
        self._estimated = False
        self._losses: tuple[jax.Array | None, jax.Array | None] = (None, None)
        self._compiled: set[int] = set()
        self._looked = -math.inf
        self._started = time.perf_counter() if started is None else started
        self.seconds_to_first_step: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._profiling:
            self._stop_profile()
        if self._bar:
            self._bar.stop()

    def step(self, num_examples: int, losses: jax.Array | None, *, steps: int = 1) -> float | None:
        """Counts steps that were just dispatched in one call. `losses` (steps,), or (runs, steps), may still be in
        the making.

        Returns: at most about twice a second a loss just read from the device, of this call or the one before: the
          last of the call, or the first that is not finite.
        """
        self._losses = (self._losses[1], losses)
        self._clock.dispatched(num_examples, steps)
        compiled = num_examples not in self._compiled
        if not compiled and time.perf_counter() - self._looked < REFRESH_SECONDS:
            return None
        # The step before is waited for, not this one, so that the device always has work queued. A step of a new
        # size was just compiled: it is waited for itself, and its time does not count.
        awaited = losses if compiled else self._losses[0]
        shown = _telling(awaited) if awaited is not None else None
        if compiled:
            self._compiled.add(num_examples)
            self._clock.compiled()
            if self.seconds_to_first_step is None:
                self._first_step()
        else:
            self._clock.finished(unfinished=1)
        self._looked = time.perf_counter()
        if self._bar:
            self._bar.show(self._clock, shown)
        self._estimate()
        return shown

    def is_idle(self) -> bool:
        """Whether all steps dispatched so far are done."""
        losses = self._losses[1]
        return losses is None or losses.is_ready()  # type: ignore[attr-defined]

    def _first_step(self) -> None:
        self.seconds_to_first_step = time.perf_counter() - self._started
        self._console.print(f"first step done {self.seconds_to_first_step:.1f} s after the start")

    def new_phase(self, number: int, trained: Any, rest: Any, *, runs: int = 1) -> None:
        """To be called before a phase: its step is another program, whose compilation is not to be timed.

        trained, rest: pytrees of a model's variables that the phase trains, and of all others. runs: how many are
        trained in it together.
        """
        self._compiled.clear()
        self._runs = runs
        if self._run.phases[number].trainable is not None:
            (tensors, values), (_, others) = (_count(tree) for tree in (trained, rest))
            self._console.print(
                f"phases.{number} trains {tensors} tensors: {values:,} of the model's {values + others:,} numbers"
            )

    @contextmanager
    def not_training(self) -> Iterator[None]:
        """Time spent here (evaluation, saving) does not count in `images_per_second`."""
        jax.block_until_ready(self._losses)
        self._clock.finished(unfinished=0)
        yield
        self._clock.skip()

    @property
    def images_per_second(self) -> float | None:
        """Training examples a second since the last `end_epoch`, without compilation; None where nothing was timed."""
        return self._clock.rate

    def end_epoch(self, *, data_wait_share: float) -> None:
        """Tells of a long wait for data, and starts a new stretch for `images_per_second`."""
        if data_wait_share >= TELLING_WAIT:
            self._console.print(f"  waited for data {data_wait_share:.0%} of the epoch")
        self._clock.new_stretch()

    def profile(self, step: int) -> None:
        """To be called before each step (counted from 1): starts and stops the trace of run.log.profile_steps."""
        if self._run.log.profile_steps is None:
            return
        first, last = self._run.log.profile_steps
        if step == first:
            jax.profiler.start_trace(str(self._profile))
            self._profiling = True
        elif self._profiling and step > last:
            self._stop_profile()

    def _stop_profile(self) -> None:
        jax.block_until_ready(self._losses)
        jax.profiler.stop_trace()
        self._profiling = False

    def _estimate(self) -> None:
        clock = self._clock
        if self._estimated or clock.timed_steps < ESTIMATE_STEPS or clock.timed_seconds < ESTIMATE_SECONDS:
            return
        self._estimated = True
        if clock.seconds_in_all > LONG_RUN_SECONDS:
            epochs = sum(phase.epochs for phase in self._run.phases)
            self._console.print(
                f"about {duration(clock.seconds_in_all)} for {epochs} epoch{'s' * (epochs > 1)} "
                f"at {self._rate()}, evaluation not counted"
            )

    def tell(self, records: Sequence[Mapping[str, Any]]) -> None:
        """A line of an evaluation: of one record what is in it; of several, of the runs trained together, the mean of
        each metric and in brackets the smallest and the largest."""
        record, phases = records[0], self._run.phases
        phase = int(record.get("phase") or 0)
        parts = [f"{len(records)} of {self._all} runs"] if self._all > 1 else []
        parts += [f"phases.{phase}"] if len(phases) > 1 else []
        parts += [f"epoch {record['epoch']}/{phases[phase].epochs}", f"step {record['step']}"]
        for part in ("train", "validation"):
            shown = [
                f"{name.partition('/')[2]} {_told([each[name] for each in records])}"
                for name in record
                if name.startswith(f"{part}/") and name.count("/") == 1  # the line has no room for single classes
            ]
            if shown:
                parts.append(" ".join([part, *shown]))
        if self.images_per_second is not None:
            parts.append(self._rate())
        self._console.print("  ".join(parts), markup=False)

    def _rate(self) -> str:
        rate = per_second(self.images_per_second or 0)
        return rate if self._runs == 1 else f"{self._runs} x {rate}"


def _count(tree: Any) -> tuple[int, int]:
    leaves = jax.tree.leaves(tree)
    return len(leaves), sum(leaf.size for leaf in leaves)


def _telling(losses: jax.Array) -> float:
    values = np.ravel(losses).tolist()
    return next((value for value in values if not math.isfinite(value)), values[-1])


def _told(values: Sequence[float]) -> str:
    if not all(map(math.isfinite, values)):
        return "not finite"
    if len(values) == 1:
        return f"{values[0]:.4f}"
    return f"{sum(values) / len(values):.4f} ({min(values):.4f} to {max(values):.4f})"
