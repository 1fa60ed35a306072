"""Where a run's weights start: fresh, published, from a file, or from another run."""

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
            raise error.advising(_advice(error, run)) from error
    if settings.init_from is not None:
        _copy(nnx.state(restore_best(settings.init_from).model), model, settings.init_from, settings.reinit_head)


def _advice(error: OtherHeadError, run: Run) -> str:
    reinit = "--model.reinit-head True loads the base and leaves the head as it is."
    if error.outputs == (2, 1):  # only two classes with a sigmoid make one output
        return f"With --loss.two-logits True the run has a head of 2 outputs, as the file's. Or {reinit}"
    if error.outputs == (1, 2) and run.loss.two_logits:
        return f"With --loss.two-logits False the run has a head of one output, as the file's. Or {reinit}"
    return reinit


def _copy(source: nnx.State, model: nnx.Module, run_dir: str, reinit_head: bool) -> None:
    """The variables of another run's model, into those of the same path."""

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
            f"model.init_from: the model of {run_dir} is another one. Set model.reinit_head if only the head differs."
            " Received:\n  " + "\n  ".join(faults)
        )
    new: dict[Any, Any] = {path: variable.replace(jnp.asarray(given[path][...])) for path, variable in wanted.items()}
    nnx.update(model, nnx.from_flat_state(new))
