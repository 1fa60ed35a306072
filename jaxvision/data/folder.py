"""Source `folder`: one sub-folder per class, as Keras' image_dataset_from_directory reads it."""

import os
import stat
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

from jaxvision import config
from jaxvision.data.cache import open_cache
from jaxvision.data.check_picture import picture_fault
from jaxvision.data.layout import class_folders, part_folders
from jaxvision.data.left_out import LeftOut, without_bad
from jaxvision.data.names import check_look_alikes, clutter, composed, warn_clutter
from jaxvision.data.orientation import turned_size
from jaxvision.data.parts import Dataset, FilePart, fingerprint
from jaxvision.data.paths import existing_path
from jaxvision.data.picture_file import EXTENSIONS, NO_FILE, FaultError, looks_like, picture_header
from jaxvision.data.reading import walk
from jaxvision.errors import DataError


def folder(data: config.Data) -> Dataset:
    """DIR/{train,validation,test}/CLASS/*.jpg, or DIR/CLASS/*.jpg for a training part alone.

    Classes are the sub-folders in alphabetical order; images (.jpg .jpeg .png .bmp .gif, at any depth) are
    decoded to `data.channels` (3 if not given) and resized to `data.image_size` by `data.resize`. JPEGs and PNGs are
    turned as their EXIF mark says, which Keras leaves undone. Hidden files and folders and those of systems
    (__MACOSX, Thumbs.db, ...) are skipped, and a warning counts them. Names of classes are composed (Unicode NFC).
    """
    root = existing_path(data)
    if not root.is_dir():
        table = " For a table of images set data.source to csv." if root.suffix.lower() == ".csv" else ""
        raise DataError(f"data.path must be a folder.{table} Received: {root}, a file.")
    parts = part_folders(root)
    class_names = [composed(name) for name in class_folders(parts["train"])]
    if not class_names:
        raise DataError(
            f"{parts['train']}: no sub-folders, so no classes. Received: {_contents(parts['train'])}. "
            "Put the images of each class in a sub-folder of its name (Kaggle's dogs-vs-cats: "
            "jaxvision prepare dogs-vs-cats)."
        )
    check_look_alikes(class_folders(parts["train"]), root)
    skipped = [os.path.join(root, name) for name in sorted(os.listdir(root)) if clutter(name)]
    files = {name: _pictures(path, class_names, skipped) for name, path in parts.items()}
    warn_clutter(root, list(dict.fromkeys(skipped)))
    left_out: tuple[LeftOut, ...] = ()
    if data.bad_pictures == "skip":
        files, left_out = without_bad(files, lambda file: picture_fault(file[0]), lambda file: file[0], data, str(root))
        _refuse_empty(files, class_names, str(root))
    else:
        for file, _ in (file for found in files.values() for file in found):
            refuse_mislabelled(file)
    size = data.image_size or common_size([file for found in files.values() for file, _ in found])
    cache, read = open_cache(data), {}
    for name, found in files.items():
        paths, labels = zip(*found, strict=True)
        target = np.asarray(labels, np.int32)
        read[name] = FilePart(paths, target, size, data.channels or 3, data.resize, cache)
    return Dataset(
        train=read["train"],
        validation=read.get("validation"),
        test=read.get("test"),
        class_names=tuple(class_names),
        image_shape=(*size, data.channels or 3),
        fingerprint=fingerprint(read, str(root)),
        left_out=left_out,
        root=str(root),
    )


def _contents(path: Path) -> str:
    names = sorted(os.listdir(path))
    return f"{len(names)} files ({', '.join(names[:3])}{', ...' if names[3:] else ''})" if names else "an empty folder"


def _refuse_empty(files: dict[str, list[tuple[str, int]]], class_names: list[str], where: str) -> None:
    """DataError where no picture of a class is left in a part."""
    for part, found in files.items():
        if missing := set(range(len(class_names))) - {label for _, label in found}:
            name = class_names[min(missing)]
            raise DataError(
                f"{where}: no picture of class {name!r} in the {part} part can be used. `jaxvision check` lists why. "
                f"Received: {len(found)} good pictures of other classes."
            )


def _pictures(path: Path, class_names: list[str], skipped: list[str]) -> list[tuple[str, int]]:
    """Paths in Keras' order and labels of the images of one part. Hidden and system files are appended to `skipped`."""
    folders = {composed(name): name for name in class_folders(path)}
    if len(folders) < len(class_folders(path)):
        check_look_alikes(class_folders(path), path)
    if odd := sorted(folders.keys() ^ set(class_names)):
        unlabelled = " Images without a class cannot be used: move them away." if not folders else ""
        raise DataError(
            f"{path}: its classes are not those of the training part: {', '.join(odd)} only in one of them."
            f"{unlabelled} Received: {', '.join(folders) or 'no sub-folders'}."
        )
    paths: list[str] = []
    target: list[int] = []
    others: list[str] = []
    for label, name in enumerate(class_names):
        before = len(paths)
        top = path / folders[name]
        for root, below, files in sorted(walk(top, skipped)):
            others += [os.path.join(root, item) for item in below if os.path.islink(os.path.join(root, item))]
            for file in sorted(files):
                known = os.path.splitext(file)[1].lower() in EXTENSIONS
                (paths if known else others).append(os.path.join(root, file))
        if len(paths) == before:
            raise DataError(
                f"{top}: no pictures of class {name!r}. Received: {_contents(top)}. "
                f"Endings that are read: {' '.join(sorted(EXTENSIONS))}."
            )
        target += [label] * (len(paths) - before)
    beside = sorted(os.listdir(path))
    skipped += [os.path.join(path, name) for name in beside if clutter(name)]
    others += [os.path.join(path, name) for name in beside if not clutter(name) and os.path.isfile(path / name)]
    warn_unread(path, others)
    return list(zip(paths, target, strict=True))


def warn_unread(path: Path, others: list[str]) -> None:
    """Say which files below `path` are passed over, by their endings."""
    if others:
        kinds = Counter(os.path.splitext(other)[1] or "no ending" for other in others)
        counts = ", ".join(f"{kind}: {count}" for kind, count in kinds.most_common())
        warnings.warn(f"{path}: {len(others)} files are not read ({counts}), such as {others[0]}.", stacklevel=3)


def refuse_mislabelled(path: str) -> None:
    """The first bytes must be those of the format that the ending promises: found now, not in the middle of a run."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise DataError(f"{path}: {NO_FILE}. Received: no file with an end. Remove it.")
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
    """(height, width) of all the pictures as they are meant to be seen, by their headers."""
    sizes: list[tuple[int, int]] = []
    for path in paths:
        try:
            with warnings.catch_warnings(action="ignore"):
                header = picture_header(path)
            sizes.append(turned_size(header.size, header.mark))
        except FaultError as fault:
            raise DataError(f"{path}: {fault}. Received: {os.path.getsize(path)} bytes.") from None
        if sizes[-1] != sizes[0]:
            raise DataError(
                f"{path}: pictures differ in size. Received: {sizes[-1][0]} x {sizes[-1][1]} after "
                f"{sizes[0][0]} x {sizes[0][1]} ({paths[0]}). Set data.image_size, to which all are resized."
            )
    return sizes[0]
