"""Which examples the parts of a run hold, by name, content and target; and how data opened later differs from that."""

import gzip
import hashlib
import json
import math
import os
import zlib
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np

from jaxvision.config import PARTS
from jaxvision.data.lazy_masks import LazyMasks, MaskFiles, over_cores
from jaxvision.data.parts import HASHED_BYTES, ArrayPart, Dataset, FilePart, Part, has_masks
from jaxvision.data.reading import readable

WINDOW = 2**14
"""Bytes hashed at the beginning, in the middle and at the end of a file; a file of up to three times this is hashed
whole. The size counts too. PNG and GIF end in checksums, so any change of theirs reaches the last window."""

UNUSED = "unused"
"""Key of a part's examples that `data.limit_*` left out: "unused/train"."""

UNKNOWN = ":"
"""Content of an example that can be read only with the whole data, such as a record of TFDS."""

NAMED = 3
"""Examples of each kind of difference that a message names."""


@dataclass(frozen=True)
class Examples:
    """Examples of one part, in order.

    source: the part of the source they come from ("train" for a validation part that was drawn from it). names: of a
    file, its path below the data's folder; else SOURCE/NUMBER. content: "SIZE:HASH" of a file, ":HASH" of an array's
    row; without the hash where that was not asked for or is unknown. target: a class number, a list of class numbers,
    or the content of a mask; None where unknown.
    """

    source: str
    names: tuple[str, ...]
    content: tuple[str, ...]
    target: tuple[Any, ...]

    @property
    def is_known(self) -> bool:
        """Whether the contents are, so that examples can be found again in other data."""
        return any(map(is_hashed, self.content))


@dataclass(frozen=True)
class Record:
    """The examples of all parts, by part. fingerprint: of the data (`Dataset.fingerprint`)."""

    fingerprint: str
    class_names: tuple[str, ...]
    parts: Mapping[str, Examples]

    def packed(self) -> bytes:
        """As gzipped JSON, which `unpacked` reads."""
        parts = {
            name: {"source": part.source, "names": part.names, "content": part.content, "target": part.target}
            for name, part in self.parts.items()
        }
        document = {"fingerprint": self.fingerprint, "class_names": self.class_names, "parts": parts}
        return gzip.compress(json.dumps(document).encode(), mtime=0)

    @classmethod
    def unpacked(cls, content: bytes) -> Self:
        """Raises ValueError where the content is damaged."""
        try:
            return cls._read(json.loads(gzip.decompress(content)))
        except (OSError, EOFError, LookupError, TypeError, AttributeError, zlib.error) as error:
            raise ValueError(str(error)) from error

    @classmethod
    def _read(cls, document: Any) -> Self:
        parts = {}
        for name, part in document["parts"].items():
            columns = [tuple(part[column]) for column in ("names", "content", "target")]
            if len({len(column) for column in columns}) != 1:
                raise ValueError(f"columns of part {name} differ in length")
            parts[name] = Examples(part["source"], *columns)
        return cls(document["fingerprint"], tuple(document["class_names"]), parts)

    @property
    def names(self) -> set[str]:
        """Of all examples."""
        return {name for part in self.parts.values() for name in part.names}

    def trained_on(self, examples: Examples) -> list[str]:
        """Names of those of other examples whose content is that of a training example."""
        train = self.parts.get("train")
        seen = set() if train is None else {content for content in train.content if is_hashed(content)}
        pairs = zip(examples.names, examples.content, strict=True)
        return [name for name, content in pairs if content in seen]


