"""Arrays from a user, a file or a source, checked and brought to the shapes and types of an ArrayPart."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from jaxvision import config
from jaxvision.data.mask import mask_classes
from jaxvision.data.parts import ArrayPart, Dataset, Part, fingerprint, has_masks, image_shape, on_disk
from jaxvision.data.picture import resize_bilinear
from jaxvision.data.targets import array_target, even_array, fitted_masks, numbered_classes
from jaxvision.errors import DataError

GRAY_WEIGHTS = np.array([[0.2989], [0.5870], [0.1140]], np.float32)
"""Share of red, green and blue in a gray picture (ITU-R BT.601), as tf.image.rgb_to_grayscale has it."""

CHUNK = 256
"""Pictures looked at, or resized, at a time."""

DARK = 32
"""A part without a pixel from here up is nearly black to a model."""

MARGIN = 32
"""Pixels may lie so far outside of 0..255, as those of images resized by splines do."""


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
    refuse_channels_first(inputs.shape[1:], where)
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
    check_values(inputs, where)
    return inputs


def check_values(inputs: Any, where: str) -> None:
    """Looks at the pixels of images float32 (N, H, W, C): all, or where they lie on a disk some of them.

    Raises: DataError: a value is not finite. A range that models do not expect is a warning (`range_warning`).
    """
    rows = np.unique(np.linspace(0, len(inputs) - 1, CHUNK).astype(int)) if on_disk(inputs) else np.arange(len(inputs))
    lowest, highest = np.inf, -np.inf
    for start in range(0, len(rows), CHUNK):
        chunk = inputs[rows[start : start + CHUNK]] if on_disk(inputs) else inputs[start : start + CHUNK]
        low, high = float(chunk.min()), float(chunk.max())  # NaN where any value is
        if not (np.isfinite(low) and np.isfinite(high)):
            first = rows[start + int(np.argmin(np.isfinite(chunk).all(axis=(1, 2, 3))))]
            raise DataError(f"{where}: example {first} holds values that are not finite. Received: NaN or infinity.")
        lowest, highest = min(lowest, low), max(highest, high)
    if told := range_warning(lowest, highest):
        warnings.warn(f"{where}: {told}", stacklevel=2)


def range_warning(lowest: float, highest: float) -> str | None:
    """What is unusual about images with pixels from `lowest` to `highest`; None where nothing is.

    The models of this package expect 0..255 and rescale by themselves. A custom one may expect something else.
    """
    found = f"pixels are from {lowest:.4g} to {highest:.4g}"
    takes = "models take pixel units 0..255 and rescale by themselves"
    if lowest >= 0 and 0 < highest <= 1:
        return f"no pixel is above {highest:g}, but {takes}. Multiply the images by 255."
    if lowest >= 0 and 0 < highest < DARK:
        return f"no pixel is above {highest:g}, but {takes}. Scale the images to 0..255."
    if -1 <= lowest < 0 and highest <= 1:
        return f"{found}, but {takes}. Undo the scaling: (images + 1) * 127.5."
    if lowest < 0 and max(-lowest, highest) < DARK:
        return f"{found}, as after normalization, but {takes}. Undo it: images * deviation + mean."
    if lowest < -MARGIN:
        return f"{found}, as after subtracting a mean, but {takes}. Add the mean that was subtracted."
    if highest > 255 + MARGIN:
        return f"{found}, but {takes}. Scale the images to 0..255."
    return None


def refuse_channels_first(shape: Sequence[int | None], where: str) -> None:
    """DataError where images (H, W, C) are (C, H, W), as PyTorch has them."""
    height, width, channels = shape
    if height not in (1, 3, 4) or width is None or channels is None or min(width, channels) < 8:
        return
    if width == channels or height > 1:
        raise DataError(
            f"{where}: images must have shape (H, W, C), channels last. Received: images of {tuple(shape)}, which "
            "look like channels first. Transpose them: numpy.transpose(images, (0, 2, 3, 1))."
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
