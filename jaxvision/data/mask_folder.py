"""Source `masks`: any folder of pictures beside a folder of masks with the same names."""

import os
from pathlib import Path

from jaxvision import config
from jaxvision.config import PARTS
from jaxvision.data.cache import open_cache
from jaxvision.data.folder import common_size, refuse_mislabelled
from jaxvision.data.layout import class_folders, innermost
from jaxvision.data.lazy_masks import MaskFiles, over_cores
from jaxvision.data.left_out import LeftOut, without_bad
from jaxvision.data.mask import MaskRule, mask_classes, rule_of
from jaxvision.data.names import part_meant, renames, warn_clutter
from jaxvision.data.pairs import Pair, decoded_fault, pair_faults, pairs, refuse
from jaxvision.data.parts import Dataset, FilePart, fingerprint
from jaxvision.data.paths import existing_path
from jaxvision.data.targets import largest_class
from jaxvision.errors import DataError


def masks(data: config.Data) -> Dataset:
    """DIR/images and DIR/masks, a training part alone, or DIR/{train,validation,test}/{images,masks}.

    A picture (endings as source `folder`) and its mask (.png .bmp .gif) have the same name but for the ending. Masks
    hold a number a pixel, gray or an index of a palette; `mask.rule_of` has what the numbers mean. Sizes are compared
    by the headers of all files; the masks themselves are read as they are trained with.

    Classes are `mask.mask_classes`. Where `data` does not tell them, their number is the largest in the training
    masks, and their names are "0", "1", ...: all training masks are then read once more when the dataset is opened, on
    all processor cores.
    """
    root = existing_path(data)
    skipped: list[str] = []
    found = {name: pairs(folder / "images", folder / "masks", skipped) for name, folder in mask_folders(root).items()}
    warn_clutter(root, skipped)
    left_out: tuple[LeftOut, ...] = ()
    if data.bad_pictures == "skip":
        found, left_out = without_bad(found, decoded_fault, lambda pair: pair[0], data, str(root))
    else:
        for part in found.values():
            for picture, _ in part:
                refuse_mislabelled(picture)
            refuse([fault for fault in pair_faults(part) if fault], "pictures or masks do not fit")
    size = data.image_size or common_size([picture for part in found.values() for picture, _ in part])
    names = mask_classes(data) or _numbered(found["train"], data)
    rule = rule_of(data, len(names))
    parts = mask_parts(found, size, rule, data)
    return Dataset(
        train=parts["train"],
        validation=parts.get("validation"),
        test=parts.get("test"),
        class_names=names,
        image_shape=(*size, data.channels or 3),
        fingerprint=fingerprint(parts, str(root)),
        left_out=left_out,
        root=str(root),
        numbered=not mask_classes(data),
    )


def mask_folders(root: Path) -> dict[str, Path]:
    """The folder of each part, which holds images and masks."""
    if holds_images_and_masks(root):
        found = class_folders(root / "images")
        if len({part_meant(name) for name in found} - {None}) > 1:
            raise DataError(
                f"{root / 'images'}: its folders look like parts, and the images in all of them would be one part. Put "
                f"the part first: {root / 'train' / 'images'} and {root / 'train' / 'masks'}. "
                f"Received: {', '.join(found)}."
            )
        return {"train": root}
    folders = class_folders(root)
    if not holds_images_and_masks(root / "train"):
        inner = innermost(root)
        advice = f" Set data.path to {inner}." if inner != root else ""
        if any(holds_images_and_masks(root / name) for name in folders) and (found_parts := renames(folders)):
            advice = f" Rename the parts: {found_parts}."
        elif found_names := _other_case(root):
            advice = f" Rename {found_names}."
        names = sorted(os.listdir(root))[:8] if root.is_dir() else ["a file"]
        raise DataError(
            f"{root}: no folders images and masks, here or in train.{advice} "
            f"Received: {', '.join(names) or 'an empty folder'}."
        )
    for name in folders:
        if name not in PARTS:
            advice = f" Rename it: {new}." if (new := renames([name])) else " Move it away."
            raise DataError(f"{root}: beside train there may be validation and test.{advice} Received: {name}.")
        if not holds_images_and_masks(root / name):
            raise DataError(
                f"{root / name}: it must hold the folders images and masks. "
                f"Received: {', '.join(sorted(os.listdir(root / name))[:8]) or 'an empty folder'}."
            )
    return {name: root / name for name in PARTS if name in folders}


def _other_case(root: Path) -> str:
    """'Images -> images': folders whose names differ from those that are read in case or number."""
    likely = {"images": {"images", "image"}, "masks": {"masks", "mask"}}
    changed = [
        f"{name} -> {new}"
        for name in class_folders(root)
        for new, names in likely.items()
        if name != new and name.lower() in names
    ]
    return ", ".join(changed)


def mask_parts(
    found: dict[str, list[Pair]],
    size: tuple[int, int],
    rule: MaskRule,
    data: config.Data,
    *,
    true_endings: bool = True,
) -> dict[str, FilePart]:
    """Parts of the pairs found, resized to `size` as `data` says."""
    cache, parts = open_cache(data), {}
    for name, part in found.items():
        pictures, stored = (tuple(files) for files in zip(*part, strict=True))
        target = MaskFiles(stored, pictures, size, rule, data.resize)
        parts[name] = FilePart(
            pictures, target, size, data.channels or 3, data.resize, cache, true_endings=true_endings
        )
    return parts


def holds_images_and_masks(folder: Path) -> bool:
    """Whether it looks like a part of this source."""
    return (folder / "images").is_dir() and (folder / "masks").is_dir()


def _numbered(part: list[Pair], data: config.Data) -> tuple[str, ...]:
    """'0', '1', ... up to the largest class in the masks."""
    pictures, stored = zip(*part, strict=True)
    rule = MaskRule(label_offset=data.label_offset, ignore_label=data.ignore_label)
    files = MaskFiles(stored, pictures, (1, 1), rule)
    largest = over_cores(lambda index: largest_class([files.class_numbers(index)]), range(len(files)))
    return tuple(str(number) for number in range(max(largest) + 1))
