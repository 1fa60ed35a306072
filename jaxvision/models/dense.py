"""The dense baseline a convnet is compared with."""

import math
from typing import Annotated

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.config import Count
from jaxvision.nn import Chain, Dense, Flatten, Rescaling


class DenseNet(nnx.Module):
    """Flatten, dense layers with ReLU, a dense head (Chollet, chapter 2: 0.978 on MNIST)."""

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        *,
        features: Annotated[tuple[Count, ...], "Units of each dense layer before the last."] = (512,),
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.rescaling = Rescaling(dtype=dtype)
        self.flatten = Flatten()
        sizes = [math.prod(input_shape), *features]
        self.base = Chain(
            **{
                f"dense{number}": Dense(sizes[number - 1], out, activation=jax.nn.relu, dtype=dtype, rngs=rngs)
                for number, out in enumerate(features, start=1)
            }
        )
        self.head = Dense(sizes[-1], num_classes, dtype=dtype, rngs=rngs)

    def __call__(self, images: jax.Array, train: bool = False, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Raw pixels (B, H, W, C) in, logits (B, num_classes) out."""
        return self.head(self.base(self.flatten(self.rescaling(images))))
