"""From a `Run` to a run folder and its `Result`."""

import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
from etils import epath
from flax import nnx

from jaxvision.config import Run
from jaxvision.data import Dataset, Feed, open_dataset, open_feed
from jaxvision.data.parts import Part
from jaxvision.errors import DataError, OutOfMemoryError, StoppedError
from jaxvision.figures.curves import draw_curves
from jaxvision.mesh import batch_mesh, on_each
from jaxvision.serialize import check
from jaxvision.train.checkpoint import BestCheckpoints, ModelCard, restore_best
from jaxvision.train.checks import (
    require_examples,
    require_logits,
    require_profiled_steps,
    require_selections,
    require_task,
)
from jaxvision.train.compilation import keep_compiled
from jaxvision.train.evaluate import evaluate_feed
from jaxvision.train.exhausted import pictures_in_memory, steps_in_memory
from jaxvision.train.features import with_features
from jaxvision.train.folder import new_run_folder, read_metrics, require_free, write_config, write_environment
from jaxvision.train.initial import load_initial_weights
from jaxvision.train.lock import RunLock
from jaxvision.train.log import RunLog, require_wandb
from jaxvision.train.loop import Training
from jaxvision.train.memory import keep_memory
from jaxvision.train.result import PhaseResult, Result, read_result, write_left_out, write_result
from jaxvision.train.resume import begun_run, default_folder, take_up
from jaxvision.train.saving import writing_run
from jaxvision.train.signals import StopSignal
from jaxvision.train.step import from_features, from_pictures
from jaxvision.train.task import Task, make_task
from jaxvision.train.training_state import StoredState, TrainingStates


def fit(
    run: Run,
    *,
    run_dir: str | os.PathLike[str] | None = None,
    data: Mapping[str, Any] | None = None,
    progress: bool = True,
    resume: bool = False,
) -> Result:
    """Trains a run, tests its best checkpoint, and leaves everything in a run folder.

    Args:
      run: what to do; see `jaxvision.config.Run`.
      run_dir: a new folder; None: runs/NAME, or runs/NAME-2 and so on where that exists.
      data: {"train": X, "validation": X, "test": X} in place of `run.data.source`; X is (pictures, labels) arrays or
        a `tf.data.Dataset` of such pairs; all but "train" may be left out.
      progress: print a progress bar, or a line per epoch where the output is not a terminal.
      resume: go on with the run in `run_dir` (None: runs/NAME) from the newest training state, to the same parameters
        and metrics.jsonl as if it had never stopped, bit for bit where devices and versions are the same; begin it
        where there is none yet; give the result where it is done.

    SIGTERM and Ctrl-C stop the run after the step that is going on, and save what it takes to resume it. On a CPU this
    process keeps the memory it frees from then on (`jaxvision.train.memory`).

    Returns: the result, which is also in the folder's result.json. Validation and test metrics are those of the best
      checkpoint as reloaded from disk. Test data takes no part in choosing it.

    Raises:
      UserError: something in the run or the data is wrong; no run folder is left. Only NonFiniteLossError, a streamed
        picture found broken later, a device that runs out of memory later and a disk that is full leave one, with the
        last good checkpoint and the curves so far.
      StoppedError (a KeyboardInterrupt): a signal stopped the run.
    """
    started = time.perf_counter()
    keep_memory()
    run = check(run)
    if data is not None:
        # Written down, so that nobody later takes the run's data for those of a named source.
        run = replace(run, data=replace(run.data, source="given", path=None, target=None))
    require_wandb(run)
    keep_compiled()
    begun = begun_run(run, run_dir) if resume else None
    if begun is not None and (begun / "result.json").exists():
        return read_result(begun)
    if begun is None and resume and run_dir is None:
        run_dir = default_folder(run)  # where the next --resume looks for it, not beside it
    if begun is None and run_dir is not None:
        require_free(run_dir)  # before minutes go into decoding
    ready = _prepare(run, data, progress)
    folder = new_run_folder(run.name, run_dir) if begun is None else begun
    try:
        with writing_run(folder), RunLock(folder):
            if begun is not None and (begun / "result.json").exists():  # another process has just finished it
                return read_result(begun)
            return _train(ready, folder, progress=progress, started=started, begun=begun is not None)
    except StoppedError as stopped:
        again = f"jaxvision train {folder}/config.json --run-dir {folder} --resume"
        if data is not None:
            again = f'fit(run, run_dir="{folder}", data=..., resume=True)'
        raise StoppedError(stopped.signal, f"{stopped} Go on with: {again}") from None


@dataclass(frozen=True, eq=False)
class _Ready:
    """All that a run needs, checked, before its folder is touched."""

    run: Run
    dataset: Dataset
    task: Task
    card: ModelCard
    model: nnx.Module
    train_feed: Feed
    validation_feed: Feed | None
    test_feed: Feed | None

    @property
    def total_steps(self) -> int:
        return self.train_feed.steps_per_epoch * sum(phase.epochs for phase in self.run.phases)


