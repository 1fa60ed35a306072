"""Dropout."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.nn.chain import TrainingAware
from jaxvision.varied import Number, is_zero


class Dropout(TrainingAware):
    """Zeroes each value with probability `rate` in training and divides the others by 1 - rate: same shape and dtype.

    Srivastava et al. 2014. Draws from `rngs.dropout`. `broadcast_dims` are axes over which one draw holds: (1, 2, 3)
    drops whole examples (Huang et al. 2016, stochastic depth).

    Raises: ValueError: training without `rngs`.
    """

    def __init__(self, rate: Number, *, broadcast_dims: tuple[int, ...] = ()):
        self.rate, self.broadcast_dims = rate, broadcast_dims

    def __call__(self, x: jax.Array, train: bool = False, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        if not train or is_zero(self.rate):
            return x
        if rngs is None:
            raise ValueError("dropout in training draws random numbers: call the model with rngs=nnx.Rngs(dropout=key)")
        shape = [1 if axis in self.broadcast_dims else size for axis, size in enumerate(x.shape)]
        kept = jax.random.bernoulli(rngs.dropout(), 1 - self.rate, shape)
        return jnp.where(kept, x / (1 - self.rate), jnp.zeros_like(x))


def dropout_rates(model: nnx.Module) -> dict[tuple[Any, ...], Number]:
    """{path of the layer: its rate}."""
    return {path: layer.rate for path, layer in nnx.iter_modules(model) if isinstance(layer, Dropout)}


@contextmanager
def other_rates(model: nnx.Module, rates: Mapping[tuple[Any, ...], Number]) -> Iterator[None]:
    """The model with these rates while it is entered, by the paths of `dropout_rates`."""
    layers = {path: layer for path, layer in nnx.iter_modules(model) if path in rates and isinstance(layer, Dropout)}
    before = {path: layer.rate for path, layer in layers.items()}
    try:
        for path, layer in layers.items():
            layer.rate = rates[path]
        yield
    finally:
        for path, layer in layers.items():
            layer.rate = before[path]
