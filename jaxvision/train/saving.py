"""Where a save or a log line may fail: the disk. Seen before a save is begun where that can be, told in one line."""

import contextlib
import errno
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import jax
from etils import epath

from jaxvision.bucket import in_bucket, said
from jaxvision.errors import RunFolderError
from jaxvision.quiet import quiet

MARGIN = 2**20
"""Bytes a save takes beside its arrays: their metadata and manifest, the lines of the logs."""

UNWRITABLE = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE,
    errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOENT,
)  # fmt: skip
"""A full or read-only disk; or something else in the place of a file or folder (where etils gives no number)."""


@contextlib.contextmanager
def saving(folder: epath.Path, arrays: Iterable[jax.Array]) -> Iterator[None]:
    """Around the writing of arrays to a folder by Orbax.

    Raises: RunFolderError: the disk has no room for them, said before anything is written; or they cannot be written.
    """
    needed = sum(array.nbytes for array in arrays) + MARGIN
    free = _free(folder)
    if free is not None and free < needed:
        raise _unwritable(folder, f"{free / 1e6:.1f} MB free, and {needed / 1e6:.1f} MB are needed")
    # Orbax starts all writes at once; of those that fail the first is raised, and asyncio would print each other.
    with quiet("asyncio", logging.CRITICAL):
        try:
            yield
        except OSError as error:
            raise _unwritable(folder, error.strerror or str(error)) from error
        except ValueError as error:  # of the C++ library that writes the arrays
            if in_bucket(folder):
                raise _unwritable(folder, str(error).splitlines()[0]) from error
            if "os_error_code" not in str(error):
                raise
            code = re.search(r"os_error_code='(\d+)'", str(error))
            reason = os.strerror(int(code[1])) if code else str(error)
            raise _unwritable(folder, reason) from error


@contextlib.contextmanager
def writing_run(folder: epath.Path) -> Iterator[None]:
    """Around all that writes to a run folder: RunFolderError where its disk is full, read-only or gone, or something in
    it is not the file or folder it should be."""
    try:
        yield
    except OSError as error:
        if error.errno not in (*UNWRITABLE, None) or not _is_in(folder, error.filename):
            raise
        raise _unwritable(epath.Path(error.filename or folder), error.strerror or str(error)) from error
    except Exception as error:
        if not in_bucket(folder) or (reason := said(error)) is None:
            raise
        raise _unwritable(folder, reason) from error


def _unwritable(folder: epath.Path, received: str) -> RunFolderError:
    return RunFolderError(
        f"{folder}: cannot be written. Received: {received}. What was saved before stays; mend that, and go on with"
        " --resume."
    )


def _is_in(folder: epath.Path, file: object) -> bool:
    """Whether a file, if it is known, is one of the folder's."""
    if file is None or in_bucket(folder):
        return True
    return Path(str(file)).resolve().is_relative_to(Path(os.fspath(folder)).resolve())


def _free(folder: epath.Path) -> int | None:
    """Bytes free where a folder is; None where that cannot be told, as in buckets."""
    if in_bucket(folder):
        return None
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
