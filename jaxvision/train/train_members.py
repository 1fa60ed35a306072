"""From what is prepared to run folders and their results."""

import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import jax
from etils import epath
from flax import nnx

from jaxvision.data import Feed
from jaxvision.errors import DataError, OutOfMemoryError
from jaxvision.figures.curves import draw_curves
from jaxvision.mesh import cut_wide
from jaxvision.processes import after_writer, is_writer
from jaxvision.train.agreement import agreement
from jaxvision.train.checkpoint import RestoredRun, restore_best
from jaxvision.train.exhausted import steps_in_memory
from jaxvision.train.folder import read_metrics, write_config, write_environment
from jaxvision.train.loop import Training
from jaxvision.train.member import Member
from jaxvision.train.pace import Pace
from jaxvision.train.prepared import Prepared
from jaxvision.train.result import Metrics, PhaseResult, Result, read_result, write_left_out, write_result
from jaxvision.train.resume import take_up
from jaxvision.train.run_data import write_examples
from jaxvision.train.signals import StopSignal
from jaxvision.train.step import from_features, from_pictures


def train_members(
    prepared: Prepared, folders: Sequence[epath.Path], begun: Sequence[bool], *, progress: bool, started: float
) -> list[Member]:
    """Trains the runs in their folders, from the start or where `begun` from where they stand, and tests their best
    checkpoints: `member.result`, or `member.failed` where the loss was no number.

    Raises: UserError, StoppedError: as `fit`.
    """
    with ExitStack() as stack:
        with StopSignal() as stop:  # before the folders tell anyone that the runs have begun
            members = [_opened(prepared, number, folder, begun[number]) for number, folder in enumerate(folders)]
            for member in members:
                stack.enter_context(member)
            with _drawing_curves(members), _leaving_nothing_of_nothing(members):
                training = _train(prepared, members, stop, progress=progress, started=started)
        done = [member for member in members if member.failed is None]
        for member, result in zip(done, _tested(prepared, done, training, started), strict=True):
            if is_writer():
                write_result(member.folder, result)
                after_writer()
            member.finish(result)
    return members


def _opened(prepared: Prepared, number: int, folder: epath.Path, begun: bool) -> Member:
    run, fingerprint, stored = prepared.runs[number], prepared.dataset.fingerprint, None
    if begun:
        stored = take_up(folder, run, fingerprint, prepared.examples, together=len(prepared.runs))
    elif is_writer():
        write_config(folder, run)
        write_environment(folder, run, fingerprint=fingerprint, together=len(prepared.runs))
    if is_writer():
        assert prepared.examples is not None
        write_examples(folder, prepared.examples)
        write_left_out(folder, prepared.dataset.left_out)
    return Member(folder, prepared.cards[number], prepared.models[number], stored)


def _train(
    prepared: Prepared, members: Sequence[Member], stop: StopSignal, *, progress: bool, started: float
) -> Training:
    run = prepared.runs[0]
    with (
        steps_in_memory(run, len(members)),
        Pace(
            run,
            total_steps=prepared.total_steps,
            start_step=min(member.step for member in members),
            runs=len(members),
            profile=members[0].notes / "profile",
            progress=progress and is_writer(),
            started=started,
        ) as pace,
    ):
        training = Training(
            members,
            class_names=prepared.dataset.class_names,
            mesh=prepared.mesh,
            train_feed=prepared.train_feed,
            validation_feed=prepared.validation_feed,
            forward=from_features if run.cache_features == "all" else from_pictures,
            eval_forward=from_pictures if run.cache_features == "off" else from_features,
            pace=pace,
            agreement=agreement(stop, run.checkpoint.every_minutes),
            started=started,
        )
        training.train()
    return training


@contextmanager
def _leaving_nothing_of_nothing(members: Sequence[Member]) -> Iterator[None]:
    """A broken picture in a streamed dataset, or no memory: a folder with nothing saved is of no use to anyone."""
    try:
        yield
    except (DataError, OutOfMemoryError):
        for member in members:
            if is_writer() and not member.is_resumed and not any(member.folder.glob("*/*/MANIFEST.json")):
                member.folder.rmtree()
        raise


@contextmanager
def _drawing_curves(members: Sequence[Member]) -> Iterator[None]:
    """However training ends."""
    try:
        yield
    finally:
        for member in members:
            records = read_metrics(member.folder) if is_writer() and member.folder.exists() else []
            if records:
                best, kept = member.checkpoints.best, member.checkpoints.kept
                best_step = None if best is None else best.step
                of_phases = [saved.step for saved in sorted(kept)]
                path = member.folder / "curves.png"
                draw_curves(records, path, member.run.name, best_step=best_step, best_of_phases=of_phases)


def _tested(prepared: Prepared, members: Sequence[Member], training: Training, started: float) -> list[Result]:
    """The best checkpoints, read back from disk, on validation and test parts."""
    if not members:
        return []
    best = [restore_best(member.folder) for member in members]
    variables = [cut_wide(prepared.mesh, nnx.state(each.model)) for each in best]

    def test(feed: Feed | None) -> list[Metrics | None]:
        return [None] * len(members) if feed is None else [*training.evaluate(members, variables, feed)]

    validation, test_ = test(prepared.validation_feed), test(prepared.test_feed)
    seconds = time.perf_counter() - started
    if not is_writer():
        after_writer()
        return [read_result(member.folder) for member in members]
    return [
        _result(prepared, member, best[number], validation[number], test_[number], seconds)
        for number, member in enumerate(members)
    ]


def _result(
    prepared: Prepared,
    member: Member,
    best: RestoredRun,
    validation: Metrics | None,
    test: Metrics | None,
    seconds: float,
) -> Result:
    epochs = [record for record in read_metrics(member.folder) if "train/loss" in record]
    at_best = next(record for record in epochs if record["step"] >= best.step)
    phases = []
    for number in range(len(member.run.phases)):
        saved = member.checkpoints.of_phase(number)
        assert saved is not None
        if saved.value is None and member.run.checkpoint.monitor is not None:
            warnings.warn(
                f"checkpoint.monitor: {member.run.checkpoint.monitor} was in no evaluation of phases.{number}, so"
                f" its last checkpoint (step {saved.step}) is kept, not its best.",
                stacklevel=2,
            )
        count = sum(record["phase"] == number for record in epochs)
        phases.append(PhaseResult(epochs=count, best_step=saved.step, best_value=saved.value))
    dataset = prepared.dataset
    return Result(
        name=member.run.name,
        seed=member.run.seed,
        steps=member.step,
        epochs=member.epochs,
        best_epoch=epochs.index(at_best) + 1,
        best_step=best.step,
        stop_reason="early_stop" if member.stopped else "completed",
        parameters=sum(leaf.size for leaf in jax.tree.leaves(nnx.state(best.model, nnx.Param))),
        train={name.removeprefix("train/"): value for name, value in at_best.items() if name.startswith("train/")},
        validation=validation,
        test=test,
        seconds=round(member.seconds + seconds, 1),
        class_names=dataset.class_names,
        image_shape=dataset.image_shape,
        fingerprint=dataset.fingerprint,
        run_dir=str(member.folder),
        phases=tuple(phases),
        headline=prepared.task.headline,
        left_out=dict(Counter(one.part for one in dataset.left_out)),
    )
