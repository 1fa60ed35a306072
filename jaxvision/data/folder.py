"""Source `folder`: one sub-folder per class, as Keras' image_dataset_from_directory reads it."""

import os
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from jaxvision import config
from jaxvision.config import PARTS
from jaxvision.data.cache import open_cache
from jaxvision.data.parts import Dataset, FilePart, fingerprint
from jaxvision.data.paths import existing_path
from jaxvision.data.picture import EXTENSIONS, looks_like
from jaxvision.errors import DataError, nearest


def folder(data: config.Data) -> Dataset:
    """DIR/{train,validation,test}/CLASS/*.jpg, or DIR/CLASS/*.jpg for a training part alone.

    Classes are the sub-folders in alphabetical order; pictures (.jpg .jpeg .png .bmp .gif, at any depth) are
    decoded to `data.channels` (3 if not given) and resized to `data.image_size` by `data.resize`.
    """
    root = existing_path(data)
    if not root.is_dir():
        raise DataError(f"data.path must be a folder. Received: {root}, a file.")
    parts: dict[str, Path] = {"train": root}
    if _folders(root / "train"):
        parts = {name: root / name for name in PARTS if (root / name).is_dir()}
        for other in _folders(root):
            if other not in PARTS:
                raise DataError(
                    f"{root}: beside train there may be validation and test.{nearest(other, PARTS)} Received: {other}."
                )
    elif (root / "validation").is_dir() or (root / "test").is_dir():
        raise DataError(
            f"{root / 'train'}: no folder with a sub-folder per class. Received: {', '.join(_folders(root))}."
        )
    class_names = _folders(parts["train"])
    if not class_names:
        raise DataError(
            f"{parts['train']}: no sub-folders, so no classes. Received: {_contents(parts['train'])}. "
            "Put the pictures of each class in a sub-folder of its name (Kaggle's dogs-vs-cats: "
            "jaxvision prepare dogs-vs-cats)."
        )
    files = {name: _pictures(path, class_names) for name, path in parts.items()}
    size = data.image_size or common_size([path for paths, _ in files.values() for path in paths])
    cache = open_cache(data)
    read = {
        name: FilePart(paths, target, size, data.channels or 3, data.resize, cache)
        for name, (paths, target) in files.items()
    }
    return Dataset(
        train=read["train"],
        validation=read.get("validation"),
        test=read.get("test"),
        class_names=tuple(class_names),
        image_shape=(*size, data.channels or 3),
        fingerprint=fingerprint(read, str(root)),
    )


def _folders(path: Path) -> list[str]:
    """Names of the sub-folders, hidden ones left out as Keras does, in Keras' order."""
    if not path.is_dir():
        return []
    return sorted(name for name in os.listdir(path) if not name.startswith(".") and (path / name).is_dir())


def _contents(path: Path) -> str:
    names = sorted(os.listdir(path))
    return f"{len(names)} files ({', '.join(names[:3])}{', ...' if names[3:] else ''})" if names else "an empty folder"


def _pictures(path: Path, class_names: list[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Paths in Keras' order and int32 labels of the pictures of one part."""
    if (found := _folders(path)) != class_names:
        odd = sorted(set(found) ^ set(class_names))
        raise DataError(
            f"{path}: its classes are not those of the training part: {', '.join(odd)} only in one of them. "
            f"Received: {', '.join(found) or 'no sub-folders'}."
        )
    paths: list[str] = []
    target: list[int] = []
    others: list[str] = []
    for label, name in enumerate(class_names):
        before = len(paths)
        for root, folders, files in sorted(os.walk(path / name)):
            others += [os.path.join(root, item) for item in folders if os.path.islink(os.path.join(root, item))]
            for file in sorted(files):
                known = os.path.splitext(file)[1].lower() in EXTENSIONS
                (paths if known else others).append(os.path.join(root, file))
        if len(paths) == before:
            raise DataError(
                f"{path / name}: no pictures of class {name!r}. Received: {_contents(path / name)}. "
                f"Endings that are read: {' '.join(sorted(EXTENSIONS))}."
            )
        target += [label] * (len(paths) - before)
    for found_path in paths:
        refuse_mislabelled(found_path)
    others += [os.path.join(path, file) for file in sorted(os.listdir(path)) if os.path.isfile(path / file)]
    warn_unread(path, others)
    return tuple(paths), np.asarray(target, np.int32)


def warn_unread(path: Path, others: list[str]) -> None:
    """Say which files below `path` are passed over, by their endings."""
    if others:
        kinds = Counter(os.path.splitext(other)[1] or "no ending" for other in others)
        counts = ", ".join(f"{kind}: {count}" for kind, count in kinds.most_common())
        warnings.warn(f"{path}: {len(others)} files are not read ({counts}), such as {others[0]}.", stacklevel=3)


def refuse_mislabelled(path: str) -> None:
    """The first bytes must be those of the format that the ending promises: found now, not in the middle of a run."""
    try:
        with open(path, "rb", buffering=0) as file:
            start = file.read(1024)
    except OSError as error:
        hint = " (a link to nowhere?)" if os.path.islink(path) else ""
        raise DataError(f"{path}: cannot be opened. Received: {error.strerror}{hint}.") from error
    if not start:
        raise DataError(f"{path}: not a picture. Received: a file of 0 bytes. Replace it or remove it.")
    promised = f"a {EXTENSIONS[os.path.splitext(path)[1].lower()]} picture"
    if (kind := looks_like(start)) != promised:
        mend = "Rename it to its true ending" if kind.endswith("picture") else "Replace it"
        raise DataError(
            f"{path}: not {promised}, as its name says. Received: {kind}. {mend} or remove it; "
            "`jaxvision check` lists every such file."
        )


def common_size(paths: list[str]) -> tuple[int, int]:
    """(height, width) of all the pictures, by their headers."""
    sizes: list[tuple[int, int]] = []
    for path in paths:
        try:
            with warnings.catch_warnings(action="ignore"), Image.open(path) as picture:
                width, height = picture.size
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise DataError(f"{path}: not a picture. Received: {os.path.getsize(path)} bytes ({error}).") from error
        sizes.append((height, width))
        if sizes[-1] != sizes[0]:
            raise DataError(
                f"{path}: pictures differ in size. Received: {height} x {width} after {sizes[0][0]} x {sizes[0][1]} "
                f"({paths[0]}). Set data.image_size, to which all are resized."
            )
    return sizes[0]
