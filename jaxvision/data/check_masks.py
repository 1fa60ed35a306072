"""`check` for pictures with masks: every file to its last byte, every number in the masks, and each class' share."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxvision.config import Data
from jaxvision.data.check_report import CheckReport, size_range
from jaxvision.data.mask import MASK_EXTENSIONS, MaskRule, read_mask, rule_of
from jaxvision.data.mask_folder import holds_images_and_masks, mask_folders
from jaxvision.data.pairs import Pair, stems, without_partner
from jaxvision.data.pets import classes_without, split_pets
from jaxvision.data.picture import EXTENSIONS, PictureCheck, check_picture
from jaxvision.data.reading import look_at_each
from jaxvision.errors import DataError
from jaxvision.types import IGNORE

IGNORED = "(ignored)"


@dataclass(frozen=True)
class _PairCheck:
    """One picture and its mask. pixels: how many hold each number 0..255, where the mask is good."""

    picture: PictureCheck
    mask_fault: str | None
    pixels: np.ndarray


def is_pets(root: Path) -> bool:
    """Whether the folder looks like the Oxford-IIIT Pets as they are unpacked."""
    return (root / "images").is_dir() and (root / "annotations" / "trimaps").is_dir()


def is_masks(root: Path) -> bool:
    """Whether the folder looks like one of source `masks`."""
    return any(holds_images_and_masks(folder) for folder in (root, root / "train"))


def check_masks(
    root: Path, class_names: Sequence[str], rule: MaskRule, progress: Callable[[int, int], None] | None
) -> CheckReport:
    """Check a folder as source `masks` reads it. Without names the classes are numbered up to the largest there is."""
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
    return _report(root, "masks", found, bad, problems, class_names, rule, progress)


def check_pets(root: Path, ignore_label: int | None, progress: Callable[[int, int], None] | None) -> CheckReport:
    """Check a folder as source `pets` reads it. Pictures of another format than their ending says are no fault."""
    pairs: list[Pair] = []
    bad: list[tuple[str, str]] = []
    problems = []
    try:
        pairs, bad = _paired(root / "images", (".jpg",), root / "annotations" / "trimaps", (".png",))
    except DataError as error:  # as in check_masks
        problems.append(str(error))
    names = classes_without(ignore_label)
    rule = rule_of(Data("pets", ignore_label=ignore_label), len(names))
    return _report(root, "pets", split_pets(pairs) if pairs else {}, bad, problems, names, rule, progress)


def _paired(
    images: Path, endings: tuple[str, ...], masks: Path, mask_endings: tuple[str, ...]
) -> tuple[list[Pair], list[tuple[str, str]]]:
    pictures, stored = stems(images, endings, quiet=True), stems(masks, mask_endings, quiet=True)
    both = sorted(pictures.keys() & stored.keys())
    return [(pictures[stem], stored[stem]) for stem in both], without_partner(images, pictures, masks, stored)


def _report(
    root: Path,
    layout: str,
    found: dict[str, list[Pair]],
    bad: list[tuple[str, str]],
    problems: list[str],
    class_names: Sequence[str],
    rule: MaskRule,
    progress: Callable[[int, int], None] | None,
) -> CheckReport:
    files = [(part, pair) for part, pairs in found.items() for pair in pairs]
    seen = {part: np.zeros(256, int) for part in found}
    pixels = {part: np.zeros(256, int) for part in found}
    pictures = dict.fromkeys(found, 0)
    notes, sizes = Counter[str](), []
    for (part, (picture, mask)), check in look_at_each(lambda item: _check_pair(item[1], rule), files, progress):
        fault = check.picture.fault
        if fault and layout == "pets" and fault.startswith("mislabelled"):
            notes[f"{fault}; it is read as that"] += 1
            fault = None
        bad += [(picture, fault)] if fault else []
        bad += [(mask, f"the mask of {picture}: {check.mask_fault}")] if check.mask_fault else []
        if not fault and not check.mask_fault:
            pictures[part] += 1
            pixels[part] += check.pixels
            seen[part] += check.pixels > 0
        notes.update(check.picture.notes)
        sizes += [check.picture.size] if check.picture.size else []
    if not files and not problems:
        problems.append("no pictures with masks")
    shown = sum(seen.values(), np.zeros(256, int))[:IGNORE]
    names = tuple(class_names) or tuple(map(str, range(int(shown.nonzero()[0].max(initial=-1)) + 1)))
    absent = [name for name, count in zip(names, seen.get("train", ()), strict=False) if not count]
    problems += [f"train: no mask shows class {name!r}" for name in absent]
    return CheckReport(
        path=str(root),
        layout=layout,
        counts={part: dict(zip(names, seen[part].tolist(), strict=False)) for part in found},
        bad=tuple(bad),
        problems=tuple(problems),
        notes=dict(notes.most_common()),
        unread={},
        sizes=size_range(sizes),
        pictures=pictures,
        pixels={part: shares(pixels[part], names) for part in found},
    )


def _check_pair(pair: Pair, rule: MaskRule) -> _PairCheck:
    picture = check_picture(pair[0])
    nothing = np.zeros(256, int)
    try:
        stored = read_mask(pair[1])
    except DataError as error:
        return _PairCheck(picture, str(error).removeprefix(f"{pair[1]}: "), nothing)
    if picture.size is not None and stored.shape != picture.size:
        height, width = picture.size
        fault = f"{stored.shape[0]} x {stored.shape[1]} (height x width), but the picture has {height} x {width}"
        return _PairCheck(picture, fault, nothing)
    try:
        numbers = rule.class_numbers(stored)
    except DataError as error:
        return _PairCheck(picture, str(error), nothing)
    return _PairCheck(picture, None, np.bincount(numbers.ravel(), minlength=256))


def shares(pixels: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Each class' share of the pixels that count, and the ignored ones' of all. pixels: how many hold each number."""
    counted = max(int(pixels[:IGNORE].sum()), 1)
    of_classes = {name: int(count) / counted for name, count in zip(names, pixels, strict=False)}
    return of_classes | {IGNORED: int(pixels[IGNORE]) / max(int(pixels.sum()), 1)}
