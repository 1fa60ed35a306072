"""Random flips, rotations, zooms, shifts and crops.

`draw_*` turn a key into the parameters of each picture; `affine` turns parameters into matrices and `resample.warp`
applies them. `random_*` do all three for one change. `size` is (H, W); B is the number of pictures.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from jaxvision.augment.affine import flip_matrix, rotation_matrix, translation_matrix, zoom_matrix
from jaxvision.augment.resample import warp
from jaxvision.types import Array

Flip = Literal["horizontal", "vertical", "both"]


def draw_flip(key: jax.Array, *, batch_size: int, mode: Flip) -> jax.Array:
    """Bool (B, 2): mirror top-bottom, left-right? Each named axis with probability 1/2, apart from the other."""
    allowed = jnp.array([mode in ("vertical", "both"), mode in ("horizontal", "both")])
    return jax.random.bernoulli(key, 0.5, (batch_size, 2)) & allowed[None, :]


def draw_rotation(key: jax.Array, *, batch_size: int, factor: float) -> jax.Array:
    """Float32 (B,): shares of a full turn, uniform in +-factor."""
    return jax.random.uniform(key, (batch_size,), jnp.float32, -factor, factor)


def draw_zoom(key: jax.Array, *, batch_size: int, factor: float) -> jax.Array:
    """Float32 (B,): zoom factors, uniform in 1 +- factor, one for height and width."""
    return jax.random.uniform(key, (batch_size,), jnp.float32, 1 - factor, 1 + factor)


def draw_translation(key: jax.Array, *, batch_size: int, factor: float, size: tuple[int, int]) -> jax.Array:
    """Float32 (B, 2): pixels down and to the right, uniform in +-factor of height and of width."""
    share = jax.random.uniform(key, (batch_size, 2), jnp.float32, -factor, factor)
    return share * jnp.array(size, jnp.float32)[None, :]


def draw_crop(key: jax.Array, *, batch_size: int, padding: int) -> jax.Array:
    """Float32 (B, 2): whole pixels down and to the right, uniform in -padding .. padding.

    A window of the old size in a picture padded by reflection is the picture shifted, so a crop is a shift.
    """
    return jax.random.randint(key, (batch_size, 2), -padding, padding + 1).astype(jnp.float32)


def random_flip(key: jax.Array, images: Array, *, mode: Flip = "horizontal") -> jax.Array:
    """Mirror each picture with probability 1/2 along each named axis.

    As Keras' RandomFlip, but with mode="both" the axes are drawn apart (Keras mirrors both or neither).
    images (B, H, W, C) of any dtype -> float32 of the same shape, same units.
    """
    mirrored = draw_flip(key, batch_size=images.shape[0], mode=mode)
    return warp(images, flip_matrix(mirrored, size=_size(images)), interpolation="nearest").astype(jnp.float32)


def random_rotation(key: jax.Array, images: Array, *, factor: float) -> jax.Array:
    """Rotate each picture by up to +-factor of a full turn (0.1 is 36 degrees) about its centre, bilinear, reflecting.

    As Keras' RandomRotation. images (B, H, W, C) of any dtype -> float32 of the same shape, same units.
    """
    turns = draw_rotation(key, batch_size=images.shape[0], factor=factor)
    return warp(images, rotation_matrix(turns, size=_size(images)))


def random_zoom(key: jax.Array, images: Array, *, factor: float) -> jax.Array:
    """Zoom each picture by 1 +- factor about its centre, keeping its aspect, bilinear, reflecting.

    As Keras' RandomZoom(height_factor=factor). images (B, H, W, C) of any dtype -> float32 of the same shape.
    """
    zoom = draw_zoom(key, batch_size=images.shape[0], factor=factor)
    return warp(images, zoom_matrix(zoom, size=_size(images)))


def random_translation(key: jax.Array, images: Array, *, factor: float) -> jax.Array:
    """Shift each picture by up to +-factor of its height and of its width, bilinear, reflecting.

    As Keras' RandomTranslation(factor, factor). images (B, H, W, C) of any dtype -> float32 of the same shape.
    """
    shift = draw_translation(key, batch_size=images.shape[0], factor=factor, size=_size(images))
    return warp(images, translation_matrix(shift))


def random_crop(key: jax.Array, images: Array, *, padding: int) -> jax.Array:
    """Pad each picture by `padding` reflected pixels on every side and cut a window of the old size anywhere.

    images (B, H, W, C) of any dtype -> float32 of the same shape, same units.
    """
    shift = draw_crop(key, batch_size=images.shape[0], padding=padding)
    return warp(images, translation_matrix(shift), interpolation="nearest").astype(jnp.float32)


def _size(images: Array) -> tuple[int, int]:
    return images.shape[1], images.shape[2]
