"""One run of those that are trained together, and often the only one: where it stands, and what it keeps on disk."""

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Self

import jax
import jax.numpy as jnp
from etils import epath
from flax import nnx

from jaxvision.config import Log
from jaxvision.errors import NonFiniteLossError
from jaxvision.processes import is_writer, notes_folder
from jaxvision.train.best import BestMetric
from jaxvision.train.checkpoint import BestCheckpoints, ModelCard, Saved
from jaxvision.train.log import RunLog
from jaxvision.train.result import Result
from jaxvision.train.state import TrainState
from jaxvision.train.task import monitor_direction
from jaxvision.train.training_state import Place, StoredState, TrainingStates


class Member:
    """A run in its folder; a context manager.

    phase, epoch, step, epochs, first_step, stopped, evaluating: as in `Place`. start: the model's variables, or those
    that its phase started from. state: of its training, while no step is going on; None before the first phase, or
    while it is still on disk. failed: why it ended early. result: once it is finished. seconds: spent before it was
    resumed.
    """

    def __init__(self, folder: epath.Path, card: ModelCard, model: nnx.Module, stored: StoredState | None = None):
        self.folder, self.card, self.run = folder, card, card.run
        self.graph, self.start = nnx.split(model)
        self.stored, self.is_resumed = stored, stored is not None
        self.state = self.failed = self.result = None
        self.phase, self.epoch, self.step, self.epochs, self.first_step = 0, 1, 0, 0, 0
        self.stopped = self.evaluating = False
        self.seconds = 0.0
        self.is_saved = True
        self._stack = ExitStack()

    state: TrainState | None
    failed: NonFiniteLossError | None
    result: Result | None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.checkpoints = stack.enter_context(BestCheckpoints(self.folder, self.card))
            self.states = stack.enter_context(TrainingStates(self.folder))
            self.best = self._best_metric()
            place = None if self.stored is None else self.stored.place
            if place is not None:
                self.phase, self.epoch, self.step, self.epochs = place.phase, place.epoch, place.step, place.epochs
                self.first_step, self.stopped, self.evaluating = place.first_step, place.stopped, place.evaluating
                self.best.state, self.seconds = place.best, place.seconds
                self.checkpoints.resume(place.checkpoints)
            records = 0 if place is None else place.records
            self.notes = stack.enter_context(notes_folder(self.folder))
            logged = self.run if is_writer() else replace(self.run, log=Log(tensorboard=False))
            self.log = stack.enter_context(RunLog(self.notes, logged, start_step=self.step, records=records))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def is_over(self) -> bool:
        """Whether its phase is over."""
        return self.stopped or self.epoch > self.run.phases[self.phase].epochs

    @property
    def goes_on(self) -> bool:
        """Whether there is more to train."""
        return self.failed is None and not (self.is_over and self.phase == len(self.run.phases) - 1)

    @property
    def place(self) -> tuple[int, ...]:
        """Runs that are at the same place can be trained together from there."""
        epoch = -1 if self.is_over else self.epoch
        return self.phase, epoch, self.step, self.epochs, self.first_step, self.evaluating

    def next_phase(self) -> None:
        """Goes on to it, from the best or the last of the phase before."""
        phase = self.run.phases[self.phase + 1]
        if phase.start == "best":
            self.start = self.checkpoints.restore(self.phase, self.start)
        else:
            assert self.state is not None
            self.start = nnx.merge_state(self.state.params, self.state.rest)
        self.phase, self.epoch, self.first_step, self.stopped, self.state = self.phase + 1, 1, self.step, False, None
        self.best = self._best_metric()

    def _best_metric(self) -> BestMetric:
        direction = monitor_direction(self.run, self.card.class_names)
        return BestMetric(self.run.checkpoint, self.run.early_stop, direction)

    def keep(self, record: dict[str, float], variables: nnx.State) -> None:
        """Saves the model with these metrics as the best of its phase so far, or until there is a best one."""
        if self.best.is_missing(record) and self.checkpoints.of_phase(self.phase) is None and is_writer():
            warnings.warn(
                f"checkpoint.monitor: {self.run.checkpoint.monitor} was not measured in epoch {self.epoch}. Until it"
                " is, the checkpoint of the latest epoch is kept, and early_stop.patience counts no epochs.",
                stacklevel=2,
            )
        self.checkpoints.save(Saved(self.phase, self.best.value(record), self.step), variables)

    def keep_if_first(self, variables: nnx.State) -> None:
        """Saves a model whose metrics are not finite where the run has saved none and its own numbers are."""
        numbers = [leaf for leaf in jax.tree.leaves(variables) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        if self.checkpoints.best is None and all(bool(jnp.isfinite(leaf).all()) for leaf in numbers):
            self.checkpoints.save(Saved(self.phase, None, self.step), variables)

    def save(self, state: TrainState, seconds: float) -> None:
        """Writes what it takes to go on. seconds: spent by this process."""
        place = Place(
            phase=self.phase,
            epoch=self.epoch,
            step=self.step,
            epochs=self.epochs,
            first_step=self.first_step,
            stopped=self.stopped,
            evaluating=self.evaluating,
            best=self.best.state,
            checkpoints=self.checkpoints.kept,
            records=self.log.records,
            records_sha256=self.log.records_sha256,
            seconds=self.seconds + seconds,
        )
        self.states.save(place, state)
        self.checkpoints.state_saved()
        self.is_saved = True

    def finish(self, result: Result) -> None:
        """Leaves of what was kept only the best."""
        self.result = result
        self.states.remove()
        self.checkpoints.finish()


def by_place(members: Sequence[Member]) -> list[list[Member]]:
    """The members in groups of those that can go on together."""
    groups: dict[tuple[int, ...], list[Member]] = {}
    for member in members:
        groups.setdefault(member.place, []).append(member)
    return list(groups.values())
