"""Whether a run, its data and its model go together: told before anything is written."""

import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from jaxvision.config import PARTS, Run
from jaxvision.data import Dataset
from jaxvision.data.open import chooses_target
from jaxvision.data.parts import ArrayPart, Target
from jaxvision.errors import ConfigError, DataError, UserError, nearest
from jaxvision.mesh import AXIS, WIDE, is_wide
from jaxvision.models.registry import errors_of
from jaxvision.nn.mode import evaluated
from jaxvision.train.checkpoint import ModelCard
from jaxvision.train.freeze import only_in, scale_groups, select
from jaxvision.train.state import TrainState
from jaxvision.train.step import from_pictures, make_gradients
from jaxvision.train.task import TARGETS, Task
from jaxvision.types import Batch

CHUNK = 64
"""Examples, or masks, looked at in one go."""


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


def require_examples(run: Run, dataset: Dataset, mesh: Mesh) -> None:
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


def require_monitor(run: Run, dataset: Dataset, task: Task, *, repeats: bool) -> None:
    """Whether the monitored metric can be measured, and its direction is the metric's.

    repeats: a run that was begun before is resumed or done again: it goes on as it began, with a warning.
    """
    monitor = run.checkpoint.monitor
    if monitor is None:
        return
    part, _, metric = monitor.partition("/")
    if metric not in task.directions:
        raise ConfigError(
            f"checkpoint.monitor: no metric of this name.{nearest(metric, task.directions)} There are"
            f" {', '.join(f'{part}/{name}' for name in task.directions)}. Received: {monitor!r}"
        )
    if part == "validation" and dataset.validation is None:
        raise ConfigError(
            "checkpoint.monitor: the data has no validation part to choose the best checkpoint by. Set"
            " data.validation_fraction (0.1, say), or checkpoint.monitor to None to keep the last one."
            f" Received: checkpoint.monitor={monitor!r}, data.source={run.data.source!r}"
        )
    direction, better = run.checkpoint.direction, task.directions[metric]
    if direction not in ("auto", better):
        fault = (
            f"checkpoint.direction: of {monitor} {'larger' if better == 'max' else 'smaller'} values are better, and"
            f" {direction} keeps the worst checkpoint. Set it to auto or {better}. Received: {direction!r}"
        )
        _refuse_or_warn(ConfigError, fault, warns=repeats)
    examined = dataset.train if part == "train" else dataset.validation
    assert examined is not None
    _, _, class_name = metric.partition("/")
    if class_name:
        what, classes, other = f"class {class_name!r}", [dataset.class_names.index(class_name)], task.headline
    elif run.task == "multilabel" and metric != "loss":
        what, classes, other = "any class", [*range(len(dataset.class_names))], "loss"
    else:
        return
    if not _has_example(examined.target, classes):
        fault = (
            f"checkpoint.monitor: the {part} part has no example of {what}, so {monitor} cannot be measured on it."
            f" Monitor {part}/{other}, or give that part such examples. Received: {monitor!r}"
        )
        _refuse_or_warn(DataError, fault, warns=repeats)


def _refuse_or_warn(kind: type[UserError], fault: str, *, warns: bool) -> None:
    if not warns:
        raise kind(fault)
    warnings.warn(f"{fault}. The run was begun like this, and goes on as it was begun.", stacklevel=2)


def _has_example(target: Target, classes: Sequence[int]) -> bool:
    """Whether an example, or a pixel of a mask, is of one of the classes. Masks are read until one is."""
    for start in range(0, len(target), CHUNK):
        rows = np.asarray(target[start : start + CHUNK])
        if np.any(rows[:, classes] > 0.5 if target.ndim == 2 else np.isin(rows, classes)):
            return True
    return False


def require_weights(run: Run, dataset: Dataset) -> None:
    """Whether examples of each part count in the loss, where some classes do not."""
    counted = [number for number, weight in enumerate(run.loss.class_weights) if weight]
    if len(counted) == len(run.loss.class_weights) or run.task == "multilabel":
        return
    for name in PARTS:
        part = getattr(dataset, name)
        if part is not None and not _has_example(part.target, counted):
            raise DataError(
                f"loss.class_weights: all examples of the {name} part are of classes of weight 0, so it has no loss."
                f" Give one of its classes a weight. Received: {run.loss.class_weights}"
            )


