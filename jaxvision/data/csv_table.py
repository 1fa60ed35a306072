"""Source `csv`: images with one class each, or any number of classes each, as a table names them."""

import numpy as np

from jaxvision import config
from jaxvision.config import PARTS
from jaxvision.data.cache import open_cache
from jaxvision.data.check_picture import picture_fault
from jaxvision.data.csv_files import NOT_THERE, elsewhere, image_folder, located
from jaxvision.data.csv_rows import Row, Table, read_rows
from jaxvision.data.folder import common_size, refuse_mislabelled
from jaxvision.data.left_out import LeftOut, without_bad
from jaxvision.data.pairs import refuse
from jaxvision.data.parts import Dataset, FilePart, fingerprint
from jaxvision.data.paths import existing_path
from jaxvision.errors import DataError


def csv(data: config.Data) -> Dataset:
    """`data.path` is a CSV file with a header, UTF-8, with commas, semicolons or tabs.

    Files: column `data.file_column`, or file, filename, image, path, id and the like, or else the first one. They are
    relative to `data.image_folder`, or the CSV's folder, and have the endings that source `folder` reads, or none where
    the folder tells which.

    Classes: column `data.target`; or the only one beside those of files and parts; or one for each class with 0 or 1.
    With `data.labels_per_image` one, each row has exactly one class, whose name may have spaces: the target is int32
    (N,). With any, a value has names of classes between `;` or `|`, or where the whole column has neither, between
    spaces: the target is float32 (N, K). auto is any for a column `labels` and columns of 0 and 1, else one.

    Column `data.part_column`, or part or split, may say train, validation or test; without it all rows train. Classes
    come in the order of the columns, or as `data.class_names` has them; else by name, numbers by value.
    """
    path = existing_path(data)
    if not path.is_file():
        there = ", ".join(sorted(file.name for file in path.glob("*.csv"))[:3])
        raise DataError(f"data.path must be a CSV file. Received: {path}, a folder (with {there or 'no .csv in it'}).")
    table, folder = read_rows(path, data), image_folder(path, data)
    rows, faults = located(table, path, folder)
    skip = data.bad_pictures == "skip"
    for what, found in faults.items():
        if found and not (skip and what == NOT_THERE):
            refuse(found, f"{what}. {elsewhere(rows, path, folder)}" if what == NOT_THERE else what)
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
            target = _targets(part, table)
            parts[name] = FilePart(files, target, size, data.channels or 3, data.resize, cache)
    return Dataset(
        train=parts["train"],
        validation=parts.get("validation"),
        test=parts.get("test"),
        class_names=table.class_names,
        image_shape=(*size, data.channels or 3),
        fingerprint=fingerprint(parts, str(path.parent)),
        left_out=left_out,
        root=str(path.parent),
    )


def _targets(rows: list[Row], table: Table) -> np.ndarray:
    """Class numbers int32 (N,) where each row has one; else 0 and 1 for each class, float32 (N, K)."""
    number = {name: index for index, name in enumerate(table.class_names)}
    if table.one_class:
        return np.array([number[row.classes[0]] for row in rows], np.int32)
    target = np.zeros((len(rows), len(number)), np.float32)
    for index, row in enumerate(rows):
        target[index, [number[name] for name in row.classes]] = 1
    return target
