"""Rows of a CSV that names images and their classes; every fault is reported with its line."""

import csv
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxvision.config import PARTS, Data
from jaxvision.data.names import check_look_alikes, composed, part_meant
from jaxvision.errors import DataError, nearest

FILE_COLUMNS = ("file", "filename", "file_name", "image", "path", "image_id", "image_name", "image_path", "id")
PART_COLUMNS = ("part", "split")
LABELS_COLUMN = "labels"
CLASS_COLUMNS = ("label", "class", "class_name", "label_name", "category", "target", "breed", "species")
"""Columns of one class each, also where all values are 0 or 1."""

PLURALS = ("tags", "classes", "categories", "attributes", "targets", "genres")
"""Columns of which only the user knows whether a value is one class or several."""

TRUTH = {"0": False, "1": True, "0.0": False, "1.0": True}
SEPARATORS = re.compile(r"[;|]+")
MISSING = {"nan", "na", "n/a", "null", "<na>", "none"}


class Row(NamedTuple):
    """One image: the line it stands in, its file as the table names it or as it was found, its part and classes."""

    line: int
    file: str
    part: str
    classes: tuple[str, ...]


class Table(NamedTuple):
    """The classes, and the rows in their order.

    one_class: whether each row has exactly one class. file_column: the header of the column of files.
    """

    class_names: tuple[str, ...]
    rows: list[Row]
    one_class: bool
    file_column: str


class _Columns(NamedTuple):
    """Numbers of the columns. names: the one with names of classes; None where each of `classes` is one class."""

    file: int
    part: int | None
    classes: list[int]
    names: int | None
    one_class: bool


def read_rows(path: Path, data: Data) -> Table:
    """The table as the fields of `data` that are about a CSV say.

    Raises: DataError: no table; no column of classes, or several; a line that does not fit the header; an unknown part;
      a value that is not 0 or 1, or where there must be one class, none or several.
    """
    header, lines = _table(path)
    columns = _columns(header, lines, path, data)
    if not lines:
        raise DataError(f"{path}: no rows under the header. Received: {', '.join(header)}.")
    names = columns.names
    # Names may have spaces in them wherever the table marks their ends otherwise.
    marked = names is not None and any(SEPARATORS.search(values[names]) for _, values in lines if names < len(values))
    rows = []
    for line, values in lines:
        where = f"{path}, line {line}"
        if len(values) != len(header):
            raise DataError(f"{where}: the header has {len(header)} columns. Received: {len(values)} values.")
        if not values[columns.file]:
            raise DataError(f"{where}: no file name. Received: an empty column {header[columns.file]!r}.")
        if names is None:
            classes = tuple(header[column] for column in columns.classes if _truth(values, column, header, where))
            if columns.one_class and len(classes) != 1:
                raise DataError(
                    f"{where}: with data.labels_per_image=one, exactly one column must be 1. "
                    f"Received: {len(classes)} ({', '.join(classes) or 'none'})."
                )
        elif columns.one_class:
            classes = (_one_class(values[names], header[names], where, data),)
        else:
            classes = _several(values[names], marked)
        rows.append(Row(line, values[columns.file], _part(values, columns.part, where), classes))
    if names is None:
        class_names = tuple(header[column] for column in columns.classes)
    else:
        if columns.one_class:
            rows = _whole_numbers(rows)
        class_names = _named(rows, data.class_names, path)
        _warn_missing(rows, path)
    check_look_alikes(class_names, path)
    if columns.part is None:
        _warn_folders(rows, path)
    return Table(class_names, rows, columns.one_class, header[columns.file])


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
    header = [composed(name) for name in lines[0][1]]
    for column, name in enumerate(header):
        if not name or name in header[:column]:
            raise DataError(
                f"{path}, line 1: each column needs a name of its own. Received: {name!r} (column {column + 1}). Name "
                "it or remove it (pandas: to_csv(index=False))."
            )
    return header, lines[1:]


def _columns(header: list[str], lines: list[tuple[int, list[str]]], path: Path, data: Data) -> _Columns:
    """Which columns are meant, by `data` or by their names and values."""
    plain = [name.lower() for name in header]
    part = _column(header, data.part_column, "part_column", path)
    if part is None:
        part = next((plain.index(name) for name in PART_COLUMNS if name in plain), None)
    file = _column(header, data.file_column, "file_column", path)
    names = _column(header, data.target, "target", path)
    if file is None:
        free = [column for column in range(len(header)) if column not in (part, names)]
        file = next((plain.index(name) for name in FILE_COLUMNS if name in plain and plain.index(name) in free), 0)
    others = [column for column in range(len(header)) if column not in (file, part)]
    per_image = data.labels_per_image
    if names is not None:
        if names not in others:
            raise DataError(
                f"{path}: data.target is the column of the classes, not that of the files or parts. "
                f"Received: {header[names]!r}."
            )
    elif LABELS_COLUMN in plain and plain.index(LABELS_COLUMN) in others:
        names = plain.index(LABELS_COLUMN)
        if others != [names]:
            beside = ", ".join(header[column] for column in others if column != names)
            raise DataError(
                f"{path}, line 1: beside a column labels there may only be the file's name and its part. "
                f"Received: {beside}. Remove these columns, or set data.target to the column to learn."
            )
    elif not others:
        raise DataError(
            f"{path}, line 1: no column of a class and no column labels. Received: {', '.join(header)}. Expected: a "
            "file name, then a column of classes, or one for each class with 0 or 1."
        )
    elif len(others) == 1 and (
        plain[others[0]] in CLASS_COLUMNS
        or any(values[others[0]] not in TRUTH for _, values in lines if others[0] < len(values))
    ):
        names = others[0]
    if names is None:
        return _Columns(file, part, others, None, per_image == "one")
    if per_image == "auto" and plain[names] in PLURALS:
        raise DataError(
            f"{path}: one class or several in a value of column {header[names]!r}? Set data.labels_per_image to one or "
            f"to any. Received: {data.labels_per_image!r}."
        )
    return _Columns(
        file, part, [], names, per_image == "one" or (per_image == "auto" and plain[names] != LABELS_COLUMN)
    )


