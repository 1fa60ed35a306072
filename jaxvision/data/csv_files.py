"""The files that a CSV names: in which folder and under which ending they are, and which are not there."""

import os
from collections.abc import Sequence
from pathlib import Path

from jaxvision.config import Data
from jaxvision.data.csv_rows import FILE_COLUMNS, Row, Table
from jaxvision.data.layout import class_folders
from jaxvision.data.names import clutter, composed
from jaxvision.data.picture_file import EXTENSIONS
from jaxvision.errors import DataError

NOT_THERE = "images are not there"


class ImageFolder:
    """Looks images up by the names that a table gives them; each folder is listed at most once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listed: dict[str, tuple[dict[str, str], dict[str, list[str]]]] = {}

    def find(self, name: str) -> list[str]:
        """Paths of the images that may be meant: [] none, several where only the ending could decide.

        A name without an ending that is read may have any of these. Otherwise the file has this name, however Unicode
        composes it, or another ending of the same format (.jpg, .JPG, .jpeg).
        """
        for written in dict.fromkeys((name, name.replace("\\", "/"))):
            path = os.path.join(self.root, written)
            ending = os.path.splitext(path)[1].lower()
            if ending in EXTENSIONS and os.path.isfile(path):
                return [path]
            folder, last = self._folder(os.path.dirname(path)), composed(os.path.basename(path))
            by_name, by_stem = self._names(folder)
            if ending not in EXTENSIONS:
                found = by_stem.get(last, [])
            elif last in by_name:
                found = [by_name[last]]
            else:
                alike = by_stem.get(os.path.splitext(last)[0], [])
                found = [file for file in alike if _format(file) == EXTENSIONS[ending]]
            if found:
                return [os.path.join(folder, file) for file in found]
        return []

    def _folder(self, path: str) -> str:
        """The folder of that name, however Unicode composes it."""
        if os.path.isdir(path) or path in ("", "/"):
            return path
        above, last = os.path.split(path)
        above = self._folder(above)
        return os.path.join(above, self._names(above)[0].get(composed(last), last))

    def _names(self, folder: str) -> tuple[dict[str, str], dict[str, list[str]]]:
        if folder not in self._listed:
            by_name: dict[str, str] = {}
            by_stem: dict[str, list[str]] = {}
            names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
            for name in names:
                by_name[composed(name)] = name
                if _format(name) is not None:
                    by_stem.setdefault(os.path.splitext(composed(name))[0], []).append(name)
            self._listed[folder] = by_name, by_stem
        return self._listed[folder]


def image_folder(path: Path, data: Data) -> Path:
    """The folder that the names of the table at `path` are relative to. Raises: DataError: it is not there."""
    folder = path.parent / Path(data.image_folder or "").expanduser()
    if not folder.is_dir():
        raise DataError(
            f"data.image_folder: there is no such folder. Received: {data.image_folder!r} (seen from {path.parent})."
        )
    return folder


def located(table: Table, path: Path, folder: Path) -> tuple[list[Row], dict[str, list[str]]]:
    """The rows with paths of files, and by kind each row whose image is named twice, is not there or is not clear.

    Raises: DataError: the first line is a row.
    """
    images = ImageFolder(folder)
    if table.file_column.lower() not in FILE_COLUMNS and images.find(table.file_column):
        raise DataError(
            f"{path}, line 1: the first line must be a header, such as file,label; this one names an image of "
            f"{folder}. Received: {table.file_column!r}. Add a header."
        )
    rows: list[Row] = []
    doubled, unread, missing, unclear = (list[str]() for _ in range(4))
    first: dict[str, Row] = {}
    for row in table.rows:
        found = images.find(row.file)
        file = found[0] if len(found) == 1 else os.path.join(folder, row.file)
        rows.append(row := row._replace(file=file))
        where = f"{path}, line {row.line}: {file}"
        if len(found) > 1:
            unclear.append(f"{where}: {', '.join(map(os.path.basename, found))}")
        elif not found:
            (unread if os.path.isfile(file) else missing).append(where)
        before = first.setdefault(os.path.normpath(file), row)
        if before is not row:
            other = "" if set(before.classes) == set(row.classes) else f", as {_classes(before)}, not {_classes(row)}"
            doubled.append(f"{where} is in line {before.line} too{other}")
    return rows, {
        "images are named twice": doubled,
        f"files have no ending that is read, {' '.join(EXTENSIONS)}": unread,
        "names fit several images; write them with their ending": unclear,
        NOT_THERE: missing,
    }


def elsewhere(rows: Sequence[Row], path: Path, folder: Path) -> str:
    """Where images that are not there may be: a sentence on what to set, or on what the folder holds."""
    names = [os.path.relpath(row.file, folder) for row in rows if not os.path.isfile(row.file)][:1]
    for name in names:
        for below in class_folders(folder):
            if found := ImageFolder(folder / below).find(name):
                inside = os.path.relpath(folder / below, path.parent)
                return f"There is {os.path.relpath(found[0], folder)}: set data.image_folder to {inside}"
    listed = [name for name in sorted(os.listdir(folder)) if not clutter(name)][:3]
    return f"{folder} holds {', '.join(listed)}. Set data.image_folder to the folder that the names are relative to"


def _format(file: str) -> str | None:
    return EXTENSIONS.get(os.path.splitext(file)[1].lower())


def _classes(row: Row) -> str:
    return " and ".join(map(repr, row.classes)) or "no class"
