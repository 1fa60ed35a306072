"""`check`: look at every example of a dataset on disk before hours are spent on it."""

import contextlib
import hashlib
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from jaxvision import config, serialize
from jaxvision.config import PARTS
from jaxvision.data.check_files import Looked
from jaxvision.data.check_hashes import changes
from jaxvision.data.check_masks import check_masks, check_pets, is_masks, is_pets, shares
from jaxvision.data.check_picture import check_picture
from jaxvision.data.check_report import CheckReport, format_report
from jaxvision.data.check_table import check_table
from jaxvision.data.layout import class_folders, part_folders
from jaxvision.data.names import check_look_alikes, clutter, composed
from jaxvision.data.parts import ArrayPart, has_masks
from jaxvision.data.picture_file import EXTENSIONS, FaultError, file_content
from jaxvision.data.plausible import require_images
from jaxvision.data.reading import look_at_each, readable, walk
from jaxvision.data.shown import require_shown
from jaxvision.data.targets import class_counts
from jaxvision.errors import DataError, UserError

__all__ = ["CheckReport", "check_data", "check_folder", "format_report"]

FLAT_NAME = re.compile(r"(.+?)\.\d+\.\w+")
"""Kaggle's flat naming, cat.0.jpg: the class comes before the first dot."""


def check_data(
    path: str | os.PathLike[str],
    *,
    class_names: Sequence[str] = (),
    label_offset: int = 0,
    label_values: Sequence[int] = (),
    mask_values: Sequence[int] = (),
    mask_thresholds: Sequence[int] = (),
    ignore_label: int | None = None,
    target: str | None = None,
    labels_per_image: Literal["auto", "one", "any"] = "auto",
    file_column: str | None = None,
    part_column: str | None = None,
    image_folder: str | None = None,
    against: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Check a folder of images, of images and masks, a CSV or an .npz file.

    class_names and the fields from label_offset to ignore_label: as in `config.Data`, for masks, arrays and tables;
    target, labels_per_image, file_column, part_column, image_folder: likewise, for tables.
    against: a file of hashes as `hash_list` makes them, of the same data at another time; what differs is reported.
    progress(done, total) is called as images are read.

    Raises DataError only where nothing is at `path`, or nothing that could be a dataset; ConfigError where fields
    contradict each other.
    """
    path = Path(path).expanduser()
    data = config.Data(
        path=str(path),
        target=target,
        labels_per_image=labels_per_image,
        file_column=file_column,
        part_column=part_column,
        image_folder=image_folder,
        class_names=tuple(class_names),
        label_offset=label_offset,
        label_values=tuple(label_values),
        mask_values=tuple(mask_values),
        mask_thresholds=tuple(mask_thresholds),
        ignore_label=ignore_label,
    )
    serialize.check(config.Run(data=data), where="check")
    with readable(path):
        report = _check(path, data, progress)
    return report if against is None else replace(report, changes=changes(report.hashes, path, against))


def _check(path: Path, data: config.Data, progress: Callable[[int, int], None] | None) -> CheckReport:
    if path.suffix.lower() == ".csv" and path.is_file():
        return check_table(path, data, progress)
    for field in ("target", "labels_per_image", "file_column", "part_column", "image_folder"):
        if (value := getattr(data, field)) != getattr(config.Data, field):
            raise DataError(f"{field}: is for a .csv file. Received: {value!r} with {path}.")
    if path.is_dir() and is_pets(path):
        return check_pets(path, replace(data, source="pets"), progress)
    if path.is_dir() and is_masks(path):
        return check_masks(path, replace(data, source="masks"), progress)
    if path.is_dir():
        return check_folder(path, progress=progress)
    if path.suffix == ".npz" and path.is_file():
        return _check_npz(path, replace(data, source="npz"))
    found = "a file" if path.exists() else f"nothing there (seen from {Path.cwd()})"
    raise DataError(f"{path}: give a folder of images, a .csv or an .npz file to check. Received: {found}.")


def check_folder(path: str | os.PathLike[str], *, progress: Callable[[int, int], None] | None = None) -> CheckReport:
    """Read every image of a folder dataset to its last byte, on all processor cores."""
    root = Path(path)
    layout, parts, skipped = _layout(root)
    files: list[tuple[str, str, Path]] = []  # part, class, file
    counts: dict[str, dict[str, int]] = {}
    problems, unread = [], Counter(str(clutter(os.path.basename(path))) for path in set(skipped))
    for part, classes in parts.items():
        counts[part] = dict.fromkeys(classes, 0)
        for name, paths in classes.items():
            known = [file for file in paths if file.suffix.lower() in EXTENSIONS]
            files += [(part, name, file) for file in known]
            unread.update(_ending(file) for file in paths if file.suffix.lower() not in EXTENSIONS)
            if not known:
                problems.append(f"{part}: class {name!r} has no pictures")
    unread.update(_ending(file) for file in _outside(root, layout, parts))
    if not files and not problems:
        problems.append(f"no pictures ({' '.join(EXTENSIONS)})")
    problems += _unlike_classes({part: set(classes) for part, classes in parts.items()})
    looked = Looked(root)
    if layout in ("parts", "classes"):
        problems += [] if "train" in parts else ["there is no part 'train'"]
        found, notes = _folder_faults(root, parts)
        problems += found
        looked.notes.update(notes)
    for (part, name, file), check in look_at_each(lambda item: check_picture(item[2]), files, progress):
        counts[part][name] += check.fault is None
        looked.add(part, str(file), check, name)
    return looked.report(root, layout, counts, problems, unread=unread)


def _folder_faults(root: Path, parts: dict[str, dict[str, list[Path]]]) -> tuple[list[str], set[str]]:
    """What source `folder` refuses, and what it warns of, in the names and places of folders."""
    problems: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            for path in part_folders(root).values():
                check_look_alikes(class_folders(path), root)
        except DataError as error:
            problems.append(str(error))
    if not problems and len(classes := parts.get("train", {})) == 1:
        problems.append(f"there must be at least two classes. Received: 1 ({', '.join(classes)})")
    return problems, {str(warning.message) for warning in caught}


def _layout(root: Path) -> tuple[str, dict[str, dict[str, list[Path]]], list[str]]:
    """How the folder is laid out, its files by part and class, and what is skipped as hidden."""
    skipped = [os.path.join(root, name) for name in os.listdir(root) if clutter(name)]
    folders = class_folders(root)
    below = {part for part in PARTS if class_folders(root / part)}
    if "train" in below or (below and set(folders) <= set(PARTS)):
        return "parts", {part: _classes(root / part, skipped) for part in PARTS if part in folders}, skipped
    if folders and not _flat(root / "train"):
        return "classes", {"train": _classes(root, skipped)}, skipped
    flat = _flat(root) or _flat(root / "train")
    if flat:
        return "flat", {"train": flat}, skipped
    pictures = sorted(file for file in root.iterdir() if _is_image(file))
    return "unsorted", {"train": {"(no class)": pictures} if pictures else {}}, skipped


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in EXTENSIONS and not clutter(file.name)


def _classes(path: Path, skipped: list[str]) -> dict[str, list[Path]]:
    """The files of each class, and links to folders, which are not followed: they may lead in a circle."""
    skipped += [os.path.join(path, name) for name in os.listdir(path) if clutter(name)]
    classes: dict[str, list[Path]] = {}
    for name in class_folders(path):
        classes.setdefault(composed(name), []).extend(
            Path(top, file)
            for top, folders, names in sorted(walk(path / name, skipped))
            for file in sorted([*names, *(inner for inner in folders if os.path.islink(os.path.join(top, inner)))])
        )
    return classes


def _ending(file: Path) -> str:
    return "a link to a folder" if file.is_dir() else file.suffix or file.name


def _flat(path: Path) -> dict[str, list[Path]]:
    """Files named CLASS.N.ending by class, where at least two classes are."""
    classes: dict[str, list[Path]] = {}
    for file in sorted(path.iterdir()) if path.is_dir() else ():
        if _is_image(file) and (match := FLAT_NAME.fullmatch(file.name)):
            classes.setdefault(match[1], []).append(file)
    return classes if len(classes) > 1 else {}


def _outside(root: Path, layout: str, parts: dict[str, dict[str, list[Path]]]) -> list[Path]:
    """Files beside the class folders, which belong to no class; beside flat pictures, those that are none of them."""
    if layout == "parts":
        folders = [root, *(root / part for part in parts)]
    else:
        folders = [root / "train" if layout == "flat" and not _flat(root) else root]
    taken = {file for classes in parts.values() for files in classes.values() for file in files}
    return [
        file
        for folder in folders
        for file in sorted(folder.iterdir())
        if file.is_file() and not clutter(file.name) and file not in taken
    ]


def _unlike_classes(parts: dict[str, set[str]]) -> list[str]:
    everywhere = set().union(*parts.values())
    return [
        f"class {name!r} is missing in {', '.join(part for part in parts if name not in parts[part])}"
        for name in sorted(everywhere)
        if any(name not in classes for classes in parts.values())
    ]


def _check_npz(path: Path, data: config.Data) -> CheckReport:
    from jaxvision.data.open import open_dataset

    counts: dict[str, dict[str, int]] = {}
    pictures: dict[str, int] = {}
    pixels: dict[str, dict[str, float]] = {}
    problems: list[str] = []
    sizes = None
    looked = Looked(path.parent)
    with contextlib.suppress(FaultError):
        looked.add_hash(str(path), hashlib.sha256(file_content(path)).hexdigest())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            dataset = open_dataset(data)
        except UserError as error:
            problems.append(str(error))
        else:
            try:
                require_shown(dataset, data)
                require_images(dataset)
            except DataError as error:
                problems.append(str(error))
            height, width, _ = dataset.image_shape
            sizes = ((height, height), (width, width))
            for name in PARTS:
                if (part := getattr(dataset, name)) is not None:
                    _compare_pictures(looked, name, part)
                    pictures[name] = len(part.target)
                    counts[name] = class_counts(part.target, dataset.class_names)
                    if has_masks(part):
                        found = np.bincount(np.asarray(part.target).ravel(), minlength=256)
                        pixels[name] = shares(found, dataset.class_names)
    problems += _unlike_classes({part: {k for k, n in classes.items() if n} for part, classes in counts.items()})
    looked.notes.update(str(warning.message) for warning in caught)
    report = looked.report(path, "npz", counts, problems, pictures=pictures, pixels=pixels)
    return replace(report, sizes=sizes)


def _compare_pictures(looked: Looked, name: str, part: ArrayPart) -> None:
    labels = None if has_masks(part) else np.asarray(part.target)
    for index in range(len(part.target)):
        pixels = hashlib.sha256(np.ascontiguousarray(part.inputs[index]).data).hexdigest()
        label = None if labels is None else labels[index].tobytes()
        looked.add_pixels(name, f"{name} example {index}", pixels, label, None)
