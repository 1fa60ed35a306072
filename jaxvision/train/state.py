"""Everything a training step reads and writes, as one pytree."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxvision.train.metrics import Totals
from jaxvision.train.task import Task


class TrainState(NamedTuple):
    """step: int32, steps taken in the run. params: what the phase trains. rest: all other variables of the model
    (frozen parameters, BatchNorm statistics, a model's own random state). optimizer: optax state of the phase.
    ema: moving average of params, or None. totals: training metrics of the epoch so far. key: of the run's seed; a
    step's randomness is a pure function of it and of the step.
    """

    step: jax.Array
    params: nnx.State
    rest: nnx.State
    optimizer: optax.OptState
    ema: nnx.State | None
    totals: Totals
    key: jax.Array

    @property
    def variables(self) -> nnx.State:
        """The whole model as it is evaluated, saved as the result and tested: with the average where there is one."""
        return nnx.merge_state(self.params if self.ema is None else self.ema, self.rest)


def init_state(
    model: nnx.Module,
    optimizer: optax.GradientTransformation,
    task: Task,
    *,
    seed: int = 0,
    ema: bool = False,
    trained: Any = nnx.Param,
    step: jax.Array | int = 0,
) -> tuple[nnx.GraphDef, TrainState]:
    """The model's graph (static) and the state before the first step of a phase.

    seed: the run's. trained: NNX filter of the variables that the phase trains. `model` itself is not changed by
    training.
    """
    graph, params, rest = nnx.split(model, trained, ...)  # type: ignore[misc]
    state = TrainState(
        step=jnp.asarray(step, jnp.int32),
        params=params,
        rest=rest,
        optimizer=optimizer.init(params),
        ema=params if ema else None,
        totals=task.zero(),
        key=jax.random.key(seed),
    )
    # The step donates its input: without copies it would free the arrays of the caller's model, or one array twice.
    # With a definite type: of a weakly typed array the step would make another type, and be compiled anew.
    return graph, jax.tree.map(lambda leaf: jnp.array(leaf, leaf.dtype, copy=True), state)
