"""Arrays kept in a folder between runs: each entry whole or not at all, checked when opened, the oldest removed first.

An entry is a folder named by its key, 64 hexadecimal digits: `pictures.npy`, `masks.npy` where they have masks,
`target.npy` where labels belong to it, and `entry.json`. Where two processes make the same entry at once, the second
uses what the first one finished.
"""

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import sys
import time
import warnings
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxvision.data.parts import Cache

BLOCKS = 256
"""Evenly spaced blocks of 4 KiB that are checked whenever an entry is opened."""

STARTED = time.time()
"""Entries used since then are this process's own: they do not make room for others."""

ENTRY = re.compile(r"[0-9a-f]{64}")
UNFINISHED = re.compile(r"\.[0-9a-f]{64}\.[0-9a-f]{8}")
DAY = 86400.0


class Entry(NamedTuple):
    """pictures, masks: memory-mapped. target, masks: None where no labels or masks belong to the entry."""

    pictures: np.ndarray
    target: np.ndarray | None
    masks: np.ndarray | None


def find(cache: Cache, key: str, what: str = "decoded pictures") -> Entry | None:
    """The entry of that key; one that is damaged is removed with a warning."""
    folder = cache.folder / key
    if not folder.is_dir():
        return None
    try:
        about = json.loads((folder / "entry.json").read_text())
        pictures = _mapped(folder / "pictures.npy", about["checksum"])
        masks = _mapped(folder / "masks.npy", about["masks"]) if "masks" in about else None
        target = np.load(folder / "target.npy", allow_pickle=False) if (folder / "target.npy").exists() else None
    except (FileNotFoundError, EOFError, ValueError, KeyError, TypeError) as error:
        if not folder.is_dir():  # another process has just made room
            return None
        warnings.warn(f"{folder}: this cache entry is damaged ({error}); it will be made anew.", stacklevel=2)
        _discard(folder)
        return None
    except OSError as error:  # it may be whole all the same: nothing is removed
        warn_unusable(cache.folder, error.strerror or str(error), what)
        return None
    with contextlib.suppress(OSError):  # another user's
        os.utime(folder / "entry.json", (time.time(), time.time()))
    return Entry(pictures, target, masks)


def keep(
    cache: Cache,
    key: str,
    batches: Iterable[np.ndarray | tuple[np.ndarray, np.ndarray]],
    *,
    shape: tuple[int, ...],
    dtype: np.dtype,
    target: np.ndarray | None,
    source: str,
    what: str = "decoded pictures",
    masks: tuple[int, ...] | None = None,
) -> Entry | None:
    """Write a new entry from batches that together have `shape`, never holding more than one of them.

    masks: the shape of all masks, where each batch is a pair of pictures and uint8 masks.
    None, with a word to the user, where the entry has no room or the folder cannot be written. What `batches` raises
    is passed on.
    """
    size = int(np.prod(shape)) * dtype.itemsize + (0 if masks is None else int(np.prod(masks)))
    megabytes = f"{size / 2**20:,.0f} MB"
    temporary = _unfinished(cache.folder, key)
    try:
        cache.folder.mkdir(parents=True, exist_ok=True)
        if not _make_room(cache, size):
            print(
                f"{source}: {what} of {shape[0]:,} examples are not kept:"
                f" {megabytes} are more than data.cache_mb leaves",
                file=sys.stderr,
            )
            return None
        temporary.mkdir()
        # Written, not mapped: a full disk is then an error that can be caught.
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(_begun(temporary / "pictures.npy", shape, dtype))]
            if masks is not None:
                files.append(stack.enter_context(_begun(temporary / "masks.npy", masks, np.dtype(np.uint8))))
            for batch in batches:
                for file, rows in zip(files, batch if isinstance(batch, tuple) else (batch,), strict=True):
                    file.write(np.ascontiguousarray(rows).data)
            for file in files:
                _flush(file)
        if target is not None:
            with open(temporary / "target.npy", "wb") as file:
                np.save(file, target, allow_pickle=False)
                _flush(file)
        about = {"checksum": _checksum(temporary / "pictures.npy"), "pictures": shape[0], "source": source}
        if masks is not None:
            about["masks"] = _checksum(temporary / "masks.npy")
        with open(temporary / "entry.json", "wb") as file:
            file.write(json.dumps(about, indent=2).encode())
            _flush(file)
        try:
            temporary.rename(cache.folder / key)
        except OSError:
            if not (cache.folder / key).is_dir():  # else another process was quicker, and wrote the same
                raise
    except OSError as error:
        warn_unusable(cache.folder, error.strerror or str(error), what)
        return None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    print(f"{source}: {what} of {shape[0]:,} examples kept in {cache.folder / key} ({megabytes})", file=sys.stderr)
    return find(cache, key, what)


def warn_unusable(folder: Path, reason: str, what: str = "decoded pictures") -> None:
    """Say that a run goes on without the cache, and why."""
    warnings.warn(
        f"{folder}: {what} cannot be kept there ({reason}), so each run makes them anew. "
        "Point data.cache at another folder, or set it to off.",
        stacklevel=2,
    )


def _begun(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> Any:
    """A new .npy file, open for its rows to be written."""
    file = open(path, "wb")  # noqa: SIM115, the caller closes it
    descr = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file


def _mapped(path: Path, checksum: str) -> np.ndarray:
    if checksum != _checksum(path):
        raise ValueError("its bytes are not those that were written")
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _checksum(path: Path) -> str:
    """Of the file's size and `BLOCKS` blocks, the first and the last among them: cheap however large the file is."""
    size, checksum = path.stat().st_size, 0
    with open(path, "rb", buffering=0) as file:
        for start in np.linspace(0, max(0, size - 4096), BLOCKS).astype(int).tolist():
            file.seek(start)
            checksum = zlib.crc32(file.read(4096), checksum)
    return f"{size} {checksum:08x}"


def _make_room(cache: Cache, size: int) -> bool:
    """Remove what was not used for longest until `size` bytes more fit; False, and nothing removed, if they cannot."""
    entries = []
    for folder in cache.folder.iterdir():  # only what bears a name of ours is touched
        used = _last_use(folder)
        if UNFINISHED.fullmatch(folder.name) and used < time.time() - DAY:
            shutil.rmtree(folder, ignore_errors=True)  # left by a process that was killed
        elif ENTRY.fullmatch(folder.name):
            with contextlib.suppress(FileNotFoundError):  # another process has just made room
                entries.append((used, sum(file.stat().st_size for file in folder.iterdir()), folder))
    total = size + sum(taken for _, taken, _ in entries)
    old = sorted(entry for entry in entries if entry[0] < STARTED)
    if total - sum(taken for _, taken, _ in old) > cache.limit:
        return False
    for _, taken, folder in old:
        if total <= cache.limit:
            break
        _discard(folder)
        total -= taken
    if shutil.disk_usage(cache.folder).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return True


def _last_use(folder: Path) -> float:
    for file in (folder / "entry.json", folder / "pictures.npy", folder):
        with contextlib.suppress(OSError):
            return file.stat().st_mtime
    return 0.0


def _unfinished(folder: Path, key: str) -> Path:
    return folder / f".{key}.{secrets.token_hex(4)}"


def _discard(folder: Path) -> None:
    """Remove an entry: under its name it is gone at once, and who has it mapped goes on reading it."""
    trash = _unfinished(folder.parent, folder.name)
    with contextlib.suppress(OSError):
        folder.rename(trash)
        shutil.rmtree(trash, ignore_errors=True)
