"""All that a run needs, or several runs trained together, checked before a run folder is touched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from jaxvision.bucket import expanded
from jaxvision.config import Run
from jaxvision.data import Dataset, Feed, open_dataset, open_feed
from jaxvision.data.examples import record_of
from jaxvision.data.feed import ResidentFeed
from jaxvision.data.parts import Part
from jaxvision.data.plausible import require_images
from jaxvision.data.shown import require_shown
from jaxvision.errors import ConfigError
from jaxvision.mesh import batch_mesh, member_mesh
from jaxvision.processes import is_writer, process_count, writer_first
from jaxvision.serialize import check
from jaxvision.train.alike import require_same_data_in_all
from jaxvision.train.averages import warn_of_averaged_weights, warn_of_batch_norm
from jaxvision.train.checkpoint import ModelCard
from jaxvision.train.checks import (
    require_examples,
    require_logits,
    require_monitor,
    require_profiled_steps,
    require_selections,
    require_steps,
    require_task,
    require_weights,
    require_wide,
)
from jaxvision.train.exhausted import pictures_in_memory
from jaxvision.train.features import with_features
from jaxvision.train.initial import load_initial_weights
from jaxvision.train.log import require_wandb
from jaxvision.train.run_data import read_examples, warn_of_training
from jaxvision.train.task import Task, make_task
from jaxvision.train.vectorize import alike


@dataclass(frozen=True, eq=False)
class Prepared:
    """runs: alike but for their seeds, names and numbers that may vary; with a card and a fresh model each.
    examples: of each part, as examples.json.gz is to say, on process 0."""

    runs: Sequence[Run]
    cards: Sequence[ModelCard]
    models: Sequence[nnx.Module]
    dataset: Dataset
    task: Task
    mesh: Mesh
    train_feed: Feed
    validation_feed: Feed | None
    test_feed: Feed | None
    examples: bytes | None

    @property
    def total_steps(self) -> int:
        return self.train_feed.steps_per_epoch * sum(phase.epochs for phase in self.runs[0].phases)


def described(run: Run, data: Mapping[str, Any] | None) -> Run:
    """The run as its folder is to say it.

    Raises: ConfigError: something in it is wrong.
    """
    run = check(run)
    if data is not None:
        # Written down, so that nobody later takes the run's data for those of a named source.
        run = replace(run, data=replace(run.data, source="given", path=None, target=None))
    require_wandb(run)
    return run


def prepare(runs: Sequence[Run], data: Mapping[str, Any] | None, *, progress: bool, repeats: bool = False) -> Prepared:
    """Opens the data and builds the models. repeats: as of `require_monitor`.

    Raises: UserError: something in the runs or the data is wrong, or the runs cannot be trained together.
    """
    run = runs[0]
    dataset = open_dataset(run.data, given=data)
    require_same_data_in_all(dataset)
    require_task(run, dataset)
    require_shown(dataset, run.data)
    require_images(dataset)
    task = make_task(run, len(dataset.class_names), dataset.class_names)
    mesh = batch_mesh(run.devices, run.model_devices)
    if len(runs) > 1:
        mesh = member_mesh(run.devices, len(runs))
        _require_whole_batches(run)
    require_examples(run, dataset, mesh)
    require_monitor(run, dataset, task, repeats=repeats)
    require_weights(run, dataset)
    cards = [ModelCard(each, dataset.class_names, dataset.image_shape, task.num_outputs) for each in runs]
    models = [_model(card, task) for card in cards]
    require_selections(run, models[0])
    require_steps(models[0], run, cards[0], task, dataset)
    if len(runs) > 1:
        alike(cards)
        _require_same_base(runs, models)
    # Opened before a folder is made: resident pictures are decoded here, and a broken one must leave nothing behind.
    with pictures_in_memory(run), writer_first():
        images = dataset  # as it was before features take the place of its images
        dataset = with_features(dataset, models[0], run, progress=progress and is_writer())
        prepared = Prepared(
            runs=runs,
            cards=cards,
            models=models,
            dataset=dataset,
            task=task,
            mesh=mesh,
            train_feed=_feed(dataset.train, run, mesh, training=True),
            validation_feed=None if dataset.validation is None else _feed(dataset.validation, run, mesh),
            test_feed=None if dataset.test is None else _feed(dataset.test, run, mesh),
            examples=_examples(images, run) if is_writer() else None,
        )
    if len(runs) > 1 and not isinstance(prepared.train_feed, ResidentFeed):
        raise ConfigError(
            "data.residence: runs are trained together only on pictures that stay on the device, which each sees in its"
            f" own order. Set data.residence to device, or data.resident_mb to more, or train them one by one."
            f" Received: data.residence={run.data.residence}, data.resident_mb={run.data.resident_mb}"
        )
    require_profiled_steps(run, prepared.total_steps)
    if is_writer():
        warn_of_batch_norm(run, models[0], prepared.train_feed.steps_per_epoch)
        for each in runs:
            warn_of_averaged_weights(each, prepared.train_feed.steps_per_epoch)
    return prepared


def _examples(dataset: Dataset, run: Run) -> bytes:
    """As examples.json.gz keeps them. Warns where the run that this one starts from was trained on held-out ones."""
    record = record_of(dataset)
    if run.model.init_from is not None and (before := read_examples(expanded(run.model.init_from))) is not None:
        for name in {*record.parts} & {"validation", "test"}:
            warn_of_training(before, run.model.init_from, record.parts[name], name)
    return record.packed()


def _model(card: ModelCard, task: Task) -> nnx.Module:
    model = card.build()
    require_logits(model, card.run, card)
    require_wide(model, card.run)
    load_initial_weights(model, card.run, task.num_outputs)
    return model


def _require_whole_batches(run: Run) -> None:
    if process_count() > 1:
        raise ConfigError(
            "runs trained together are trained by one process, on the devices of one host. Start it without"
            f" --distributed. Received: {process_count()} processes"
        )
    if run.model_devices > 1:
        raise ConfigError(
            "model_devices: of runs trained together each is on one device. Leave it at 1, or train them one by one."
            f" Received: {run.model_devices}"
        )


def _require_same_base(runs: Sequence[Run], models: Sequence[nnx.Module]) -> None:
    """Features are kept for one base."""
    if runs[0].cache_features == "off" or not hasattr(models[0], "base"):
        return
    first = jax.tree.leaves(nnx.state(models[0].base, nnx.Not(nnx.RngState)))
    for model in models[1:]:
        others = jax.tree.leaves(nnx.state(model.base, nnx.Not(nnx.RngState)))  # type: ignore[attr-defined]
        if not all(np.array_equal(a, b) for a, b in zip(first, others, strict=True)):
            raise ConfigError(
                "cache_features: runs are trained together on the features of one base, and these have other weights"
                " each. Set model.weights or model.init_from, or cache_features to off. Received:"
                f" cache_features={runs[0].cache_features}"
            )


def _feed(part: Part, run: Run, mesh: Mesh, *, training: bool = False) -> Feed:
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
        mesh=mesh,
    )
