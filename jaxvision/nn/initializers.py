"""How kernels begin: random numbers whose variance fits the number of inputs and outputs."""

import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

Initializer = Callable[[jax.Array, tuple[int, ...], jnp.dtype], jax.Array]
"""`(key, shape, dtype) -> array`; the last two axes are inputs and outputs, any before them a window."""

_FEWEST, _MOST = 2**14, 2**22


def variance_scaling(
    scale: float, mode: Literal["fan_out", "fan_avg"], distribution: Literal["uniform", "truncated_normal"]
) -> Initializer:
    """Zero mean and variance `scale / n`, n being the outputs of the window or the mean of its inputs and outputs.

    The same numbers as `jax.nn.initializers.variance_scaling`, in a tenth of the time for a model of many layers.
    """

    def init(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
        window = math.prod(shape[:-2])
        fan_in, fan_out = shape[-2] * window, shape[-1] * window
        variance = np.float32(scale / (fan_out if mode == "fan_out" else (fan_in + fan_out) / 2))
        if distribution == "uniform":
            return _draw(_uniform, key, shape, np.sqrt(np.float32(3 * variance))).astype(dtype)
        # The standard deviation of a normal distribution cut off at 2.
        return _draw(_truncated_normal, key, shape, np.sqrt(variance) / np.float32(0.87962566103423978)).astype(dtype)

    return init


def _uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.uniform(key, shape, jnp.float32, -1.0)


def _truncated_normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.truncated_normal(key, -2.0, 2.0, shape, jnp.float32)


def _draw(draw: Callable[..., jax.Array], key: jax.Array, shape: tuple[int, ...], factor: np.float32) -> jax.Array:
    """`draw(key, shape) * factor`.

    Each shape would be compiled, for a third of a second: so as many numbers as the next power of two are drawn, of
    which the first are the ones wanted, since number n depends on the key and n only (`jax_threefry_partitionable`).
    """
    size = math.prod(shape)
    if isinstance(key, jax.core.Tracer) or size > _MOST:
        return draw(key, shape) * factor
    drawn = max(1 << (size - 1).bit_length(), _FEWEST)
    numbers = np.asarray(draw(key, (drawn,)))[:size]
    return jnp.asarray(numbers.reshape(shape) * factor)


GLOROT_UNIFORM = variance_scaling(1.0, "fan_avg", "uniform")
"""Glorot & Bengio 2010: Keras' default for dense layers and convolutions."""
