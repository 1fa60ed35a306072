"""`check` for a CSV of pictures with any number of labels each."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxvision.config import PARTS
from jaxvision.data.check_files import Looked
from jaxvision.data.check_picture import check_picture
from jaxvision.data.check_report import CheckReport
from jaxvision.data.csv_rows import Row, read_rows
from jaxvision.data.csv_table import table_faults
from jaxvision.data.picture_file import EXTENSIONS, FaultError, file_content
from jaxvision.data.reading import look_at_each
from jaxvision.errors import DataError


def check_table(path: Path, class_names: Sequence[str], progress: Callable[[int, int], None] | None) -> CheckReport:
    """Check a table as source `csv` reads it, and all its pictures to their last byte."""
    problems: list[str] = []
    names: tuple[str, ...] = ()
    rows: list[Row] = []
    try:
        names, rows = read_rows(path, class_names)
    except DataError as error:
        problems.append(str(error))
    problems += [f"{fault} ({what})" for what, faults in table_faults(path, rows).items() for fault in faults]
    parts = [part for part in PARTS if any(row.part == part for row in rows)]
    if rows and "train" not in parts:
        problems.append("no row is of the part train")
    counts = {part: dict.fromkeys(names, 0) for part in parts}
    pictures = dict.fromkeys(parts, 0)
    there = [row for row in rows if os.path.splitext(row.file)[1].lower() in EXTENSIONS and os.path.isfile(row.file)]
    looked = Looked(path.parent)
    for row, check in look_at_each(lambda row: check_picture(row.file), there, progress):
        if check.fault is None:
            pictures[row.part] += 1
            for name in set(row.classes):
                counts[row.part][name] += 1
        looked.add(row.part, row.file, check, frozenset(row.classes))
    problems += [f"train: no picture of class {name!r}" for name, count in counts.get("train", {}).items() if not count]
    with contextlib.suppress(FaultError):
        looked.add_hash(str(path), hashlib.sha256(file_content(path)).hexdigest())
    return looked.report(path, "csv", counts, problems, pictures=pictures)
