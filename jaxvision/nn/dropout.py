"""Dropout."""

import jax
from flax import nnx

from jaxvision.nn.chain import TrainingAware


class Dropout(TrainingAware):
    """Zeroes each value with probability `rate` in training and scales the others by 1 / (1 - rate).

    Srivastava et al. 2014. Draws from `rngs.dropout`. Whole channels at once, or whole examples, with
    `broadcast_dims`: the axes over which one draw holds.
    """

    def __init__(self, rate: float, *, broadcast_dims: tuple[int, ...] = ()):
        self.rate = rate
        self.dropout = nnx.Dropout(rate, broadcast_dims=broadcast_dims)

    def __call__(self, x: jax.Array, train: bool = False, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        return self.dropout(x, deterministic=not train, rngs=rngs)
