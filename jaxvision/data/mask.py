"""One mask to one array of class numbers, without TensorFlow, which would turn a palette's indices into colours."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from jaxvision import config
from jaxvision.data.orientation import turned, turned_size
from jaxvision.data.picture import central_window
from jaxvision.data.picture_file import (
    FaultError,
    decode_image,
    file_content,
    open_image,
    opened_header,
    picture_header,
)
from jaxvision.errors import DataError
from jaxvision.types import IGNORE, MAX_MASK_CLASSES

MASK_EXTENSIONS = {".png": "PNG", ".bmp": "BMP", ".gif": "GIF"}
"""Endings of masks, and the format each promises: all without loss."""

GRAY_STEPS = {2: 85, 4: 17}
"""Pillow spreads the values of gray PNGs of so few bits over 0..255, by so much a step."""


GREY_LEVELS = 16
"""A mask of more different numbers holds grey levels rather than classes."""


@dataclass(frozen=True, repr=False)
class MaskRule:
    """What the numbers in stored masks mean.

    num_classes: how many classes there are, 0..254. label_offset: the first class as stored. ignore_label: pixels that
    count nowhere as stored; they become `types.IGNORE`. values: the classes as stored, in their order. thresholds: the
    first number of class 1, of class 2, and so on. At most one of label_offset, values and thresholds is set.
    """

    num_classes: int = MAX_MASK_CLASSES
    label_offset: int = 0
    ignore_label: int | None = None
    values: tuple[int, ...] = ()
    thresholds: tuple[int, ...] = ()

    def __repr__(self) -> str:
        """Part of fingerprints and of cache keys: a rule without values and thresholds keeps the text that it had
        before these fields existed."""
        more = "".join(f", {name}={found}" for name in ("values", "thresholds") if (found := getattr(self, name)))
        return (
            f"MaskRule(num_classes={self.num_classes}, label_offset={self.label_offset}, "
            f"ignore_label={self.ignore_label}{more})"
        )

    def class_numbers(self, stored: np.ndarray) -> np.ndarray:
        """Stored numbers of any integer type as uint8 class numbers of the same shape.

        Raises: DataError: numbers that are no class; the message completes 'FILE: ...'.
        """
        if stored.dtype == np.uint8:
            numbers = self._of(np.arange(256)).astype(np.int16).take(stored)
        else:
            numbers = self._of(stored.astype(np.int64))
        if numbers.size and numbers.min() < 0:
            raise DataError(
                f"a mask must hold {self.expected()}. Received: {values(stored[numbers < 0])}. {value_hint(stored)} "
                "See also data.label_offset (the first class as stored), data.ignore_label and data.class_names."
            )
        return numbers.astype(np.uint8)

    def _of(self, stored: np.ndarray) -> np.ndarray:
        """Class numbers, -1 where there is no such class."""
        if self.thresholds:
            numbers = np.searchsorted(self.thresholds, stored, side="right")
        elif self.values:
            numbers = positions_in(self.values, stored)
        else:
            numbers = stored - self.label_offset
            numbers = np.where((numbers >= 0) & (numbers < self.num_classes), numbers, -1)
        return numbers if self.ignore_label is None else np.where(stored == self.ignore_label, IGNORE, numbers)

    def expected(self) -> str:
        """The numbers allowed as stored, in words."""
        ignored = "" if self.ignore_label is None else f" or {self.ignore_label} (ignored)"
        if self.values:
            return f"{', '.join(map(str, self.values))}{ignored}"
        return f"{self.label_offset} to {self.label_offset + self.num_classes - 1}{ignored}"


def rule_of(data: config.Data, num_classes: int) -> MaskRule:
    """Of the masks of these data; trimaps of the Pets begin with 1, whatever `data` says."""
    offset = 1 if data.source == "pets" else data.label_offset
    return MaskRule(num_classes, offset, data.ignore_label, data.mask_values, data.mask_thresholds)


def mask_classes(data: config.Data) -> tuple[str, ...]:
    """Names of the classes in masks: `data.class_names`, else the numbers that `data` gives them; () where `data` says
    nothing of how many there are."""
    if data.class_names or data.mask_values:
        return data.class_names or tuple(map(str, data.mask_values))
    return tuple(map(str, range(len(data.mask_thresholds) + 1))) if data.mask_thresholds else ()


def positions_in(values: Sequence[int], stored: np.ndarray) -> np.ndarray:
    """Where each stored number stands among `values`, -1 where it is none of them; int64 of the same shape."""
    order = np.argsort(values)
    ordered = np.asarray(values, np.int64)[order]
    place = np.minimum(np.searchsorted(ordered, stored), len(ordered) - 1)
    return np.where(ordered[place] == stored, order[place], -1)


def value_hint(stored: np.ndarray) -> str:
    """Which field says what the numbers in a mask, or in several, mean."""
    different = np.unique(stored)
    if len(different) > GREY_LEVELS:
        middle = (int(different[0]) + int(different[-1]) + 1) // 2
        return (
            f"So many numbers are grey levels, as soft edges and JPEGs have: data.mask_thresholds cuts them into "
            f"classes ({middle} would be the middle)."
        )
    cut = "; data.mask_thresholds cuts grey levels, or instance numbers, into classes" if len(different) > 2 else ""
    return (
        "data.mask_values lists the numbers of the classes as stored, in the order of the classes "
        f"({' '.join(map(str, different))} here){cut}."
    )


def read_mask(path: str | os.PathLike[str], picture: str | os.PathLike[str] | None = None) -> np.ndarray:
    """The numbers stored in a PNG, BMP or GIF mask, (H, W) of an integer type: gray values or indices of a palette.

    picture: the file it belongs to. As the EXIF mark of a picture turns it (see `orientation`), a mask of the size that
    the picture is stored in is turned with it; one that has the turned size alone is taken as it is. A mark in the mask
    itself is passed over.

    Raises: DataError naming the file: missing, damaged, no picture, a JPEG, or with colours instead of numbers.
    """
    try:
        content = file_content(path)
        image = open_image(content)
        _require_numbers(image)
        decode_image(image, content)
        stored = np.asarray(image)
        size, mark = ((0, 0), 1) if picture is None else picture_header(picture)[:2]
    except FaultError as fault:
        raise DataError(f"{path}: {fault}. Received: no readable mask.") from None
    if stored.dtype == np.bool_:
        stored = stored.astype(np.uint8)
    elif image.format == "PNG" and image.mode == "L" and (step := GRAY_STEPS.get(content[24])):
        stored = stored // np.uint8(step)
    return turned(stored, mark) if stored.shape == size else stored


def fits(mask: tuple[int, int], picture: str | os.PathLike[str]) -> bool:
    """Whether a mask has the size of its picture (height, width), as that is stored or as its EXIF mark turns it."""
    size, mark = picture_header(picture)[:2]
    return mask in (size, turned_size(size, mark))


def mask_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width by the header alone. Raises FaultError where it is no mask by its header."""
    with opened_header(path) as image:
        _require_numbers(image)
        return image.height, image.width


