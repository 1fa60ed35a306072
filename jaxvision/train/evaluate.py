"""Loss and metrics of a model over one part of the data: every example once."""

import os
from typing import Any

from flax import nnx

from jaxvision.config import Data
from jaxvision.data import Dataset, Feed, open_dataset, open_feed
from jaxvision.errors import ConfigError, DataError
from jaxvision.train.checkpoint import ModelCard, restore_best
from jaxvision.train.step import EvalStep, make_eval_step
from jaxvision.train.task import Task, make_task


def evaluate_feed(task: Task, eval_step: EvalStep, variables: nnx.State, feed: Feed) -> dict[str, float]:
    """The task's metrics, {"loss": ..., ...}, over all of the feed's examples."""
    totals = task.zero()
    for batch in feed.batches(epoch=0):
        totals = eval_step(variables, totals, batch)
    return task.compute(totals)


def evaluate(run_dir: str | os.PathLike[str], *, part: str = "test", data: Any = None) -> dict[str, float]:
    """Loss and metrics of a run's best checkpoint on a part of its data: "train", "validation" or "test".

    Args:
      part: which part of the dataset; of examples handed over there is only one.
      data: the dataset to take it from, as `jaxvision.Data`; or the examples themselves, (pictures, labels) arrays or
        a `tf.data.Dataset` of such pairs. None: the data that the run describes.

    Raises:
      RunFolderError: nothing trained there. DataError: the data is not there, or has other classes or pictures of
        another shape. ConfigError: no such part.
    """
    restored = restore_best(run_dir)
    run = restored.card.run
    settings = data if isinstance(data, Data) else run.data
    if data is None or isinstance(data, Data):
        dataset = open_dataset(settings)
    else:
        # Labels are numbers of the run's classes; nothing is set aside or limited.
        given = {"train": data, "class_names": restored.card.class_names}
        dataset, part = (
            open_dataset(Data(image_size=restored.card.image_shape[:2], resize=run.data.resize), given=given),
            "train",
        )
    parts = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    chosen = parts.get(part)
    if chosen is None:
        there = ", ".join(name for name, value in parts.items() if value is not None)
        raise ConfigError(f"part: this data has no part {part!r} to evaluate on. It has: {there}.")
    _require_same(dataset, restored.card)
    graph, variables = nnx.split(restored.model)
    feed = open_feed(
        chosen,
        batch_size=run.evaluation.batch_size or settings.batch_size,
        seed=None,
        residence=settings.residence,
        resident_mb=settings.resident_mb,
    )
    task = make_task(run, len(dataset.class_names), dataset.class_names)
    return evaluate_feed(task, make_eval_step(graph, task), variables, feed)


def _require_same(dataset: Dataset, card: ModelCard) -> None:
    """Other data must mean the same by its labels and have pictures of the model's shape."""
    for what, received, expected in (
        ("classes", dataset.class_names, card.class_names),
        ("pictures of shape", dataset.image_shape, card.image_shape),
    ):
        if received != expected:
            raise DataError(f"this run was trained on {what} {expected}. Received: data with {what} {received}")
