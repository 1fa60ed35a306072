"""Mixup and cutmix: each example takes in a part of another one, and its target the same part of the other's."""

import jax
import jax.numpy as jnp

from jaxvision.types import Array


def mix(images: Array, target: Array, partner: Array, share: Array) -> tuple[jax.Array, jax.Array]:
    """Blend each example with its partner.

    Args:
        images: (B, H, W, C), any dtype.
        target: float32 (B, K), soft or multiple labels.
        partner: int32 (B,), which row of the batch each example is mixed with.
        share: float32 (B, H, W) in 0..1, the partner's weight at each pixel; the target takes its mean.

    Returns:
        float32 (B, H, W, C) and float32 (B, K).
    """
    images, target, share = jnp.asarray(images).astype(jnp.float32), jnp.asarray(target), jnp.asarray(share)
    weight = share[:, :, :, None]
    part = share.mean(axis=(1, 2))[:, None]
    return (1 - weight) * images + weight * images[partner], (1 - part) * target + part * target[partner]


def box_share(box: Array, *, size: tuple[int, int]) -> jax.Array:
    """Float32 (B, H, W): 1 inside the box, 0 outside. box: int32 (B, 4), top, left, bottom, right; ends excluded."""
    height, width = size
    top, left, bottom, right = (side[:, None] for side in jnp.asarray(box).T)
    y, x = jnp.arange(height)[None, :], jnp.arange(width)[None, :]
    rows, columns = (y >= top) & (y < bottom), (x >= left) & (x < right)
    return (rows[:, :, None] & columns[:, None, :]).astype(jnp.float32)


def draw_box(key: jax.Array, *, batch_size: int, alpha: float, size: tuple[int, int]) -> jax.Array:
    """Int32 (B, 4) boxes: kept share of the area from Beta(alpha, alpha), centre anywhere, cut at the borders.

    Yun et al. 2019, "CutMix" (arXiv:1905.04899), appendix A.
    """
    area_key, centre_key = jax.random.split(key)
    kept = jax.random.beta(area_key, alpha, alpha, (batch_size, 1), jnp.float32)
    limit = jnp.array(size, jnp.float32)[None, :]
    half = limit * jnp.sqrt(1 - kept) / 2
    centre = jax.random.uniform(centre_key, (batch_size, 2), jnp.float32) * limit
    corners = [jnp.clip(jnp.round(corner), 0, limit) for corner in (centre - half, centre + half)]
    return jnp.concatenate(corners, axis=1).astype(jnp.int32)


def draw_mixing(
    key: jax.Array, *, batch_size: int, size: tuple[int, int], mixup: float = 0.0, cutmix: float = 0.0
) -> tuple[jax.Array, jax.Array]:
    """Partner int32 (B,) and share float32 (B, H, W) for `mix`; mixup, cutmix: their alpha, 0 is off.

    With both on, a coin decides for each example which of the two it gets.
    """
    partner_key, weight_key, box_key, coin_key = jax.random.split(key, 4)
    partner = jax.random.permutation(partner_key, batch_size).astype(jnp.int32)
    blended = pasted = jnp.zeros((batch_size, *size), jnp.float32)
    if mixup:
        weight = jax.random.beta(weight_key, mixup, mixup, (batch_size,), jnp.float32)
        blended = jnp.broadcast_to((1 - weight)[:, None, None], blended.shape)
    if cutmix:
        pasted = box_share(draw_box(box_key, batch_size=batch_size, alpha=cutmix, size=size), size=size)
    if mixup and cutmix:
        coin = jax.random.bernoulli(coin_key, 0.5, (batch_size,))
        return partner, jnp.where(coin[:, None, None], blended, pasted)
    return partner, blended if mixup else pasted


def mixup(key: jax.Array, images: Array, target: Array, *, alpha: float) -> tuple[jax.Array, jax.Array]:
    """Blend each example with another one, its own weight drawn from Beta(alpha, alpha).

    images (B, H, W, C) of any dtype, target float32 (B, K) -> both float32, same shapes.
    Zhang et al. 2018, "mixup" (arXiv:1710.09412); one weight per example, as Keras' MixUp.
    """
    partner, share = draw_mixing(key, batch_size=images.shape[0], size=(images.shape[1], images.shape[2]), mixup=alpha)
    return mix(images, target, partner, share)


def cutmix(key: jax.Array, images: Array, target: Array, *, alpha: float) -> tuple[jax.Array, jax.Array]:
    """Paste a box of another example into each; the target's weights are the areas really shown.

    images (B, H, W, C) of any dtype, target float32 (B, K) -> both float32, same shapes. Boxes: see `draw_box`.
    """
    partner, share = draw_mixing(key, batch_size=images.shape[0], size=(images.shape[1], images.shape[2]), cutmix=alpha)
    return mix(images, target, partner, share)
