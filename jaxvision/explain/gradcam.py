"""Grad-CAM and Grad-CAM++: which places of a layer's output speak for a class."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.explain.heat import HeatMaps
from jaxvision.explain.program import Classes, spatial_layer, subject, with_change
from jaxvision.explain.scores import Of, check_choice, class_scores
from jaxvision.models.layers import layer_name
from jaxvision.nn.watch import Path

Weighting = Literal["gradcam", "gradcam++"]


def gradcam(
    model: nnx.Module,
    images: np.ndarray,
    classes: Classes = None,
    *,
    layer: str | None = None,
    weighting: Weighting = "gradcam",
    of: Of = "logit",
    region: np.ndarray | None = None,
    batch_size: int = 16,
) -> HeatMaps:
    """Where a layer sees a class: relu(sum_k w_k A_k), A_k (h, w) the layer's channels (Selvaraju et al. 2017).

    w_k is the mean over places of g = dscore/dA_k. With "gradcam++" (Chattopadhay et al. 2018) it is the sum of
    a * relu(g), a = g^2 / (2 g^2 + g^3 sum A_k): also the second cat of a picture is seen.

    Args:
      model: raw pixels (B, H, W, C) to logits, as `jv.restore_best(run).model`.
      images: (B, H, W, C), 0..255.
      classes: of each picture, or of all; None: what the model predicts.
      layer: its path or the end of it; None: the deepest with places (see `jaxvision.explain.program.spatial_layer`).
      of, region: of the score, see `class_scores`; the book's recipe takes the probability.

    Raises: ConfigError: no such layer or class; pictures of no batch.
    """
    check_choice("weighting", weighting, Weighting)
    chosen = subject(model, images, classes, region, batch_size)
    path, shape = spatial_layer(model, chosen.images.shape[1:], layer)

    maps = partial(_maps, chosen.graph, path, shape, weighting, of, chosen.state)
    coarse = chosen.in_batches(maps, batch_size)
    return HeatMaps(coarse, chosen.classes, chosen.images.shape[1:3], layer_name(path))


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _maps(
    graph: nnx.GraphDef,
    path: Path,
    shape: tuple[int, ...],
    weighting: Weighting,
    of: Of,
    state: nnx.State,
    images: jax.Array,
    classes: jax.Array,
    region: jax.Array | None,
) -> jax.Array:
    def score(change: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits, output = with_change(graph, state, images, path, change)
        return jnp.sum(class_scores(logits, classes, of, region)), output.astype(jnp.float32)

    # The gradient by what would be added to the layer's output is the gradient by that output.
    gradient, output = jax.grad(score, has_aux=True)(jnp.zeros((len(images), *shape), jnp.float32))
    weights = channel_weights(gradient, output, weighting)
    return jax.nn.relu(jnp.einsum("bhwk,bk->bhw", output, weights))


def channel_weights(gradient: jax.Array, output: jax.Array, weighting: Weighting) -> jax.Array:
    """float32 (B, K) of each channel, from a layer's output and the score's gradient by it, (B, h, w, K)."""
    if weighting == "gradcam":
        return jnp.mean(gradient, axis=(1, 2))
    square, total = gradient**2, jnp.sum(output, axis=(1, 2), keepdims=True)
    below = 2 * square + total * gradient**3
    share = jnp.where(below != 0, square / jnp.where(below != 0, below, 1.0), 0.0)
    return jnp.sum(share * jax.nn.relu(gradient), axis=(1, 2))
