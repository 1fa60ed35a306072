"""`check` for pictures with masks: every file to its last byte, every number in the masks, and each class' share."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jaxvision.config import Data
from jaxvision.data.check_files import Looked
from jaxvision.data.check_picture import PictureCheck, check_picture
from jaxvision.data.check_report import IGNORED, CheckReport
from jaxvision.data.mask import MASK_EXTENSIONS, MaskRule, mask_classes, read_mask, rule_of
from jaxvision.data.mask_folder import holds_images_and_masks, mask_folders
from jaxvision.data.names import clutter
from jaxvision.data.orientation import turned_size
from jaxvision.data.pairs import Pair, stems, without_partner
from jaxvision.data.pets import classes_without, split_pets
from jaxvision.data.picture_file import EXTENSIONS, FaultError, file_content
from jaxvision.data.reading import look_at_each, walk
from jaxvision.data.shown import Shown, refusal, suspicions
from jaxvision.errors import DataError
from jaxvision.types import IGNORE, MAX_MASK_CLASSES

EITHER_WAY = "EXIF orientation, and a mask that has the picture's size turned or not: it is turned with the picture"


@dataclass(frozen=True)
class _PairCheck:
    """One picture and its mask. pixels: how many hold each number 0..255, where the mask is good."""

    picture: PictureCheck
    mask_fault: str | None
    pixels: np.ndarray
    mask_sha256: str | None


def is_pets(root: Path) -> bool:
    """Whether the folder looks like the Oxford-IIIT Pets as they are unpacked."""
    return (root / "images").is_dir() and (root / "annotations" / "trimaps").is_dir()


def is_masks(root: Path) -> bool:
    """Whether the folder looks like one of source `masks`."""
    return any(holds_images_and_masks(folder) for folder in (root, root / "train"))


def check_masks(root: Path, data: Data, progress: Callable[[int, int], None] | None) -> CheckReport:
    """Check a folder as source `masks` reads it. Without names the classes are numbered up to the largest there is."""
    names = mask_classes(data)
    rule = rule_of(data, len(names) or MAX_MASK_CLASSES)
    problems: list[str] = []
    try:
        folders = mask_folders(root)
    except DataError as error:
        folders = {}
        problems.append(str(error))
    found, bad = {}, []
    for name, folder in folders.items():
        try:
            found[name], alone = _paired(folder / "images", tuple(EXTENSIONS), folder / "masks", tuple(MASK_EXTENSIONS))
            bad += alone
        except DataError as error:  # names that two files share, JPEG masks
            problems.append(str(error))
    unread = Counter[str]()
    for folder in folders.values():
        unread += _unread(folder / "images", tuple(EXTENSIONS)) + _unread(folder / "masks", tuple(MASK_EXTENSIONS))
    return _report(root, data, found, bad, problems, names, rule, unread, progress)


def check_pets(root: Path, data: Data, progress: Callable[[int, int], None] | None) -> CheckReport:
    """Check a folder as source `pets` reads it. Pictures of another format than their ending says are no fault."""
    pairs: list[Pair] = []
    bad: list[tuple[str, str]] = []
    problems = []
    try:
        pairs, bad = _paired(root / "images", (".jpg",), root / "annotations" / "trimaps", (".png",))
    except DataError as error:  # as in check_masks
        problems.append(str(error))
    names = classes_without(data.ignore_label)
    rule = rule_of(data, len(names))
    unread = _unread(root / "images", (".jpg",)) + _unread(root / "annotations" / "trimaps", (".png",))
    return _report(root, data, split_pets(pairs) if pairs else {}, bad, problems, names, rule, unread, progress)


def _paired(
    images: Path, endings: tuple[str, ...], masks: Path, mask_endings: tuple[str, ...]
) -> tuple[list[Pair], list[tuple[str, str]]]:
    pictures, stored = stems(images, endings, quiet=True), stems(masks, mask_endings, quiet=True)
    both = sorted(pictures.keys() & stored.keys())
    return [(pictures[stem], stored[stem]) for stem in both], without_partner(images, pictures, masks, stored)


def _unread(folder: Path, endings: tuple[str, ...]) -> Counter[str]:
    """Files of other endings, hidden and system files and folders, and links to folders, which are not followed."""
    unread, skipped = Counter[str](), list[str]()
    for top, folders, files in walk(folder, skipped):
        unread["a link to a folder"] += sum(os.path.islink(os.path.join(top, name)) for name in folders)
        unread.update(end or name for name in files if (end := Path(name).suffix).lower() not in endings)
    unread.update(str(clutter(os.path.basename(path))) for path in skipped)
    return +unread


def _report(
    root: Path,
    data: Data,
    found: dict[str, list[Pair]],
    bad: list[tuple[str, str]],
    problems: list[str],
    class_names: Sequence[str],
    rule: MaskRule,
    unread: Counter[str],
    progress: Callable[[int, int], None] | None,
) -> CheckReport:
    files = [(part, pair) for part, pairs in found.items() for pair in pairs]
    seen = {part: np.zeros(256, int) for part in found}
    pixels = {part: np.zeros(256, int) for part in found}
    numbers: dict[str, list[frozenset[int]]] = {part: [] for part in found}
    pictures = dict.fromkeys(found, 0)
    looked = Looked(root)
    looked.bad += bad
    for (part, (picture, mask)), check in look_at_each(lambda item: _check_pair(item[1], rule), files, progress):
        shown = check.picture
        if shown.fault and data.source == "pets" and shown.fault.startswith("mislabelled"):
            shown = replace(shown, fault=None, notes=(*shown.notes, f"{shown.fault}; it is read as that"))
        looked.add(part, picture, shown)
        looked.add_hash(mask, check.mask_sha256)
        looked.bad += [(mask, f"the mask of {picture}: {check.mask_fault}")] if check.mask_fault else []
        if not shown.fault and not check.mask_fault:
            pictures[part] += 1
            pixels[part] += check.pixels
            seen[part] += check.pixels > 0
            numbers[part].append(frozenset(np.flatnonzero(check.pixels[:IGNORE]).tolist()))
    if not files and not problems:
        problems.append("no pictures with masks")
    total = sum(seen.values(), np.zeros(256, int))[:IGNORE]
    names = tuple(class_names) or tuple(map(str, range(int(total.nonzero()[0].max(initial=-1)) + 1)))
    absent = [name for name, count in zip(names, seen.get("train", ()), strict=False) if not count]
    problems += [f"train: no mask shows class {name!r}" for name in absent]
    parts = {
        part: Shown(seen[part][: len(names)], good, good, pixels=pixels[part], numbers=numbers[part])
        for part, good in pictures.items()
    }
    remarks: list[str] = []
    if pictures.get("train"):
        refused = refusal(parts, names, data, numbered=not class_names)
        problems += [refused] if refused else []
        remarks += [] if refused else suspicions(parts, names, numbered=not class_names)
    report = looked.report(
        root,
        data.source,
        {part: dict(zip(names, seen[part].tolist(), strict=False)) for part in found},
        problems,
        unread=unread,
        pictures=pictures,
        pixels={part: shares(pixels[part], names) for part in found},
    )
    return replace(report, remarks=(*report.remarks, *remarks))


def _check_pair(pair: Pair, rule: MaskRule) -> _PairCheck:
    picture = check_picture(pair[0])
    fault, sha256, pixels = None, None, np.zeros(256, int)
    try:
        sha256 = hashlib.sha256(file_content(pair[1])).hexdigest()
        stored = read_mask(pair[1])
        size = picture.size or stored.shape
        if stored.shape not in (size, turned_size(size, picture.mark)):
            height, width = size
            fault = f"{stored.shape[0]} x {stored.shape[1]} (height x width), but the picture has {height} x {width}"
        elif picture.mark != 1 and size == turned_size(size, picture.mark):
            picture = replace(picture, notes=(*picture.notes, EITHER_WAY))
        if fault is None:
            pixels = np.bincount(rule.class_numbers(stored).ravel(), minlength=256)
    except (DataError, FaultError) as error:
        fault = str(error).removeprefix(f"{pair[1]}: ")
    return _PairCheck(picture, fault, pixels, sha256)


def shares(pixels: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Each class' share of the pixels that count, and the ignored ones' of all. pixels: how many hold each number."""
    counted = max(int(pixels[:IGNORE].sum()), 1)
    of_classes = {name: int(count) / counted for name, count in zip(names, pixels, strict=False)}
    return of_classes | {IGNORED: int(pixels[IGNORE]) / max(int(pixels.sum()), 1)}
