"""Whether images keep what they show when they are read as 8 bits; few levels are left of 12 bits stored in 16."""

import os
import warnings
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from jaxvision.data.picture import decoded
from jaxvision.data.picture_file import FaultError
from jaxvision.errors import DataError

SAMPLE = 64
"""Files that are looked at where the first ones show few levels; of sound data it takes one."""

FEW = 16
"""Levels of 256, from the lowest to the highest, below which images show nearly nothing."""

SOME = 64
"""Levels below which 16-bit images lose more than they need to."""

MEND = (
    "Spread the values that the images use over 0..65535, or save them as 8 bits (0..255): in the same way for all "
    "images, also for those to predict."
)


class Levels(NamedTuple):
    """What of 0..255 images use, from `low` to `high`; `most` of it: without a thousandth of the pixels at each end."""

    low: int = 255
    high: int = 0
    most: tuple[int, int] = (255, 0)

    @classmethod
    def of(cls, pixels: np.ndarray) -> Self:
        """Of uint8 pixels."""
        counts = np.cumsum(np.bincount(pixels.ravel(), minlength=256))
        low, first, last, high = np.searchsorted(
            counts, (1, counts[-1] // 1000 + 1, -(-counts[-1] * 999 // 1000), counts[-1])
        )
        return cls(int(low), int(high), (int(first), int(last)))

    def also(self, other: Self) -> Self:
        """Of these images and others."""
        most = min(self.most[0], other.most[0]), max(self.most[1], other.most[1])
        return type(self)(min(self.low, other.low), max(self.high, other.high), most)

    @property
    def plenty(self) -> bool:
        """Whether nothing is to be said of them."""
        return self.most[1] - self.most[0] >= SOME


def fault(deep: Levels) -> str | None:
    """Why images of 16 bits a channel with these levels cannot be used; None where they can."""
    if deep.high < deep.low or deep.high - deep.low >= FEW:
        return None
    return (
        "PNGs of 16 bits a channel are read by their upper 8 bits, which hardly differ here: the images would be "
        f"nearly uniform. Received: {deep.low} to {deep.high} of 255, from stored values of {deep.low * 256} to "
        f"{deep.high * 256 + 255} of 65535. {MEND}"
    )


def remark(levels: Levels, *, deep: bool) -> str | None:
    """What is to be known of images with these levels, of 16 bits a channel or 8; None for nothing."""
    low, high = levels.most
    if not deep and levels.low <= levels.high < levels.low + FEW:
        return (
            f"images use {levels.low} to {levels.high} of 0..255, so they are nearly uniform (class numbers, or values "
            "of 0..1, saved as images?)"
        )
    if not deep or low > high or levels.plenty:
        return None
    return (
        f"PNGs of 16 bits a channel are read by their upper 8 bits, and nearly all of those lie in {low} to {high} of "
        f"255: detail is lost. {MEND}"
    )


def require_levels(paths: Sequence[str], deep: np.ndarray) -> None:
    """Looks at some of the image files, and warns of few levels. deep: which have 16 bits a channel, bool (N,).

    Raises: DataError: those of 16 bits have next to none when they are read as 8.
    """
    for which, files in ((True, np.flatnonzero(deep)), (False, np.flatnonzero(~deep))):
        found, last = Levels(), ""
        for index in files[:: max(1, len(files) // SAMPLE)]:
            try:
                pixels, _ = decoded(last := paths[index], None)
            except (FaultError, OSError):
                continue  # who decodes it for training says what is wrong with it
            found = found.also(Levels.of(pixels))
            if found.plenty or (not which and found.high - found.low >= FEW):
                break
        count = f"{len(files)} of {len(paths)} images, such as {last}"
        if which and (reason := fault(found)):
            raise DataError(f"{os.path.commonpath(paths)} ({count}): {reason}")
        if reason := remark(found, deep=which):
            warnings.warn(f"{os.path.commonpath(paths)} ({count}): {reason}.", stacklevel=2)
