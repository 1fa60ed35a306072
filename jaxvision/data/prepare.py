"""Bring a dataset into a form to train from: Kaggle's dogs-vs-cats into folders, any dataset into one .npz.

Nothing half-written is ever seen under the destination's name: it is built beside it and renamed when complete.
"""

import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from jaxvision import config
from jaxvision.data.kaggle import CLASSES, PAGE, Link, Pictures, kaggle_pictures
from jaxvision.data.names import clutter
from jaxvision.data.open import open_dataset
from jaxvision.data.parts import Dataset
from jaxvision.data.pipeline import decode
from jaxvision.data.targets import class_counts
from jaxvision.errors import DataError


@dataclass(frozen=True)
class PrepareReport:
    """What stands at `destination` now: pictures by part and class (those that show it, where there can be several).

    how: 'copy', 'hard', 'symlink' or 'arrays'; 'already there' where the same finished dataset was found and
    nothing was written.
    """

    destination: str
    counts: dict[str, dict[str, int]]
    how: str


def prepare_dogs_vs_cats(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    train: int = 1000,
    validation: int = 500,
    test: int = 1000,
    link: Link = "copy",
) -> PrepareReport:
    """Write destination/{train,validation,test}/{cat,dog}/cat.N.jpg, so many of each class, counted on across parts.

    source: Kaggle's flat folder of cat.0.jpg ... dog.12499.jpg, the folder around it, train.zip, or dogs-vs-cats.zip.
    A count of 0 leaves its part out. link: hard links and symlinks take no space, but who writes to such a file writes
    to the source's picture. Raises DataError before anything is written where the source lacks pictures or the
    destination holds something else.
    The split is the one of Chollet, Deep Learning with Python (2nd edition), section 8.2.2.
    """
    source, destination = Path(source).expanduser(), Path(destination).expanduser().absolute()
    if link not in get_args(Link):
        raise DataError(f"link must be one of {', '.join(get_args(Link))}. Received: {link!r}.")
    sizes = {"train": train, "validation": validation, "test": test}
    wanted = _wanted(sizes)
    counts = {part: dict.fromkeys(CLASSES, size) for part, size in sizes.items() if size}
    there = _files(destination)
    if there and there.keys() != wanted.keys():
        raise _taken(destination, there)
    with _scratch_beside(destination) as scratch, kaggle_pictures(source, link, scratch) as pictures:
        _refuse_missing(wanted, pictures)
        if there:
            if any(there[path] != pictures.sizes[name] for path, name in wanted.items()):
                raise _taken(destination, there)
            return PrepareReport(str(destination), counts, "already there")
        built = scratch() / "built"
        for path, name in wanted.items():
            (built / path).parent.mkdir(parents=True, exist_ok=True)
            pictures.bring(name, built / path)
        if destination.exists():
            destination.rmdir()  # empty, or this raises
        built.rename(destination)
    return PrepareReport(str(destination), counts, link)


def prepare_arrays(data: Dataset | config.Data, destination: str | os.PathLike[str]) -> PrepareReport:
    """Decode a whole dataset into one .npz, to train from where TensorFlow or the files are not at hand.

    Arrays train_inputs (N, H, W, C), train_target (see `parts.Target`), likewise validation_* and test_*, and
    class_names: what `data.source=npz` reads. Masks hold class numbers from 0 (255 counts nowhere), so the file is read
    with data.label_offset=0. Raises DataError where the destination exists or a picture cannot be decoded.
    """
    destination = Path(destination).expanduser().absolute()
    if destination.suffix != ".npz":
        raise DataError(f"The destination must end in .npz. Received: {destination}.")
    if there := _files(destination):
        raise _taken(destination, there)
    dataset = open_dataset(data) if isinstance(data, config.Data) else data
    arrays: dict[str, Any] = {"class_names": np.asarray(dataset.class_names)}
    counts = {}
    for name, part in (("train", dataset.train), ("validation", dataset.validation), ("test", dataset.test)):
        if part is not None:
            decoded = decode(part)
            arrays |= {f"{name}_inputs": decoded.inputs, f"{name}_target": decoded.target}
            counts[name] = class_counts(decoded.target, dataset.class_names)
    with _scratch_beside(destination) as scratch:
        built = scratch() / "built.npz"
        np.savez(built, **arrays)
        built.rename(destination)
    return PrepareReport(str(destination), counts, "arrays")


def _wanted(sizes: Mapping[str, int]) -> dict[str, str]:
    """Path below the destination -> Kaggle's name of the picture."""
    if min(sizes.values()) < 0 or not any(sizes.values()):
        received = ", ".join(f"{part}={size}" for part, size in sizes.items())
        raise DataError(
            f"Give how many pictures of each class a part gets, 0 or more, not all 0. Received: {received}."
        )
    wanted: dict[str, str] = {}
    start = 0
    for part, size in sizes.items():
        for name in CLASSES:
            wanted |= {f"{part}/{name}/{name}.{i}.jpg": f"{name}.{i}.jpg" for i in range(start, start + size)}
        start += size
    return wanted


def _refuse_missing(wanted: Mapping[str, str], pictures: Pictures) -> None:
    missing = [name for name in wanted.values() if not pictures.sizes.get(name)]
    if not missing:
        return
    empty = sum(name in pictures.sizes for name in missing)
    first = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if missing[3:] else "")
    held = " and ".join(f"{sum(name.startswith(kind) for name in pictures.sizes)} {kind}s" for kind in CLASSES)
    raise DataError(
        f"{pictures.where}: {len(missing)} of the {len(wanted)} pictures asked for are missing"
        f"{f' or empty ({empty} empty)' if empty else ''}: {first}. Received: {held}. Ask for fewer (train, validation "
        f"and test count pictures of each class, one after the other), or get them all: {PAGE}."
    )


def _files(destination: Path) -> dict[str, int]:
    """Size of each file at or below the destination, by its path from there; empty where the name is free."""
    if not destination.is_dir():
        return {".": 0} if destination.exists() or destination.is_symlink() else {}
    found = {}
    for folder, _, files in os.walk(destination):
        for file in files:
            if clutter(file):  # a file manager that was there
                continue
            path = Path(folder, file)
            found[path.relative_to(destination).as_posix()] = path.stat().st_size if path.exists() else 0
    return found or dict.fromkeys(os.listdir(destination), 0)


def _taken(destination: Path, there: Mapping[str, int]) -> DataError:
    held = "a file" if "." in there else f"a folder with {len(there)} files, such as {min(there)}"
    return DataError(
        f"{destination} is not empty, is not what was asked for, and is not written over. Received: {held}. "
        "Name another destination, or remove this one."
    )


@contextmanager
def _scratch_beside(destination: Path) -> Iterator[Callable[[], Path]]:
    """A function that gives a temporary folder beside `destination`, made when first asked for and removed at the end.

    What killed runs left there is removed too. (A run that is still at it loses its own folder and fails, cleanly.)
    """
    marker = f".{destination.name}.preparing-"
    own = destination.with_name(marker + secrets.token_hex(4))

    def scratch() -> Path:
        if not own.exists():
            for left in destination.parent.glob(f"{marker}*"):
                shutil.rmtree(left, ignore_errors=True)
            own.mkdir(parents=True)
        return own

    try:
        yield scratch
    except OSError as error:
        raise DataError(f"{destination} cannot be prepared. Received: {error}.") from error
    finally:
        shutil.rmtree(own, ignore_errors=True)
