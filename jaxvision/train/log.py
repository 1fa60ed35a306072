"""What a run tells while it goes: metrics.jsonl, timing.jsonl, TensorBoard, W&B, a progress bar, a profiler trace.

metrics.jsonl holds only what a repeat of the run reproduces bit for bit; times and rates go to timing.jsonl.
"""

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np
from etils import epath
from rich.console import Console

from jaxvision.config import Run
from jaxvision.errors import ConfigError
from jaxvision.train.progress import Bar, Clock, per_second
from jaxvision.train.result import duration

Value = float | int | None

REFRESH_SECONDS = 0.5
"""Least time between two looks at the device: each waits for a step to finish."""
ESTIMATE_STEPS = 10
ESTIMATE_SECONDS = 1.0
LONG_RUN_SECONDS = 60.0
TELLING_WAIT = 0.05
"""Share of an epoch spent waiting for data from which on it is printed; timing.jsonl has it always."""


class RunLog:
    """The log of one run; a context manager.

    ```
    with RunLog(run_dir, run, total_steps=4690, progress=True) as log:
        log.profile(1); state, losses = stretch(...); log.step(64, losses)
        with log.not_training(): ...evaluate...
        log.record({"phase": 0, "epoch": 1, "step": 938, "train/loss": 0.2, ...})
        log.timing({"epoch": 1, "step": 938, "seconds": 1.1, "images_per_second": log.images_per_second, ...})
    ```
    """

    def __init__(
        self,
        run_dir: epath.PathLike,
        run: Run,
        *,
        total_steps: int,
        start_step: int = 0,
        records: int = 0,
        progress: bool = True,
        started: float | None = None,
        console: Console | None = None,
    ) -> None:
        """Opens the files; earlier lines of a resumed run stay.

        Args:
          total_steps: optimizer steps of all phases together.
          start_step, records: steps already taken and lines of metrics.jsonl, where the run is resumed.
          started: `time.perf_counter()` when the run began; None: now.
          progress: print progress; a bar on a terminal, otherwise a line for each record.
          console: where to print; None: standard output.

        Raises:
          ConfigError: run.log.wandb_project is set and the extra is not installed.
        """
        self._folder = epath.Path(run_dir)
        self._run = run
        self._console = console or Console(quiet=not progress, highlight=False, soft_wrap=True)
        self._wandb = _open_wandb(run, self._folder)
        self._metrics = (self._folder / "metrics.jsonl").open("a")
        self._timing = (self._folder / "timing.jsonl").open("a")
        self.records = records
        self._hash = hashlib.sha256((self._folder / "metrics.jsonl").read_bytes())
        self._tensorboard = _open_tensorboard(self._folder, start_step) if run.log.tensorboard else None
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
        self._metrics.close()
        self._timing.close()
        if self._tensorboard:
            self._tensorboard.close()
        if self._wandb:
            self._wandb.finish(exit_code=0 if kind is None else 1)

    def step(self, num_examples: int, losses: jax.Array | None, *, steps: int = 1) -> float | None:
        """Counts steps that were just dispatched in one call. `losses` (steps,) may still be in the making.

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

    def new_phase(self, number: int, trained: Any, rest: Any) -> None:
        """To be called before a phase: its step is another program, whose compilation is not to be timed.

        trained, rest: pytrees of the model's variables that the phase trains, and of all others.
        """
        self._compiled.clear()
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
        """Training examples a second since the last `timing`, without compilation; None where nothing was timed."""
        return self._clock.rate

    def record(self, metrics: Mapping[str, Value]) -> None:
        """Appends a line to metrics.jsonl: `phase`, `epoch`, `step`, then names like `train/loss`."""
        record = {name: _plain(value) for name, value in metrics.items()}
        self._hash.update(_append(self._metrics, record))
        self.records += 1
        scalars = {name: value for name, value in record.items() if value is not None and name not in ("step",)}
        if self._tensorboard:
            shown = {name: value for name, value in scalars.items() if name not in ("phase", "epoch")}
            self._tensorboard.write(shown, int(record["step"] or 0))
        if self._wandb:
            self._wandb.log(scalars, step=record["step"])
        self._console.print(self._line(record), markup=False)

    @property
    def records_sha256(self) -> str:
        """Of all lines of metrics.jsonl so far."""
        return self._hash.hexdigest()

    def timing(self, timing: Mapping[str, Value]) -> None:
        """Appends a line to timing.jsonl and starts a new stretch for `images_per_second`."""
        record = {name: _plain(value) for name, value in timing.items()}
        _append(self._timing, record)
        if self._tensorboard and (rate := record.get("images_per_second")) is not None:
            self._tensorboard.write({"timing/images_per_second": rate}, int(record["step"] or 0))
        if (record.get("data_wait_share") or 0) >= TELLING_WAIT:
            self._console.print(f"  waited for data {record['data_wait_share']:.0%} of the epoch")
        self._clock.new_stretch()

    def profile(self, step: int) -> None:
        """To be called before each step (counted from 1): starts and stops the trace of run.log.profile_steps."""
        if self._run.log.profile_steps is None:
            return
        first, last = self._run.log.profile_steps
        if step == first:
            jax.profiler.start_trace(str(self._folder / "profile"))
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
                f"at {per_second(clock.rate or 0)}, evaluation not counted"
            )

    def _line(self, record: Mapping[str, Value]) -> str:
        phases = self._run.phases
        phase = int(record.get("phase") or 0)
        parts = [f"phases.{phase}"] if len(phases) > 1 else []
        parts += [f"epoch {record['epoch']}/{phases[phase].epochs}", f"step {record['step']}"]
        for part in ("train", "validation"):
            shown = [
                f"{name.partition('/')[2]} {'not finite' if value is None else f'{value:.4f}'}"
                for name, value in record.items()
                if name.startswith(f"{part}/") and name.count("/") == 1  # the line has no room for single classes
            ]
            if shown:
                parts.append(" ".join([part, *shown]))
        if self.images_per_second is not None:
            parts.append(per_second(self.images_per_second))
        return "  ".join(parts)


def _count(tree: Any) -> tuple[int, int]:
    leaves = jax.tree.leaves(tree)
    return len(leaves), sum(leaf.size for leaf in leaves)


def _telling(losses: jax.Array) -> float:
    values = np.ravel(losses).tolist()
    return next((value for value in values if not math.isfinite(value)), values[-1])


def _plain(value: Value) -> Value:
    """A number JSON has; null stands for one that is not finite."""
    if value is None or isinstance(value, int):
        return value
    return float(value) if math.isfinite(value) else None


def _append(file: Any, record: dict[str, Value]) -> bytes:
    """Writes a line; returns it."""
    line = json.dumps(record, allow_nan=False) + "\n"
    file.write(line)
    file.flush()
    return line.encode()


def _open_tensorboard(folder: epath.Path, start_step: int) -> Any:
    from jaxvision.train.events import EventFile  # a second to import

    return EventFile(folder, start_step)


def require_wandb(run: Run) -> None:
    """Raises ConfigError where the run asks for Weights & Biases and the extra is not installed."""
    if run.log.wandb_project is None:
        return
    try:
        import wandb  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "log.wandb_project: wandb is not installed; pip install 'jaxvision[wandb]', or leave the field out. "
            f"Received: {run.log.wandb_project!r}"
        ) from error


def _open_wandb(run: Run, folder: epath.Path) -> Any:
    if run.log.wandb_project is None:
        return None
    require_wandb(run)
    import wandb

    return wandb.init(
        project=run.log.wandb_project,
        name=run.name,
        config=dataclasses.asdict(run),
        dir=str(folder),
        reinit="create_new",
    )
