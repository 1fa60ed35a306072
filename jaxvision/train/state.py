"""Everything a training step reads and writes, as one pytree."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxvision.train.metrics import Totals


class TrainState(NamedTuple):
    """step: int32, steps taken in the run. params: trainable variables. stats: all other variables of the model
    (BatchNorm statistics, a model's own random state). optimizer: optax state of the phase. ema: moving average of
    params, or None. totals: training metrics of the epoch so far.
    """

    step: jax.Array
    params: nnx.State
    stats: nnx.State
    optimizer: optax.OptState
    ema: nnx.State | None
    totals: Totals


def partition(model: nnx.Module) -> tuple[nnx.GraphDef, nnx.State, nnx.State]:
    """A model as its graph (static), its parameters and its other variables; `nnx.merge` puts them together again."""
    graph, params, stats = nnx.split(model, nnx.Param, ...)  # type: ignore[misc]
    return graph, params, stats


def init_state(
    model: nnx.Module, optimizer: optax.GradientTransformation, *, ema: bool
) -> tuple[nnx.GraphDef, TrainState]:
    """The model's graph (static) and the state before the first step. `model` itself is not changed by training."""
    graph, params, stats = partition(model)
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        stats=stats,
        optimizer=optimizer.init(params),
        ema=params if ema else None,
        totals=Totals.zero(),
    )
    # The step donates its input: without copies it would free the arrays of the caller's model, or one array twice.
    return graph, jax.tree.map(jnp.copy, state)


def evaluated_params(state: TrainState) -> nnx.State:
    """The parameters that are evaluated, saved as the result and tested: the moving average where there is one."""
    return state.params if state.ema is None else state.ema
