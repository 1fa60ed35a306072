"""Given parameters to 3x3 matrices that take output points (x, y, 1) to the input points they show.

Chain what happens to a picture from left to right: `flip @ rotation @ zoom` flips it first. All float32, (B, 3, 3),
about the centre ((W - 1) / 2, (H - 1) / 2); `size` is (H, W). Conventions: Keras 3 `layers.Random*`.
"""

import functools

import jax
import jax.numpy as jnp

from jaxvision.types import Array


def flip_matrix(mirrored: Array, *, size: tuple[int, int]) -> jax.Array:
    """Mirror where told. mirrored: bool (B, 2), top-bottom and left-right."""
    sign = jnp.where(jnp.asarray(mirrored), -1.0, 1.0)
    zero = jnp.zeros_like(sign[:, 0])
    return _about_centre([[sign[:, 1], zero], [zero, sign[:, 0]]], size)


def rotation_matrix(turns: Array, *, size: tuple[int, int]) -> jax.Array:
    """Rotate. turns: float32 (B,), shares of a full turn; a positive one looks counter-clockwise."""
    angle = 2 * jnp.pi * jnp.asarray(turns, jnp.float32)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return _about_centre([[cos, -sin], [sin, cos]], size)


def zoom_matrix(factor: Array, *, size: tuple[int, int]) -> jax.Array:
    """Zoom. factor: float32 (B,), size of the part shown over size of the picture: above 1 looks smaller."""
    factor = jnp.asarray(factor, jnp.float32)
    zero = jnp.zeros_like(factor)
    return _about_centre([[factor, zero], [zero, factor]], size)


def translation_matrix(shift: Array) -> jax.Array:
    """Shift. shift: float32 (B, 2), pixels down and to the right."""
    shift = jnp.asarray(shift, jnp.float32)
    one, zero = jnp.ones_like(shift[:, 0]), jnp.zeros_like(shift[:, 0])
    return _stack([[one, zero, -shift[:, 1]], [zero, one, -shift[:, 0]]])


def chain(matrices: list[jax.Array]) -> jax.Array:
    """One matrix for all, the first one happening to the picture first. matrices: one or more (B, 3, 3)."""
    # float32 products on accelerators are TF32 or bfloat16 unless told otherwise: whole pixels off.
    return functools.reduce(functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST), matrices)


def _about_centre(linear: list[list[jax.Array]], size: tuple[int, int]) -> jax.Array:
    """The 2x2 map `linear` (entries (B,)) about the centre, which stays where it is."""
    height, width = size
    x, y = (width - 1) / 2, (height - 1) / 2
    (a, b), (c, d) = linear
    return _stack([[a, b, x - x * a - y * b], [c, d, y - x * c - y * d]])


def _stack(rows: list[list[jax.Array]]) -> jax.Array:
    one, zero = jnp.ones_like(rows[0][0]), jnp.zeros_like(rows[0][0])
    return jnp.stack([jnp.stack(row, axis=-1) for row in [*rows, [zero, zero, one]]], axis=-2)
