"""The only training loop: batches in, steps, evaluations, checkpoints and log lines out."""

import math
import signal
import time
from collections.abc import Sequence

import jax
from flax import nnx
from jax.sharding import Mesh

from jaxvision.config import Run
from jaxvision.data import Feed
from jaxvision.data.feed import ResidentFeed
from jaxvision.data.joint_feed import JointFeed
from jaxvision.errors import NonFiniteLossError, StoppedError
from jaxvision.mesh import on_each, shardings_of
from jaxvision.train.agreement import Agreement
from jaxvision.train.dispatch import step_flops, steps_per_dispatch, stretch_lengths
from jaxvision.train.evaluate import Batches, sum_totals
from jaxvision.train.freeze import Selection, scale_groups, select
from jaxvision.train.group import Group
from jaxvision.train.heeding import Heeding, ToldInEvaluationError
from jaxvision.train.member import Member, by_place
from jaxvision.train.metrics import Totals
from jaxvision.train.optimizer import LearningRate, make_optimizer
from jaxvision.train.pace import Pace
from jaxvision.train.state import TrainState, init_state
from jaxvision.train.step import (
    EvalStep,
    Forward,
    TrainStep,
    TrainStretch,
    batch_added,
    make_eval_step,
    make_train_step,
    make_train_stretch,
)
from jaxvision.train.task import Task, make_task
from jaxvision.train.vectorize import Numbers, eval_steps, is_finite, train_stretches
from jaxvision.train.waiting import Waiting


