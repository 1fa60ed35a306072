"""Whether the images of a dataset can be told apart at all: a few of each part are looked at before training."""

import warnings

import numpy as np

from jaxvision.config import PARTS
from jaxvision.data.arrays import range_warning
from jaxvision.data.lazy_masks import over_cores
from jaxvision.data.parts import ArrayPart, Dataset, FilePart, Part, SequentialPart
from jaxvision.data.picture import read_picture
from jaxvision.data.pipeline import sequence_batches
from jaxvision.errors import DataError

LOOKED = 64
"""Images of an array that are looked at, evenly spread."""

FILES = 8
"""Files, or examples of a stream, that are decoded to be looked at."""

FEW = 8
"""Images below which nothing is said of a part."""


def require_images(dataset: Dataset) -> None:
    """Looks at a few images of each part.

    Raises: DataError: all training images are the same. Images of one colour, and integers that use only the lowest
    part of 0..255, are warnings.
    """
    for name in PARTS:
        part: Part | None = getattr(dataset, name)
        if part is None or len(part.target) < FEW or not (some := _some(part)):
            continue
        if all(np.array_equal(image, some[0]) for image in some[1:]) and _all_the_same(part, some[0]):
            text = f"The {name} part: all {len(part.target)} images are the same. Received: {_described(some[0])}."
            if name == "train":
                raise DataError(f"{text} Look at how they are made.")
            warnings.warn(text, stacklevel=2)
            continue
        plain = sum(int(image.min() == image.max()) for image in some)
        if 2 * plain >= len(some):
            warnings.warn(
                f"The {name} part: {plain} of the {len(some)} images looked at are of one colour each, so nothing is "
                f"to be seen in them, such as one that is {_described(next(i for i in some if i.min() == i.max()))}.",
                stacklevel=2,
            )
        elif not isinstance(part, FilePart) and some[0].dtype == np.uint8:  # others are looked at when they are opened
            told = range_warning(min(float(i.min()) for i in some), max(float(i.max()) for i in some))
            if told:
                warnings.warn(f"The {name} part, {len(some)} images looked at: {told}", stacklevel=2)


def _some(part: Part) -> list[np.ndarray]:
    """A few images (H, W, C), files in their own size; none of records, which a dataset's authors have looked at."""
    count = len(part.target)
    match part:
        case ArrayPart():
            return list(part.inputs[np.unique(np.linspace(0, count - 1, LOOKED).astype(int))])
        case FilePart():
            rows = np.unique(np.linspace(0, count - 1, FILES).astype(int))
            read = over_cores(lambda row: _read(part.paths[row], part.channels), rows)
            return [image for image in read if image is not None]
        case SequentialPart() if part.identity is None:  # handed over by a user
            return list(next(sequence_batches(part, FILES))[0])
    return []


def _read(path: str, channels: int) -> np.ndarray | None:
    try:
        return read_picture(path, channels=channels)
    except DataError:
        return None  # training decodes it too, and says what is wrong with it


def _all_the_same(part: Part, first: np.ndarray) -> bool:
    """Whether every image of the part is `first`; ends with the first other one."""
    match part:
        case ArrayPart():
            rows = range(0, len(part.target), LOOKED)
            return all(bool((part.inputs[row : row + LOOKED] == first).all()) for row in rows)
        case FilePart():
            images = (_read(path, part.channels) for path in part.paths)
            return all(image is None or np.array_equal(image, first) for image in images)
        case SequentialPart():
            return all(bool((batch == first).all()) for batch, _ in sequence_batches(part, LOOKED))


def _described(image: np.ndarray) -> str:
    low, high = image.min(), image.max()
    return f"{low:g} in every pixel" if low == high else f"pixels from {low:g} to {high:g}"