@dataclass(frozen=True)
class Differences:
    """Between a record and the data as it is now: the examples concerned, by kind."""

    missing: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    content: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    renamed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether examples differ; renamed ones are the same."""
        return bool(self.missing or self.added or self.content or self.target or self.moved)

    def __str__(self) -> str:
        kinds = (
            (self.missing, "missing"),
            (self.added, "added"),
            (self.content, "with other content"),
            (self.target, "with another label or mask"),
            (self.moved, "in another part"),
            (self.renamed, "under another name"),
        )
        return ", ".join(f"{len(names)} {kind} ({first_of(names)})" for names, kind in kinds if names)


@dataclass(frozen=True)
class Comparison:
    """same: {name in the record: name now} of the examples that are as they were, renamed or not."""

    same: Mapping[str, str]
    differences: Differences


def first_of(names: Sequence[str]) -> str:
    """The first names, for a message."""
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def is_hashed(content: str) -> bool:
    """Whether a content is known, and not the size alone."""
    return not content.endswith(":")


def record_of(dataset: Dataset, hashed: Container[str] | None = None) -> Record:
    """The examples that the parts of a dataset hold now, and the files that limits left out. hashed: see
    `examples_of`."""
    found: dict[str, Examples] = {}
    used: dict[str, set[str]] = {}
    wholes: dict[str, FilePart] = {}
    for name in PARTS:
        part: Part | None = getattr(dataset, name)
        if part is None:
            continue
        found[name] = examples_of(dataset, name, hashed)
        source = found[name].source
        used.setdefault(source, set()).update(found[name].names)
        if isinstance(part, FilePart) and part.whole is not None:
            wholes[source] = part.whole
    for source, whole in wholes.items():
        left = [row for row, path in enumerate(whole.paths) if _name(path, dataset.root) not in used[source]]
        if left:
            names = tuple(_name(whole.paths[row], dataset.root) for row in left)
            sizes = tuple(f"{os.path.getsize(whole.paths[row])}:" for row in left)
            found[f"{UNUSED}/{source}"] = Examples(source, names, sizes, _targets(whole, left, hashed=()))
    return Record(dataset.fingerprint, tuple(dataset.class_names), found)


def examples_of(dataset: Dataset, name: str, hashed: Container[str] | None = None) -> Examples:
    """The examples of one part.

    hashed: names of the files whose content is read, up to 48 KiB of each; None: all. Rows of arrays are always hashed,
      but for arrays of more than HASHED_BYTES, whose content is unknown.
    """
    part: Part = getattr(dataset, name)
    source = "train" if name == "validation" and dataset.validation_drawn else name
    if not isinstance(part, FilePart):
        count = len(part.target)
        positions = np.arange(count) if part.positions is None else part.positions
        names = tuple(f"{source}/{position}" for position in positions)
        content = _of_rows(part.inputs) if isinstance(part, ArrayPart) else (UNKNOWN,) * count
        return Examples(source, names, content, _targets(part, range(count), hashed, names))
    names = tuple(_name(path, dataset.root) for path in part.paths)
    with readable(dataset.root):
        content = tuple(over_cores(lambda row: _of_file(part.paths[row], names[row], hashed), range(len(names))))
        return Examples(source, names, content, _targets(part, range(len(names)), hashed, names))


def compare(before: Record, now: Record) -> Comparison:
    """Which examples of a record are still there and as they were: of the same content and target, under the same name
    or, where both contents were hashed, another."""
    old, new = _rows(before), _rows(now)
    same = {name: name for name, row in old.items() if name in new and row.is_as(new[name])}
    taken = set(same.values())
    free = [name for name, row in reversed(new.items()) if name not in taken and is_hashed(row.content)]
    twins: dict[tuple[str, str], list[str]] = {}
    of_content: dict[str, list[str]] = {}
    for name in free:
        twins.setdefault((new[name].content, str(new[name].target)), []).append(name)
        of_content.setdefault(new[name].content, []).append(name)
    kept: set[str] = set()

    def next_of(names: list[str]) -> str | None:
        """The first that no example of the record has been found to be yet."""
        while names and names[-1] in kept:
            names.pop()
        return names[-1] if names else None

    missing: list[str] = []
    content: list[str] = []
    target: list[str] = []
    for name, row in old.items():
        if name in same:
            continue
        is_there = name in new and name not in taken and name not in kept
        if found := next_of(twins.get((row.content, str(row.target)), [])):
            same[name] = found
        elif is_there and _alike(row.content, new[name].content):
            found = name
            target.append(name)
        elif found := next_of(of_content.get(row.content, [])):
            target.append(f"{name}, now {found}")
        elif is_there:
            found = name
            content.append(name)
        if found is None:
            missing.append(name)
        else:
            kept.add(found)
    added = [name for name in new if name not in taken and name not in kept]
    moved = [name for name, other in same.items() if old[name].source != new[other].source]
    renamed = [f"{name}, now {other}" for name, other in same.items() if name != other]
    kinds = (missing, added, content, target, moved, renamed)
    return Comparison(same, Differences(*(tuple(sorted(names)) for names in kinds)))


def are_unchanged(part: Examples, record: Record, class_names: Sequence[str]) -> bool:
    """Whether content and target of a part's examples are what the record has under their names."""
    old = _rows(record)
    now = _rows(Record("", tuple(class_names), {"": part}))
    return all(name not in old or row.is_as(old[name]) for name, row in now.items())


