"""The only training loop: batches in, steps, evaluations, checkpoints and log lines out."""

import math
import time
from collections.abc import Callable, Iterable, Iterator

import jax
import optax
from flax import nnx

from jaxvision.config import Phase, Run
from jaxvision.data import Feed
from jaxvision.errors import NonFiniteLossError, StoppedError
from jaxvision.mesh import batch_mesh, on_each
from jaxvision.train.best import BestMetric
from jaxvision.train.checkpoint import BestCheckpoints, Saved
from jaxvision.train.evaluate import evaluate_feed
from jaxvision.train.freeze import scale_groups, select
from jaxvision.train.log import RunLog
from jaxvision.train.optimizer import LearningRate, make_optimizer
from jaxvision.train.signals import StopSignal
from jaxvision.train.state import TrainState, init_state
from jaxvision.train.step import (
    Forward,
    TrainStretch,
    make_eval_step,
    make_train_step,
    make_train_stretch,
)
from jaxvision.train.task import Task
from jaxvision.train.training_state import Place, StoredState, TrainingStates
from jaxvision.types import Batch, Stretch

MOST_STEPS, CALL_FLOPS = 32, 2e13
"""Of one call to an accelerator: two seconds' work at 10 TFLOP/s, since a signal is heeded between two calls.
Operations are counted, not timed: which programs a run goes through, and so its bits, must not hang on the clock."""


