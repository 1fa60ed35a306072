"""`check` for a CSV of pictures with any number of labels each."""

import os
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from jaxvision.config import PARTS
from jaxvision.cores import available_cores
from jaxvision.data.check_report import CheckReport, size_range
from jaxvision.data.csv_rows import Row, read_rows
from jaxvision.data.csv_table import table_faults
from jaxvision.data.picture import EXTENSIONS, check_picture
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
    bad, notes, sizes = [], Counter[str](), []
    with warnings.catch_warnings(), ThreadPoolExecutor(available_cores()) as pool:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        checks = pool.map(check_picture, [row.file for row in there])
        for done, (row, check) in enumerate(zip(there, checks, strict=True), start=1):
            if check.fault is None:
                pictures[row.part] += 1
                for name in set(row.classes):
                    counts[row.part][name] += 1
            else:
                bad.append((row.file, check.fault))
            notes.update(check.notes)
            sizes += [check.size] if check.size is not None else []
            if progress is not None:
                progress(done, len(there))
    problems += [f"train: no picture of class {name!r}" for name, count in counts.get("train", {}).items() if not count]
    return CheckReport(
        path=str(path),
        layout="csv",
        counts=counts,
        bad=tuple(bad),
        problems=tuple(problems),
        notes=dict(notes.most_common()),
        unread={},
        sizes=size_range(sizes),
        pictures=pictures,
    )
