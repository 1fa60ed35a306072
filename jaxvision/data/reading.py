"""Looking at files one by one, on all processor cores."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from PIL import Image

from jaxvision.cores import available_cores

Item = TypeVar("Item")
Found = TypeVar("Found")


def look_at_each(
    look: Callable[[Item], Found], items: Sequence[Item], progress: Callable[[int, int], None] | None = None
) -> Iterator[tuple[Item, Found]]:
    """(item, look(item)) in the order of the items. progress(done, total) is called after each."""
    with warnings.catch_warnings(), ThreadPoolExecutor(available_cores()) as pool:
        # Pillow warns of large pictures; those that are too large have a fault of their own.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for done, pair in enumerate(zip(items, pool.map(look, items), strict=True), start=1):
            yield pair
            if progress is not None:
                progress(done, len(items))
