"""From a `Run` to a run folder and its `Result`."""

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax

from jaxvision.config import Run
from jaxvision.data import Dataset, Feed, open_dataset, open_feed
from jaxvision.data.parts import Part
from jaxvision.errors import ConfigError, DataError, nearest
from jaxvision.figures.curves import draw_curves
from jaxvision.serialize import check
from jaxvision.train.checkpoint import BestCheckpoint, ModelCard, restore_best
from jaxvision.train.compilation import keep_compiled
from jaxvision.train.evaluate import evaluate_feed
from jaxvision.train.folder import new_run_folder, read_metrics, require_free, write_config, write_environment
from jaxvision.train.log import RunLog, require_wandb
from jaxvision.train.loop import Training
from jaxvision.train.memory import keep_memory
from jaxvision.train.metrics import METRIC_NAMES
from jaxvision.train.result import Result, write_result
from jaxvision.train.state import partition
from jaxvision.train.task import make_task


def fit(
    run: Run,
    *,
    run_dir: str | os.PathLike[str] | None = None,
    data: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Result:
    """Trains a run, tests its best checkpoint, and leaves everything in a run folder.

    Args:
      run: what to do; see `jaxvision.config.Run`.
      run_dir: a new folder; None: runs/NAME, or runs/NAME-2 and so on where that exists.
      data: {"train": X, "validation": X, "test": X} in place of `run.data.source`; X is (pictures, labels) arrays or
        a `tf.data.Dataset` of such pairs; all but "train" may be left out.
      progress: print a progress bar, or a line per epoch where the output is not a terminal.

    On a CPU this process keeps the memory it frees from then on (`jaxvision.train.memory`).

    Returns: the result, which is also in the folder's result.json. Validation and test metrics are those of the best
      checkpoint as reloaded from disk. Test data takes no part in choosing it.

    Raises:
      UserError: something in the run or the data is wrong; no run folder is left. Only NonFiniteLossError, and a
        streamed picture found broken later, leave one, with the last good checkpoint and the curves so far.
    """
    started = time.perf_counter()
    keep_memory()
    run = check(run)
    if data is not None:
        # Written down, so that nobody later takes the run's data for those of a named source.
        run = replace(run, data=replace(run.data, source="given", path=None))
    require_wandb(run)
    keep_compiled()
    if run_dir is not None:
        require_free(run_dir)  # before minutes go into decoding
    dataset = open_dataset(run.data, given=data)
    _check_against_data(run, dataset)
    task = make_task(run, len(dataset.class_names))
    card = ModelCard(run, dataset.class_names, dataset.image_shape, task.num_outputs)
    model = card.build()
    # Opened before the folder is made: resident pictures are decoded here, and a broken one must leave nothing behind.
    train_feed = _feed(dataset.train, run, training=True)
    validation_feed = None if dataset.validation is None else _feed(dataset.validation, run)
    test_feed = None if dataset.test is None else _feed(dataset.test, run)
    total_steps = train_feed.steps_per_epoch * sum(phase.epochs for phase in run.phases)
    _check_profile(run, total_steps)

    folder = new_run_folder(run.name, run_dir)
    write_config(folder, run)
    write_environment(folder, run, fingerprint=dataset.fingerprint)
    checkpoint = BestCheckpoint(folder, card)
    try:
        with checkpoint, RunLog(folder, run, total_steps=total_steps, progress=progress, started=started) as log:
            training = Training(
                run,
                model=model,
                task=task,
                num_classes=len(dataset.class_names),
                train_feed=train_feed,
                validation_feed=validation_feed,
                checkpoint=checkpoint,
                log=log,
            )
            stop_reason = training.train()
    except DataError:
        # A broken picture in a streamed dataset; a folder without a checkpoint is of no use to anyone.
        if checkpoint.step is None:
            folder.rmtree()
        raise
    finally:
        records = read_metrics(folder) if folder.exists() else []
        if records:
            draw_curves(records, folder / "curves.png", run.name, best_step=checkpoint.step)

    best = restore_best(folder)
    _, params, stats = partition(best.model)

    def test(feed: Feed | None) -> dict[str, float] | None:
        return None if feed is None else evaluate_feed(training.eval_step, params, stats, feed)

    at_best = next(record for record in records if record["step"] >= best.step and "train/loss" in record)
    result = Result(
        name=run.name,
        seed=run.seed,
        steps=training.step,
        epochs=training.epochs,
        best_epoch=at_best["epoch"] + sum(phase.epochs for phase in run.phases[: at_best["phase"]]),
        best_step=best.step,
        stop_reason=stop_reason,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(params)),
        train={name.removeprefix("train/"): value for name, value in at_best.items() if name.startswith("train/")},
        validation=test(validation_feed),
        test=test(test_feed),
        seconds=round(time.perf_counter() - started, 1),
        class_names=dataset.class_names,
        image_shape=dataset.image_shape,
        fingerprint=dataset.fingerprint,
        run_dir=str(folder),
    )
    write_result(folder, result)
    return result


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
    )


def _check_against_data(run: Run, dataset: Dataset) -> None:
    """What `serialize.check` cannot know: whether the data has what the run asks of it."""
    count = len(dataset.train.target)
    if run.data.batch_size > count:
        raise DataError(
            f"data.batch_size is larger than the training part. Received: {run.data.batch_size} with {count} examples."
            f" Make data.batch_size at most {count}."
        )
    monitor = run.checkpoint.monitor
    if monitor is None:
        return
    part, _, metric = monitor.partition("/")
    if metric not in METRIC_NAMES:
        raise ConfigError(
            f"checkpoint.monitor: no metric of this name.{nearest(metric, METRIC_NAMES)} There are"
            f" {', '.join(f'{part}/{name}' for name in METRIC_NAMES)}. Received: {monitor!r}"
        )
    if part == "validation" and dataset.validation is None:
        raise ConfigError(
            "checkpoint.monitor: the data has no validation part to choose the best checkpoint by. Set"
            " data.validation_fraction (0.1, say), or checkpoint.monitor to None to keep the last one."
            f" Received: checkpoint.monitor={monitor!r}, data.source={run.data.source!r}"
        )


def _check_profile(run: Run, total_steps: int) -> None:
    if run.log.profile_steps is not None and run.log.profile_steps[0] > total_steps:
        raise ConfigError(f"log.profile_steps: the run has only {total_steps} steps. Received: {run.log.profile_steps}")
