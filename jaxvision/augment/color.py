"""Brightness and contrast of pictures in pixel units 0..255."""

import jax
import jax.numpy as jnp

from jaxvision.types import Array


def draw_brightness(key: jax.Array, *, batch_size: int, factor: float) -> jax.Array:
    """Float32 (B,): pixel units to add, uniform in +-factor of the range 0..255."""
    return jax.random.uniform(key, (batch_size,), jnp.float32, -factor, factor) * 255


def draw_contrast(key: jax.Array, *, batch_size: int, factor: float) -> jax.Array:
    """Float32 (B,): factors, uniform in 1 +- factor."""
    return jax.random.uniform(key, (batch_size,), jnp.float32, 1 - factor, 1 + factor)


def adjust_brightness(images: Array, delta: Array) -> jax.Array:
    """Add delta (B,) to every value of a picture and clip to 0..255. (B, H, W, C) -> float32 (B, H, W, C)."""
    images = jnp.asarray(images).astype(jnp.float32)
    return jnp.clip(images + jnp.asarray(delta)[:, None, None, None], 0, 255)


def adjust_contrast(images: Array, factor: Array) -> jax.Array:
    """Scale by factor (B,) the distance of values to their channel's mean in that picture, and clip to 0..255.

    (B, H, W, C) -> float32 (B, H, W, C).
    """
    images = jnp.asarray(images).astype(jnp.float32)
    mean = images.mean(axis=(1, 2), keepdims=True)
    return jnp.clip((images - mean) * jnp.asarray(factor)[:, None, None, None] + mean, 0, 255)


def random_brightness(key: jax.Array, images: Array, *, factor: float) -> jax.Array:
    """Brighten or darken each picture by up to +-factor of the range 0..255, as Keras' RandomBrightness.

    images (B, H, W, C) of any dtype in 0..255 -> float32 of the same shape.
    """
    return adjust_brightness(images, draw_brightness(key, batch_size=images.shape[0], factor=factor))


def random_contrast(key: jax.Array, images: Array, *, factor: float) -> jax.Array:
    """Scale each picture's contrast by 1 +- factor, as Keras' RandomContrast.

    images (B, H, W, C) of any dtype in 0..255 -> float32 of the same shape.
    """
    return adjust_contrast(images, draw_contrast(key, batch_size=images.shape[0], factor=factor))
