"""Random changes to pictures, on the device: pure functions of a key, on whole batches, in pixel units 0..255."""

from jaxvision.augment.affine import chain, flip_matrix, rotation_matrix, translation_matrix, zoom_matrix
from jaxvision.augment.color import adjust_brightness, adjust_contrast, random_brightness, random_contrast
from jaxvision.augment.geometry import random_crop, random_flip, random_rotation, random_translation, random_zoom
from jaxvision.augment.mixing import box_share, cutmix, mix, mixup
from jaxvision.augment.pipeline import augment_batch
from jaxvision.augment.resample import warp

__all__ = [
    "adjust_brightness",
    "adjust_contrast",
    "augment_batch",
    "box_share",
    "chain",
    "cutmix",
    "flip_matrix",
    "mix",
    "mixup",
    "random_brightness",
    "random_contrast",
    "random_crop",
    "random_flip",
    "random_rotation",
    "random_translation",
    "random_zoom",
    "rotation_matrix",
    "translation_matrix",
    "warp",
    "zoom_matrix",
]