def resize_nearest(
    masks: np.ndarray, image_size: tuple[int, int], resize: Literal["stretch", "crop"] = "stretch"
) -> np.ndarray:
    """(..., H, W) masks, stretched or cropped to `image_size` as `picture.resize_bilinear` does it with pictures.

    Half-pixel centres: what `tf.image.resize` computes with method="nearest".
    """
    if resize == "crop":
        top, left, height, width = central_window(masks.shape[-2], masks.shape[-1], image_size)
        masks = masks[..., top : top + height, left : left + width]
    for axis, new in zip((-2, -1), image_size, strict=True):
        if (old := masks.shape[axis]) != new:
            masks = masks.take(_nearest(old, new), axis)
    return masks


def values(found: np.ndarray) -> str:
    """The different numbers in an array, in words."""
    different, counts = np.unique(found, return_counts=True)
    pairs = [f"{value} ({count} pixels)" for value, count in zip(different[:8], counts, strict=False)]
    return ", ".join(pairs) + (f" and {len(different) - 8} other values" if len(different) > 8 else "")


def _nearest(old: int, new: int) -> np.ndarray:
    position = (np.arange(new, dtype=np.float32) + np.float32(0.5)) * np.float32(old / new)
    return np.minimum(np.floor(position).astype(np.int64), old - 1)


def _require_numbers(image: Image.Image) -> None:
    if image.format in ("JPEG", "MPO"):
        raise FaultError("a JPEG cannot be a mask: it keeps numbers only about; save masks as PNG")
    if image.format not in MASK_EXTENSIONS.values():
        raise FaultError(f"a {image.format} picture; masks are PNG, BMP or GIF")
    if image.mode not in ("1", "L", "P", "I") and not image.mode.startswith("I;16"):
        raise FaultError(
            f"a mask must hold one number a pixel, gray or an index of a palette, but this one has colours or "
            f"transparency (mode {image.mode}); write the number of each pixel's class instead of its colour"
        )
