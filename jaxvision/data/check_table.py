"""`check` for a CSV of images and their classes."""

import contextlib
import hashlib
import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from jaxvision.config import PARTS, Data
from jaxvision.data.check_files import Looked
from jaxvision.data.check_picture import check_picture
from jaxvision.data.check_report import CheckReport
from jaxvision.data.csv_files import NOT_THERE, elsewhere, image_folder, located
from jaxvision.data.csv_rows import Row, Table, read_rows
from jaxvision.data.picture_file import EXTENSIONS, FaultError, file_content
from jaxvision.data.reading import look_at_each
from jaxvision.data.shown import Shown, suspicions
from jaxvision.errors import DataError


def check_table(path: Path, data: Data, progress: Callable[[int, int], None] | None) -> CheckReport:
    """Check a table as source `csv` reads it with the fields of `data`, and all its images to their last byte."""
    problems: list[str] = []
    table, rows = Table((), [], False, ""), list[Row]()
    looked = Looked(path.parent)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            table, folder = read_rows(path, data), image_folder(path, data)
            rows, faults = located(table, path, folder)
        except DataError as error:
            problems.append(str(error))
        else:
            problems += [f"{fault} ({what})" for what, found in faults.items() for fault in found]
            problems += [elsewhere(rows, path, folder)] if faults[NOT_THERE] else []
    looked.notes.update({str(warning.message) for warning in caught})
    parts = [part for part in PARTS if any(row.part == part for row in rows)]
    if rows and "train" not in parts:
        problems.append("no row is of the part train")
    if table.one_class and len(table.class_names) < 2:
        problems.append(f"there must be at least two classes. Received: 1 ({', '.join(table.class_names)})")
    counts = {part: dict.fromkeys(table.class_names, 0) for part in parts}
    pictures = dict.fromkeys(parts, 0)
    there = [row for row in rows if os.path.splitext(row.file)[1].lower() in EXTENSIONS and os.path.isfile(row.file)]
    for row, check in look_at_each(lambda row: check_picture(row.file), there, progress):
        if check.fault is None:
            pictures[row.part] += 1
            for name in set(row.classes):
                counts[row.part][name] += 1
        looked.add(row.part, row.file, check, frozenset(row.classes))
    problems += [f"train: no picture of class {name!r}" for name, count in counts.get("train", {}).items() if not count]
    parts_shown = {
        part: Shown(np.array([*of.values()], int), pictures[part], pictures[part], multiple=not table.one_class)
        for part, of in counts.items()
        if pictures[part]
    }
    with contextlib.suppress(FaultError):
        looked.add_hash(str(path), hashlib.sha256(file_content(path)).hexdigest())
    report = looked.report(path, "csv", counts, problems, pictures=pictures)
    remarks = suspicions(parts_shown, table.class_names, numbered=False) if "train" in parts_shown else []
    return replace(report, remarks=(*report.remarks, *remarks))
