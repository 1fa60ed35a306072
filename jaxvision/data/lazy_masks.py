"""Masks as an array that is read only when it is asked for: opening a dataset decodes none of them."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, Self

import numpy as np

from jaxvision.cores import available_cores
from jaxvision.data.mask import MaskRule, read_mask, resize_nearest
from jaxvision.errors import DataError


class LazyMasks(ABC):
    """Class numbers uint8 (N, H, W), read as rows are asked for (by number, slice or array of numbers)."""

    ndim = 3
    dtype = np.dtype(np.uint8)

    def __init__(self, count: int, image_size: tuple[int, int], rule: MaskRule) -> None:
        self.shape = (count, *image_size)
        self.nbytes = math.prod(self.shape)
        self.rule = rule

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        chosen = np.arange(len(self))[index]
        return self.read(chosen) if chosen.ndim else self.read(chosen[None])[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.read(np.arange(len(self))).astype(dtype or self.dtype, copy=False)

    @abstractmethod
    def read(self, chosen: np.ndarray) -> np.ndarray:
        """Rows `chosen`, uint8 (n, H, W)."""

    @abstractmethod
    def rows(self, chosen: np.ndarray) -> Self:
        """Rows `chosen`, still unread."""


class MaskFiles(LazyMasks):
    """One file for each mask, decoded by Pillow on all processor cores.

    paths, pictures: the masks and the pictures they belong to. What they hold must follow `rule`; DataError otherwise.
    """

    def __init__(
        self,
        paths: Sequence[str],
        pictures: Sequence[str],
        image_size: tuple[int, int],
        rule: MaskRule,
        resize: Literal["stretch", "crop"] = "stretch",
    ) -> None:
        super().__init__(len(paths), image_size, rule)
        self.paths, self.pictures = tuple(paths), tuple(pictures)
        self.image_size, self.resize = image_size, resize

    def read(self, chosen: np.ndarray) -> np.ndarray:
        masks = np.empty((len(chosen), *self.image_size), np.uint8)

        def fill(row: int) -> None:
            masks[row] = resize_nearest(self.class_numbers(int(chosen[row])), self.image_size, self.resize)

        over_cores(fill, range(len(chosen)))
        return masks

    def class_numbers(self, index: int) -> np.ndarray:
        """One mask in its own size, uint8 (h, w), turned with its picture."""
        stored = read_mask(self.paths[index], self.pictures[index])
        try:
            return self.rule.class_numbers(stored)
        except DataError as error:
            raise DataError(
                f"{self.paths[index]}, the mask of {self.pictures[index]}: {error} `jaxvision check` lists all."
            ) from None

    def rows(self, chosen: np.ndarray) -> "MaskFiles":
        paths, pictures = ([files[index] for index in chosen] for files in (self.paths, self.pictures))
        return self.of(paths, pictures)

    def of(self, paths: Sequence[str], pictures: Sequence[str]) -> "MaskFiles":
        """Other masks, read in the same way."""
        return MaskFiles(paths, pictures, self.image_size, self.rule, self.resize)


def over_cores(function: Any, items: Iterable[Any]) -> list[Any]:
    """[function(item) for item in items] on all processor cores; Pillow decodes outside Python's lock."""
    with ThreadPoolExecutor(available_cores()) as pool:
        return list(pool.map(function, items))
