"""Arrays from a user, a file or a source, checked and brought to the shapes and types of an ArrayPart."""

import warnings
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from jaxvision import config
from jaxvision.data.mask import mask_classes
from jaxvision.data.parts import ArrayPart, Dataset, Part, fingerprint, has_masks, image_shape
from jaxvision.data.picture import resize_bilinear
from jaxvision.data.targets import array_target, even_array, fitted_masks, numbered_classes
from jaxvision.errors import DataError

GRAY_WEIGHTS = np.array([[0.2989], [0.5870], [0.1140]], np.float32)
"""Share of red, green and blue in a gray picture (ITU-R BT.601), as tf.image.rgb_to_grayscale has it."""

CHUNK = 256
"""Pictures looked at, or resized, at a time."""


def array_part(inputs: Any, target: Any, where: str, data: config.Data) -> ArrayPart:
    """Pictures (N, H, W) or (N, H, W, C), values 0..255 of any number type, and labels or masks (`array_target`).

    `data.image_size` and `data.channels` are applied. `where` names the part in messages.
    """
    inputs, target = even_array(inputs, f"{where}: pictures"), array_target(target, where, data)
    if inputs.dtype == object or inputs.ndim not in (3, 4):
        raise DataError(
            f"{where}: pictures must have shape (N, H, W, C), all of one size. "
            f"Received: shape {inputs.shape}, {inputs.dtype}."
        )
    if len(inputs) != len(target):
        raise DataError(f"{where}: as many labels as pictures. Received: {len(inputs)} pictures, {len(target)} labels.")
    if inputs.ndim == 3:
        inputs = inputs[..., None]
    inputs = _uint8_or_float32(inputs, where)
    if target.ndim == 3 and target.shape[1:] != inputs.shape[1:3]:
        raise DataError(
            f"{where}: masks must be as high and wide as the pictures. "
            f"Received: masks {target.shape[1:]}, pictures {inputs.shape[1:3]}."
        )
    size, channels = data.image_size or inputs.shape[1:3], data.channels or inputs.shape[3]
    if (*size, channels) != inputs.shape[1:]:
        inputs = _fitted(inputs, size, channels, data.resize, where)
    return ArrayPart(inputs, fitted_masks(target, data) if target.ndim == 3 else target)


def array_dataset(parts: Mapping[str, Part], class_names: tuple[str, ...] | None, data: config.Data) -> Dataset:
    """A Dataset of parts; without names, here or by `data`, the classes are numbered up to the largest label of the
    training part."""
    train = parts["train"]
    known = mask_classes(data) if has_masks(train) else data.class_names or tuple(map(str, data.label_values))
    class_names = class_names or known or None
    numbered = class_names is None and len(train.target) > 0
    if numbered:
        class_names = numbered_classes(train)
    return Dataset(
        numbered=numbered,
        train=train,
        validation=parts.get("validation"),
        test=parts.get("test"),
        class_names=class_names or (),
        image_shape=image_shape(train),
        fingerprint=fingerprint(parts),
    )


def _uint8_or_float32(inputs: np.ndarray, where: str) -> np.ndarray:
    kind = inputs.dtype.kind
    if inputs.dtype == np.uint8 or not inputs.size:
        return inputs.astype(np.uint8, copy=False)
    if kind in "iu":
        low, high = inputs.min(), inputs.max()
        if low < 0 or high > 255:
            raise DataError(
                f"{where}: pictures have pixel units 0..255. Received: {inputs.dtype} from {low} to {high}. "
                "Scale them to 0..255."
            )
        return inputs.astype(np.uint8)
    if kind != "f":
        raise DataError(f"{where}: pictures must be uint8 or float, values 0..255. Received: {inputs.dtype}.")
    inputs = inputs.astype(np.float32, copy=False)
    highest = -np.inf
    for start in range(0, len(inputs), CHUNK):
        chunk = inputs[start : start + CHUNK]
        finite = np.isfinite(chunk).all(axis=(1, 2, 3))
        if not finite.all():
            first = start + int(np.argmin(finite))
            raise DataError(f"{where}: example {first} holds values that are not finite. Received: NaN or infinity.")
        highest = max(highest, float(chunk.max()))
    warn_if_rescaled(highest, where)
    return inputs


def warn_if_rescaled(highest: float, where: str) -> None:
    """The models divide by 255 themselves: pictures that already are in 0..1 would become black."""
    if 0 < highest <= 1:
        warnings.warn(
            f"{where}: no pixel is above {highest:g}, but models take pixel units 0..255 and rescale by themselves. "
            "Multiply the pictures by 255.",
            stacklevel=2,
        )


def _fitted(
    inputs: np.ndarray, size: tuple[int, int], channels: int, resize: Literal["stretch", "crop"], where: str
) -> np.ndarray:
    stored = inputs.shape[3]
    if channels != stored and {channels, stored} != {1, 3}:
        raise DataError(
            f"{where}: pictures of {stored} channels cannot become {channels}. "
            f"Received: data.channels={channels}. Leave it out, or give images of 1 or 3 channels."
        )
    out = np.empty((len(inputs), *size, channels), inputs.dtype)
    for start in range(0, len(inputs), CHUNK):
        chunk = inputs[start : start + CHUNK].astype(np.float32)
        if channels < stored:
            chunk = chunk @ GRAY_WEIGHTS
        elif channels > stored:
            chunk = np.repeat(chunk, channels, axis=3)
        chunk = resize_bilinear(chunk, size, resize)
        out[start : start + CHUNK] = chunk if out.dtype == np.float32 else np.rint(chunk)
    return out
