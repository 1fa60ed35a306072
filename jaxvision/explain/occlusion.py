"""Occlusion: what the class loses where a piece of the picture is covered."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.errors import ConfigError
from jaxvision.explain.heat import HeatMaps
from jaxvision.explain.program import Classes, logits_of, subject
from jaxvision.explain.scores import Of, class_scores


def occlusion(
    model: nnx.Module,
    images: np.ndarray,
    classes: Classes = None,
    *,
    size: int | None = None,
    stride: int | None = None,
    of: Of = "logit",
    region: np.ndarray | None = None,
    batch_size: int = 16,
) -> HeatMaps:
    """How far the score falls where a square is covered (Zeiler & Fergus 2014), for each pixel the mean over the
    squares that cover it; 0 where it rises.

    A square has the picture's mean colour. Unlike a gradient, this needs nothing but the model's answers.

    Args:
      size: of the square's side, pixels; None: an eighth of the shorter side.
      stride: between squares; None: half of size. The borders get squares that stick out.
      Others as `gradcam`; `batch_size` covered pictures go through at once.

    Raises: ConfigError: size or stride below 1, or a stride that leaves gaps; others as `gradcam`.
    """
    chosen = subject(model, images, classes, region, batch_size)
    height, width = chosen.images.shape[1:3]
    size = max(1, min(height, width) // 8) if size is None else size
    stride = max(1, size // 2) if stride is None else stride
    if size < 1 or not 1 <= stride <= size:
        raise ConfigError(
            f"occlusion: size must be 1 or more, stride 1 to size. Received: size {size} and stride {stride}"
        )
    places = np.array(
        [(top, left) for top in _starts(height, size, stride) for left in _starts(width, size, stride)], np.int32
    )
    coarse = chosen.one_by_one(partial(_map, chosen.graph, size, of, batch_size, chosen.state, places))
    return HeatMaps(coarse, chosen.classes, (height, width))


def _starts(length: int, size: int, stride: int) -> range:
    """First pixels of squares along one side, from one that begins before the border to one that ends behind it."""
    return range(stride - size, length, stride)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _map(
    graph: nnx.GraphDef,
    size: int,
    of: Of,
    batch_size: int,
    state: nnx.State,
    places: jax.Array,
    image: jax.Array,
    label: jax.Array,
    region: jax.Array | None,
) -> jax.Array:
    colour = jnp.mean(image, axis=(0, 1), keepdims=True)
    rows, columns = (jnp.arange(length) for length in image.shape[:2])

    def covered(place: jax.Array) -> jax.Array:
        down, across = ((at >= first) & (at < first + size) for at, first in ((rows, place[0]), (columns, place[1])))
        return down[:, None] & across[None, :]

    def score(picture: jax.Array) -> jax.Array:
        logits = logits_of(graph, state, picture[None])
        return class_scores(logits, label[None], of, None if region is None else region[None])[0]

    def loss(place: jax.Array) -> jax.Array:
        return whole - score(jnp.where(covered(place)[..., None], colour, image))

    whole = score(image)
    losses = jax.lax.map(loss, places, batch_size=batch_size)

    def add(sums: tuple[jax.Array, jax.Array], item: tuple[jax.Array, jax.Array]):
        place, value = item
        where = covered(place).astype(jnp.float32)
        return (sums[0] + value * where, sums[1] + where), None

    nothing = jnp.zeros(image.shape[:2])
    (total, count), _ = jax.lax.scan(add, (nothing, nothing), (places, losses))
    return jax.nn.relu(total / count)
