"""Fully connected layer, and the reshape before it."""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.nn.activation import ActivationFunction, linear
from jaxvision.nn.dtypes import in_dtype
from jaxvision.nn.initializers import GLOROT_UNIFORM, Initializer


class Flatten(nnx.Module):
    """(B, ...) -> (B, features), rows in C order (height, width, channel), as Keras' Flatten."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return x.reshape(x.shape[0], -1)


class Dense(nnx.Module):
    """`activation(x @ kernel + bias)`: (B, in) -> (B, out). Kernel glorot-uniform, bias zero, as Keras' Dense."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        activation: ActivationFunction = linear,
        kernel_init: Initializer = GLOROT_UNIFORM,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        shape = (in_features, out_features)
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros((out_features,), jnp.float32))
        self.activation, self.dtype = activation, dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        x, kernel, bias = in_dtype(self.dtype, x, self.kernel, self.bias)
        return self.activation(x @ kernel + bias[None, :])
