"""From a `Run` to a run folder and its `Result`."""

import os
import time
from collections.abc import Mapping
from typing import Any

import jax

from jaxvision.config import Run
from jaxvision.data import Dataset, Feed, open_dataset, open_feed
from jaxvision.data.parts import Part
from jaxvision.errors import ConfigError
from jaxvision.figures.curves import draw_curves
from jaxvision.serialize import check
from jaxvision.train.checkpoint import BestCheckpoint, ModelCard, restore_best
from jaxvision.train.evaluate import evaluate_feed
from jaxvision.train.folder import new_run_folder, read_metrics, write_config, write_environment
from jaxvision.train.log import RunLog
from jaxvision.train.loop import Training
from jaxvision.train.result import Result, write_result
from jaxvision.train.state import partition
from jaxvision.train.step import make_eval_step
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

    Returns: the result, which is also in the folder's result.json. Validation and test metrics are those of the best
      checkpoint as reloaded from disk. Test data takes no part in choosing it.

    Raises:
      UserError: something in the run or the data is wrong; raised before the run folder is made, except for
        NonFiniteLossError (the last good checkpoint stays) and pictures found broken while streaming.
    """
    started = time.perf_counter()
    run = check(run)
    dataset = open_dataset(run.data, given=data)
    _check_monitor(run, dataset)
    task = make_task(run, len(dataset.class_names))
    card = ModelCard(run, dataset.class_names, dataset.image_shape, task.num_outputs)
    model = card.build()
    # Opened before the folder is made: resident pictures are decoded here, and a broken one must leave nothing behind.
    train_feed = _feed(dataset.train, run, training=True)
    validation_feed = None if dataset.validation is None else _feed(dataset.validation, run)
    test_feed = None if dataset.test is None else _feed(dataset.test, run)

    folder = new_run_folder(run.name, run_dir)
    write_config(folder, run)
    write_environment(folder, run, fingerprint=dataset.fingerprint)
    total_steps = train_feed.steps_per_epoch * sum(phase.epochs for phase in run.phases)
    with (
        BestCheckpoint(folder, card) as checkpoint,
        RunLog(folder, run, total_steps=total_steps, progress=progress) as log,
    ):
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

    best = restore_best(folder)
    graph, params, stats = partition(best.model)
    eval_step = make_eval_step(graph, task)
    records = read_metrics(folder)
    at_best = next(record for record in records if record["step"] >= best.step and "train/loss" in record)
    result = Result(
        name=run.name,
        seed=run.seed,
        steps=training.step,
        epochs=training.epochs,
        best_epoch=at_best["epoch"],
        best_step=best.step,
        stop_reason=stop_reason,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(params)),
        train={name.removeprefix("train/"): value for name, value in at_best.items() if name.startswith("train/")},
        validation=None if validation_feed is None else evaluate_feed(eval_step, params, stats, validation_feed),
        test=None if test_feed is None else evaluate_feed(eval_step, params, stats, test_feed),
        seconds=round(time.perf_counter() - started, 1),
        class_names=dataset.class_names,
        image_shape=dataset.image_shape,
        fingerprint=dataset.fingerprint,
        run_dir=str(folder),
    )
    draw_curves(records, folder / "curves.png", run.name, best_step=best.step)
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


def _check_monitor(run: Run, dataset: Dataset) -> None:
    monitor = run.checkpoint.monitor
    if monitor is not None and monitor.startswith("validation/") and dataset.validation is None:
        raise ConfigError(
            "checkpoint.monitor: the data has no validation part to choose the best checkpoint by. Set"
            " data.validation_fraction (0.1, say), or checkpoint.monitor to None to keep the last one."
            f" Received: checkpoint.monitor={monitor!r}, data.source={run.data.source!r}"
        )