def _column(header: list[str], name: str | None, field: str, path: Path) -> int | None:
    if name is None:
        return None
    for same in (lambda column: column == composed(name), lambda column: column.lower() == composed(name).lower()):
        if found := [number for number, column in enumerate(header) if same(column)]:
            return found[0]
    raise DataError(
        f"{path}: data.{field}: there is no such column.{nearest(name, header)} Received: {name!r}. "
        f"Columns: {', '.join(header)}."
    )


def _one_class(value: str, column: str, where: str, data: Data) -> str:
    if not value:
        raise DataError(f"{where}: no class. Received: an empty column {column!r}. Fill it in, or remove the line.")
    if data.labels_per_image == "auto" and SEPARATORS.search(value):
        raise DataError(
            f"{where}: one class or several? Set data.labels_per_image to any, which divides at ; and |, or to one. "
            f"Received: {value!r} in column {column!r}."
        )
    return composed(" ".join(value.split()))


def _several(value: str, marked: bool) -> tuple[str, ...]:
    """The classes in a value: between `;` or `|` if the table has any, else between spaces."""
    names = (composed(name.strip()) for name in (SEPARATORS.split(value) if marked else value.split()))
    return tuple(name for name in names if name)


def _truth(values: list[str], column: int, header: list[str], where: str) -> bool:
    if (value := values[column]) not in TRUTH:
        raise DataError(
            f"{where}, column {header[column]!r}: must be 0 or 1, as each column but the file's and the part's is a "
            f"class. Received: {value!r}. Remove columns of other kinds; or, where one column has the names of the "
            "classes, set data.target to it."
        )
    return TRUTH[value]


def _part(values: list[str], column: int | None, where: str) -> str:
    name = "train" if column is None else values[column]
    if name not in PARTS:
        meant = part_meant(name)
        likely = f" Did you mean {meant!r}?" if meant else nearest(name, PARTS)
        raise DataError(f"{where}: the part must be one of {', '.join(PARTS)}.{likely} Received: {name!r}.")
    return name


def _whole_numbers(rows: list[Row]) -> list[Row]:
    """Where all classes are numbers such as 3.0, as tables with gaps are written, without the point."""
    if not all(re.fullmatch(r"\d+\.0+", row.classes[0]) for row in rows):
        return rows
    return [row._replace(classes=(row.classes[0].partition(".")[0],)) for row in rows]


def _named(rows: list[Row], class_names: Sequence[str], path: Path) -> tuple[str, ...]:
    """All classes of a column of names: in the order given, else by number where all are numbers, else by name."""
    if not class_names:
        found = sorted({name for row in rows for name in row.classes})
        if not found:
            raise DataError(f"{path}: no row has a label. Received: {len(rows)} rows.")
        return tuple(sorted(found, key=int) if all(re.fullmatch(r"\d+", name, re.ASCII) for name in found) else found)
    class_names = tuple(map(composed, class_names))
    for row in rows:
        for name in row.classes:
            if name not in class_names:
                raise DataError(
                    f"{path}, line {row.line}: no such class among data.class_names.{nearest(name, class_names)} "
                    f"Received: {name!r}."
                )
    return class_names


def _warn_missing(rows: list[Row], path: Path) -> None:
    found = [row for row in rows if any(name.lower() in MISSING for name in row.classes)]
    if found:
        warnings.warn(
            f"{path}: {len(found)} rows are of a class {found[0].classes[0]!r}, such as line {found[0].line}. Remove "
            "them, if that means that a value is missing.",
            stacklevel=4,
        )


def _warn_folders(rows: list[Row], path: Path) -> None:
    """All rows train where no column says otherwise, even if their files lie in folders of parts."""
    folders = {row.file.replace("\\", "/").split("/")[0] for row in rows if "/" in row.file or "\\" in row.file}
    parts = {part for part in map(part_meant, folders) if part}
    if "train" in parts and len(parts) > 1:
        warnings.warn(
            f"{path}: all rows are of the training part, as there is no column part, but their files are in "
            f"{', '.join(sorted(folders)[:8])}. Add a column part with {', '.join(PARTS)}, or set data.part_column.",
            stacklevel=4,
        )
