"""The layers of a model in the order they run, with the shapes of what they give. Nothing is computed for it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.errors import ConfigError, nearest
from jaxvision.nn.mode import call, set_mode
from jaxvision.nn.watch import Path, current_trace, watch


class LayerOutput(NamedTuple):
    """path: of the layer in its model. shape: of its output, without the batch. is_block: whether other layers are
    inside it. reachable: whether its output can be had from outside, not so inside `jax.checkpoint`, a scan or another
    transformation."""

    path: Path
    kind: type[nnx.Module]
    shape: tuple[int, ...]
    is_block: bool
    reachable: bool

    @property
    def name(self) -> str:
        """base/block1_conv1"""
        return layer_name(self.path)


def layer_outputs(model: nnx.Module, input_shape: tuple[int, ...]) -> tuple[LayerOutput, ...]:
    """Every layer and block of `model` as it gives its output, for pictures of `input_shape`, (H, W, C).

    A block comes after its layers; a layer that is called twice comes twice. The model itself is not among them, nor
    what gives no array. `model` may be abstract.
    """
    graph, state = nnx.split(model)
    seen: list[tuple[Path, tuple[int, ...], bool]] = []

    def forward(state: nnx.State, images: jax.Array) -> jax.Array:
        outside = current_trace()

        def note(path: Path, output: jax.Array) -> jax.Array:
            if hasattr(output, "shape"):
                seen.append((path, tuple(output.shape[1:]), current_trace() == outside))
            return output

        merged = nnx.merge(graph, state, copy=True)
        set_mode(merged, train=False)
        watch(merged, note)
        return call(merged, images)

    jax.eval_shape(forward, state, jax.ShapeDtypeStruct((1, *input_shape), jnp.uint8))
    modules = dict(nnx.iter_modules(model))
    blocks = {path[:length] for path, _, _ in seen for length in range(len(path))}
    return tuple(
        LayerOutput(path, type(modules[path]), shape, path in blocks, reachable)
        for path, shape, reachable in seen
        if path
    )


def find_layer(model: nnx.Module, name: str) -> Path:
    """The path of the layer of this name: its path written with /, or the end of it where no other's ends so.

    Raises: ConfigError: no such layer, or several.
    """
    paths = [path for path, module in nnx.iter_modules(model) if path and callable(module)]
    wanted = tuple(name.split("/"))
    found = [path for path in paths if tuple(map(str, path[-len(wanted) :])) == wanted]
    exact = [path for path in found if len(path) == len(wanted)]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if found:
        several = ", ".join(map(layer_name, found))
        raise ConfigError(f"layer: several layers are called so: {several}. Received: {name!r}")
    known = {layer_name(path) for path in paths} | {str(path[-1]) for path in paths}
    raise ConfigError(
        f"layer: the model has no such layer.{nearest(name, sorted(known))} `jaxvision summary` lists them."
        f" Received: {name!r}"
    )


def layer_name(path: Path) -> str:
    """base/block1_conv1"""
    return "/".join(map(str, path))