def _prepare(run: Run, data: Mapping[str, Any] | None, progress: bool) -> _Ready:
    dataset = open_dataset(run.data, given=data)
    require_task(run, dataset)
    task = make_task(run, len(dataset.class_names), dataset.class_names)
    require_examples(run, dataset, task)
    card = ModelCard(run, dataset.class_names, dataset.image_shape, task.num_outputs)
    model = card.build()
    require_logits(model, run, card)
    load_initial_weights(model, run, task.num_outputs)
    require_selections(run, model)
    dataset = with_features(dataset, model, run, progress=progress)
    # Opened before the folder is made: resident pictures are decoded here, and a broken one must leave nothing behind.
    with pictures_in_memory(run):
        ready = _Ready(
            run=run,
            dataset=dataset,
            task=task,
            card=card,
            model=model,
            train_feed=_feed(dataset.train, run, training=True),
            validation_feed=None if dataset.validation is None else _feed(dataset.validation, run),
            test_feed=None if dataset.test is None else _feed(dataset.test, run),
        )
    require_profiled_steps(run, ready.total_steps)
    return ready


def _train(ready: _Ready, folder: epath.Path, *, progress: bool, started: float, begun: bool) -> Result:
    """The run in its folder, from the start or from where it stands."""
    run = ready.run
    if begun:
        stored = take_up(folder, run, ready.dataset.fingerprint)
    else:
        stored = None
        write_config(folder, run)
        write_environment(folder, run, fingerprint=ready.dataset.fingerprint)
    write_left_out(folder, ready.dataset.left_out)
    with BestCheckpoints(folder, ready.card) as checkpoints:
        return _train_and_test(ready, folder, stored, checkpoints, progress=progress, started=started)


def _train_and_test(
    ready: _Ready,
    folder: epath.Path,
    stored: StoredState | None,
    checkpoints: BestCheckpoints,
    *,
    progress: bool,
    started: float,
) -> Result:
    run, place = ready.run, None if stored is None else stored.place
    started -= 0.0 if place is None else place.seconds
    try:
        with (
            steps_in_memory(run),
            StopSignal() as stop,
            TrainingStates(folder) as states,
            RunLog(
                folder,
                run,
                total_steps=ready.total_steps,
                start_step=0 if place is None else place.step,
                records=0 if place is None else place.records,
                progress=progress,
                started=started,
            ) as log,
        ):
            training = Training(
                run,
                model=ready.model,
                task=ready.task,
                num_classes=len(ready.dataset.class_names),
                train_feed=ready.train_feed,
                validation_feed=ready.validation_feed,
                checkpoints=checkpoints,
                log=log,
                forward=from_features if run.cache_features == "all" else from_pictures,
                eval_forward=from_pictures if run.cache_features == "off" else from_features,
                states=states,
                stop=stop,
                started=started,
            )
            stop_reason = training.train(stored)
    except (DataError, OutOfMemoryError):
        # A broken picture in a streamed dataset; a folder with nothing saved is of no use to anyone.
        if stored is None and not any(folder.glob("*/*/MANIFEST.json")):
            folder.rmtree()
        raise
    finally:
        records = read_metrics(folder) if folder.exists() else []
        if records:
            best_step = None if checkpoints.best is None else checkpoints.best.step
            of_phases = [saved.step for number in range(len(run.phases)) if (saved := checkpoints.of_phase(number))]
            draw_curves(records, folder / "curves.png", run.name, best_step=best_step, best_of_phases=of_phases)
    result = _tested(ready, folder, training, stop_reason, records, checkpoints, started)
    states.remove()
    checkpoints.finish()
    return result


def _tested(
    ready: _Ready,
    folder: epath.Path,
    training: Training,
    stop_reason: str,
    records: list[dict[str, Any]],
    checkpoints: BestCheckpoints,
    started: float,
) -> Result:
    """The best checkpoint, read back from disk, on validation and test parts; also in result.json."""
    run, best = ready.run, restore_best(folder)
    variables = on_each(batch_mesh(run.devices), nnx.state(best.model))

    def test(feed: Feed | None) -> dict[str, float] | None:
        return None if feed is None else evaluate_feed(ready.task, training.eval_step, variables, feed)

    epochs = [record for record in records if "train/loss" in record]
    at_best = next(record for record in epochs if record["step"] >= best.step)
    result = Result(
        name=run.name,
        seed=run.seed,
        steps=training.step,
        epochs=training.epochs,
        best_epoch=epochs.index(at_best) + 1,
        best_step=best.step,
        stop_reason=stop_reason,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(nnx.state(best.model, nnx.Param))),
        train={name.removeprefix("train/"): value for name, value in at_best.items() if name.startswith("train/")},
        validation=test(ready.validation_feed),
        test=test(ready.test_feed),
        seconds=round(time.perf_counter() - started, 1),
        class_names=ready.dataset.class_names,
        image_shape=ready.dataset.image_shape,
        fingerprint=ready.dataset.fingerprint,
        run_dir=str(folder),
        phases=tuple(_phase_result(number, epochs, checkpoints) for number in range(len(run.phases))),
        headline=ready.task.headline,
        left_out=dict(Counter(one.part for one in ready.dataset.left_out)),
    )
    write_result(folder, result)
    return result


def _phase_result(number: int, epochs: list[dict[str, Any]], checkpoints: BestCheckpoints) -> PhaseResult:
    saved = checkpoints.of_phase(number)
    assert saved is not None
    count = sum(record["phase"] == number for record in epochs)
    return PhaseResult(epochs=count, best_step=saved.step, best_value=saved.value)


def _feed(part: Part, run: Run, *, training: bool = False) -> Feed:
    if training:
        batch_size, seed = run.data.batch_size, run.seed
    else:
        batch_size, seed = run.evaluation.batch_size or run.data.batch_size, None
    return open_feed(
        part,
        batch_size=batch_size,
        seed=seed,
        residence=run.data.residence,
        resident_mb=run.data.resident_mb,
        shuffle=run.data.shuffle,
        mesh=batch_mesh(run.devices),
    )