class Training:
    """The training of a run, or of several together. `train` goes through the phases of all of them.

    Runs that are at the same place, with the same phase, epoch and step before them, go on in one program, with an axis
    of the runs in front of all their arrays; one that is alone at its place, in a program without it.
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        class_names: Sequence[str],
        mesh: Mesh,
        train_feed: Feed,
        validation_feed: Feed | None,
        forward: Forward,
        eval_forward: Forward,
        pace: Pace,
        agreement: Agreement,
        started: float,
    ):
        # Of this run only what is the same in all is looked at: numbers in which they differ are their groups'.
        self._members, self._run = members, members[0].run
        self._class_names, self._mesh, self._forward, self._eval_forward = class_names, mesh, forward, eval_forward
        self._train_feed, self._validation_feed = train_feed, validation_feed
        self._pace, self._agreement, self._started = pace, agreement, started
        self._task = self._task_of(self._run)
        self._eval_steps: dict[tuple[int, ...], EvalStep] = {}
        self._group: Group

    def train(self) -> None:
        """Trains all phases of all runs, or what is left of them. A run whose loss, metrics or parameters are NaN or
        infinite ends there, which is noted in its `failed`; checkpoints saved before stay.

        Raises: StoppedError: a signal came; the states are saved.
        """
        groups = by_place([member for member in self._members if member.goes_on])
        while groups:
            group = groups.pop(0)
            self._train_phase(group)
            groups += by_place([member for member in group if member.goes_on])

    def evaluate(self, members: Sequence[Member], variables: Sequence[nnx.State], feed: Feed) -> list[dict[str, float]]:
        """Metrics of the members' models with these variables, over all of the feed's examples."""
        group = Group(members, self._mesh)
        return group.metrics(self._task, self._totals(group, group.together(variables), feed))

    def _train_phase(self, members: Sequence[Member]) -> None:
        """Trains one phase of runs at the same place, to its end, until one fails, or until half of them have stopped
        early: these are still computed, and nobody looks at them."""
        train_stretch, learning_rates = self._begin(members)
        group, epochs = self._group, self._run.phases[members[0].phase].epochs
        while not group.has_failed and 2 * len(group.active) > len(members) and group.active[0].epoch <= epochs:
            try:
                self._train_epoch(train_stretch, learning_rates)
            except ToldInEvaluationError:
                for member in group.active:
                    member.evaluating, member.is_saved = True, False
                self._save_if_due()
            self._save_if_due()
        for member in group.active:
            member.state = group.of(member, group.state)

    def _begin(self, members: Sequence[Member]) -> tuple[TrainStretch, list[LearningRate]]:
        """Makes the phase's state, of all runs of a group, and its training step."""
        opened = [self._open(member) for member in members]
        number, (graph, model, selection, _) = members[0].phase, opened[0]
        group = self._group = Group(members, self._mesh)
        group.state = group.together([_required(member.state) for member in members])
        if group.is_single:
            group.state = group.state._replace(totals=on_each(self._mesh, group.state.totals))
        first = _required(members[0].state)
        self._pace.new_phase(number, first.params, first.rest, runs=len(members))
        for member in members:
            member.state = None  # the step donates its arrays
        if not group.is_single:
            model = group.common.model
            selection = select(model, group.run.phases[number])
            selection.apply(model)
            graph, *_ = nnx.split(model, selection, ...)  # type: ignore[misc]

        def build(numbers: Numbers) -> TrainStep:
            run = numbers.run(group.run)
            groups = scale_groups(model, selection, run.phases[number].groups)
            optimizer, _ = make_optimizer(run.phases[number], self._train_feed.steps_per_epoch, groups)
            classes, forward = len(self._class_names), numbers.forward(self._forward)
            return make_train_step(graph, self._task_of(run), optimizer, run, classes, forward)

        learning_rates = [learning_rate for *_, learning_rate in opened]
        deterministic = self._run.deterministic
        if group.is_single:
            shardings = None if self._mesh.size == 1 else shardings_of(group.state, self._mesh)
            step = build(Numbers({}, {}))
            return make_train_stretch(step, deterministic=deterministic, shardings=shardings), learning_rates
        return train_stretches(build, group.common.numbers, self._mesh, deterministic=deterministic), learning_rates

    def _open(self, member: Member) -> tuple[nnx.GraphDef, nnx.Module, Selection, LearningRate]:
        """The member's phase, or the next one where that is over, with `member.state` in it: from the start, or as it
        was saved. Returns the model's structure, the model, what of it is trained, and the learning rate."""
        phase, where = member.run.phases[member.phase], f"phases.{member.phase}"
        model = nnx.merge(member.graph, member.start)
        selection = select(model, phase, where=f"{where}.trainable")
        selection.apply(model)
        groups = scale_groups(model, selection, phase.groups, where=f"{where}.groups")
        optimizer, learning_rate = make_optimizer(phase, self._train_feed.steps_per_epoch, groups)
        graph, state = init_state(
            model,
            optimizer,
            self._task,
            seed=member.run.seed,
            ema=member.run.ema_decay is not None,
            trained=selection,
            step=member.step,
        )
        if member.stored is not None:
            member.state, member.stored = member.states.load(member.stored.number, state), None
        elif member.state is None:
            member.state = state
        if not member.is_over:
            return graph, model, selection, learning_rate
        member.next_phase()
        return self._open(member)

    def _train_epoch(self, train_stretch: TrainStretch, learning_rates: Sequence[LearningRate]) -> None:
        """One pass over the training examples, or the rest of one, then validation."""
        started, group = time.perf_counter(), self._group
        first, feed = group.active[0], self._feed(group)
        epoch_begin = first.first_step + (first.epoch - 1) * feed.steps_per_epoch
        if first.step == epoch_begin:
            group.state = group.state._replace(totals=group.zero(self._task))
        every, last_step = self._run.evaluation.every_steps, epoch_begin + feed.steps_per_epoch
        if first.evaluating:  # the run was stopped in an evaluation, which is done first
            for member in group.active:
                member.evaluating = False
            if first.step < last_step:
                self._evaluate()
        most = steps_per_dispatch(self._run, self._train_feed, self._step_flops)
        lengths = stretch_lengths(first.step, last_step, most, self._stops)
        rest = feed.stretches(first.epochs, lengths, start=first.step - epoch_begin)
        stretches = Waiting(rest, self._pace.is_idle)
        for stretch in stretches:
            self._pace.profile(first.step + 1)
            group.state, losses = train_stretch(group.state, stretch)
            for member in group.active:
                member.step += stretch.num_steps
                member.is_saved = False
            seen = self._agreement.look(self._pace.step(stretch.num_examples, losses, steps=stretch.num_steps))
            if seen is not None and not math.isfinite(seen):
                self._fail_where_not_finite(losses, seen)
            if every and first.step % every == 0 and first.step < last_step:
                with self._pace.not_training():
                    self._evaluate()
            if group.has_failed:  # the others form another group
                return
            self._save_if_due()
        with self._pace.not_training():
            totals = group.metrics(self._task, group.state.totals)
            rates = [float(rate(first.step - 1 - first.first_step)) for rate in learning_rates]
            records = self._evaluate(
                [
                    {**_named("train", metrics), "learning_rate": rate}
                    for metrics, rate in zip(totals, rates, strict=True)
                ]
            )
        seconds = time.perf_counter() - started
        waited = stretches.seconds / seconds
        timing = {
            "seconds": seconds,
            "images_per_second": self._pace.images_per_second,
            "data_wait_share": waited,
            "seconds_to_first_step": self._pace.seconds_to_first_step,
        }
        for member, record in records:
            member.log.timing({**_place(member), **timing})
            member.stopped = member.best.should_stop(record)
            member.epoch, member.epochs, member.is_saved = member.epoch + 1, member.epochs + 1, False
            if member.stopped:
                member.state = group.of(member, group.state)
        self._pace.end_epoch(data_wait_share=waited)

    def _evaluate(self, measured: Sequence[dict[str, float]] | None = None) -> list[tuple[Member, dict[str, float]]]:
        """Validates, keeps the models that are the best so far, logs. measured: what is known already, of each member
        of the group. Returns the records of those that go on.

        Raises: ToldInEvaluationError: a signal came before it was done; nothing has changed.
        """
        group, values = self._group, None
        variables, norms = group.state.variables, group.norms(group.state.params)
        if self._validation_feed is not None:
            heeding = Heeding(self._validation_feed, self._agreement)
            values = group.metrics(self._task, self._totals(group, variables, heeding))
        records = []
        for number, member in enumerate(group.members):
            if member not in group.active:
                continue
            record = {**_place(member), **(measured[number] if measured else {})}
            record |= {} if values is None else _named("validation", values[number])
            member.log.record(record)
            records.append((member, record))
            # The last update may have thrown the weights to infinity after a loss that was finite.
            seen = {**record, "the norm of the parameters": norms[number]}
            if wrong := [(name, value) for name, value in seen.items() if not math.isfinite(value)]:
                if math.isfinite(norms[number]):
                    member.keep_if_first(group.of(member, variables))
                member.failed = _not_finite(member, *wrong[0])
            elif member.best.is_improved(record):
                member.keep(record, group.of(member, variables))
        self._pace.tell([record for _, record in records])
        return [(member, record) for member, record in records if member.failed is None]

    def _fail_where_not_finite(self, losses: jax.Array, seen: float) -> None:
        group = self._group
        finite = [False] if group.is_single else is_finite(losses)
        for number, member in enumerate(group.members):
            if member in group.active and not finite[number]:
                member.failed = _not_finite(member, "the training loss", seen)

    def _save_if_due(self) -> None:
        """Saves the training states where it is time to, or a signal came: those of all runs, also of those that wait
        for the ones that go on.

        Raises: StoppedError: a signal came.
        """
        told = self._agreement.told
        if told is None and not self._agreement.is_time_to_save:
            return
        seconds = time.perf_counter() - self._started
        with self._pace.not_training():
            group, active = self._group, self._group.active
            for member in self._members:
                if member.failed is None and not member.is_saved:
                    state = group.of(member, group.state) if member in active else _required(member.state)
                    member.save(state, seconds)
        self._agreement.saved()
        if told is not None:
            step = max(member.step for member in group.members)
            name = signal.Signals(told).name
            raise StoppedError(told, f"stopped by {name} after step {step}; everything to go on is saved.")

    def _stops(self, step: int) -> bool:
        """Whether something is to be done between this step and the next."""
        every, profiled = self._run.evaluation.every_steps, self._run.log.profile_steps
        return (every is not None and step % every == 0) or (
            profiled is not None and step in (profiled[0] - 1, profiled[1])
        )

    def _step_flops(self) -> float:
        member = self._group.members[0]
        flops = step_flops(member.graph, member.start, self._forward, self._train_feed)
        return flops if self._group.is_single else flops * len(self._group.lanes) / self._mesh.size

    def _totals(self, group: Group, variables: nnx.State, feed: Batches) -> Totals:
        return sum_totals(self._eval_step(group), group.zero(self._task), variables, feed)

    def _feed(self, group: Group) -> Feed | JointFeed:
        """The training examples, in each run's own order."""
        if len(self._members) == 1:
            return self._train_feed
        assert isinstance(self._train_feed, ResidentFeed)
        seeds = [member.run.seed for member in group.lanes]
        return self._train_feed.with_seed(seeds[0]) if group.is_single else JointFeed(self._train_feed, seeds)

    def _task_of(self, run: Run) -> Task:
        return make_task(run, len(self._class_names), self._class_names)

    def _eval_step(self, group: Group) -> EvalStep:
        """Compiled once for all evaluations of the same runs."""
        key = tuple(map(id, group.members))
        if key not in self._eval_steps:
            graph, deterministic = group.members[0].graph, self._run.deterministic
            if group.is_single:
                step = make_eval_step(graph, self._task_of(group.run), self._eval_forward, deterministic=deterministic)
            else:
                step = eval_steps(
                    lambda numbers: batch_added(graph, self._task_of(numbers.run(group.run)), self._eval_forward),
                    group.common.numbers,
                    self._mesh,
                    deterministic=deterministic,
                )
            self._eval_steps[key] = step
        return self._eval_steps[key]


def _place(member: Member) -> dict[str, int]:
    return {"phase": member.phase, "epoch": member.epoch, "step": member.step}


def _required(state: TrainState | None) -> TrainState:
    assert state is not None
    return state


def _not_finite(member: Member, what: str, value: float) -> NonFiniteLossError:
    settings = member.run.phases[member.phase].optimizer
    return NonFiniteLossError(
        f"{what} is {value} in epoch {member.epoch} (by step {member.step}); training stopped. The last good checkpoint"
        f" stays: {member.checkpoints.describe()}. Lower phases.{member.phase}.optimizer.learning_rate (it is"
        f" {settings.learning_rate:g}) or set phases.{member.phase}.optimizer.clip_norm (it is {settings.clip_norm})."
    )


def _named(part: str, metrics: dict[str, float]) -> dict[str, float]:
    return {f"{part}/{name}": value for name, value in metrics.items()}
