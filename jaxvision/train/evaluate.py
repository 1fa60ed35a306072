"""Loss and metrics of a model over one part of the data: every example once."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import jax
from flax import nnx

from jaxvision.config import Data
from jaxvision.data import Dataset, Feed, Part, open_dataset, open_feed
from jaxvision.data.names import composed
from jaxvision.errors import DataError
from jaxvision.mesh import on_all, placed
from jaxvision.train.checkpoint import ModelCard, RestoredRun, restore_best
from jaxvision.train.exhausted import steps_in_memory
from jaxvision.train.metrics import Totals
from jaxvision.train.run_data import RunData
from jaxvision.train.step import EvalStep, make_eval_step
from jaxvision.train.task import TARGETS, Task, make_task
from jaxvision.types import Batch


class Batches(Protocol):
    """What a `Feed` has of it."""

    def batches(self, epoch: int) -> Iterator[Batch]:
        """All batches, in order."""


def evaluate_feed(task: Task, eval_step: EvalStep, variables: nnx.State, feed: Batches) -> dict[str, float]:
    """The task's metrics, {"loss": ..., ...}, over all of the feed's examples."""
    # Where the variables are from the start: sums that move after the first batch would cost a second compilation.
    zero = placed(on_all(jax.tree.leaves(variables)[0]), task.zero())
    return task.compute(sum_totals(eval_step, zero, variables, feed))


def sum_totals(eval_step: EvalStep, totals: Totals, variables: nnx.State, feed: Batches) -> Totals:
    """What a task's metrics are computed from, over all of the feed's examples, added to `totals`."""
    for batch in feed.batches(epoch=0):
        totals = eval_step(variables, totals, batch)
    return totals


@dataclass(frozen=True, eq=False)
class RunPart:
    """A run's best checkpoint, and a part of data that means the same as what it was trained on.

    name: train, validation or test; "given" of examples handed over.
    """

    restored: RestoredRun
    name: str
    part: Part
    task: Task
    settings: Data

    def feed(self) -> Feed:
        """All examples in order, in the run's evaluation batches."""
        return open_feed(
            self.part,
            batch_size=self.restored.card.run.evaluation.batch_size or self.settings.batch_size,
            seed=None,
            residence=self.settings.residence,
            resident_mb=self.settings.resident_mb,
        )


def evaluate(run_dir: str | os.PathLike[str], *, part: str = "test", data: Any = None) -> dict[str, float]:
    """Loss and metrics of a run's best checkpoint on a part of its data: "train", "validation" or "test".

    Arguments and errors as of `open_run_part`.
    """
    opened = open_run_part(run_dir, part=part, data=data)
    graph, variables = nnx.split(opened.restored.model)
    eval_step = make_eval_step(graph, opened.task, deterministic=opened.restored.card.run.deterministic)
    with steps_in_memory(opened.restored.card.run):
        return evaluate_feed(opened.task, eval_step, variables, opened.feed())


def open_run_part(run_dir: str | os.PathLike[str], *, part: str | None = None, data: Any = None) -> RunPart:
    """A run's best checkpoint and the examples to try it on.

    Args:
      part: which part of the dataset; of examples handed over there is only one. None: the validation part, or where
        there is none the test part, or else the training part.
      data: the dataset to take it from, as `jaxvision.Data`; or the examples themselves, (images, labels) arrays or
        a `tf.data.Dataset` of such pairs. None: the data that the run describes. What has changed since is reported,
        see `RunData.part`.

    Raises:
      RunFolderError: nothing trained there. DataError: the data is not there, or has other classes, pictures of another
        shape, or something else to predict. ConfigError: no such part.
    """
    restored = restore_best(run_dir)
    run = restored.card.run
    settings = data if isinstance(data, Data) else run.data
    if settings.source == "csv" and not settings.class_names:  # another table need not have rows of all classes
        settings = replace(settings, class_names=restored.card.class_names)
    if data is None or isinstance(data, Data):
        opened = RunData(run_dir, run, settings)
        _require_same(opened.whole, restored.card)
        name, examples = opened.part(part)
    else:
        # Numbers in labels and masks mean what they meant in training; nothing is set aside or limited.
        given = {"train": data, "class_names": restored.card.class_names}
        meant = ("resize", "label_offset", "ignore_label", "label_values", "mask_values", "mask_thresholds")
        size = restored.card.image_shape[:2]
        same = Data(image_size=size, **{name: getattr(run.data, name) for name in meant})
        dataset = open_dataset(same, given=given)
        _require_same(dataset, restored.card)
        name, examples = "given", dataset.train
    task = make_task(run, len(restored.card.class_names), restored.card.class_names)
    return RunPart(restored, name, examples, task, settings)


def _require_same(dataset: Dataset, card: ModelCard) -> None:
    """Other data must mean the same by its labels and have pictures of the model's shape."""
    for what, received, expected in (
        ("classes", tuple(map(composed, dataset.class_names)), tuple(map(composed, card.class_names))),
        ("pictures of shape", dataset.image_shape, card.image_shape),
        ("labels for", TARGETS[dataset.train.target.ndim][0], card.run.task),
    ):
        if received != expected:
            raise DataError(f"this run was trained on {what} {expected}. Received: data with {what} {received}")
