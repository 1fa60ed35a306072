"""One process at a time works in a run folder."""

import fcntl
import os
import warnings
from types import TracebackType
from typing import Self

from etils import epath

from jaxvision.bucket import in_bucket
from jaxvision.errors import RunFolderError

NAME = ".lock"


class RunLock:
    """Holds a run folder while it is entered; however the process ends, the folder is free then.

    On this machine, and where the file system passes locks on. Not in a bucket (gs://), which knows none.

    Raises: RunFolderError: another process holds it.
    """

    def __init__(self, folder: epath.Path):
        self._folder = folder
        self._file: int | None = None

    def __enter__(self) -> Self:
        if in_bucket(self._folder):
            return self
        self._file = os.open(os.fspath(self._folder / NAME), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self._file, 20).decode(errors="replace").strip()
            os.close(self._file)
            raise RunFolderError(
                f"run folder {self._folder}: another process is at work in it (number {holder or 'unknown'}). Wait for"
                " it or stop it."
            ) from error
        except OSError as error:
            warnings.warn(
                f"{self._folder}: this file system knows no locks ({error.strerror}); let only one process work in it.",
                stacklevel=2,
            )
        os.truncate(self._file, 0)
        os.write(self._file, f"{os.getpid()}\n".encode())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            os.close(self._file)  # the lock goes with it; the file stays, since removing it would race with the next
            self._file = None
