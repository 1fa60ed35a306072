"""What the layers of a model give for pictures (the book's 9.4.1)."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.errors import ConfigError
from jaxvision.explain.program import check_images, in_batches, outputs_at
from jaxvision.models.layers import LayerOutput, find_layer, layer_name, layer_outputs
from jaxvision.nn.watch import Path


def activations(
    model: nnx.Module, images: np.ndarray, layers: Sequence[str] = (), *, batch_size: int = 16
) -> dict[str, np.ndarray]:
    """The outputs of layers, float32 (B, h, w, c) or (B, n), by their paths and in the order they run.

    Args:
      model: raw pixels (B, H, W, C) to logits.
      images: (B, H, W, C), 0..255.
      layers: paths, or their ends; none: every convolution and pool, as in the book.

    Raises: ConfigError: no such layer; no convolutions or pools to choose by themselves.
    """
    images = check_images(images)
    there = layer_outputs(model, images.shape[1:])
    paths = {find_layer(model, name) for name in layers} or {layer.path for layer in there if _is_conv_or_pool(layer)}
    if not paths:
        raise ConfigError("layers: the model has no convolutions or pools; name the layers to look at.")
    if missing := [layer_name(path) for path in paths if path not in {layer.path for layer in there}]:
        raise ConfigError(f"layer: not run for a prediction, or gives no array: {', '.join(missing)}.")
    chosen = tuple(dict.fromkeys(layer.path for layer in there if layer.path in paths))
    graph, state = nnx.split(model)
    values = in_batches(lambda images: _outputs(graph, chosen, state, images), (images,), batch_size)
    return dict(zip(map(layer_name, chosen), values, strict=True))


def _is_conv_or_pool(layer: LayerOutput) -> bool:
    """By the name of its class, so that flax' own and a user's count too; a block's layers count, and not the block."""
    named = any(kind in layer.kind.__name__ for kind in ("Conv", "Pool"))
    return named and len(layer.shape) == 3 and not layer.is_block and layer.reachable


@partial(jax.jit, static_argnums=(0, 1))
def _outputs(
    graph: nnx.GraphDef, paths: tuple[Path, ...], state: nnx.State, images: jax.Array
) -> tuple[jax.Array, ...]:
    found = outputs_at(graph, state, images, paths)
    return tuple(found[path].astype(jnp.float32) for path in paths)
