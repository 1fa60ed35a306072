"""Every example there is, one after the other and whether it has a label or not: to look at, not to train from."""

import os
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console
from rich.progress import track

from jaxvision.config import PARTS, Data
from jaxvision.data.cache import decoded_key
from jaxvision.data.check_picture import picture_fault
from jaxvision.data.layout import part_folders
from jaxvision.data.mask_folder import holds_images_and_masks
from jaxvision.data.names import composed, warn_clutter
from jaxvision.data.open import SOURCES, open_dataset
from jaxvision.data.parts import ArrayPart, FilePart, Part, has_masks
from jaxvision.data.picture_file import EXTENSIONS
from jaxvision.data.pipeline import file_batches, sequence_batches
from jaxvision.data.reading import look_at_each, walk
from jaxvision.errors import DataError

MAX_LINES = 20
"""Bad files that an error lists before it only counts them."""


@dataclass(frozen=True)
class Everything:
    """All examples of some data, in a fixed order.

    names: relative file names with "/", or PART/NUMBER. labels: int32 (N,), -1 where there is no class, as with masks;
    or float32 (N, K), where there may be several. identity: a hash of what decides names, labels and decoded pictures.
    """

    parts: tuple[Part, ...]
    names: tuple[str, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]
    identity: str

    @property
    def dtype(self) -> np.dtype:
        """Of the pictures."""
        part = self.parts[0]
        return part.inputs.dtype if isinstance(part, ArrayPart) else part.dtype

    def batches(self, batch_size: int, *, start: int = 0) -> Iterator[np.ndarray]:
        """Pictures (B, H, W, C) from example `start`, the beginning of a batch, on. A part's last batch is smaller."""
        for part in self.parts:
            if start < len(part.target):
                yield from _batches(part, batch_size, start)
            start = max(start - len(part.target), 0)

    def whole_batches(self, batch_size: int, done: int) -> int:
        """The number of examples in those batches that lie wholly in the first `done` examples."""
        before = 0
        for part in self.parts:
            if done < before + len(part.target):
                return before + (done - before) // batch_size * batch_size
            before += len(part.target)
        return before

    def require_readable(self, *, progress: bool = True) -> None:
        """Reads every picture file to its last byte. DataError: lists all that are no good, and why."""
        console = Console(stderr=True)
        paths = [path for part in self.parts if isinstance(part, FilePart) for path in part.paths]
        checks = look_at_each(picture_fault, paths)
        shown = track(checks, "checking", len(paths), console=console, transient=True, disable=not progress)
        bad = [f"{path}: {fault}" for path, fault in shown if fault]
        if bad:
            more = [f"and {len(bad) - MAX_LINES} more"] if len(bad) > MAX_LINES else []
            head = f"{len(bad)} of {len(paths)} pictures cannot be used. Replace or remove them:"
            raise DataError("\n  ".join([head, *bad[:MAX_LINES], *more]))


def every_example(
    data: str | os.PathLike[str],
    image_shape: tuple[int, int, int],
    resize: Literal["stretch", "crop"] = "stretch",
) -> Everything:
    """All pictures of `data`, decoded to `image_shape` (H, W, C).

    data: a folder; an .npz or .csv file as the source of that name reads it; or the name of a source (digits,
      tfds:NAME). The pictures of a folder are those at any depth below it; the class is the sub-folder that one lies
      in, DIR/CLASS/... or DIR/{train,validation,test}/CLASS/..., and pictures outside such folders have none.

    Raises: DataError: nothing there, no pictures, or of another shape.
    """
    path = Path(data).expanduser()
    if any(holds_images_and_masks(folder) for folder in (path, path / "train")):
        raise DataError(
            f"{path}: a folder of pictures and masks, of which only the pictures are wanted: give its folder images."
        )
    if path.is_dir():
        return _folder(path, image_shape, resize)
    is_file = path.is_file()
    if not is_file and os.fspath(data) not in SOURCES and ":" not in os.fspath(data):
        raise DataError(
            f"{path}: nothing there. Give a folder of pictures, an .npz or .csv file or a source such as tfds:NAME"
            f" (seen from {Path.cwd()})."
        )
    kind = "csv" if path.suffix.lower() == ".csv" else "npz"
    source = Data(source=kind if is_file else os.fspath(data), path=str(path) if is_file else None)
    return _dataset(source, image_shape, resize)


