"""Score-CAM: what the class gains where only the places of one channel are shown. No gradient is needed."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.explain.heat import HeatMaps
from jaxvision.explain.program import Classes, logits_of, outputs_at, spatial_layer, subject
from jaxvision.explain.scores import Of, class_scores
from jaxvision.models.layers import layer_name
from jaxvision.nn.watch import Path


def scorecam(
    model: nnx.Module,
    images: np.ndarray,
    classes: Classes = None,
    *,
    layer: str | None = None,
    of: Of = "probability",
    region: np.ndarray | None = None,
    batch_size: int = 16,
) -> HeatMaps:
    """relu(sum_k w_k A_k) with w_k = p(X * H_k) - p(0) (Wang et al. 2020, equations 6 to 8).

    p is the class's score (see `class_scores`), X the picture, H_k the channel A_k resized to it and stretched to 0..1,
    0 a black picture. Of a layer with K channels that takes K forward passes a picture. Arguments as `gradcam`;
    `batch_size` masked pictures go through at once.
    """
    chosen = subject(model, images, classes, region, batch_size)
    path, _ = spatial_layer(model, chosen.images.shape[1:], layer)
    coarse = chosen.one_by_one(partial(_map, chosen.graph, path, batch_size, of, chosen.state))
    return HeatMaps(coarse, chosen.classes, chosen.images.shape[1:3], layer_name(path))


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _map(
    graph: nnx.GraphDef,
    path: Path,
    batch_size: int,
    of: Of,
    state: nnx.State,
    image: jax.Array,
    label: jax.Array,
    region: jax.Array | None,
) -> jax.Array:
    output = outputs_at(graph, state, image[None], (path,))[path][0].astype(jnp.float32)
    channels = jnp.moveaxis(output, -1, 0)
    low, high = (edge(channels, axis=(1, 2), keepdims=True) for edge in (jnp.min, jnp.max))
    stretched = jnp.where(high > low, (channels - low) / jnp.where(high > low, high - low, 1.0), 0.0)

    def probability(channel: jax.Array) -> jax.Array:
        shown = jax.image.resize(channel, image.shape[:2], "bilinear")
        logits = logits_of(graph, state, image[None] * shown[..., None][None])
        return class_scores(logits, label[None], of, None if region is None else region[None])[0]

    # A channel that is the same everywhere shows a black picture and gains nothing.
    nothing = probability(jnp.zeros(output.shape[:2]))
    gains = jax.lax.map(probability, stretched, batch_size=batch_size) - nothing
    return jax.nn.relu(jnp.einsum("hwk,k->hw", output, gains))
