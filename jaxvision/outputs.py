"""Files written: whole or not at all, and by commands never over what is there."""

import itertools
import os
import uuid
from collections.abc import Sequence
from pathlib import Path

from etils import epath

from jaxvision.bucket import expanded, in_bucket
from jaxvision.errors import ConfigError


def require_local(path: Path) -> None:
    """ConfigError where `path` was a bucket's (gs://...), of which `Path` makes a folder gs: in the current one."""
    if path.parts and path.parts[0] in ("gs:", "s3:"):
        raise ConfigError(
            f"{path}: of what is written only run folders can be in a bucket. Give a place on this machine, and copy it"
            " there afterwards."
        )


def require_absent(path: Path) -> None:
    """ConfigError where there is something at `path`: nothing is written over."""
    require_local(path)
    if path.exists() or path.is_symlink():
        raise ConfigError(f"{path}: already there; nothing is written over. Give another file to write, or remove it.")


def require_writable(folder: Path) -> None:
    """ConfigError where no file can be written to this folder, which need not be there yet: said before the work."""
    require_local(folder)
    there = next(above for above in (folder.absolute(), *folder.absolute().parents) if above.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        what = "no folder" if not there.is_dir() else "not to be written to"
        raise ConfigError(f"{folder}: cannot be written. Received: {there} is {what}.")


def output_folder(asked: str | None, name: str) -> Path:
    """The folder that was asked for; else `name` in the current folder, or name-2, name-3, ... where there is something
    already. Makes nothing."""
    if asked is not None:
        return Path(expanded(asked))
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(folder for folder in map(Path, names) if not (folder.exists() or folder.is_symlink()))


def different_names(paths: Sequence[str]) -> list[str]:
    """The files' names without their endings, with -2, -3, ... where an earlier one has the same; letter case apart,
    since not every disk tells it."""
    names: list[str] = []
    taken: set[str] = set()
    for path in paths:
        stem = Path(path).stem
        tries = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
        name = next(name for name in tries if name.casefold() not in taken)
        taken.add(name.casefold())
        names.append(name)
    return names


def write_output(file: Path, content: bytes) -> None:
    """A file that a command was asked for, whole, in a folder that is made if it is not there.

    Raises: ConfigError: it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, content)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written. Received: {error.strerror or error}") from error


def write_whole(path: epath.PathLike, content: bytes | memoryview) -> None:
    """What is at `path` afterwards is all of `content`; or what was there before, and an OSError."""
    target = epath.Path(expanded(path))
    if in_bucket(target):  # an upload is whole or nothing; a move would be a copy
        target.write_bytes(bytes(content))
        return
    partial = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.part"
    try:
        partial.write_bytes(content)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
