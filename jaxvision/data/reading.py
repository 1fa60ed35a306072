"""Looking at files one by one, on all processor cores."""

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from PIL import Image

from jaxvision.cores import available_cores
from jaxvision.data.names import clutter
from jaxvision.data.picture_file import unreadable
from jaxvision.errors import DataError

AT_ONCE = 4096
"""Files that are given to the cores at a time."""

Item = TypeVar("Item")
Found = TypeVar("Found")


def walk(
    top: str | os.PathLike[str], skipped: list[str] | None = None, *, followlinks: bool = False
) -> Iterator[tuple[str, list[str], list[str]]]:
    """os.walk without hidden files and folders and those that systems leave, which are appended to `skipped`.

    Raises: OSError: a folder that cannot be listed.
    """

    def raise_it(error: OSError) -> None:
        raise error

    for folder, folders, files in os.walk(top, onerror=raise_it, followlinks=followlinks):
        if hidden := {name for name in (*folders, *files) if clutter(name)}:
            if skipped is not None:
                skipped += [os.path.join(folder, name) for name in sorted(hidden)]
            folders[:] = [name for name in folders if name not in hidden]
            files = [name for name in files if name not in hidden]
        yield folder, folders, files


@contextlib.contextmanager
def readable(where: object) -> Iterator[None]:
    """Turns an OSError into a DataError that names the file or folder; `where` if the error does not."""
    try:
        yield
    except FileNotFoundError as error:
        name = error.filename or where
        raise DataError(f"{name}: {unreadable(error)}. Received: {error.strerror or error}. Restore it.") from error
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
