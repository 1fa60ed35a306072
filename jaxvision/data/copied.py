"""Data in a bucket (gs://): copied to this machine before it is read, and again only what has changed.

Before a run the sizes, first bytes and headers of all pictures are looked at, and then they are read in any order: in a
bucket each of these would be a request.
"""

import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jaxvision.bucket import SCHEME, require_reachable
from jaxvision.cachedir import cache_folder
from jaxvision.errors import DataError, RunFolderError

AT_ONCE = 16
"""Objects copied at a time: most of each is waiting."""


def copied(path: str) -> Path:
    """The copy of an object, or of all objects below a folder, in the user's cache folder.

    A copy keeps its object's time of change; what agrees with it in time and size is not copied again, and what is not
    in the bucket any more is removed.

    Raises: DataError: nothing there, or it cannot be copied.
    """
    try:
        require_reachable(path)
    except RunFolderError as error:
        raise DataError(f"data.path: {str(error).removeprefix('run folder ')}") from error
    cache = cache_folder("buckets")
    if cache is None:
        raise DataError(f"{path}: nowhere to copy it to: no home folder is known. Set JAXVISION_CACHE.")
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError
    from google.cloud import storage

    bucket, _, name = path.removeprefix(SCHEME).rstrip("/").partition("/")
    root = cache / bucket / name
    try:
        found = list(_objects(storage.Client(), bucket, name))
        if not found:
            raise DataError(f"data.path: there is nothing in the bucket under this name. Received: {path}.")
        files = {root / blob.name[len(name) :].lstrip("/"): blob for blob in found}
        _remove_others(root, set(files))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(_copy, files.values(), files))
    except (GoogleAPIError, GoogleAuthError, OSError) as error:
        raise DataError(f"{path}: cannot be copied to {root}. Received: {error}") from error
    return root


def _objects(client: Any, bucket: str, name: str) -> Iterator[Any]:
    """The object of this name, or those below it; names that end in / only mark folders."""
    for blob in client.list_blobs(bucket, prefix=name):
        below = blob.name == name or not name or blob.name.startswith(f"{name}/")
        if below and not blob.name.endswith("/") and ".." not in blob.name.split("/"):
            yield blob


def _copy(blob: Any, file: Path) -> None:
    changed = blob.updated.timestamp()
    if file.is_file():
        status = file.stat()
        if status.st_size == blob.size and abs(status.st_mtime - changed) < 1e-3:
            return
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        blob.download_to_filename(partial)
        os.utime(partial, (changed, changed))
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def _remove_others(root: Path, files: set[Path]) -> None:
    """Copies whose objects are gone."""
    for file in root.rglob("*") if root.is_dir() else [root] if root.is_file() else []:
        if file.is_file() and file not in files and not file.name.endswith(".part"):
            file.unlink()