class _Row(NamedTuple):
    source: str
    content: str
    target: Any

    def is_as(self, other: "_Row") -> bool:
        return _alike(self.content, other.content) and _alike_targets(self.target, other.target)


def _rows(record: Record) -> dict[str, _Row]:
    """By name; classes by their names, since their numbers may have shifted."""

    def named(target: Any) -> Any:
        if isinstance(target, list):
            return [named(each) for each in target]
        return (record.class_names[target],) if isinstance(target, int) and target < len(record.class_names) else target

    return {
        name: _Row(part.source, content, named(target))
        for part in record.parts.values()
        for name, content, target in zip(part.names, part.content, part.target, strict=True)
    }


def _alike(one: str, other: str) -> bool:
    """Whether contents are the same as far as both are known."""
    if one == other:
        return True
    (size, _, digest), (other_size, _, other_digest) = one.partition(":"), other.partition(":")
    return size == other_size and (digest == other_digest or not (digest and other_digest))


def _alike_targets(one: Any, other: Any) -> bool:
    if isinstance(one, str) and isinstance(other, str) and ":" in one and ":" in other:
        return _alike(one, other)
    return one == other


def _targets(
    part: Part, rows: Sequence[int], hashed: Container[str] | None, names: Sequence[str] = ()
) -> tuple[Any, ...]:
    target = part.target
    if isinstance(target, MaskFiles):
        return tuple(over_cores(lambda row: _of_file(target.paths[row], names[row] if names else "", hashed), rows))
    if isinstance(target, LazyMasks):
        return (None,) * len(rows)
    if has_masks(part):
        return _of_rows(target)
    values = np.asarray(target)[list(rows)]
    return tuple(values.tolist() if values.ndim == 1 else (np.flatnonzero(row).tolist() for row in values))


def _of_rows(array: Any) -> tuple[str, ...]:
    if math.prod(array.shape) * array.dtype.itemsize > HASHED_BYTES:
        return (UNKNOWN,) * len(array)
    return tuple(f":{_digest(np.ascontiguousarray(array[row]).data)}" for row in range(len(array)))


def _of_file(path: str, name: str, hashed: Container[str] | None) -> str:
    if hashed is not None and name not in hashed:
        return f"{os.path.getsize(path)}:"
    file = os.open(path, os.O_RDONLY)  # half the time of open(), and there may be a million files
    try:
        start = os.read(file, 3 * WINDOW + 1)
        if len(start) <= 3 * WINDOW:
            return f"{len(start)}:{_digest(start)}"
        size = os.fstat(file).st_size
        rest = (os.pread(file, WINDOW, at) for at in ((size - WINDOW) // 2, size - WINDOW))
        return f"{size}:{_digest(start[:WINDOW], *rest)}"
    finally:
        os.close(file)


def _digest(*pieces: Any) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _name(path: str, root: str) -> str:
    """The path below the data's folder, or as it is where it lies elsewhere."""
    inside = path[len(root) :] if root and path.startswith(root) else ""
    return inside.lstrip(os.sep).replace(os.sep, "/") if inside.startswith(os.sep) or root.endswith(os.sep) else path
