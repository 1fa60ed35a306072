"""Pictures that make a channel of a layer respond most: what its filter looks for (the book's 9.4.2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.errors import ConfigError
from jaxvision.explain.program import in_batches, output_shape, outputs_at
from jaxvision.models.layers import find_layer, layer_name
from jaxvision.nn.watch import Path

PIXEL = 127.5
"""Gray values of one unit of a picture scaled to -1..1, as the book's Xception takes it."""


@dataclass(frozen=True)
class Ascent:
    """How a picture is made; lengths in gray values, 0..255.

    rate: length of each step (of the whole picture as one vector). start: the first picture is uniform noise between
    these. border: pixels of the layer's output on each side that do not count. linear: take the layer's response
    without its activation, since a ReLU that gives 0 for noise gives no direction to go. jitter: before each step the
    picture is shifted (around its borders) by up to so many pixels, and back after it. blur: standard deviation in
    pixels of a Gaussian that each step ends with, and decay: share of the distance to mid-gray that is taken back
    (Yosinski et al. 2015); both take away what is fine and strong but means nothing.
    """

    steps: int = 30
    rate: float = 10 * PIXEL
    start: tuple[float, float] = (0.4 * 255, 0.6 * 255)
    border: int = 2
    linear: bool = False
    jitter: int = 0
    blur: float = 0.0
    decay: float = 0.0

    def __post_init__(self) -> None:
        for name in ("steps", "rate", "border", "jitter", "blur", "decay"):
            if getattr(self, name) < 0:
                raise ConfigError(f"filters: {name} must be 0 or more. Received: {getattr(self, name)}")


BOOK = Ascent()
"""The book's: 30 steps of 10 (at a scale of -1..1) along the normalized gradient."""

READABLE = Ascent(steps=60, rate=4 * PIXEL, linear=True, jitter=8, blur=0.5, decay=0.01)
"""Smaller and more steps on the response before ReLU, with jitter, blur and decay: larger shapes, fewer high
frequencies, and no channel that stays noise."""


def filters(
    model: nnx.Module,
    layer: str,
    channels: Sequence[int],
    *,
    size: tuple[int, int] = (200, 200),
    picture_channels: int = 3,
    ascent: Ascent = READABLE,
    seed: int = 0,
    batch_size: int = 16,
) -> np.ndarray:
    """Pictures by gradient ascent on the mean of a channel, float32 (N, H, W, C): raw pixels, not clipped.

    Only the layers up to this one run, so that the pictures' size need not be the model's.

    Args:
      layer: its path, or the end of it.
      channels: which of its channels; each makes a picture.
      size: height and width of the pictures. picture_channels: C, as the model takes it.
      seed: of the first pictures and of the jitter; a channel's picture does not depend on the others.

    Raises: ConfigError: no such layer or channel, or pictures of which the layer leaves nothing inside its border.
    """
    path, shape = find_layer(model, layer), (*size, picture_channels)
    given = output_shape(model, path, shape)
    require_room(layer_name(path), given, size, ascent)
    wanted = np.asarray(channels, np.int32)
    if not len(wanted) or wanted.min() < 0 or wanted.max() >= given[2]:
        raise ConfigError(
            f"channels: {layer_name(path)} has the channels 0 to {given[2] - 1}. Received: {list(channels)}"
        )
    graph, state = nnx.split(model)
    (pictures,) = in_batches(
        lambda channels: (_ascend(graph, path, shape, ascent, state, channels, jax.random.key(seed)),),
        (wanted,),
        batch_size,
    )
    return pictures


def require_room(name: str, given: tuple[int, ...], size: tuple[int, int], ascent: Ascent) -> None:
    """ConfigError where a layer that gives (h, w, c) for pictures of `size` has nothing inside its border."""
    if min(given[:2]) <= 2 * ascent.border:
        raise ConfigError(
            f"filters: of pictures of {size[0]}x{size[1]}, {name} leaves {given[0]}x{given[1]}, and nothing inside a"
            f" border of {ascent.border}. Give larger pictures."
        )


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _ascend(
    graph: nnx.GraphDef,
    path: Path,
    shape: tuple[int, ...],
    ascent: Ascent,
    state: nnx.State,
    channels: jax.Array,
    key: jax.Array,
) -> jax.Array:
    def response(pictures: jax.Array) -> jax.Array:
        output = outputs_at(graph, state, pictures, (path,), linear=ascent.linear)[path].astype(jnp.float32)
        inner = output[
            :, ascent.border : output.shape[1] - ascent.border, ascent.border : output.shape[2] - ascent.border
        ]
        means = jnp.mean(inner, axis=(1, 2))
        return jnp.sum(jnp.take_along_axis(means, channels[:, None], axis=1))

    def step(pictures: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
        shift = jax.random.randint(key, (2,), -ascent.jitter, ascent.jitter + 1)
        pictures = jnp.roll(pictures, shift, axis=(1, 2)) if ascent.jitter else pictures
        gradient = jax.grad(response)(pictures)
        square = jnp.sum(gradient**2, axis=(1, 2, 3), keepdims=True)
        pictures = pictures + ascent.rate * gradient * jax.lax.rsqrt(jnp.maximum(square, 1e-12))
        pictures = PIXEL + (1 - ascent.decay) * (pictures - PIXEL) if ascent.decay else pictures
        pictures = _blurred(pictures, ascent.blur) if ascent.blur else pictures
        return jnp.roll(pictures, -shift, axis=(1, 2)) if ascent.jitter else pictures, None

    def first(channel: jax.Array) -> jax.Array:
        return jax.random.uniform(
            jax.random.fold_in(key, channel), shape, minval=ascent.start[0], maxval=ascent.start[1]
        )

    pictures, _ = jax.lax.scan(step, jax.vmap(first)(channels), jax.random.split(key, ascent.steps))
    return pictures


def _blurred(pictures: jax.Array, sigma: float) -> jax.Array:
    """(N, H, W, C) blurred along height and width, edges continued."""
    reach = max(1, round(3 * sigma))
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    for axis in (1, 2):
        padding = [(0, 0)] * 4
        padding[axis] = (reach, reach)
        padded, length = jnp.pad(pictures, padding, mode="edge"), pictures.shape[axis]
        slices = (jax.lax.slice_in_dim(padded, start, start + length, axis=axis) for start in range(2 * reach + 1))
        pictures = sum(
            (float(weight) * part for weight, part in zip(weights / weights.sum(), slices, strict=True)),
            start=jnp.zeros_like(pictures),
        )
    return pictures
