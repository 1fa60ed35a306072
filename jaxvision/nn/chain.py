"""Named layers, one after the other."""

from collections.abc import Iterator

import jax
from flax import nnx


class Chain(nnx.Module):
    """Applies its layers in the order given: `Chain(conv1=..., pool1=...)`; each is an attribute of that name."""

    def __init__(self, **layers: nnx.Module):
        self.names = tuple(layers)
        for name, layer in layers.items():
            setattr(self, name, layer)

    def __iter__(self) -> Iterator[nnx.Module]:
        return (getattr(self, name) for name in self.names)

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self:
            x = layer(x)
        return x
