"""Downloads that go on where they stopped, are checked, and appear whole or not at all."""

import fcntl
import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from jaxvision.cachedir import cache_folder
from jaxvision.errors import ConfigError

ATTEMPTS = 4
"""How often a connection is made before giving up; each goes on where the last one broke."""

TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as broken."""

_CHUNK = 2**18


class _BrokenError(Exception):
    """The connection ended early; what came is kept."""


def weights_folder() -> Path:
    """Where fetched weights are kept; not made yet. ConfigError: no home folder is known."""
    folder = cache_folder("weights")
    if folder is None:
        raise ConfigError("weights: no home folder is known to keep them in; set JAXVISION_CACHE to a folder.")
    return folder


def fetch(url: str, path: Path, *, md5: str | None, what: str) -> None:
    """Downloads `url` to `path`, unless that is there.

    What has come before a break stays in `path`.part, and a later call goes on from there, if the server still has the
    same file (If-Range). The file is moved to `path` only whole, and of the given md5 unless that is None.

    what: what it is, for messages. Raises: ConfigError: it could not be fetched, and where to put it by hand.
    """
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path.with_name(".lock"), "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # waits for another process that may be fetching the same
            if path.exists():
                return
            with _progress() as progress:
                task = progress.add_task(path.name, total=None)
                _download(url, partial, md5, progress, task)
            os.replace(partial, path)
            _tag(partial).unlink(missing_ok=True)
    except (OSError, http.client.HTTPException, _BrokenError) as error:
        reason = error if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", None) or error
        raise ConfigError(
            f"{what} could not be fetched ({reason}).\n  From: {url}\n  Fetch it elsewhere and put it at: {path}\n"
            "It is then used as it is; or pass the file instead of imagenet: --model.weights FILE."
        ) from error


def _download(url: str, partial: Path, md5: str | None, progress: Progress, task: TaskID) -> None:
    """Fills `partial`. Where it goes on from an earlier call's, and the whole has another hash: once more afresh."""
    for _ in range(1 + partial.exists()):
        for attempt in range(ATTEMPTS):
            try:
                _continue(url, partial, md5 is not None, progress, task)
                break
            except urllib.error.HTTPError:
                raise
            except (OSError, http.client.HTTPException, _BrokenError):
                if attempt == ATTEMPTS - 1:
                    raise
        found = _md5(partial)
        if md5 in (None, found):
            return
        partial.unlink()
        _tag(partial).unlink(missing_ok=True)
    raise _BrokenError(f"what came is another file: its md5 is {found}, not {md5}")


def _continue(url: str, partial: Path, checked: bool, progress: Progress, task: TaskID) -> None:
    """One request for what is missing of `partial`.

    Without a hash to check the whole by, only a server's tag tells that it still has the same file.
    """
    have = partial.stat().st_size if partial.exists() else 0
    tag = _tag(partial).read_text() if have and _tag(partial).exists() else ""
    headers = {"User-Agent": "jaxvision", "Accept-Encoding": "identity"}
    if have and (tag or checked):
        headers["Range"] = f"bytes={have}-"
        if tag:
            headers["If-Range"] = tag
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        whole = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
        if whole and int(whole[1]) == have:
            return  # it had come whole
        partial.unlink()
        raise _BrokenError("the server has a shorter file now") from error
    with response:
        part = re.match(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        goes_on = response.status == http.HTTPStatus.PARTIAL_CONTENT and part is not None and int(part[1]) == have
        length = response.headers.get("Content-Length")
        total = int(part[2]) if goes_on and part else int(length) if length else None
        entity = response.headers.get("ETag", "")
        _tag(partial).write_text(
            "" if entity.startswith("W/") else entity
        )  # a weak tag is no promise of the same bytes
        done = have if goes_on else 0
        progress.update(task, total=total, completed=done)
        with open(partial, "ab" if goes_on else "wb") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                progress.update(task, completed=done)
    if total is not None and done < total:
        raise _BrokenError(f"the connection broke after {done:,} of {total:,} bytes")


def _tag(partial: Path) -> Path:
    """Holds the server's tag (ETag) of the file that `partial` is the beginning of."""
    return partial.with_name(partial.name + ".etag")


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        # Keras publishes md5; it tells a damaged file, not one made to deceive.
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _progress() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal)