def _folder(root: Path, image_shape: tuple[int, int, int], resize: Literal["stretch", "crop"]) -> Everything:
    skipped: list[str] = []
    files = sorted(_files(root, skipped), key=lambda file: file.parts)
    pictures = [file for file in files if file.suffix.lower() in EXTENSIONS]
    warn_clutter(root, skipped)
    if others := [file for file in files if file.suffix.lower() not in EXTENSIONS]:
        counts = Counter(file.suffix or "no ending" for file in others).most_common()
        kinds = ", ".join(f"{kind}: {count}" for kind, count in counts)
        warnings.warn(f"{root}: {len(others)} files are not read ({kinds}), such as {others[0]}.", stacklevel=3)
    if not pictures:
        raise DataError(f"{root}: no pictures in it. Endings that are read: {' '.join(sorted(EXTENSIONS))}.")
    in_parts = all(len(file.parts) > 1 and file.parts[0] in PARTS for file in pictures)
    folders = [file.parts[1 if in_parts else 0 : -1][:1] for file in pictures]
    class_names = sorted({composed(name) for names in folders for name in names})
    if class_names and not in_parts:
        _warn_of_layout(root)
    labels = np.array([class_names.index(composed(names[0])) if names else -1 for names in folders], np.int32)
    part = FilePart(tuple(str(root / file) for file in pictures), labels, image_shape[:2], image_shape[2], resize)
    names = tuple(file.as_posix() for file in pictures)
    identity = f"{decoded_key(part)} {names} {class_names}"
    return Everything((part,), names, labels, tuple(class_names), _digest(identity))


def _warn_of_layout(root: Path) -> None:
    """Features are useful without labels, so a layout that cannot be trained from only makes a warning."""
    try:
        part_folders(root)
    except DataError as error:
        warnings.warn(f"labels are the names of these folders, which may be wrong: {error}", stacklevel=4)


def _files(root: Path, skipped: list[str]) -> Iterator[Path]:
    """All files below a folder but hidden and system ones; links to folders are followed, each folder is read once."""
    seen = set()
    for top, folders, files in walk(root, skipped, followlinks=True):
        real = os.path.realpath(top)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield from (Path(top, file).relative_to(root) for file in files)


def _dataset(data: Data, image_shape: tuple[int, int, int], resize: Literal["stretch", "crop"]) -> Everything:
    described = Data(data.source, data.path, image_size=image_shape[:2], resize=resize)
    dataset = open_dataset(described)
    if dataset.image_shape != image_shape:
        raise DataError(
            f"the model takes pictures of {image_shape}. Received: data with pictures of {dataset.image_shape}."
        )
    parts = {name: part for name in PARTS if (part := getattr(dataset, name)) is not None}
    return Everything(
        parts=tuple(parts.values()),
        names=tuple(f"{name}/{index}" for name, part in parts.items() for index in range(len(part.target))),
        labels=np.concatenate([_labels(part) for part in parts.values()]),
        class_names=dataset.class_names,
        identity=_digest(f"{dataset.fingerprint} {image_shape} {resize}"),
    )


def _labels(part: Part) -> np.ndarray:
    return np.full(len(part.target), -1, np.int32) if has_masks(part) else np.asarray(part.target)


def _batches(part: Part, batch_size: int, start: int) -> Iterator[np.ndarray]:
    if isinstance(part, ArrayPart):
        for begin in range(start, len(part.target), batch_size):
            yield np.asarray(part.inputs[begin : begin + batch_size])
    elif isinstance(part, FilePart):
        for pictures, _ in file_batches(part, np.arange(start, len(part.target)), batch_size):
            yield pictures
    else:
        for pictures, _ in sequence_batches(part, batch_size, skip=start):
            yield pictures


def _digest(text: str) -> str:
    return sha256(text.encode(errors="surrogateescape")).hexdigest()
