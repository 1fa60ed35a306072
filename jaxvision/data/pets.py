"""Source `pets`: the Oxford-IIIT Pets as they are unpacked, with the trimaps as masks and the book's split."""

import os
import random
from pathlib import Path

from jaxvision import config
from jaxvision.data.folder import common_size
from jaxvision.data.left_out import LeftOut, warn_left_out, without_bad
from jaxvision.data.mask import rule_of
from jaxvision.data.mask_folder import mask_parts
from jaxvision.data.pairs import Pair, decoded_fault, pair_faults, refuse, stems, without_partner
from jaxvision.data.parts import Dataset, fingerprint
from jaxvision.data.paths import existing_path
from jaxvision.data.picture_file import EXTENSIONS, looks_like
from jaxvision.errors import ConfigError, DataError

CLASS_NAMES = ("animal", "background", "contour")
"""Trimaps hold 1, 2 and 3 for them."""

Sifted = tuple[dict[str, list[Pair]], tuple[LeftOut, ...]]
"""The good pairs of each part, and the pictures of the others."""

SEED, VALIDATION = 1337, 1000
"""Of Chollet, Deep Learning with Python (2nd edition), section 9.2."""


def pets(data: config.Data) -> Dataset:
    """PATH/images/*.jpg with PATH/annotations/trimaps/*.png: 7,390 pictures, the last 1,000 to validate.

    Both lists are sorted by name and shuffled by random.Random(1337), as the book does (section 9.2); of fewer than
    2,000 pictures a seventh validates. Hidden files and those with other endings (the download has some .mat) are
    passed over. A picture of another format than JPEG is read as what it is. What cannot be read by its header, and a
    trimap that has not the size of its picture, is left out after the split, so that all others keep their part, and
    listed in a warning. Masks: 0 animal, 1 background, 2 contour; with `data.ignore_label` 3 contours count nowhere,
    and there are two classes.
    """
    root = existing_path(data)
    if data.label_offset not in (0, 1):
        raise ConfigError(
            f"data.label_offset: the first class of the trimaps is known to be 1. Received: {data.label_offset}."
        )
    for field in ("mask_values", "mask_thresholds"):
        if value := getattr(data, field):
            raise ConfigError(f"data.{field}: what the numbers of the trimaps mean is known. Received: {value}.")
    if data.ignore_label in (1, 2):
        raise ConfigError(
            "data.ignore_label: animal and background are what trimaps are about; only contours (3) can count nowhere."
            f" Received: {data.ignore_label}."
        )
    parted = split_pets(pets_pairs(root))
    split, left_out = _skipped(parted, data, root) if data.bad_pictures == "skip" else _by_header(parted, root)
    good = [picture for part in split.values() for picture, _ in part]
    if not all(split.values()):
        raise DataError(f"{root}: too few pictures to train and validate. Received: {len(good)} that can be read.")
    size = data.image_size or common_size(good)
    jpegs = all(_kind(picture) == "a JPEG picture" for picture in good)
    class_names = classes_without(data.ignore_label)
    parts = mask_parts(split, size, rule_of(data, len(class_names)), data, true_endings=jpegs)
    return Dataset(
        train=parts["train"],
        validation=parts["validation"],
        test=None,
        class_names=class_names,
        image_shape=(*size, data.channels or 3),
        fingerprint=fingerprint(parts, str(root)),
        left_out=left_out,
        root=str(root),
    )


def classes_without(ignore_label: int | None) -> tuple[str, ...]:
    """Names of the classes where that number, as stored, counts nowhere."""
    return CLASS_NAMES[:2] if ignore_label == 3 else CLASS_NAMES


def pets_pairs(root: Path) -> list[Pair]:
    """Pictures and trimaps of the same name, by name. DataError: other folders, or partners missing."""
    images, trimaps = root / "images", root / "annotations" / "trimaps"
    for folder in (images, trimaps):
        if not folder.is_dir():
            names = sorted(os.listdir(root))[:8] if root.is_dir() else ["a file"]
            raise DataError(
                f"{folder}: there is no such folder. data.path must hold images and annotations/trimaps, unpacked from "
                f"images.tar.gz and annotations.tar.gz. Received: {', '.join(names) or 'an empty folder'}."
            )
    pictures, masks = stems(images, (".jpg",), quiet=True), stems(trimaps, (".png",), quiet=True)
    if not pictures and not masks:
        raise DataError(f"{root}: no pictures images/*.jpg and no trimaps annotations/trimaps/*.png. Received: none.")
    alone = without_partner(images, pictures, trimaps, masks)
    refuse([f"{file}: {why}" for file, why in alone], "pictures and trimaps have no partner of the same name")
    return [(pictures[stem], masks[stem]) for stem in sorted(pictures, key=lambda stem: f"{stem}.jpg")]


def split_pets(found: list[Pair]) -> dict[str, list[Pair]]:
    """The sorted pairs as the book divides them."""
    # The book shuffles pictures and trimaps by two generators of one seed: the same as shuffling pairs.
    shuffled = list(found)
    random.Random(SEED).shuffle(shuffled)
    held_out = VALIDATION if len(found) >= 2 * VALIDATION else max(1, len(found) // 7)
    return {"train": shuffled[:-held_out], "validation": shuffled[-held_out:]}


def _skipped(found: dict[str, list[Pair]], data: config.Data, root: Path) -> Sifted:
    """Without those that cannot be decoded."""

    def look(pair: Pair) -> str | None:
        return decoded_fault(pair, true_endings=False) or _unknown_format(pair[0])

    return without_bad(found, look, lambda pair: pair[0], data, str(root))


def _by_header(found: dict[str, list[Pair]], root: Path) -> Sifted:
    """Without those that are no good by their headers."""
    good, left_out = {}, []
    for name, part in found.items():
        faults = [
            (fault and fault.removeprefix(f"{pair[0]}: ")) or _unknown_format(pair[0])
            for pair, fault in zip(part, pair_faults(part), strict=True)
        ]
        good[name] = [pair for pair, fault in zip(part, faults, strict=True) if not fault]
        left_out += [LeftOut(name, pair[0], fault) for pair, fault in zip(part, faults, strict=True) if fault]
    warn_left_out(left_out, str(root))
    return good, tuple(left_out)


def _kind(picture: str) -> str:
    with open(picture, "rb") as file:
        return looks_like(file.read(1024))


def _unknown_format(picture: str) -> str | None:
    kind = _kind(picture)
    known = {f"a {name} picture" for name in EXTENSIONS.values()}
    return None if kind in known else f"{kind}, which is not read"
