"""How the folders of a dataset are laid out: its parts and classes, and what looks like these under other names."""

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from jaxvision.config import PARTS
from jaxvision.data.names import clutter, part_meant, renames
from jaxvision.errors import DataError

IMAGES = {"images", "image", "imgs", "img", "jpegimages", "pictures"}
ANNOTATIONS = {"masks", "mask", "annotations", "annotation", "labels", "segmentations", "segmentationclass", "trimaps"}


def class_folders(path: Path) -> list[str]:
    """Names of the sub-folders in Keras' order, without hidden ones and those of systems; [] where there is no folder.

    Links to folders count.
    """
    if not path.is_dir():
        return []
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in entries if _is_folder(entry) and not clutter(entry.name))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in a circle
        return False


def part_folders(root: Path) -> dict[str, Path]:
    """The folder of each part: ROOT/{train,validation,test} where train has sub-folders, else ROOT for training alone.

    Raises: DataError: folders that would become classes look like parts of a dataset, like images beside masks, or like
      a folder around the dataset; other folders beside train; two parts that are one folder.
    """
    names = class_folders(root)
    if class_folders(root / "train"):
        _refuse_beside_train(root, names)
        parts = {name: root / name for name in PARTS if name in names}
        _refuse_same(parts.values())
    else:
        _refuse_other_parts(root, names)
        _refuse_images_and_masks(root, names)
        if (inner := innermost(root)) != root:
            raise DataError(f"{_around(root)} Set data.path to {inner}. Received: {names[0]}.")
        parts = {"train": root}
    for path in parts.values():
        if (inner := innermost(path)) != path:
            raise DataError(f"{_around(path)} Move what is in {inner} up into {path}. Received: 1 folder.")
        below = {name: class_folders(path / name) for name in class_folders(path)}
        _refuse_parts_of_classes(below, path)
        if path == root:
            _warn_of_common(below, path)
        _refuse_same(path / name for name in below)
    return parts


def innermost(path: Path) -> Path:
    """`path`, or the folder within it that is the first to hold more than a single folder."""
    while len(names := class_folders(path)) == 1 and class_folders(inner := path / names[0]) and not inner.is_symlink():
        path = inner
    return path


def _refuse_beside_train(root: Path, names: Sequence[str]) -> None:
    others = [name for name in names if name not in PARTS]
    if not others:
        return
    rest = [name for name in others if part_meant(name) is None]
    found = renames([*others, *(name for name in names if name in PARTS)])
    advice = f" Rename them: {found}." if found else ""
    if rest:
        advice += (
            f" Move away {_few(rest)}. If train is a class like these, move all folders, train too, into a new folder "
            f"named train: {root / 'train' / 'train'}, {root / 'train' / rest[0]}."
        )
    raise DataError(f"{root}: beside train there may be validation and test.{advice} Received: {_few(others)}.")


def _around(path: Path) -> str:
    return f"{path}: its only folder holds folders itself: it looks like one around the dataset, not like a class."


def _refuse_images_and_masks(root: Path, names: Sequence[str]) -> None:
    images = [name for name in names if name.lower() in IMAGES]
    masks = [name for name in names if name.lower() in ANNOTATIONS]
    if images and masks:
        raise DataError(
            f"{root}: the folders {images[0]} and {masks[0]} look like images and what belongs to each, not like "
            "classes. Set data.source to masks (folders images and masks) or pets (images and annotations/trimaps); "
            f"or data.path to {root / images[0]}, if that has a folder for each class. Received: {_few(names)}."
        )


def _refuse_other_parts(root: Path, names: Sequence[str]) -> None:
    """Folders that look like parts, by their names and by what is in them, where none is called train.

    A single one among folders of images is a class: train beside bus and car.
    """
    meant = {name: part for name in names if (part := part_meant(name)) is not None}
    if not meant:
        return
    below = {name: set(class_folders(root / name)) for name in names}
    kinds, rest = set(meant.values()), [name for name in names if name not in meant]
    several = len(kinds) > 1 and ("train" in kinds or not rest)
    holds_classes = any(
        below[name] and all(not below[other] or below[name] & below[other] for other in rest) for name in meant
    )
    if not several and not holds_classes:
        if kinds != {"train"}:
            warnings.warn(
                f"{root}: {_few(list(meant))} is a class here, beside {_few(rest) or 'no other'}. If it is a part, "
                f"move the folders of the classes into {root / 'train'}.",
                stacklevel=4,
            )
        return
    if not any(below[name] for name in meant):
        advice = f"Make a sub-folder for each class in each part, {root / 'train' / 'CLASS'}"
    elif found := renames(innermost(root / name).relative_to(root).as_posix() for name in meant):
        advice = f"Rename them, or link to them from a new folder: {found}"
    else:
        advice = "There is no folder train with a sub-folder for each class"
    if rest:
        advice += f"; move away {_few(rest)}"
    raise DataError(
        f"{root}: its folders look like parts of a dataset, not like classes. {advice}. If they are classes, move them "
        f"into a new folder named train: {root / 'train' / names[0]}. Received: {_few(names)}."
    )


def _refuse_parts_of_classes(below: Mapping[str, Sequence[str]], path: Path) -> None:
    """CLASS/train beside CLASS/test, which would be one part."""
    for name, folders in below.items():
        kinds = {part_meant(folder) for folder in folders} - {None}
        if "train" in kinds and len(kinds) > 1:
            raise DataError(
                f"{path / name}: its folders look like parts of the dataset, and the images in all of them would be in "
                f"one part. Put the part before the class: train/{name}, not {name}/train. If they are no parts, give "
                f"them other names. Received: {_few(folders)}."
            )


def _warn_of_common(below: Mapping[str, Sequence[str]], root: Path) -> None:
    """The classes may be a level lower."""
    common = next(iter(below.values()), [])
    if len(below) > 1 < len(common) and all(folders == common for folders in below.values()):
        warnings.warn(
            f"{root}: the classes are {_few(list(below))}, and each has the same sub-folders: {_few(common)}. If these "
            f"are the classes, set data.path to {root / next(iter(below))}, or to a new folder with all their images. "
            f"If not, no warning is given where the class folders are in {root / 'train'}.",
            stacklevel=4,
        )


def _refuse_same(folders: Iterable[Path]) -> None:
    seen: dict[str, Path] = {}
    for folder in folders:
        if (first := seen.setdefault(os.path.realpath(folder), folder)) != folder:
            raise DataError(
                f"{folder} and {first} are the same folder, so their images would be there twice. Remove the link. "
                f"Received: two names of {os.path.realpath(folder)}."
            )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