def require_logits(model: nnx.Module, run: Run, card: ModelCard) -> None:
    """Whether the model's output is what the task is about: logits of a picture, or of its pixels.

    Of a user's model also warns where its output is no logits but probabilities, where a prediction changes what the
    model stores, and where it does not compute in the run's precision.
    """
    graph, variables = nnx.split(model)
    pictures = jax.ShapeDtypeStruct((1, *card.image_shape), np.uint8)

    def predict(variables: nnx.State, pictures: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
        logits, after = evaluated(nnx.merge(graph, variables), pictures)
        _require_logits_of(logits, 1, run, card)
        return logits, after

    with errors_of(run.model.name, "it was called with an image, in evaluation"):
        if not _is_users(run):
            jax.eval_shape(predict, variables, pictures)
            return
        program, (_, after) = jax.make_jaxpr(predict, return_shape=True)(variables, pictures)
    program = program.jaxpr
    # Of a value that a transformation such as nnx.remat has only handed on, the origin is an input of the program.
    origins = dict(zip(sorted(after), (_made(program, out)[1] for out in program.outvars[1:]), strict=True))
    if changed := [name for name, made in origins.items() if made is not None]:
        warnings.warn(
            f"model.name: a prediction of {run.model.name!r} changes {', '.join(changed[:3])}: it draws random numbers"
            " or uses statistics of the batch, and so metrics and predictions depend on chance or on what else is in"
            " the batch. nnx.Dropout and nnx.BatchNorm are switched by training: call them without deterministic and"
            " use_running_average, or with what the model's call gets (train, training or deterministic).",
            stacklevel=2,
        )
    if last := last_activation(program):
        warnings.warn(
            f"model.name: {run.model.name!r} ends with a {last}, but its output is used as logits: the loss applies"
            f" a {'sigmoid' if run.task == 'multilabel' or card.num_outputs == 1 else 'softmax'} itself. Return what"
            f" goes into the {last}.",
            stacklevel=2,
        )
    if run.precision != "float32" and not _computes_in(program, run.precision):
        warnings.warn(
            f"precision: {run.model.name!r} computes nothing in {run.precision}. Pass the dtype that it is created with"
            " on to its layers (nnx.Linear(..., dtype=dtype)), or set precision to float32.",
            stacklevel=2,
        )


def require_steps(model: nnx.Module, run: Run, card: ModelCard, task: Task, dataset: Dataset) -> None:
    """Whether a user's model can be trained, in each phase: its steps are traced, and nothing is computed. Warns of
    parameters of low precision."""
    if not _is_users(run):
        return

    def forward(model: nnx.Module, inputs: Any, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
        logits = from_pictures(model, inputs, train, rngs)
        _require_logits_of(logits, len(inputs), run, card)
        return logits

    size, part = run.data.batch_size, dataset.train
    inputs: Any = part.inputs if isinstance(part, ArrayPart) else part
    shapes = ((*card.image_shape,), inputs.dtype), (part.target.shape[1:], part.target.dtype), ((), np.bool_)
    arrays: list[Any] = [jax.ShapeDtypeStruct((size, *shape), dtype) for shape, dtype in shapes]
    batch = Batch(*arrays)
    low: dict[str, str] = {}
    for number, phase in enumerate(run.phases):
        whole = nnx.merge(*nnx.split(model))
        selection = select(whole, phase, where=f"phases.{number}.trainable")
        selection.apply(whole)
        graph, params, rest = nnx.split(whole, selection, ...)  # type: ignore[misc]
        for path, param in nnx.to_flat_state(params):
            name = "/".join(map(str, path))
            if not jnp.issubdtype(param.dtype, jnp.floating):
                raise ConfigError(
                    f"phases.{number}.trainable: parameters that are trained are floating-point numbers. Hold {name} in"
                    f" an nnx.Variable, or leave it out of what is trained. Received: {param.dtype}"
                )
            if jnp.finfo(param.dtype).bits < 32:
                low[name] = str(param.dtype)
        state = TrainState(jnp.int32(0), params, rest, optax.EmptyState(), None, task.zero(), jax.random.key(0))
        with errors_of(run.model.name, f"it was called with a batch of {size} images, in training"):
            jax.eval_shape(make_gradients(graph, task, run, forward), state, batch, jax.random.key(0))
    if low:
        name = next(iter(low))
        warnings.warn(
            f"model.name: {len(low)} parameters of {run.model.name!r} are of low precision, in which small updates are"
            f" lost. Keep param_dtype at float32; dtype and the run's precision say what it computes in. Received:"
            f" {name} of {low[name]}",
            stacklevel=2,
        )


def _require_logits_of(logits: Any, count: int, run: Run, card: ModelCard) -> None:
    place = card.image_shape[:2] if run.task == "segmentation" else ()
    models = "segmenter or unet" if place else "any other"
    expected = (*place, card.num_outputs)
    received = f"{run.model.name!r}, which gives"
    if not isinstance(logits, jax.Array):
        raise ConfigError(
            f"model.name: a model gives one array, its logits of shape {(count, *expected)} for {count} images."
            f" Received: {received} a {type(logits).__name__}"
        )
    if logits.shape[:1] == (count,) and logits.shape != (count, *expected):
        raise ConfigError(
            f"model.name: task {run.task} needs a model with logits of shape {expected} for a picture; take {models}."
            f" Received: {received} {logits.shape[1:]}"
        )
    if logits.shape != (count, *expected):
        raise ConfigError(
            f"model.name: a model gives logits for each of its images, {(count, *expected)} for {count}. Received:"
            f" {received} {logits.shape}"
        )
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise ConfigError(f"model.name: logits are floating-point numbers. Received: {received} {logits.dtype}")


def _is_users(run: Run) -> bool:
    return ":" in run.model.name


def last_activation(program: Any) -> str | None:
    """The softmax or sigmoid that the first output of a program (a jaxpr) comes from."""
    within, made, _ = _made(program, program.outvars[0], _PASSED_OVER)
    if made is None:
        return None
    if made.primitive.name == "logistic":
        return "sigmoid"
    if made.primitive.name != "div":
        return None
    _, above, _ = _made(within, made.invars[0], _PASSED_OVER)
    return "softmax" if above is not None and above.primitive.name == "exp" else None


def _made(program: Any, variable: Any, passed_over: Sequence[str] = ()) -> tuple[Any, Any, Any]:
    """Where a variable of a jaxpr comes from: the jaxpr, the equation and the variable that it gives; no equation for
    an input or a constant. Calls of functions are followed, and equations `passed_over` to their largest input."""
    while True:
        made = next((each for each in program.eqns if any(out is variable for out in each.outvars)), None)
        if made is None:
            return program, None, variable
        if made.primitive.name in _CALLS:
            inner = next(each for each in made.params.values() if hasattr(getattr(each, "jaxpr", each), "eqns"))
            inner, place = getattr(inner, "jaxpr", inner), [out is variable for out in made.outvars].index(True)
            within, above, variable = _made(inner, inner.outvars[place], passed_over)
            if above is not None:
                return within, above, variable
            given = [each is variable for each in inner.invars]
            if True not in given:
                return program, None, variable
            variable = made.invars[given.index(True)]
        elif made.primitive.name in passed_over:
            variable = max((each for each in made.invars if not hasattr(each, "val")), key=lambda each: each.aval.ndim)
        else:
            return program, made, variable


_CALLS = ("jit", "pjit", "closed_call", "checkpoint", "remat", "remat2", "custom_jvp_call", "custom_vjp_call")
_PASSED_OVER = ("convert_element_type", "reshape", "squeeze", "broadcast_in_dim", "transpose", "max", "min", "clamp")


def _computes_in(program: Any, precision: str) -> bool:
    """Whether any operation of a jaxpr gives numbers of this type."""
    for equation in program.eqns:
        if any(str(getattr(out.aval, "dtype", "")) == precision for out in equation.outvars):
            return True
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns") and _computes_in(inner, precision):
                return True
    return False


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
