"""The augmentation of a training batch, as a run describes it."""

import jax
import jax.numpy as jnp

from jaxvision.augment.affine import chain, flip_matrix, rotation_matrix, translation_matrix, zoom_matrix
from jaxvision.augment.color import adjust_brightness, adjust_contrast, draw_brightness, draw_contrast
from jaxvision.augment.geometry import draw_crop, draw_flip, draw_rotation, draw_translation, draw_zoom
from jaxvision.augment.mixing import draw_mixing, mix
from jaxvision.augment.resample import warp
from jaxvision.config import Augment
from jaxvision.errors import ConfigError
from jaxvision.types import Batch


def augment_batch(key: jax.Array, batch: Batch, settings: Augment, *, num_classes: int) -> Batch:
    """Change the pictures of a batch at random, each in its own way. Jittable with `settings` static.

    In this order: flip, rotation, zoom, translation and crop as one warp (bilinear; nearest where no setting needs
    values between pixels), brightness, contrast, mixup or cutmix. A mask is moved by the same warp, nearest.

    Args:
        key: decides everything; the same key and batch give the same result.
        batch: inputs uint8 or float (B, H, W, C) in 0..255; target of any form a Batch may have.
        settings: what to do; with nothing switched on the batch comes back as it is.
        num_classes: number of columns of the soft target that mixup and cutmix make of class numbers.

    Returns:
        inputs float32 (B, H, W, C) in 0..255, not rounded; target as given, but float32 (B, num_classes) where mixup
        or cutmix met class numbers; valid as given.

    Raises:
        ConfigError: inputs are no pictures; a mask has another size than its picture; mixup or cutmix with masks.
    """
    if settings == Augment():
        return batch
    images, target = jnp.asarray(batch.inputs), jnp.asarray(batch.target)
    if images.ndim != 4:
        raise ConfigError(
            f"augment: only pictures (B, H, W, C) can be augmented. Received: inputs of shape {images.shape}. "
            "Switch augmentation off for cached features."
        )
    is_mask = target.ndim == 3
    if is_mask and target.shape != images.shape[:3]:
        raise ConfigError(
            "augment: a mask needs the height and width of its picture. "
            f"Received: pictures {images.shape}, masks {target.shape}. Resize both alike."
        )
    if is_mask and (settings.mixup or settings.cutmix):
        raise ConfigError(
            "augment.mixup and augment.cutmix mix the classes of whole pictures, and this task has masks. "
            f"Received: mixup={settings.mixup}, cutmix={settings.cutmix}. Set both to 0."
        )
    # One key per change, used or not: switching one on leaves what the others draw as it was.
    geometry_key, brightness_key, contrast_key, mixing_key = jax.random.split(key, 4)
    count, size = images.shape[0], (images.shape[1], images.shape[2])

    matrices = _matrices(geometry_key, settings, count, size)
    if matrices is not None:
        between_pixels = settings.rotation or settings.zoom or settings.translation
        images = warp(images, matrices, interpolation="bilinear" if between_pixels else "nearest")
        if is_mask:
            target = warp(target, matrices, interpolation="nearest")
    images = images.astype(jnp.float32)
    if settings.brightness:
        delta = draw_brightness(brightness_key, batch_size=count, factor=settings.brightness)
        images = adjust_brightness(images, delta)
    if settings.contrast:
        images = adjust_contrast(images, draw_contrast(contrast_key, batch_size=count, factor=settings.contrast))
    if settings.mixup or settings.cutmix:
        soft = jax.nn.one_hot(target, num_classes, dtype=jnp.float32) if target.ndim == 1 else target
        partner, share = draw_mixing(
            mixing_key, batch_size=count, size=size, mixup=settings.mixup, cutmix=settings.cutmix
        )
        images, target = mix(images, soft, partner, share)
    return batch._replace(inputs=images, target=target)


def _matrices(key: jax.Array, settings: Augment, count: int, size: tuple[int, int]) -> jax.Array | None:
    """One matrix (B, 3, 3) for all geometric changes that are on; None where none is."""
    flip_key, rotation_key, zoom_key, translation_key, crop_key = jax.random.split(key, 5)
    steps = []
    if settings.flip != "none":
        steps.append(flip_matrix(draw_flip(flip_key, batch_size=count, mode=settings.flip), size=size))
    if settings.rotation:
        turns = draw_rotation(rotation_key, batch_size=count, factor=settings.rotation)
        steps.append(rotation_matrix(turns, size=size))
    if settings.zoom:
        steps.append(zoom_matrix(draw_zoom(zoom_key, batch_size=count, factor=settings.zoom), size=size))
    if settings.translation:
        shift = draw_translation(translation_key, batch_size=count, factor=settings.translation, size=size)
        steps.append(translation_matrix(shift))
    if settings.crop_padding:
        steps.append(translation_matrix(draw_crop(crop_key, batch_size=count, padding=settings.crop_padding)))
    return chain(steps) if steps else None
