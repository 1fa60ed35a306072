"""Source `csv`: pictures with any number of labels each, as a table names them."""

import os
from pathlib import Path

import numpy as np

from jaxvision import config
from jaxvision.config import PARTS
from jaxvision.data.cache import open_cache
from jaxvision.data.check_picture import picture_fault
from jaxvision.data.csv_rows import Row, read_rows
from jaxvision.data.folder import common_size, refuse_mislabelled
from jaxvision.data.left_out import LeftOut, without_bad
from jaxvision.data.pairs import refuse
from jaxvision.data.parts import Dataset, FilePart, fingerprint
from jaxvision.data.paths import existing_path
from jaxvision.data.picture_file import EXTENSIONS
from jaxvision.errors import DataError

NOT_THERE = "pictures are not there"


def csv(data: config.Data) -> Dataset:
    """`data.path` is a CSV file with a header, UTF-8, with commas, semicolons or tabs.

    Column file, filename, image or path (else the first one): pictures, relative to the CSV's folder, with the endings
    that source `folder` reads. Then a column for each class with 0 or 1; or one column `labels` with names of classes
    between `;` or `|`, or where the whole column has neither, between spaces. A column part or split may say train,
    validation or test; without it all rows train. Rows without any label are examples of no class. Classes come in the
    order of the columns; those of `labels` by name, or as `data.class_names` has them. Target: float32 (N, K).
    """
    path = existing_path(data)
    if not path.is_file():
        raise DataError(f"data.path must be a CSV file. Received: {path}, a folder.")
    class_names, rows = read_rows(path, data.class_names)
    skip = data.bad_pictures == "skip"
    for what, faults in table_faults(path, rows).items():
        if not (skip and what == NOT_THERE):
            refuse(faults, what)
    by_part = {name: [row for row in rows if row.part == name] for name in PARTS}
    left_out: tuple[LeftOut, ...] = ()
    if skip:
        by_part, left_out = without_bad(
            by_part, lambda row: picture_fault(row.file), lambda row: row.file, data, str(path)
        )
        rows = [row for part in by_part.values() for row in part]
    else:
        for row in rows:
            refuse_mislabelled(row.file)
    if not by_part["train"]:
        raise DataError(f"{path}: no row is of the part train. Received: {len(rows)} rows.")
    size = data.image_size or common_size([row.file for row in rows])
    cache = open_cache(data)
    parts = {}
    for name, part in by_part.items():
        if part:
            files = tuple(row.file for row in part)
            parts[name] = FilePart(files, targets(part, class_names), size, data.channels or 3, data.resize, cache)
    return Dataset(
        train=parts["train"],
        validation=parts.get("validation"),
        test=parts.get("test"),
        class_names=class_names,
        image_shape=(*size, data.channels or 3),
        fingerprint=fingerprint(parts, str(path.parent)),
        left_out=left_out,
    )


def targets(rows: list[Row], class_names: tuple[str, ...]) -> np.ndarray:
    """0 and 1 for each class, float32 (N, K)."""
    number = {name: index for index, name in enumerate(class_names)}
    target = np.zeros((len(rows), len(class_names)), np.float32)
    for index, row in enumerate(rows):
        target[index, [number[name] for name in row.classes]] = 1
    return target


def table_faults(path: Path, rows: list[Row]) -> dict[str, list[str]]:
    """By kind, each row whose picture is named twice, has no ending that is read, or is not there."""
    lines: dict[str, int] = {}
    doubled = []
    for row in rows:
        real = os.path.normpath(row.file)
        if real in lines:
            doubled.append(f"{path}, line {row.line}: {row.file} is in line {lines[real]} too")
        lines[real] = row.line
    unread = [row for row in rows if os.path.splitext(row.file)[1].lower() not in EXTENSIONS]
    missing = [row for row in rows if not os.path.isfile(row.file)]
    return {
        "pictures are named twice": doubled,
        f"files have no ending that is read, {' '.join(EXTENSIONS)}": [
            f"{path}, line {row.line}: {row.file}" for row in unread
        ],
        NOT_THERE: [f"{path}, line {row.line}: {row.file}" for row in missing],
    }
