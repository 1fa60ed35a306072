"""From raw pixels to what a network likes: the first layer of a model, so that nobody can forget it."""

import jax
import jax.numpy as jnp
from flax import nnx

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the red, green and blue of ImageNet's pictures, scaled to 0..1."""


class Rescaling(nnx.Module):
    """`x * scale + offset` in `dtype`: pictures (uint8 or float, 0..255) to 0..1 by default.

    scale and offset: numbers, or one for each channel.
    """

    def __init__(
        self,
        scale: float | tuple[float, ...] = 1 / 255,
        offset: float | tuple[float, ...] = 0.0,
        *,
        dtype: jnp.dtype = jnp.float32,
    ):
        self.scale, self.offset, self.dtype = scale, offset, dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        # Scaled in float32, so that a bfloat16 network rounds each pixel once.
        x = x.astype(jnp.float32) * _per_channel(self.scale)
        if self.offset != 0.0:
            x = x + _per_channel(self.offset)
        return x.astype(self.dtype)


def _per_channel(value: float | tuple[float, ...]) -> jax.Array:
    return jnp.asarray(value, jnp.float32).reshape(1, 1, 1, -1)


class BgrMinusMean(nnx.Module):
    """RGB pictures (0..255) as blue, green, red, less the mean of ImageNet's pictures: for VGG and ResNet of Keras.

    Simonyan & Zisserman 2014, in Caffe's order of channels; (103.939, 116.779, 123.68) is subtracted.
    """

    def __init__(self, *, dtype: jnp.dtype = jnp.float32):
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        mean = jnp.asarray((103.939, 116.779, 123.68), jnp.float32).reshape(1, 1, 1, 3)
        return (x[..., ::-1].astype(jnp.float32) - mean).astype(self.dtype)
