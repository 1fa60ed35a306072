"""Named layers, one after the other, and how a layer is told that the network is in training."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
from flax import nnx

from jaxvision.nn.mode import call
from jaxvision.nn.pooled import finishes_after, pooled
from jaxvision.nn.rematerialize import recomputed


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
    if isinstance(layer, TrainingAware):
        return layer(x, train and not layer.frozen, rngs=rngs)
    return call(layer, x, train, rngs)


class Chain(TrainingAware):
    """Applies its layers in the order given: `Chain(conv1=..., pool1=...)`; each is an attribute of that name.

    Without layers it gives back what it gets.

    `rematerialized`: in training blocks keep their input alone for the backward pass (see `rematerialize_blocks`).
    """

    rematerialized = False
    keras_names: tuple[tuple[str, str], ...] = ()
    """(layer's name, Keras' name) of layers that are not called after their path (see jaxvision.weights)."""

    def __init__(self, **layers: nnx.Module):
        self.names = tuple(layers)
        for name, layer in layers.items():
            setattr(self, name, layer)

    def __iter__(self) -> Iterator[nnx.Module]:
        return (getattr(self, name) for name in self.names)

    def __call__(self, x: jax.Array, train: bool = False, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        for names in self._stretches(x, (), train):
            x = self._run(names, x, train, rngs)
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
        for names in self._stretches(x, levels, train):
            if len(found) == len(set(levels)):
                break
            x = self._run(names, x, train, rngs)
            if names[-1] in levels:
                found[names[-1]] = x
        return {level: found[level] for level in levels}

    def _stretches(self, x: jax.Array, ends: Sequence[str], train: bool) -> list[list[str]]:
        """The names of layers that run together: up to each of `ends` and the last, in blocks where those are
        rematerialized."""
        stretches: list[list[str]] = [[]]
        for name, layer in zip(self.names, self, strict=True):
            is_first = is_last = False
            if train and self.rematerialized:
                before, x = x, _shape_after(layer, x)
                is_first = _holds_layers(layer)
                is_last = _holds_blocks(layer) or _is_resized(before.shape, x.shape)
            if is_first and stretches[-1]:
                stretches.append([])
            stretches[-1].append(name)
            if is_last or name in ends:
                stretches.append([])
        return [names for names in stretches if names]

    def _run(self, names: list[str], x: jax.Array, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
        def run(layers: list[nnx.Module], x: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
            left = [*layers]
            while left:
                layer = left.pop(0)
                if left and finishes_after(left[0], layer):
                    x = pooled(left.pop(0), layer, x)
                else:
                    x = apply(layer, x, train, rngs)
            return x

        layers = [getattr(self, name) for name in names]
        if not (train and self.rematerialized) or _holds_blocks(layers[0]):
            return run(layers, x, rngs)
        # A layer by itself keeps its input anyway.
        return recomputed(run, layers, x, rngs) if len(layers) > 1 or _holds_layers(layers[0]) else run(layers, x, rngs)


def rematerialize_blocks(model: nnx.Module) -> bool:
    """Makes every block of `model` keep its input alone for the backward pass; False where it has no `Chain`, whose
    blocks these are.

    A block is a layer that holds layers, but no further such, and the plain layers after it; or a stretch of plain
    layers in a chain that is in no other. It ends at the latest where the picture is halved or doubled.

    Values, gradients and parameters stay what they are, to rounding. In evaluation nothing changes.
    """
    chains = {path: module for path, module in nnx.iter_modules(model) if isinstance(module, Chain)}
    for path, chain in chains.items():
        is_outermost = not any(path[:length] in chains for length in range(len(path)))
        chain.rematerialized = is_outermost or _holds_blocks(chain)
    return bool(chains)


def _shape_after(layer: nnx.Module, x: Any) -> Any:
    graph, state = nnx.split(layer)  # merged inside, where a plain layer may note something
    return jax.eval_shape(lambda state, x: apply(nnx.merge(graph, state, copy=True), x, False, None), state, x)


def _holds_layers(layer: nnx.Module) -> bool:
    return isinstance(layer, TrainingAware) and any(isinstance(value, nnx.Module) for value in vars(layer).values())


def _holds_blocks(layer: nnx.Module) -> bool:
    """Whether the layer is a chain of blocks, which are then rematerialized one by one."""
    return isinstance(layer, Chain) and any(map(_holds_layers, layer))


def _is_resized(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether pictures (B, H, W, C) are halved or doubled, or are none any more."""
    if len(before) != 4 or len(after) != 4:
        return True
    return max(before[1], after[1]) >= 1.5 * min(before[1], after[1])
