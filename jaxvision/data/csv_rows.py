"""Rows of a CSV that names pictures and their classes; every fault is told with its line."""

import csv
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxvision.config import PARTS
from jaxvision.errors import DataError, nearest

FILE_COLUMNS = ("file", "filename", "image", "path")
PART_COLUMNS = ("part", "split")
LABELS_COLUMN = "labels"
TRUTH = {"0": False, "1": True, "0.0": False, "1.0": True}
SEPARATORS = re.compile(r"[;|]+")


class Row(NamedTuple):
    """One picture: the line it stands in, its path, part and classes."""

    line: int
    file: str
    part: str
    classes: tuple[str, ...]


def read_rows(path: Path, class_names: Sequence[str] = ()) -> tuple[tuple[str, ...], list[Row]]:
    """The classes, and the rows in their order. class_names: the order of the classes of a column `labels`.

    Raises: DataError: no table; a line that does not fit the header; an unknown part; a value that is not 0 or 1.
    """
    header, lines = _table(path)
    plain = [name.lower() for name in header]
    file = next((plain.index(name) for name in FILE_COLUMNS if name in plain), 0)
    part = next((plain.index(name) for name in PART_COLUMNS if name in plain), None)
    others = [column for column in range(len(header)) if column not in (file, part)]
    labels = plain.index(LABELS_COLUMN) if LABELS_COLUMN in plain else None
    if labels is not None and others != [labels]:
        beside = ", ".join(header[column] for column in others if column != labels)
        raise DataError(
            f"{path}, line 1: beside a column labels there may only be the file's name and its part. "
            f"Received: {beside}. Remove these columns, or the column labels."
        )
    if not others:
        raise DataError(
            f"{path}, line 1: no column of a class and no column labels. Received: {', '.join(header)}. Expected: a "
            "file name, then a column for each class with 0 or 1, or one column labels."
        )
    # Names may have spaces in them wherever the table marks their ends otherwise.
    marked = labels is not None and any(
        SEPARATORS.search(values[labels]) for _, values in lines if labels < len(values)
    )
    rows = []
    for line, values in lines:
        where = f"{path}, line {line}"
        if len(values) != len(header):
            raise DataError(f"{where}: the header has {len(header)} columns. Received: {len(values)} values.")
        if not values[file]:
            raise DataError(f"{where}: no file name. Received: an empty column {header[file]!r}.")
        if labels is None:
            classes = tuple(header[column] for column in others if _truth(values[column], where, header[column]))
        else:
            classes = _names(values[labels], marked)
        rows.append(Row(line, os.path.join(path.parent, values[file]), _part(values, part, where), classes))
    if not rows:
        raise DataError(f"{path}: no rows under the header. Received: {', '.join(header)}.")
    if labels is None:
        return tuple(header[column] for column in others), rows
    return _named(rows, class_names, path), rows


def _table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and each line that is not blank with its number."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            # csv.Sniffer guesses from all characters, and takes the separators of labels for those of columns.
            delimiter = max((",", ";", "\t"), key=first.count)
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            lines = [(reader.line_num, [value.strip() for value in values]) for values in reader if any(values)]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: a CSV is read as UTF-8. Received: byte {error.start}: {error.reason}.") from error
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not a CSV. Received: {error}.") from error
    if not lines:
        raise DataError(f"{path}: no header. Received: an empty file.")
    header = lines[0][1]
    for column, name in enumerate(header):
        if not name or name in header[:column]:
            raise DataError(
                f"{path}, line 1: each column needs a name of its own. Received: {name!r} (column {column + 1})."
            )
    return header, lines[1:]


def _names(value: str, marked: bool) -> tuple[str, ...]:
    """The classes in a value of column `labels`: between `;` or `|` if the table has any, else between spaces."""
    names = (name.strip() for name in SEPARATORS.split(value)) if marked else value.split()
    return tuple(name for name in names if name)


def _truth(value: str, where: str, column: str) -> bool:
    if value not in TRUTH:
        raise DataError(
            f"{where}, column {column!r}: must be 0 or 1, as each column but the file's and the part's is a class. "
            f"Received: {value!r}. Remove columns of other kinds."
        )
    return TRUTH[value]


def _part(values: list[str], column: int | None, where: str) -> str:
    name = "train" if column is None else values[column]
    if name not in PARTS:
        raise DataError(
            f"{where}: the part must be one of {', '.join(PARTS)}.{nearest(name, PARTS)} Received: {name!r}."
        )
    return name


def _named(rows: list[Row], class_names: Sequence[str], path: Path) -> tuple[str, ...]:
    """All classes of a column `labels`."""
    if not class_names:
        found = sorted({name for row in rows for name in row.classes})
        if not found:
            raise DataError(f"{path}: no row has a label. Received: {len(rows)} rows.")
        return tuple(found)
    for row in rows:
        for name in row.classes:
            if name not in class_names:
                raise DataError(
                    f"{path}, line {row.line}: no such class among data.class_names.{nearest(name, class_names)} "
                    f"Received: {name!r}."
                )
    return tuple(class_names)
