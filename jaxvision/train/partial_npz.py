"""An .npz file too large for memory, written batch by batch, that a later process goes on with."""

import fcntl
import io
import json
import math
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jaxvision.errors import ConfigError
from jaxvision.outputs import require_absent
from jaxvision.train.folder import write_json

DTYPE = np.dtype(np.float32)
NO_TIME = (1980, 1, 1, 0, 0, 0)
"""The zip's time of each array: the same arrays give the same file, byte by byte."""


class PartialNpz:
    """float32 arrays with `rows` rows each, in the folder FILE.npz.part until all rows are there.

    Whatever stops the process, the next one with the same `identity` goes on after the last whole batch: what is
    beyond that is cut off. While it is written the file needs its space twice.
    """

    def __init__(self, path: Path, shapes: Mapping[str, tuple[int, ...]], rows: int):
        self.path, self.shapes, self.rows = path, dict(shapes), rows
        self.folder = path.with_name(path.name + ".part")
        self._files: list[BinaryIO] = []

    def is_begun(self) -> bool:
        """Whether an earlier process has left something."""
        return (self.folder / "identity.json").exists()

    @contextmanager
    def open(self, identity: Mapping[str, Any], whole_batches: Callable[[int], int]) -> Iterator[int]:
        """Within it, `append` and `finish`; gives the number of rows there already.

        identity: JSON of what decides the rows. whole_batches(n): how many of n rows are of whole batches.

        Raises: ConfigError: what is there is of another identity, or another process is at work on it; or the disk is
          full or does not take it.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self.folder / "lock", "wb") as lock:
                self._lock(lock)
                self._require_same(dict(identity))
                with ExitStack() as stack:
                    self._files = [
                        stack.enter_context(open(self._piece(number), "ab")) for number in range(len(self.shapes))
                    ]
                    yield self._cut(whole_batches)
        except OSError as error:
            raise ConfigError(
                f"{self.folder}: cannot be written. The same command goes on from what is there. Received:"
                f" {error.strerror or error}"
            ) from error

    def append(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The next rows of every array."""
        for file, name in zip(self._files, self.shapes, strict=True):
            file.write(np.ascontiguousarray(arrays[name], DTYPE).data)
            file.flush()

    def finish(self, more: Mapping[str, np.ndarray]) -> None:
        """Makes FILE.npz of all rows and the small arrays `more`, in one move, and removes the folder."""
        whole = self.folder / "whole.npz"
        with zipfile.ZipFile(whole, "w") as archive:
            for name, values in more.items():
                with _member(archive, name) as member:
                    np.lib.format.write_array(member, values, allow_pickle=False)
            for number, name in enumerate(self.shapes):
                with _member(archive, name) as member, open(self._piece(number), "rb") as piece:
                    shutil.copyfileobj(piece, member, 2**20)
        with open(whole, "rb") as file:
            os.fsync(file.fileno())
        require_absent(self.path)
        whole.rename(self.path)
        shutil.rmtree(self.folder)

    def _piece(self, number: int) -> Path:
        return self.folder / f"{number}.npy"

    def _lock(self, lock: BinaryIO) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{self.folder}: another process is at work on it.") from None

    def _require_same(self, identity: dict[str, Any]) -> None:
        file = self.folder / "identity.json"
        if not file.exists():
            write_json(file, identity)
            return
        before, now = json.loads(file.read_text()), json.loads(json.dumps(identity))
        other = [
            key if key.endswith("sha256") else f"{key} ({before.get(key)!r} there, {now.get(key)!r} here)"
            for key in {**before, **now}
            if before.get(key) != now.get(key)
        ]
        if other:
            raise ConfigError(
                f"{self.folder}: begun by another command. Repeat that one to go on with it, remove the folder to start"
                f" anew, or give another --out. What differs: {', '.join(other)}"
            )

    def _cut(self, whole_batches: Callable[[int], int]) -> int:
        """Brings every piece to the same number of rows, whole batches all of them, and gives that."""
        headers = [self._header(shape) for shape in self.shapes.values()]
        sizes = [math.prod(shape) * DTYPE.itemsize for shape in self.shapes.values()]
        there = [
            max(file.tell() - len(header), 0) // size
            for file, header, size in zip(self._files, headers, sizes, strict=True)
        ]
        done = whole_batches(min(self.rows, *there))
        for file, header, size in zip(self._files, headers, sizes, strict=True):
            if file.tell() < len(header):
                file.truncate(0)
                file.write(header)
            file.truncate(len(header) + done * size)
        return done

    def _header(self, shape: tuple[int, ...]) -> bytes:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": DTYPE.str, "fortran_order": False, "shape": (self.rows, *shape)}
        )
        return header.getvalue()


@contextmanager
def _member(archive: zipfile.ZipFile, name: str) -> Iterator[Any]:
    with archive.open(zipfile.ZipInfo(f"{name}.npy", NO_TIME), "w", force_zip64=True) as member:
        yield member
