"""Named layers, one after the other, and how a layer is told that the network is in training."""

from collections.abc import Iterator, Sequence

import jax
from flax import nnx


class TrainingAware(nnx.Module):
    """A layer that does something else in training, or holds such layers: called as `layer(x, train, rngs=rngs)`.

    train: False (the default) for evaluation. rngs: random numbers for training, where the layer draws any.
    `frozen`: set by training where nothing of the layer is trained; it then does in training what it does otherwise.
    """

    frozen = False

    def __call__(self, x: jax.Array, train: bool = False, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        raise NotImplementedError


def apply(layer: nnx.Module, x: jax.Array, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
    """`layer` on `x`, told of training where it wants to know and is not frozen."""
    return layer(x, train and not layer.frozen, rngs=rngs) if isinstance(layer, TrainingAware) else layer(x)


class Chain(TrainingAware):
    """Applies its layers in the order given: `Chain(conv1=..., pool1=...)`; each is an attribute of that name.

    Without layers it gives back what it gets.
    """

    keras_names: tuple[tuple[str, str], ...] = ()
    """(layer's name, Keras' name) of layers that are not called after their path (see jaxvision.weights)."""

    def __init__(self, **layers: nnx.Module):
        self.names = tuple(layers)
        for name, layer in layers.items():
            setattr(self, name, layer)

    def __iter__(self) -> Iterator[nnx.Module]:
        return (getattr(self, name) for name in self.names)

    def __call__(self, x: jax.Array, train: bool = False, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        for layer in self:
            x = apply(layer, x, train, rngs)
        return x

    def features(
        self, x: jax.Array, levels: Sequence[str], train: bool = False, *, rngs: nnx.Rngs | None = None
    ) -> dict[str, jax.Array]:
        """The outputs of the layers named in `levels`, by name; layers after the last of them are not run.

        Raises: ValueError: no layer of that name.
        """
        unknown = [level for level in levels if level not in self.names]
        if unknown:
            raise ValueError(f"no such level: {', '.join(unknown)}. There are: {', '.join(self.names)}.")
        found: dict[str, jax.Array] = {}
        for name, layer in zip(self.names, self, strict=True):
            if len(found) == len(set(levels)):
                break
            x = apply(layer, x, train, rngs)
            if name in levels:
                found[name] = x
        return {level: found[level] for level in levels}
