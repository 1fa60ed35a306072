"""What `check` gathers while it looks at file after file: faults, notes, sizes, hashes, which pictures are alike."""

import os
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxvision.data import levels
from jaxvision.data.check_picture import DEEP, PictureCheck
from jaxvision.data.check_report import IGNORED, CheckReport, Duplicate, size_range
from jaxvision.data.levels import Levels

UNEVEN = 4.0
"""Largest to smallest class of the training part from which a report says so: of two classes, one has under a fifth."""


class _Place(NamedTuple):
    part: str
    file: str
    label: Hashable
    content: str | None


class Looked:
    """All that was seen of the files of one dataset. root: the folder that names in hashes are relative to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bad: list[tuple[str, str]] = []
        self.notes, self.hashes = Counter[str](), dict[str, str]()
        self._levels = {True: Levels(), False: Levels()}  # of images of 16 bits a channel, and of others
        self._sizes: list[tuple[int, int]] = []
        self._alike: dict[str, list[_Place]] = {}

    def add(self, part: str, file: str, check: PictureCheck, label: Hashable = None) -> None:
        """One picture. label: its class or classes, where these are known without reading a mask."""
        if check.fault is not None:
            self.bad.append((file, check.fault))
        self.notes.update(check.notes)
        deep = DEEP in check.notes
        self._levels[deep] = self._levels[deep].also(check.levels)
        self._sizes += [check.size] if check.size is not None else []
        self.add_hash(file, check.sha256)
        if check.pixels is not None:
            self.add_pixels(part, file, check.pixels, label, check.sha256)

    def add_hash(self, file: str, sha256: str | None) -> None:
        """A file's sha256, where it could be read."""
        if sha256 is not None:
            self.hashes[Path(os.path.relpath(file, self.root)).as_posix()] = sha256

    def add_pixels(self, part: str, name: str, pixels: str, label: Hashable, content: str | None) -> None:
        """A picture by a hash of its pixels, and one of its file."""
        self._alike.setdefault(pixels, []).append(_Place(part, name, label, content))

    def report(
        self,
        path: Path,
        layout: str,
        counts: Mapping[str, Mapping[str, int]],
        problems: Sequence[str],
        *,
        unread: Mapping[str, int] | None = None,
        pictures: Mapping[str, int] | None = None,
        pixels: Mapping[str, Mapping[str, float]] | None = None,
    ) -> CheckReport:
        """Everything, with what only shows when all files are known."""
        duplicates = [_duplicate(places) for places in self._alike.values() if len(places) > 1]
        copies = Counter[str]()
        for one in duplicates:
            copies[f"the same {one.same} as another picture of the part"] += one.copies
        shares = {part: _without_ignored(of) for part, of in (pixels or {}).items()} or counts
        uneven = {part: ratio for part, of in shares.items() if (ratio := _ratio(of)) is not None}
        too_few = [text for text in [levels.fault(self._levels[True])] if text]
        few = tuple(
            text
            for deep, found in self._levels.items()
            if not (deep and too_few) and (text := levels.remark(found, deep=deep))
        )
        return CheckReport(
            path=str(path),
            layout=layout,
            counts={part: dict(of) for part, of in counts.items()},
            bad=tuple(self.bad),
            problems=(*problems, *too_few, *(text for one in duplicates for text in one.problems())),
            notes=dict(self.notes.most_common()) | {note: count for note, count in copies.items() if count},
            unread=dict(Counter(unread or {}).most_common()),
            sizes=size_range(self._sizes),
            pictures=dict(pictures or {}),
            pixels={part: dict(of) for part, of in (pixels or {}).items()},
            imbalance=uneven,
            remarks=_remarks(shares.get("train", {}), "pixels" if pixels else "pictures") + few,
            duplicates=tuple(duplicates),
            hashes=dict(sorted(self.hashes.items())),
        )


def _duplicate(places: Sequence[_Place]) -> Duplicate:
    return Duplicate(
        same="bytes" if len({place.content for place in places} - {None}) == 1 else "pixels",
        files=tuple((place.part, place.file) for place in places),
        contradictory=len({place.label for place in places}) > 1,
    )


def _without_ignored(shares: Mapping[str, float]) -> dict[str, float]:
    return {name: share for name, share in shares.items() if name != IGNORED}


def _ratio(classes: Mapping[str, float]) -> float | None:
    """Of the largest class to the smallest; None where one is empty, which is a problem of its own, or there is one."""
    if len(classes) < 2 or not min(classes.values()):
        return None
    return max(classes.values()) / min(classes.values())


def _remarks(train: Mapping[str, float], what: str) -> tuple[str, ...]:
    if (ratio := _ratio(train)) is None or ratio < UNEVEN:
        return ()
    largest, smallest = max(train, key=train.__getitem__), min(train, key=train.__getitem__)
    return (
        f"train: uneven classes, {ratio:.3g} times as many {what} of {largest!r} as of {smallest!r}: look at more than "
        "accuracy, or set loss.class_weights",
    )
