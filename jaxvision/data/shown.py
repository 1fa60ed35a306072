"""What the labels or masks of a part show of each class, and whether a run can learn from that.

`train` looks at the parts that it has opened, `check` at every file; both judge by the same rules.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from jaxvision import config
from jaxvision.config import PARTS
from jaxvision.data.mask import value_hint
from jaxvision.data.mask_stream import StreamedMasks
from jaxvision.data.parts import Dataset
from jaxvision.errors import DataError
from jaxvision.types import IGNORE

CHUNK = 64
"""Masks read at a time, the first ones evenly spread over the part."""

MOST = 2048
"""Masks of the training part that are read where these do not show every class."""

MANY_IGNORED = 0.5
"""Share of ignored pixels from which a warning says so."""

GREY = 64
"""Classes without names from which masks may hold grey levels."""

OBJECTS = 5
"""Classes without names from which masks may hold instance numbers."""

NAMED = 8
"""Classes that a message lists before it only counts them."""

FEW = 10
"""Examples below which a part may well show one class by chance."""


@dataclass(frozen=True, eq=False)
class Shown:
    """What the examples of a part show.

    examples: int (K,), how many of them show each class. looked, total: how many were looked at, and how many there
    are. multiple: whether each has any number of classes. pixels: of masks, int (256,), how many pixels hold each class
    number. numbers: of masks, the class numbers in each.
    """

    examples: np.ndarray
    looked: int
    total: int
    multiple: bool = False
    pixels: np.ndarray | None = None
    numbers: Sequence[frozenset[int]] = ()

    @property
    def classes(self) -> list[int]:
        """Numbers of the classes that an example shows."""
        return np.flatnonzero(self.examples).tolist()

    @property
    def ignored(self) -> float:
        """Share of the pixels that count nowhere."""
        return 0.0 if self.pixels is None else float(self.pixels[IGNORE] / max(self.pixels.sum(), 1))


def require_shown(dataset: Dataset, data: config.Data) -> None:
    """Judges the labels or masks that a run is to train on; what is suspicious is a warning.

    Masks are read until they show every class, at most `MOST`; only where all these show one class, more are.

    Raises: DataError: the numbers in labels or masks cannot mean what they seem to, or no pixel of a part counts.
    """
    count = len(dataset.class_names)
    shown = {
        name: _look(part.target, count, wanted=count if name == "train" else 2)
        for name in PARTS
        if (part := getattr(dataset, name)) is not None
    }
    short = data.limit_train is not None
    refused = refusal(shown, dataset.class_names, data, numbered=dataset.numbered)
    if refused and not short:
        raise DataError(refused)
    for name, each in shown.items():
        if each.pixels is not None and not each.classes:
            raise DataError(
                f"The {name} part: no pixel of its masks counts, all are ignored. Leave data.ignore_label out, or set "
                f"data.mask_values to the numbers of the classes as stored. Received: {each.looked} such masks."
            )
    told = [refused] if refused else suspicions(shown, dataset.class_names, numbered=dataset.numbered)
    # A trial of two steps (--smoke) need not see every class.
    if not refused and not (short and shown["train"].total <= 2 * data.batch_size):
        told += _absent(shown, dataset.class_names, data, numbered=dataset.numbered)
    for text in told:
        warnings.warn(text, stacklevel=2)


def refusal(shown: Mapping[str, Shown], names: Sequence[str], data: config.Data, *, numbered: bool) -> str | None:
    """Why the training part cannot mean what it seems to; None where it can.

    numbered: whether nothing names the classes, which are counted up to the largest number.
    """
    train = shown["train"]
    if train.multiple:
        if train.classes:
            return None
        return (
            f"The training labels are 0 for all {len(names)} classes. Received: {train.total} examples of no class. "
            "Give 1 where an example has a class."
        )
    if numbered and _grey(train):
        numbers = _stored_numbers(train, data)
        return (
            f"The training masks hold {len(train.classes)} different numbers, and nothing names so many classes. "
            f"{value_hint(np.array(numbers))} If each number is a class, name all in data.class_names. Received: "
            f"{_listed(numbers)}."
        )
    if len(train.classes) == 1 and train.looked == train.total:
        return _one_class(train, names, data)
    everywhere = sum((each.examples for each in shown.values()), np.zeros(len(names), int))
    empty = int((everywhere == 0).sum())
    if numbered and empty and (not everywhere[0] or 2 * empty >= len(names)):
        return _not_counted(np.flatnonzero(everywhere), len(names), data, masks=train.pixels is not None)
    return None


def suspicions(shown: Mapping[str, Shown], names: Sequence[str], *, numbered: bool) -> list[str]:
    """What may well be meant otherwise than it seems, a sentence or two each."""
    train, told = shown["train"], []
    if train.ignored >= MANY_IGNORED:
        told.append(
            f"{train.ignored:.0%} of the pixels in the training masks are ignored and count nowhere. Where they are a "
            "class, list its number as stored in data.mask_values."
        )
    if numbered and _objects(train):
        told.append(
            "Each training mask holds the numbers from 0 up to one that differs from mask to mask, as instance masks "
            f"do (a number an object); here they are {len(names)} classes. Set data.mask_thresholds to 1 for one class "
            "of all objects, or data.class_names where the numbers are classes."
        )
    if train.multiple:
        always = [name for name, count in zip(names, train.examples, strict=True) if count == train.total]
        if always:
            told.append(f"Every training example has the class {_quoted(always)}: nothing tells when it is not there.")
    for name, each in shown.items():
        if name != "train" and not each.multiple and each.total >= FEW and len(each.classes) == 1:
            only = names[each.classes[0]]
            told.append(f"The {name} part shows no class but {only!r}: its metrics say nothing of the others.")
    return told


def _absent(shown: Mapping[str, Shown], names: Sequence[str], data: config.Data, *, numbered: bool) -> list[str]:
    """A warning of the classes without a training example, if there are any."""
    train = shown["train"]
    lacking = [number for number, count in enumerate(train.examples) if not count]
    if not lacking:
        return []
    what = "mask" if train.pixels is not None else "example"
    of = "" if train.looked == train.total else f" (of the {train.looked:,} looked at, {train.total:,} in all)"
    others = [name for name, each in shown.items() if name != "train" and each.examples[lacking].any()]
    told = f" The {' and the '.join(others)} part shows what was not trained." if others else ""
    if numbered and not train.multiple:
        field = "mask_values" if train.pixels is not None else "label_values"
        mend = f"data.{field} lists the numbers that are classes"
    else:
        mend = "Leave them out of the classes"
    cut = " (data.limit_train and data.validation_fraction take examples away)"
    some = data.limit_train is not None or data.validation_fraction > 0
    return [
        f"No training {what}{of} shows {len(lacking)} of the {len(names)} classes: "
        f"{_quoted([names[number] for number in lacking])}. The model gets outputs for them, and learns never to "
        f"predict them.{told} {mend}, or add examples{cut if some else ''}."
    ]


def _one_class(train: Shown, names: Sequence[str], data: config.Data) -> str:
    if train.pixels is None:
        return (
            f"All training labels are of one class, {names[train.classes[0]]!r}, so there is nothing to learn. "
            f"Received: {train.total} examples of it and none of the other {len(names) - 1}."
        )
    only = f"no class but {names[train.classes[0]]!r}"
    if not train.pixels[IGNORE]:
        return (
            f"The training masks show {only}, so there is nothing to learn. Received: {train.total} masks, all "
            f"{' or '.join(map(str, _stored_numbers(train, data)))}."
        )
    ignored = IGNORE if data.ignore_label is None else data.ignore_label
    numbers = " ".join(map(str, sorted({*_stored_numbers(train, data), ignored})))
    leave = " and leave data.ignore_label out" if data.ignore_label is not None else ""
    return (
        f"The training masks show {only}: all other pixels, {train.ignored:.1%}, are {ignored}, which is ignored"
        f"{' (data.ignore_label)' if leave else ' in arrays'}. Where {ignored} is a class, set data.mask_values to "
        f"{numbers}{leave}. Received: {train.total} masks."
    )


def _not_counted(numbers: np.ndarray, count: int, data: config.Data, *, masks: bool) -> str:
    """Of numbers that are not 0, 1, 2, ..."""
    stored = (numbers + data.label_offset).tolist()
    what, field = ("masks", "mask_values") if masks else ("labels", "label_values")
    if all(high - low == 1 for low, high in pairwise(stored)):
        mend = f"Set data.label_offset to {stored[0]}, the number of the first class"
    else:
        listed = f" to {' '.join(map(str, stored))}" if len(stored) <= NAMED else ""
        mend = f"Set data.{field}{listed}, the numbers of the classes as stored"
        if masks and len(stored) > 2:
            mend += "; or data.mask_thresholds, where they are grey levels"
    return (
        f"The training {what} come without names of classes. Counted from {data.label_offset} up to {stored[-1]}, "
        f"there are {count} classes, {count - len(stored)} of them without an example. {mend}; or name all {count} in "
        f"data.class_names, if they are meant. Received: {what} of {_listed(stored)}."
    )


def _stored_numbers(train: Shown, data: config.Data) -> list[int]:
    """Of the classes that the training part shows."""
    if data.mask_values:
        return [data.mask_values[number] for number in train.classes]
    offset = 1 if data.source == "pets" else 0 if data.mask_thresholds else data.label_offset
    return [number + offset for number in train.classes]


def _grey(train: Shown) -> bool:
    """Whether masks hold so many numbers each as grey levels do, and label maps do not."""
    if train.pixels is None or len(train.examples) < GREY or not train.numbers:
        return False
    levels = float(np.median([len(each) for each in train.numbers]))
    commonest = float(np.sort(train.pixels)[-2:].sum() / max(train.pixels.sum(), 1))
    return levels > 32 or (levels > 8 and commonest > 0.9)


def _objects(train: Shown) -> bool:
    """Whether masks hold 0, 1, 2, ... without a gap, each up to another number."""
    counts = {len(each) for each in train.numbers}
    counted = all(max(each, default=-1) == len(each) - 1 for each in train.numbers)
    return counted and len(train.examples) >= OBJECTS and len(counts) > 2 and train.looked >= FEW


def _look(target: Any, count: int, *, wanted: int) -> Shown:
    """Of masks, those read until `wanted` classes are shown."""
    if target.ndim == 1:
        return Shown(np.bincount(target, minlength=count), len(target), len(target))
    if target.ndim == 2:
        return Shown(np.asarray(target).sum(0).astype(int), len(target), len(target), multiple=True)
    order = np.arange(len(target))
    if not isinstance(target, StreamedMasks):  # which are read from the first to the last
        first = np.unique(np.linspace(0, len(target) - 1, CHUNK).astype(int))
        order = np.concatenate([first, np.setdiff1d(order, first)])
    pixels, examples, numbers, looked = np.zeros(256, int), np.zeros(256, int), list[frozenset[int]](), 0
    while looked < len(order):
        found = np.count_nonzero(examples[:count])
        if looked and (found >= wanted or (looked >= MOST and found > 1)):
            break
        # Twice as many each time: masks of a stream are read from its beginning.
        for mask in np.asarray(target[order[looked : looked + max(CHUNK, min(looked, 4 * CHUNK))]]):
            counts = np.bincount(mask.ravel(), minlength=256)
            pixels += counts
            examples += counts > 0
            if len(numbers) < MOST:
                numbers.append(frozenset(np.flatnonzero(counts[:IGNORE]).tolist()))
            looked += 1
    return Shown(examples[:count], looked, len(order), pixels=pixels, numbers=numbers)


def _quoted(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(map(repr, names[:NAMED])) + more


def _listed(numbers: Sequence[int]) -> str:
    """Numbers that rise, in words."""
    if len(numbers) <= NAMED:
        return ", ".join(map(str, numbers))
    return f"{', '.join(map(str, numbers[:3]))}, ..., {numbers[-1]} ({len(numbers)} different numbers)"
