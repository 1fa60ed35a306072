"""What a source gives: a dataset of up to three parts, each in one of three kinds of storage."""

import functools
import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np

from jaxvision.data.lazy_masks import LazyMasks, MaskFiles
from jaxvision.data.left_out import LeftOut
from jaxvision.data.marks import read_marks

HASHED_BYTES = 2**28
"""Pictures, or masks, beyond this are fingerprinted by 4,096 evenly spaced ones (labels always whole)."""


class Rows:
    """Chosen rows of a memory-mapped array, read only when asked for."""

    def __init__(self, array: Any, chosen: np.ndarray) -> None:
        self.array, self.chosen = array, chosen
        self.dtype, self.ndim = array.dtype, array.ndim
        self.shape = (len(chosen), *array.shape[1:])
        self.nbytes = math.prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: Any) -> np.ndarray:
        return self.array[self.chosen[index]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        rows = aligned_empty(self.shape, self.dtype)
        # With mode="raise" NumPy would gather into a buffer and copy that.
        np.take(self.array, self.chosen, axis=0, out=rows, mode="clip")
        return rows.astype(dtype or self.dtype, copy=False)


Target = np.ndarray | Rows | LazyMasks
"""What is to be predicted: int32 (N,) class numbers; float32 (N, K) of 0 and 1, any number of classes each; or uint8
(N, H, W) masks of class numbers, `types.IGNORE` where a pixel counts nowhere, as high and wide as the pictures."""


class Cache(NamedTuple):
    """Where decoded pictures are kept between runs (`jaxvision.data.cache`), and how many bytes they may take."""

    folder: Path
    limit: int


@dataclass(frozen=True, eq=False)
class ArrayPart:
    """Decoded examples with random access, in memory or memory-mapped.

    inputs: uint8 or float32 (N, H, W, C), pixel units 0..255. target: see `Target`. names: file names where they exist.
    positions: int64 (N,), which examples of the source's part these are; None: all of them.
    """

    inputs: np.ndarray | Rows
    target: Target
    names: tuple[str, ...] | None = None
    positions: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class FilePart:
    """Pictures on disk, decoded to uint8 (H, W, C) and resized to `image_size` when asked. target: see `Target`.

    whole, positions: the source's part that this one was taken from, and where its examples stand there.
    true_endings: whether every file holds the format that its ending names.
    """

    paths: tuple[str, ...]
    target: Target
    image_size: tuple[int, int]
    channels: int
    resize: Literal["stretch", "crop"] = "stretch"
    cache: Cache | None = None
    whole: Self | None = None
    positions: np.ndarray | None = None
    true_endings: bool = True
    dtype = np.dtype(np.uint8)

    @functools.cached_property
    def marks(self) -> np.ndarray | None:
        """How to read and turn each picture, found in the files when first asked for; see `marks.read_marks`."""
        return read_marks(self.paths)


@dataclass(frozen=True, eq=False)
class SequentialPart:
    """Examples that can only be read from the first to the last (tf.data, TFRecord files).

    stored: gives a tf.data.Dataset of (picture as stored, label or mask as stored), in the same order at each call.
    decode: TensorFlow function from a stored picture to `image_shape` of `dtype` (uint8 or float32).
    positions: int64 (N,), rising: which of the stored examples belong to the part. target: theirs, see `Target`.
    identity: what decides the decoded pictures, where that is known. whole: the source's part this was taken from.
    """

    where: str
    stored: Callable[[], Any]
    decode: Callable[[Any], Any]
    positions: np.ndarray
    target: Target
    image_shape: tuple[int, int, int]
    dtype: np.dtype
    identity: str | None = None
    cache: Cache | None = None
    whole: Self | None = None


Part = ArrayPart | FilePart | SequentialPart


@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples to train, validate and test with. image_shape is (H, W, C).

    fingerprint: sha256 over what identifies the data as the source has it, before limits and set-aside parts.
    left_out: pictures of the source that cannot be used and are in no part. root: the folder that files are named
    below. validation_drawn: whether the validation part was drawn from the training part (`data.validation_fraction`).
    numbered: nothing names the classes, which are counted from 0 up to the largest number in the training part.
    """

    train: Part
    validation: Part | None
    test: Part | None
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    fingerprint: str
    left_out: tuple[LeftOut, ...] = ()
    root: str = ""
    validation_drawn: bool = False
    numbered: bool = False


def image_shape(part: Part) -> tuple[int, int, int]:
    """(H, W, C) of the part's decoded pictures."""
    match part:
        case ArrayPart():
            height, width, channels = part.inputs.shape[1:]
            return height, width, channels
        case FilePart():
            return *part.image_size, part.channels
        case SequentialPart():
            return part.image_shape


def has_masks(part: Part) -> bool:
    """Whether the part's target are masks."""
    return part.target.ndim == 3


def decoded_bytes(part: Part) -> int:
    """Bytes of the part's decoded pictures and of their masks."""
    dtype = part.inputs.dtype if isinstance(part, ArrayPart) else part.dtype
    pictures = len(part.target) * math.prod(image_shape(part)) * dtype.itemsize
    return pictures + (part.target.nbytes if has_masks(part) else 0)


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """np.empty, begun at a multiple of 64 bytes: what JAX uses in place on a CPU, without a copy of its own."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)


def in_memory(inputs: Target) -> np.ndarray:
    """The array, read if it is mapped from a file: on a CPU JAX would otherwise go on using the file itself."""
    inputs = np.asarray(inputs)
    if not on_disk(inputs):
        return inputs
    memory = aligned_empty(inputs.shape, inputs.dtype)
    np.copyto(memory, inputs)
    return memory


def take(part: Part, chosen: np.ndarray) -> Part:
    """The part's examples at the indices `chosen`; of a SequentialPart `chosen` must rise."""
    target = _rows(part.target, chosen)
    match part:
        case ArrayPart():
            inputs = _rows(part.inputs, chosen)
            names = part.names and tuple(part.names[index] for index in chosen)
            return ArrayPart(inputs, target, names, chosen if part.positions is None else part.positions[chosen])
        case FilePart():
            paths = tuple(part.paths[index] for index in chosen)
            positions = chosen if part.positions is None else part.positions[chosen]
            return replace(part, paths=paths, target=target, positions=positions, whole=part.whole or part)
        case SequentialPart():
            return replace(part, positions=part.positions[chosen], target=target, whole=part.whole or part)


def select(dataset: Dataset, rows: Sequence[tuple[str, int]]) -> Part:
    """The examples (part, index), in this order, of one or several parts that are stored alike."""
    names = {name for name, _ in rows}
    if len(names) == 1:
        return take(getattr(dataset, names.pop()), np.array([index for _, index in rows]))
    parts = {name: getattr(dataset, name) for name in names}
    first = next(iter(parts.values()))
    paths = () if isinstance(first, ArrayPart) else tuple(parts[name].paths[index] for name, index in rows)
    if isinstance(first.target, MaskFiles):
        masks = [parts[name].target.paths[index] for name, index in rows]
        return replace(first, paths=paths, target=first.target.of(masks, paths))
    target = np.stack([parts[name].target[index] for name, index in rows])
    if isinstance(first, ArrayPart):
        return ArrayPart(np.stack([parts[name].inputs[index] for name, index in rows]), target)
    return replace(first, paths=paths, target=target)


def _rows(array: Any, chosen: np.ndarray) -> Any:
    """Rows of an array, still unread where it is read only when asked for."""
    if isinstance(array, LazyMasks):
        return array.rows(chosen)
    return Rows(array, chosen) if on_disk(array) else array[chosen]


def describe(part: Part, index: int) -> str:
    """Name of one example for messages: its file where it has one."""
    match part:
        case ArrayPart():
            return f"example {index}" if part.names is None else part.names[index]
        case FilePart():
            return part.paths[index]
        case SequentialPart():
            return f"example {part.positions[index]}"


def fingerprint(parts: Mapping[str, Part], root: str = "") -> str:
    """sha256 over names, shapes, labels and picture bytes of array parts, or file names below `root` and sizes."""
    digest = hashlib.sha256()
    for name, part in parts.items():
        target = part.target
        digest.update(f"{name} {target.shape}".encode())
        if isinstance(target, LazyMasks):
            digest.update(f"{target.rule}".encode())
        elif has_masks(part):
            _update(digest, target)
        else:
            digest.update(np.asarray(target).tobytes())
        if isinstance(part, ArrayPart):
            _update(digest, part.inputs)
        elif isinstance(part, FilePart):
            masks = target.paths if isinstance(target, MaskFiles) else ()
            for path in (*part.paths, *masks):
                digest.update(
                    f"{os.path.relpath(path, root)} {os.path.getsize(path)}\n".encode(errors="surrogateescape")
                )
    return digest.hexdigest()


def _update(digest: Any, array: Any) -> None:
    digest.update(f"{array.shape} {array.dtype}".encode())
    stride = 1 if array.nbytes <= HASHED_BYTES else max(1, len(array) // 4096)
    for index in range(0, len(array), stride):
        digest.update(np.ascontiguousarray(array[index]).data)


def on_disk(array: Any) -> bool:
    """Whether the array's values are read from a file as they are asked for."""
    while isinstance(array, np.ndarray) and not isinstance(array, np.memmap):
        array = array.base
    return isinstance(array, np.memmap | Rows | LazyMasks)