class Training:
    """A run in progress. `train` goes through its phases; `epochs` and `step` count over all of them. `eval_step` is
    compiled once for all evaluations."""

    def __init__(
        self,
        run: Run,
        *,
        model: nnx.Module,
        task: Task,
        num_classes: int,
        train_feed: Feed,
        validation_feed: Feed | None,
        checkpoints: BestCheckpoints,
        log: RunLog,
        forward: Forward,
        eval_forward: Forward,
        states: TrainingStates,
        stop: StopSignal,
        started: float,
    ):
        self.step = self.epochs = 0
        self._states, self._stop, self._started, self._saved_at = states, stop, started, time.perf_counter()
        self._run, self._task, self._num_classes, self._forward = run, task, num_classes, forward
        self._train_feed, self._validation_feed = train_feed, validation_feed
        self._checkpoints, self._log = checkpoints, log
        self._graph, self._start = nnx.split(model)
        self._state: TrainState
        self.eval_step = make_eval_step(self._graph, task, eval_forward, deterministic=run.deterministic)

    def train(self, resumed: StoredState | None = None) -> str:
        """Trains all phases, or what is left of them. Returns why the last stopped: "completed" or "early_stop".

        Raises:
          NonFiniteLossError: the loss of a step or an epoch is NaN or infinite. Checkpoints saved before stay.
          StoppedError: a signal came; the state is saved.
        """
        stopped = False
        for number, phase in enumerate(self._run.phases):
            if resumed is not None and number < resumed.place.phase:
                continue
            train_stretch, learning_rate = self._begin(number, phase, resumed)
            first_step, first_epoch, stopped, evaluating = self.step, 1, False, False
            if resumed is not None:
                place, resumed = resumed.place, None
                first_step, first_epoch = place.first_step, place.epoch
                stopped, evaluating = place.stopped, place.evaluating
            for epoch in range(first_epoch, phase.epochs + 1):
                if stopped:
                    break
                try:
                    stopped = self._train_epoch(number, epoch, train_stretch, learning_rate, first_step, evaluating)
                except _ToldInEvaluationError:
                    self._save_if_due(number, epoch, first_step, evaluating=True)
                self._save_if_due(number, epoch + 1, first_step, stopped=stopped)
                evaluating = False
        return "early_stop" if stopped else "completed"

    def _begin(self, number: int, phase: Phase, resumed: StoredState | None) -> tuple[TrainStretch, LearningRate]:
        """Splits the model into what the phase trains and the rest, and makes its training step.

        resumed: where the phase goes on; of the model only the structure counts then.
        """
        if resumed is not None:
            self.step, self.epochs = resumed.place.step, resumed.place.epochs
        elif number and phase.start == "best":
            self._start = self._checkpoints.restore(number - 1, self._start)
        elif number:
            self._start = nnx.merge_state(self._state.params, self._state.rest)
        model = nnx.merge(self._graph, self._start)
        selection = select(model, phase, where=f"phases.{number}.trainable")
        selection.apply(model)
        groups = scale_groups(model, selection, phase.groups, where=f"phases.{number}.groups")
        optimizer, learning_rate = make_optimizer(phase, self._train_feed.steps_per_epoch, groups)
        ema = self._run.ema_decay is not None
        graph, self._state = init_state(model, optimizer, self._task, ema=ema, trained=selection, step=self.step)
        self._best = BestMetric(self._run.checkpoint, self._run.early_stop)
        if resumed is not None:
            self._state = self._states.load(resumed.number, self._state)
            self._best.state = resumed.place.best
            self._checkpoints.resume(resumed.place.checkpoints)
        self._state = on_each(batch_mesh(self._run.devices), self._state)
        self._log.new_phase(number, self._state.params, self._state.rest)
        step = make_train_step(graph, self._task, optimizer, self._run, self._num_classes, self._forward)
        return make_train_stretch(step, deterministic=self._run.deterministic), learning_rate

    def _train_epoch(
        self,
        phase: int,
        epoch: int,
        train_stretch: TrainStretch,
        learning_rate: LearningRate,
        first_step: int,
        evaluating: bool,
    ) -> bool:
        """One pass over the training examples, or the rest of one, then validation. True: stop early.

        evaluating: the run was stopped in an evaluation, which is done first.
        """
        started = time.perf_counter()
        epoch_begin = first_step + (epoch - 1) * self._train_feed.steps_per_epoch
        if self.step == epoch_begin:
            self._state = self._state._replace(totals=self._task.zero())
        every, last_step = self._run.evaluation.every_steps, epoch_begin + self._train_feed.steps_per_epoch
        place = {"phase": phase, "epoch": epoch}
        if evaluating and self.step < last_step:
            self._evaluate({**place, "step": self.step})
        most = steps_per_dispatch(self._run, self._train_feed, self._step_flops)
        lengths = stretch_lengths(self.step, last_step, most, self._stops)
        rest = self._train_feed.stretches(self.epochs, lengths, start=self.step - epoch_begin)
        stretches = _Waiting(rest, self._log.is_idle)
        for stretch in stretches:
            self._log.profile(self.step + 1)
            self._state, losses = train_stretch(self._state, stretch)
            self.step += stretch.num_steps
            seen = self._log.step(stretch.num_examples, losses, steps=stretch.num_steps)
            if seen is not None and not math.isfinite(seen):
                raise self._not_finite("the training loss", seen, phase, epoch)
            if every and self.step % every == 0 and self.step < last_step:
                with self._log.not_training():
                    self._evaluate({**place, "step": self.step})
            self._save_if_due(phase, epoch, first_step)
        with self._log.not_training():
            metrics = _named("train", self._task.compute(self._state.totals))
            rate = float(learning_rate(self.step - 1 - first_step))
            metrics = self._evaluate({**place, "step": self.step, **metrics, "learning_rate": rate})
        self.epochs += 1
        images_per_second = self._log.images_per_second
        seconds = time.perf_counter() - started
        self._log.timing(
            {
                **place,
                "step": self.step,
                "seconds": seconds,
                "images_per_second": images_per_second,
                "data_wait_share": stretches.seconds / seconds,
                "seconds_to_first_step": self._log.seconds_to_first_step,
            }
        )
        return self._best.should_stop(metrics)

    def _step_flops(self) -> float:
        return step_flops(self._graph, self._start, self._forward, self._train_feed)

    def _save_if_due(
        self, phase: int, epoch: int, first_step: int, *, stopped: bool = False, evaluating: bool = False
    ) -> None:
        """Saves the training state where it is time to, or a signal came.

        Raises: StoppedError: a signal came.
        """
        told = self._stop.received
        now = time.perf_counter()
        if told is None and now - self._saved_at < 60 * self._run.checkpoint.every_minutes:
            return
        with self._log.not_training():
            place = Place(
                phase=phase,
                epoch=epoch,
                step=self.step,
                epochs=self.epochs,
                first_step=first_step,
                stopped=stopped,
                evaluating=evaluating,
                best=self._best.state,
                checkpoints=self._checkpoints.kept,
                records=self._log.records,
                records_sha256=self._log.records_sha256,
                seconds=now - self._started,
            )
            self._states.save(place, self._state)
            self._checkpoints.state_saved()
        self._saved_at = time.perf_counter()
        if told is not None:
            raise StoppedError(told, f"stopped by {told.name} after step {self.step}; everything to go on is saved.")

    def _stops(self, step: int) -> bool:
        """Whether something is to be done between this step and the next."""
        every, profiled = self._run.evaluation.every_steps, self._run.log.profile_steps
        return (every is not None and step % every == 0) or (
            profiled is not None and step in (profiled[0] - 1, profiled[1])
        )

    def _evaluate(self, record: dict[str, float]) -> dict[str, float]:
        """Validates, keeps the model if it is the best so far, logs. Returns the record with the metrics added.

        Raises:
          NonFiniteLossError: a metric or a parameter is not finite; this model is not kept.
          _ToldInEvaluationError: a signal came before it was done; nothing has changed.
        """
        if self._validation_feed is not None:
            feed = _Heeding(self._validation_feed, self._stop)
            values = evaluate_feed(self._task, self.eval_step, self._state.variables, feed)
            record = {**record, **_named("validation", values)}
        self._log.record(record)
        # The last update may have thrown the weights to infinity after a loss that was finite.
        values = {**record, "the norm of the parameters": float(optax.tree.norm(self._state.params))}
        for name, value in values.items():
            if not math.isfinite(value):
                raise self._not_finite(name, value, int(record["phase"]), int(record["epoch"]))
        if self._best.is_improved(record):
            saved = Saved(int(record["phase"]), self._best.value(record), self.step)
            self._checkpoints.save(saved, self._state.variables)
        return record

    def _not_finite(self, what: str, value: float, phase: int, epoch: int) -> NonFiniteLossError:
        settings = self._run.phases[phase].optimizer
        return NonFiniteLossError(
            f"{what} is {value} in epoch {epoch} (by step {self.step}); training stopped. The last good checkpoint"
            f" stays: {self._checkpoints.describe()}. Lower phases.{phase}.optimizer.learning_rate (it is"
            f" {settings.learning_rate:g}) or set phases.{phase}.optimizer.clip_norm (it is {settings.clip_norm})."
        )


