"""How the pictures of a part are to be read and turned, by the heads of their files; none may be too large."""

import os
from collections.abc import Sequence

import numpy as np

from jaxvision.data.lazy_masks import over_cores
from jaxvision.data.levels import require_levels
from jaxvision.data.picture_file import FaultError, picture_header
from jaxvision.errors import DataError

AT_ONCE = 256
"""Files that a core looks at in turn."""

BY_PILLOW = 0
"""Mark of pictures that are read by Pillow, not by TensorFlow (`picture_file.Header`)."""


def read_marks(paths: Sequence[str]) -> np.ndarray | None:
    """EXIF marks (`orientation.orientation`) of picture files, or BY_PILLOW, int32 (N,); None where all are 1.

    A file that cannot be read has 1: who decodes it says what is wrong with it.
    Raises: DataError: an image of more than MAX_PIXELS, which decoding would take the memory for; or images of 16 bits
    a channel of which nearly nothing is left in 8 (`levels.require_levels`).
    """
    starts = range(0, len(paths), AT_ONCE)
    chunks = over_cores(lambda start: [_mark(path) for path in paths[start : start + AT_ONCE]], starts)
    found = [one for chunk in chunks for one in chunk]
    require_levels(paths, np.array([deep for _, deep in found], bool))
    marks = np.array([mark for mark, _ in found], np.int32)
    return marks if (marks != 1).any() else None


def _mark(path: str) -> tuple[int, bool]:
    """And whether it has 16 bits a channel."""
    try:
        header = picture_header(path)
        return BY_PILLOW if header.for_pillow else header.mark, header.deep
    except FaultError as fault:
        if not str(fault).startswith("too large"):
            return 1, False
        raise DataError(f"{path}: {fault}. Received: {os.path.getsize(path)} bytes. Remove this file.") from None
