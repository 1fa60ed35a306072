"""Where a run's weights start: fresh, published, from a file, or from another run."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx

from jaxvision.config import Run
from jaxvision.errors import ConfigError
from jaxvision.train.checkpoint import restore_best
from jaxvision.weights import load_keras_weights, published_file
from jaxvision.weights.port import OtherHeadError

IMAGENET_CLASSES = 1000


def load_initial_weights(model: nnx.Module, run: Run, num_outputs: int) -> None:
    """Fills `model`, fresh from its builder, with what `run.model` says it starts from.

    With `reinit_head` the head keeps its fresh values, whatever the file or the run has there.

    Raises:
      UserError: no such file or run, or its tensors are not the model's; `model` is then unchanged.
    """
    settings = run.model
    if settings.weights is not None:
        is_published = settings.weights == "imagenet"
        name = getattr(model, "encoder", settings.name)  # of a U-Net the encoder alone is published
        fits = num_outputs == IMAGENET_CLASSES and name == settings.name
        if is_published and not settings.reinit_head and not fits:
            raise ConfigError(  # before half a gigabyte is fetched
                f"model.weights: imagenet's head has {IMAGENET_CLASSES:,} outputs and this run's {num_outputs}: set"
                " model.reinit_head to True. Received: model.weights='imagenet', model.reinit_head=False"
            )
        path = published_file(name, not settings.reinit_head) if is_published else settings.weights
        try:
            load_keras_weights(model, path, reinit_head=settings.reinit_head)
        except OtherHeadError as error:
            raise error.advising(
                f"{_other_head(error.outputs, run)} loads the base and leaves the head as it is."
            ) from error
    if settings.init_from is not None:
        _copy(nnx.state(restore_best(settings.init_from).model), model, run)


def _other_head(outputs: tuple[int, int] | None, run: Run) -> str:
    """What to do about a head of other weights. outputs: of theirs and of the run's, where nothing else differs."""
    reinit = "--model.reinit-head True"
    if outputs == (2, 1):  # only two classes with a sigmoid make one output
        return f"With --loss.two-logits True this run's head has 2 outputs too. Or {reinit}"
    if outputs == (1, 2) and run.loss.two_logits:
        return f"With --loss.two-logits False this run's head has one output too. Or {reinit}"
    return reinit


def _copy(source: nnx.State, model: nnx.Module, run: Run) -> None:
    """The variables of another run's model, into those of the same path."""
    reinit_head = run.model.reinit_head

    def copied(state: nnx.State) -> dict[Any, Any]:
        return {
            path: variable
            for path, variable in nnx.to_flat_state(state)
            if not isinstance(variable, nnx.RngState) and not (reinit_head and path[0] == "head")
        }

    given, wanted = copied(source), copied(nnx.state(model))
    faults = [f"{'/'.join(map(str, path))}: the model has no such tensor" for path in given if path not in wanted]
    for path, variable in wanted.items():
        name = "/".join(map(str, path))
        if path not in given:
            faults.append(f"{name}: missing")
        elif given[path].shape != variable.shape:
            faults.append(f"{name}: {given[path].shape} where {variable.shape} is needed")
    if faults:
        raise ConfigError(
            f"model.init_from: the model of {run.model.init_from} is another one.{_head_advice(given, wanted, run)}"
            " Received:\n  " + "\n  ".join(faults)
        )
    new: dict[Any, Any] = {path: variable.replace(jnp.asarray(given[path][...])) for path, variable in wanted.items()}
    nnx.update(model, nnx.from_flat_state(new))


def _head_advice(given: Mapping[Any, Any], wanted: Mapping[Any, Any], run: Run) -> str:
    """What to do about the models' differences: of the head alone, or of the base."""
    same = {path for path in given.keys() & wanted.keys() if given[path].shape == wanted[path].shape}
    other = (given.keys() | wanted.keys()) - same
    if any(path[0] != "head" for path in other):
        return " Give a run of the same model and options."
    in_both = other <= (given.keys() & wanted.keys())
    shapes = [(given[path].shape, wanted[path].shape) for path in other] if in_both else []
    alike = {(theirs[-1], ours[-1]) for theirs, ours in shapes if theirs[:-1] == ours[:-1]}
    outputs = alike.pop() if len(alike) == 1 and all(theirs[:-1] == ours[:-1] for theirs, ours in shapes) else None
    return f" Only the head differs. {_other_head(outputs, run)} copies the base and leaves the head as it is."
