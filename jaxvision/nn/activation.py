"""What a layer applies to its result, and the same as a layer of its own."""

from collections.abc import Callable

import jax
from flax import nnx

ActivationFunction = Callable[[jax.Array], jax.Array]


def linear(x: jax.Array) -> jax.Array:
    """`x` itself: a layer without an activation."""
    return x


class Activation(nnx.Module):
    """`function(x)`, element by element."""

    def __init__(self, function: ActivationFunction):
        self.function = function

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.function(x)
