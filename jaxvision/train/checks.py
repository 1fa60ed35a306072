"""Whether a run, its data and its model go together: told before anything is written."""

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from jaxvision.config import Run
from jaxvision.data import Dataset
from jaxvision.data.open import chooses_target
from jaxvision.errors import ConfigError, DataError, nearest
from jaxvision.mesh import AXIS, WIDE, is_wide
from jaxvision.train.checkpoint import ModelCard
from jaxvision.train.freeze import only_in, scale_groups, select
from jaxvision.train.step import from_pictures
from jaxvision.train.task import TARGETS, Task


def require_task(run: Run, dataset: Dataset) -> None:
    """Whether the data has what the task predicts."""
    task_of_data, kind = TARGETS[dataset.train.target.ndim]
    if run.task != task_of_data:
        other = ", or data.target to something else in the data" if chooses_target(run.data.source) else ""
        if run.data.source == "csv":
            wanted = {"classification": "one", "multilabel": "any"}.get(run.task)
            other += f", or data.labels_per_image to {wanted}" if wanted else ""
        elif (run.task, task_of_data) == ("classification", "multilabel"):
            other += "; one-hot labels of one class each become class numbers by argmax(-1)"
        raise ConfigError(
            f"task: the images of {run.data.source!r} have {kind}: set task to {task_of_data}{other}."
            f" Received: task={run.task!r}"
        )


def require_examples(run: Run, dataset: Dataset, task: Task, mesh: Mesh) -> None:
    """What `serialize.check` cannot know: whether the data has what the run asks of it."""
    count = len(dataset.train.target)
    if run.data.batch_size > count:
        raise DataError(
            f"data.batch_size is larger than the training part. Received: {run.data.batch_size} with {count} examples."
            f" Make data.batch_size at most {count}."
        )
    devices = mesh.shape.get(AXIS, 1)
    if run.data.batch_size % devices:
        groups = "devices" if run.model_devices == 1 else "groups of devices"
        raise ConfigError(
            f"data.batch_size: must be a multiple of the {devices} {groups} that a batch is spread over. Set it to"
            f" {-(-run.data.batch_size // devices) * devices}, or devices to less."
            f" Received: {run.data.batch_size}, devices={run.devices}"
        )
    monitor = run.checkpoint.monitor
    if monitor is None:
        return
    part, _, metric = monitor.partition("/")
    if metric not in task.metric_names:
        raise ConfigError(
            f"checkpoint.monitor: no metric of this name.{nearest(metric, task.metric_names)} There are"
            f" {', '.join(f'{part}/{name}' for name in task.metric_names)}. Received: {monitor!r}"
        )
    if part == "validation" and dataset.validation is None:
        raise ConfigError(
            "checkpoint.monitor: the data has no validation part to choose the best checkpoint by. Set"
            " data.validation_fraction (0.1, say), or checkpoint.monitor to None to keep the last one."
            f" Received: checkpoint.monitor={monitor!r}, data.source={run.data.source!r}"
        )


def require_logits(model: nnx.Module, run: Run, card: ModelCard) -> None:
    """Whether the model's output is what the task is about: logits of a picture, or of its pixels."""
    graph, variables = nnx.split(model)
    pictures = jax.ShapeDtypeStruct((1, *card.image_shape), np.uint8)
    logits = jax.eval_shape(lambda v, x: from_pictures(nnx.merge(graph, v), x, False, None), variables, pictures)
    shape = logits.shape
    place = card.image_shape[:2] if run.task == "segmentation" else ()
    if shape != (1, *place, card.num_outputs):
        models = "segmenter or unet" if place else "any other"
        raise ConfigError(
            f"model.name: task {run.task} needs a model with logits of shape {(*place, card.num_outputs)} for a"
            f" picture; take {models}. Received: {run.model.name!r}, which gives {shape[1:]}"
        )


def require_wide(model: nnx.Module, run: Run) -> None:
    """Whether the model has what `model_devices` are for."""
    widths = [leaf.shape for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)) if len(leaf.shape) == 2]
    if run.model_devices > 1 and not any(is_wide(shape, run.model_devices) for shape in widths):
        raise ConfigError(
            f"model_devices: the model has no matrix of at least {WIDE} outputs, a multiple of model_devices, to cut;"
            f" leave it at 1. Received: {run.model_devices}, with matrices of {widths}"
        )


def require_profiled_steps(run: Run, total_steps: int) -> None:
    """Whether the run has the steps that are to be profiled."""
    if run.log.profile_steps is not None and run.log.profile_steps[0] > total_steps:
        raise ConfigError(f"log.profile_steps: the run has only {total_steps} steps. Received: {run.log.profile_steps}")


def require_selections(run: Run, model: nnx.Module) -> None:
    """Whether the model has what the phases train, before anything is written."""
    for number, phase in enumerate(run.phases):
        selection = select(model, phase, where=f"phases.{number}.trainable")
        scale_groups(model, selection, phase.groups, where=f"phases.{number}.groups")
        if run.cache_features != "off" and not only_in(selection, "head"):
            raise ConfigError(
                "cache_features: features can be kept only where the base is frozen in every phase. Set"
                f" phases.{number}.trainable to head. Received: {phase.trainable}"
            )