def steps_per_dispatch(run: Run, feed: Feed, flops: Callable[[], float]) -> int:
    """Training steps in one device call: run.steps_per_dispatch, or 1 on a CPU and up to `MOST_STEPS` elsewhere, as
    many as `CALL_FLOPS` allow; at most what comes between two evaluations or in an epoch, and 1 where batches are
    streamed. flops: of a step."""
    if not feed.resident:
        return 1
    if run.steps_per_dispatch is not None or jax.default_backend() == "cpu":
        most = run.steps_per_dispatch or 1
    else:
        most = int(min(MOST_STEPS, CALL_FLOPS // max(flops(), 1.0)))
    return max(1, min(most, feed.steps_per_epoch - 1, run.evaluation.every_steps or most))


def step_flops(graph: nnx.GraphDef, variables: nnx.State, forward: Forward, feed: Feed) -> float:
    """About the floating-point operations of a training step on a resident feed: three times those of the forward
    pass, as the compiler counts them; 0 where it cannot."""
    inputs = next(feed.stretches(0, [1])).inputs
    one = jax.ShapeDtypeStruct((1, *inputs.shape[1:]), inputs.dtype)
    lowered = jax.jit(lambda v, x: forward(nnx.merge(graph, v), x, False, None)).lower(variables, one)
    counted = lowered.cost_analysis() or {}
    return 3.0 * feed.batch_size * counted.get("flops", 0.0)


def stretch_lengths(first: int, last: int, most: int, stops: Callable[[int], bool]) -> list[int]:
    """Into how many steps a device call each the steps after `first` up to `last` are cut: `most` or 1, so that few
    programs are compiled. Never over a step after which `stops`; the epoch's last step, which may be smaller, alone.
    """
    lengths, begin = [], first
    for step in range(first + 1, last + 1):
        if stops(step) or step >= last - 1:
            whole, rest = divmod(step - begin, most)
            lengths += [most] * whole + [1] * rest
            begin = step
    return lengths


class _Waiting(Iterator[Stretch]):
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


class _ToldInEvaluationError(Exception):
    """A signal came during an evaluation."""


class _Heeding:
    """A feed whose batches end with an exception where a signal came."""

    def __init__(self, feed: Feed, stop: StopSignal):
        self._feed, self._stop = feed, stop

    def batches(self, epoch: int) -> Iterator[Batch]:
        for batch in self._feed.batches(epoch):
            if self._stop.received is not None:
                raise _ToldInEvaluationError
            yield batch


def _named(part: str, metrics: dict[str, float]) -> dict[str, float]:
    return {f"{part}/{name}": value for name, value in metrics.items()}
