"""Kaggle's dogs-vs-cats pictures in each form they come in: a flat folder, train.zip, or train.zip within a zip."""

import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jaxvision.errors import DataError

CLASSES = ("cat", "dog")
PAGE = "https://www.kaggle.com/c/dogs-vs-cats/data"
PICTURE = re.compile(r"(?:.*/)?((?:cat|dog)\.(?:0|[1-9]\d*)\.jpg)")
"""A path that ends in a picture's name, such as train/cat.0.jpg."""

Link = Literal["copy", "hard", "symlink"]


@dataclass(frozen=True)
class Pictures:
    """The pictures found, by name (cat.0.jpg).

    sizes: bytes. bring(name, to): copies or links one to the path `to`.
    """

    where: str
    sizes: dict[str, int]
    bring: Callable[[str, Path], None]


@contextmanager
def kaggle_pictures(source: Path, link: Link, scratch: Callable[[], Path]) -> Iterator[Pictures]:
    """The pictures of `source`: the flat folder, the folder around it, train.zip, or dogs-vs-cats.zip.

    scratch: gives a folder to unpack an archive within an archive to.
    """
    if not source.exists():
        raise DataError(f"The source does not exist. Received: {source} (seen from {Path.cwd()}). Get it: {PAGE}.")
    folder = next((folder for folder in (source, source / "train") if _sizes(folder)), None)
    if folder is not None:
        yield Pictures(str(folder), _sizes(folder), lambda name, to: _bring(folder / name, to, link))
        return
    candidates = [source] if source.is_file() else [source / "train.zip", source / "dogs-vs-cats.zip"]
    archive = next((path for path in candidates if path.is_file()), None)
    if archive is None:
        names = sorted(os.listdir(source))
        raise DataError(
            f"{source}: no pictures named as Kaggle names them, cat.0.jpg, dog.0.jpg, ..., here or in train/, and no "
            f"train.zip or dogs-vs-cats.zip. Received: {', '.join(names[:3]) or 'an empty folder'}"
            f"{f' and {len(names) - 3} more' if names[3:] else ''}. Get them: {PAGE}."
        )
    if link != "copy":
        raise DataError(
            f"Pictures of an archive cannot be linked. Received: link={link} with {archive}. Use link=copy."
        )
    with _opened(archive, scratch) as opened:
        members = {match[1]: info for info in opened.infolist() if (match := PICTURE.fullmatch(info.filename))}
        sizes = {name: info.file_size for name, info in members.items()}
        # Only these members are read, to names of our own: no path in the archive leads anywhere.
        yield Pictures(str(archive), sizes, lambda name, to: _unpack(opened, members[name], to))


def _sizes(folder: Path) -> dict[str, int]:
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        return {entry.name: _size(entry) for entry in entries if PICTURE.fullmatch(entry.name)}


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:  # a link to nowhere
        return 0


def _bring(picture: Path, to: Path, link: Link) -> None:
    match link:
        case "copy":
            shutil.copyfile(picture, to)
        case "symlink":
            to.symlink_to(picture.resolve())
        case "hard":
            try:
                to.hardlink_to(picture.resolve())
            except OSError as error:  # another file system, or a file that is not ours
                raise DataError(
                    f"{picture} cannot be hard-linked to {to.parent}. Received: {error.strerror}. Use link=copy."
                ) from error


@contextmanager
def _opened(archive: Path, scratch: Callable[[], Path]) -> Iterator[zipfile.ZipFile]:
    """`archive` itself, or the train.zip within it."""
    try:
        with zipfile.ZipFile(archive) as outer:
            inner = next((info for info in outer.infolist() if info.filename.split("/")[-1] == "train.zip"), None)
            if inner is None:
                yield outer
                return
            unpacked = scratch() / "train.zip"
            _unpack(outer, inner, unpacked)
        with zipfile.ZipFile(unpacked) as opened:
            yield opened
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # RuntimeError: under a password
        raise DataError(
            f"{archive} cannot be unpacked. Received: {archive.stat().st_size} bytes, {error}. Get it again: {PAGE} "
            "(Kaggle answers 403 until the rules of the competition are accepted)."
        ) from error


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, to: Path) -> None:
    with archive.open(member) as packed, to.open("wb") as file:
        shutil.copyfileobj(packed, file, 2**20)
