"""Normalization: by the statistics of a batch, and of the pictures by numbers known beforehand."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.nn.chain import TrainingAware


class BatchNorm(TrainingAware):
    """`(x - mean) / sqrt(var + epsilon) * scale + bias` for each channel: (..., C) -> (..., C).

    Ioffe & Szegedy 2015, with Keras' numbers. In training mean and variance (biased) are those of the batch, over all
    axes but the last, and the stored `mean` and `var` move towards them: `stored * momentum + batch * (1 - momentum)`.
    Otherwise the stored ones are used, and nothing changes. All is float32, and the result is cast to `dtype`.

    `frozen` keeps to the stored statistics in training too, as Keras' `trainable = False` does.
    """

    def __init__(
        self,
        features: int,
        *,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        use_scale: bool = True,
        use_bias: bool = True,
        dtype: jnp.dtype = jnp.float32,
    ):
        self.scale = nnx.Param(jnp.ones((features,), jnp.float32)) if use_scale else None
        self.bias = nnx.Param(jnp.zeros((features,), jnp.float32)) if use_bias else None
        self.mean = nnx.BatchStat(jnp.zeros((features,), jnp.float32))
        self.var = nnx.BatchStat(jnp.ones((features,), jnp.float32))
        self.momentum, self.epsilon, self.dtype = momentum, epsilon, dtype

    def __call__(self, x: jax.Array, train: bool = False, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        x = x.astype(jnp.float32)
        if train and not self.frozen:
            axes = tuple(range(x.ndim - 1))
            mean, var = jnp.mean(x, axes), jnp.var(x, axes)
            for stored, batch in ((self.mean, mean), (self.var, var)):
                stored[...] = stored[...] * self.momentum + batch * (1 - self.momentum)
        else:
            mean, var = self.mean[...], self.var[...]
        factor = jax.lax.rsqrt(var + self.epsilon)
        if self.scale is not None:
            factor = factor * self.scale[...]
        x = (x - _last(mean, x.ndim)) * _last(factor, x.ndim)
        if self.bias is not None:
            x = x + _last(self.bias[...], x.ndim)
        return x.astype(self.dtype)


class Normalization(nnx.Module):
    """`(x - mean) / sqrt(variance)` for each channel: (..., C) -> (..., C) in `dtype`, as Keras' layer of that name.

    The statistics are stored with the model and never trained. `count` is Keras' number of examples they come from.
    """

    def __init__(self, mean: Sequence[float], variance: Sequence[float], *, dtype: jnp.dtype = jnp.float32):
        self.mean = nnx.BatchStat(jnp.asarray(mean, jnp.float32))
        self.variance = nnx.BatchStat(jnp.asarray(variance, jnp.float32))
        self.count = nnx.BatchStat(jnp.zeros((), jnp.int32))
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.astype(jnp.float32) - _last(self.mean[...], x.ndim)
        return (x / jnp.maximum(jnp.sqrt(_last(self.variance[...], x.ndim)), 1e-7)).astype(self.dtype)


def _last(values: jax.Array, ndim: int) -> jax.Array:
    """(C,) as (1, ..., 1, C) of that many axes."""
    return values.reshape((1,) * (ndim - 1) + (-1,))
