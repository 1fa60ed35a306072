"""From raw pixels to what a network likes: the first layer of a model, so that nobody can forget it."""

import jax
import jax.numpy as jnp
from flax import nnx


class Rescaling(nnx.Module):
    """`x * scale` in `dtype`: pictures (uint8 or float, 0..255) to 0..1 with the default scale."""

    def __init__(self, scale: float = 1 / 255, *, dtype: jnp.dtype = jnp.float32):
        self.scale, self.dtype = scale, dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        # Scaled in float32, so that a bfloat16 network rounds each pixel once.
        return (x.astype(jnp.float32) * self.scale).astype(self.dtype)
