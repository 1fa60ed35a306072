"""What arrays of a user may say about their pictures: one class each, any number of classes each, or a mask each."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxvision import config
from jaxvision.data.lazy_masks import LazyMasks
from jaxvision.data.mask import positions_in, resize_nearest, rule_of
from jaxvision.data.parts import Part, has_masks
from jaxvision.errors import DataError
from jaxvision.types import IGNORE, MAX_MASK_CLASSES

CHUNK = 256
"""Masks looked at, or resized, at a time."""

FORMS = (
    "One class each: integers of shape (N,) (shape (N, 1): take [:, 0]; 0.0 and 1.0, True and False: astype('int32'); "
    "one-hot for classification: take argmax(-1); names: numpy.unique(labels, return_inverse=True)). Any number of "
    "classes each: 0 and 1 of shape (N, K), K at least 2. Masks: integers of shape (N, H, W) (one-hot: take "
    "argmax(-1))."
)

MOST_CLASSES = 10**6
"""Largest class number that is counted up to where the classes have no names."""


def array_target(target: Any, where: str, data: config.Data) -> np.ndarray:
    """Any array of labels or masks in one of the forms of `parts.Target`, masks in the size they have.

    Integers (N,): class numbers, by `data.label_offset` or `data.label_values`. 0 and 1 of any number type (N, K),
    K >= 2: multiple labels. Integers (N, H, W) or (N, H, W, 1): masks, by `mask.rule_of`; 255 counts nowhere, unless
    `data.mask_values` or `data.mask_thresholds` make it a class.
    """
    target = even_array(target, f"{where}: labels")
    if target.ndim == 2 and target.shape[1] > 1 and target.dtype.kind in "biuf":
        return multiple_labels(target, where)
    if target.ndim == 4 and target.shape[3] == 1:
        target = target[..., 0]
    return _class_masks(target, where, data) if target.ndim == 3 else labels(target, where, data)


def even_array(values: Any, what: str) -> np.ndarray:
    """`np.asarray`. Raises: DataError: its rows are of unequal lengths; the message begins with `what`."""
    try:
        return np.asarray(values)
    except ValueError as error:
        lengths = sorted({np.shape(row) for row in values}, key=str) if all(map(np.size, values)) else []
        said = f"rows of shape {', '.join(map(str, lengths[:3]))}" if len(lengths) > 1 else str(error)
        raise DataError(f"{what} must all have one shape. Received: {said}") from error


def labels(target: Any, where: str, data: config.Data | None = None) -> np.ndarray:
    """Class numbers as int32 (N,), as `data.label_offset` or `data.label_values` have them, where `data` is given."""
    target = np.asarray(target)
    if target.ndim != 1 or not np.issubdtype(target.dtype, np.integer):
        first = f", example 0 is {target[0]}" if 0 < target.ndim < 3 and len(target) else ""
        raise DataError(
            f"{where}: labels must be whole class numbers 0, 1, 2, ... of shape (N,), or another of three forms. "
            f"Received: {target.dtype} of shape {target.shape}{first}. {FORMS}"
        )
    if data is not None and (data.label_offset or data.label_values):
        target = _class_labels(target.astype(np.int64), where, data)
    if len(target) and (target.min() < -(2**31) or target.max() >= 2**31):
        raise DataError(f"{where}: class numbers are too large. Received: {target.min()} to {target.max()}.")
    return target.astype(np.int32)


def _class_labels(stored: np.ndarray, where: str, data: config.Data) -> np.ndarray:
    """Class numbers of labels int64 (N,) as stored."""
    if data.label_values:
        numbers, expected = positions_in(data.label_values, stored), f"one of data.label_values {data.label_values}"
    else:
        numbers, expected = stored - data.label_offset, f"{data.label_offset} or more, as data.label_offset says"
    if len(wrong := np.flatnonzero(numbers < 0)):
        raise DataError(
            f"{where}, example {wrong[0]}: labels must be {expected}. Received: {stored[wrong[0]]} ({len(wrong)} such "
            "labels)."
        )
    return numbers


def multiple_labels(target: np.ndarray, where: str) -> np.ndarray:
    """0 and 1 for each class, as float32 (N, K)."""
    wrong = np.argwhere((target != 0) & (target != 1))
    if len(wrong):
        row, column = wrong[0]
        raise DataError(
            f"{where}: labels of shape (N, K) must be 0 or 1 for each of the K classes. Received: "
            f"{target.dtype} of shape {target.shape}, example {row} has {target[row, column]} ({len(wrong)} such "
            f"values). {FORMS}"
        )
    return target.astype(np.float32)


def _class_masks(stored: np.ndarray, where: str, data: config.Data) -> np.ndarray:
    """Class numbers uint8 (N, H, W)."""
    if stored.dtype.kind not in "biu":
        raise DataError(
            f"{where}: masks must hold whole class numbers. Received: {stored.dtype} of shape {stored.shape}. {FORMS}"
        )
    rule = rule_of(data, MAX_MASK_CLASSES)
    is_class = bool(data.mask_thresholds) or IGNORE in data.mask_values
    some_class = data.mask_values[0] if data.mask_values else data.label_offset
    masks = np.empty(stored.shape, np.uint8)
    for start in range(0, len(stored), CHUNK):
        chunk = stored[start : start + CHUNK].astype(np.int64)
        ignored = (chunk == IGNORE) & (not is_class)
        for row, (mask, ignore) in enumerate(zip(chunk, ignored, strict=True)):
            try:
                masks[start + row] = rule.class_numbers(np.where(ignore, some_class, mask))
            except DataError as error:
                raise DataError(
                    f"{where}, example {start + row}: {error} (255 counts nowhere. Arrays that `jaxvision prepare` "
                    "made hold class numbers from 0: set data.label_offset to 0.)"
                ) from None
        masks[start : start + CHUNK][ignored] = IGNORE
    return masks


def fitted_masks(masks: np.ndarray, data: config.Data) -> np.ndarray:
    """Masks (N, h, w) of `data.image_size`, as their pictures become."""
    size = data.image_size
    if size is None or masks.shape[1:] == tuple(size):
        return masks
    out = np.empty((len(masks), *size), np.uint8)
    for start in range(0, len(masks), CHUNK):
        out[start : start + CHUNK] = resize_nearest(masks[start : start + CHUNK], size, data.resize)
    return out


def numbered_classes(part: Part) -> tuple[str, ...]:
    """'0', '1', ... up to the largest class that the part shows."""
    target = part.target
    if target.ndim == 2:
        count = target.shape[1]
    elif has_masks(part):
        count = 1 + largest_class(target[row : row + CHUNK] for row in range(0, len(target), CHUNK))
    else:
        count = 1 + max(int(np.max(target)), 0)
        if count > MOST_CLASSES:
            raise DataError(
                f"The train part: classes without names are counted up to the largest label, and it must be below "
                f"{MOST_CLASSES:,}. Received: {count - 1}. Set data.label_values to the numbers that stand for classes."
            )
    return tuple(str(number) for number in range(count))


def largest_class(masks: Any) -> int:
    """The largest class number in masks, given some at a time; -1 where nothing counts."""
    return max((int(chunk[chunk != IGNORE].max(initial=0)) if (chunk != IGNORE).any() else -1) for chunk in masks)


def class_counts(target: Any, class_names: Sequence[str]) -> dict[str, int]:
    """How many pictures show each class: in masks, by a pixel or more."""
    if target.ndim == 2:
        found = np.asarray(target).sum(0).astype(int)
    elif target.ndim == 3:
        found = np.zeros(len(class_names), int)
        for row in range(len(target)):
            found += np.bincount(np.asarray(target[row]).ravel(), minlength=256)[: len(class_names)] > 0
    else:
        found = np.bincount(target, minlength=len(class_names))
    return dict(zip(class_names, found.tolist(), strict=True))


def check_target(part: Part, class_names: Sequence[str], name: str, describe: Any) -> None:
    """DataError where a target does not have one of the forms of `parts.Target`, or shows classes without a name."""
    target, classes = part.target, len(class_names)
    forms = {1: np.int32, 2: np.float32, 3: np.uint8}
    if forms.get(target.ndim) != target.dtype:
        raise DataError(
            f"The {name} part: labels must be int32 ({len(target)},), or float32 ({len(target)}, K) of 0 and 1, or "
            f"masks uint8 ({len(target)}, H, W). Received: {target.dtype} {target.shape}."
        )
    if isinstance(target, LazyMasks):
        return  # each is checked when it is read
    if has_masks(part):
        _check_masks(part, classes, name, describe)
        return
    values = np.asarray(target)
    if values.ndim == 2:
        if values.shape[1] != classes:
            raise DataError(
                f"The {name} part: labels must be (N, {classes}), as there are {classes} classes. "
                f"Received: {values.shape}."
            )
        multiple_labels(values, f"The {name} part")
        return
    wrong = np.flatnonzero((values < 0) | (values >= classes))
    if len(wrong):
        raise DataError(
            f"The {name} part, {describe(part, int(wrong[0]))}: labels must be 0 to {classes - 1}, as there are "
            f"{classes} classes (without names: as many as the training part shows). "
            f"Received: {values[wrong[0]]} ({len(wrong)} such labels)."
        )


def _check_masks(part: Part, classes: int, name: str, describe: Any) -> None:
    for start in range(0, len(part.target), CHUNK):
        chunk = np.asarray(part.target[start : start + CHUNK])
        wrong = (chunk >= classes) & (chunk != IGNORE)
        if wrong.any():
            row = int(np.flatnonzero(wrong.any(axis=(1, 2)))[0])
            raise DataError(
                f"The {name} part, {describe(part, start + row)}: its mask must hold 0 to {classes - 1}, as there are "
                f"{classes} classes (without names: as many as the training part shows), or {IGNORE}. "
                f"Received: {chunk[row][wrong[row]][0]}."
            )
