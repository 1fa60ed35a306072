"""Looking at files one by one, on all processor cores."""

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from PIL import Image

from jaxvision.cores import available_cores
from jaxvision.errors import DataError

AT_ONCE = 4096
"""Files that are given to the cores at a time."""

Item = TypeVar("Item")
Found = TypeVar("Found")


def walk(top: str | os.PathLike[str]) -> Iterator[tuple[str, list[str], list[str]]]:
    """os.walk, but a folder that cannot be listed is an OSError, not passed over. Links to folders are not followed."""

    def raise_it(error: OSError) -> None:
        raise error

    return os.walk(top, onerror=raise_it)


@contextlib.contextmanager
def readable(where: object) -> Iterator[None]:
    """Turns an OSError into a DataError that names the file or folder; `where` if the error does not."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{error.filename or where}: cannot be read. Received: {error.strerror or error}. Its owner can allow it."
        ) from error


def look_at_each(
    look: Callable[[Item], Found], items: Sequence[Item], progress: Callable[[int, int], None] | None = None
) -> Iterator[tuple[Item, Found]]:
    """(item, look(item)) in the order of the items. progress(done, total) is called after each."""
    with warnings.catch_warnings(), ThreadPoolExecutor(available_cores()) as pool:
        # Pillow warns of large pictures; those that are too large have a fault of their own.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for start in range(0, len(items), AT_ONCE):  # a million waiting at once would take a gigabyte
            chunk = items[start : start + AT_ONCE]
            for done, pair in enumerate(zip(chunk, pool.map(look, chunk), strict=True), start=start + 1):
                yield pair
                if progress is not None:
                    progress(done, len(items))
