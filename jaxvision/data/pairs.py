"""Pictures and their masks in two folders: which belong together, and whether they fit each other."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxvision.data.check_picture import picture_fault
from jaxvision.data.folder import warn_unread
from jaxvision.data.lazy_masks import over_cores
from jaxvision.data.mask import MASK_EXTENSIONS, fits, mask_size, read_mask
from jaxvision.data.names import composed
from jaxvision.data.picture_file import EXTENSIONS, FaultError, opened_header
from jaxvision.data.reading import walk
from jaxvision.errors import DataError

MAX_LINES = 20
"""Faults that an error lists before it only counts them."""

Pair = tuple[str, str]
"""Path of a picture and of its mask."""


def pairs(images: Path, masks: Path, skipped: list[str]) -> list[Pair]:
    """Images and masks of the same name but for the ending, at any depth below the two folders, by name.

    Hidden and system files are appended to `skipped`; a warning counts others that are no images. Raises DataError
    listing both sides of each partner that is missing, and names that two files share.
    """
    pictures, stored = stems(images, tuple(EXTENSIONS), skipped), stems(masks, tuple(MASK_EXTENSIONS), skipped)
    if not pictures and not stored:
        raise DataError(f"{images}: no pictures there. Endings that are read: {' '.join(EXTENSIONS)}. Received: none.")
    alone = without_partner(images, pictures, masks, stored)
    refuse([f"{file}: {why}" for file, why in alone], "pictures and masks have no partner of the same name")
    return [(pictures[stem], stored[stem]) for stem in sorted(pictures, key=_stored_name(pictures))]


def _stored_name(files: dict[str, str]) -> Callable[[str], str]:
    return lambda stem: os.path.splitext(files[stem])[0]


def stems(
    folder: Path, endings: tuple[str, ...], skipped: list[str] | None = None, *, quiet: bool = False
) -> dict[str, str]:
    """Paths of the files with one of the endings, by their path below the folder without the ending (Unicode NFC).

    Hidden and system files are appended to `skipped`. Raises DataError for names that differ only in their ending, or
    in how Unicode composes them. quiet: no warning of other files.
    """
    found: dict[str, str] = {}
    others, doubled = [], []
    for top, folders, files in walk(folder, skipped):
        folders.sort()
        for file in sorted(files):
            path = os.path.join(top, file)
            stem, ending = os.path.splitext(composed(os.path.relpath(path, folder)))
            if ending.lower() not in endings:
                others.append(path)
            elif stem in found:
                doubled.append(f"{found[stem]} and {path}")
            else:
                found[stem] = path
    refuse(doubled, "names belong to two files each; keep one of the two")
    jpegs = [path for path in others if path.lower().endswith((".jpg", ".jpeg"))]
    if jpegs and ".jpg" not in endings:
        reason = "a JPEG cannot be a mask: it keeps numbers only about; save masks as PNG"
        refuse([f"{path}: {reason}" for path in jpegs], "masks cannot be read")
    if not quiet:
        warn_unread(folder, others)
    return found


def without_partner(
    images: Path, pictures: dict[str, str], masks: Path, stored: dict[str, str]
) -> list[tuple[str, str]]:
    """Each file without a partner, and the partner that is not there."""
    lines = []
    for stem in sorted(pictures.keys() ^ stored.keys()):
        if stem in pictures:
            lines.append((pictures[stem], f"no mask {masks / stem}{_usual(stored, '.png')}"))
        else:
            lines.append((stored[stem], f"no picture {images / stem}{_usual(pictures, '.jpg')}"))
    return lines


def _usual(files: dict[str, str], otherwise: str) -> str:
    """The ending that most of the files have."""
    endings = Counter(os.path.splitext(path)[1] for path in files.values()).most_common(1)
    return endings[0][0] if endings else otherwise


def pair_fault(pair: Pair) -> str | None:
    """What is wrong with a picture and its mask by their headers: 'FILE: why'; None where nothing is."""
    picture, mask = pair
    try:
        with opened_header(picture) as image:
            size = image.height, image.width
    except FaultError as fault:
        return f"{picture}: {fault}"
    try:
        stored = mask_size(mask)
    except FaultError as fault:
        return f"{mask}, the mask of {picture}: {fault}"
    if stored != size and not fits(stored, picture):
        return (
            f"{mask}: {stored[0]} x {stored[1]} (height x width), but its picture {picture} has {size[0]} x {size[1]}"
        )
    return None


def pair_faults(found: Sequence[Pair]) -> list[str | None]:
    """`pair_fault` of each, read on all processor cores."""
    return over_cores(pair_fault, found)


def decoded_fault(pair: Pair, *, true_endings: bool = True) -> str | None:
    """What is wrong with a picture and its mask, decoded to their last bytes; None where nothing is.

    true_endings: a picture of another format than its ending says is wrong, too. What the numbers in the mask mean is
    not looked at.
    """
    picture, mask = pair
    fault = picture_fault(picture)
    if fault and (true_endings or not fault.startswith("mislabelled")):
        return fault
    if fault := pair_fault(pair):
        return fault.removeprefix(f"{picture}: ")
    try:
        read_mask(mask)
    except DataError as error:
        return str(error)
    return None


def refuse(faults: Sequence[str], what: str) -> None:
    """DataError that lists the faults, if there are any."""
    if faults:
        more = [f"and {len(faults) - MAX_LINES} more"] if len(faults) > MAX_LINES else []
        raise DataError("\n  ".join([f"{len(faults)} {what}. Received:", *faults[:MAX_LINES], *more]))
