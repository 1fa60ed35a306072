"""Dropout."""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.nn.chain import TrainingAware


class Dropout(TrainingAware):
    """Zeroes each value with probability `rate` in training and divides the others by 1 - rate: same shape and dtype.

    Srivastava et al. 2014. Draws from `rngs.dropout`. `broadcast_dims` are axes over which one draw holds: (1, 2, 3)
    drops whole examples (Huang et al. 2016, stochastic depth).

    Raises: ValueError: training without `rngs`.
    """

    def __init__(self, rate: float, *, broadcast_dims: tuple[int, ...] = ()):
        self.rate, self.broadcast_dims = rate, broadcast_dims

    def __call__(self, x: jax.Array, train: bool = False, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        if not train or self.rate == 0:
            return x
        if rngs is None:
            raise ValueError("dropout in training draws random numbers: call the model with rngs=nnx.Rngs(dropout=key)")
        shape = [1 if axis in self.broadcast_dims else size for axis, size in enumerate(x.shape)]
        kept = jax.random.bernoulli(rngs.dropout(), 1 - self.rate, shape)
        return jnp.where(kept, x / (1 - self.rate), jnp.zeros_like(x))
