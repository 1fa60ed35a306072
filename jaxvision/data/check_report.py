"""What `check` finds, as a value and as text."""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Literal

from jaxvision.data.picture_file import KINDS

HINTS = {
    "flat": "one folder for all classes; to train from it: jaxvision prepare dogs-vs-cats, or a folder for each class",
    "unsorted": "no folders that tell the class; to train a classifier, make one for each class",
}

IGNORED = "(ignored)"
"""Stands for the pixels that count nowhere."""

SHOWN = 3
"""Files of a set of duplicates that a text names."""


@dataclass(frozen=True)
class Duplicate:
    """A picture that is there more than once: the same bytes, or only the same pixels (saved in two ways).

    files: part and file of each. contradictory: whether they are of different classes.
    """

    same: Literal["bytes", "pixels"]
    files: tuple[tuple[str, str], ...]
    contradictory: bool

    @property
    def parts(self) -> tuple[str, ...]:
        """Those that hold it."""
        return tuple(dict.fromkeys(part for part, _ in self.files))

    @property
    def copies(self) -> int:
        """How many there are beside the first one of each part."""
        return len(self.files) - len(self.parts)

    def problems(self) -> list[str]:
        """What is wrong about it: it is in two parts, or of two classes."""
        first = {part: file for part, file in reversed(self.files)}
        files = list(dict.fromkeys([*(first[part] for part in self.parts), *(file for _, file in self.files)]))
        more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
        told = f"(same {self.same}): {', '.join(files[:SHOWN])}{more}"
        leak = [f"a picture of {' and '.join(self.parts)} is the same {told}"] if len(self.parts) > 1 else []
        return leak + ([f"a picture has different classes {told}"] if self.contradictory else [])


@dataclass(frozen=True)
class CheckReport:
    """What a dataset holds and what is wrong with it.

    layout: 'parts' (DIR/PART/CLASS), 'classes' (DIR/CLASS), 'flat' (DIR/CLASS.N.jpg), 'unsorted' (DIR/*.jpg), 'npz',
      'masks' ([PART/]images and masks), 'pets' (images and annotations/trimaps) or 'csv'.
    counts: readable pictures by part and class (a folder without parts is one part, 'train'); with masks and multiple
      labels those that show the class.
    pictures: readable pictures by part, where they may show several classes or none.
    pixels: with masks, the share of each class by part, and under '(ignored)' of all pixels those that count nowhere.
    bad: each file that cannot be trusted, and why. problems: what is wrong with the dataset as a whole.
    notes: what is unusual but harmless, and in how many files. unread: files left out, by ending.
    sizes: smallest and largest height, then width, in pixels as stored.
    imbalance: of each part, how many times as large the largest class is as the smallest (with masks: in pixels).
    remarks: what is to be known of the whole, and is no fault. duplicates: pictures that are there more than once; in
    two parts, or of two classes, they are problems too.
    hashes: sha256 of each file that was read, by its name below the folder (not in the JSON).
    changes: where they were compared with earlier hashes, files 'changed', 'missing' and 'new'.
    """

    path: str
    layout: str
    counts: dict[str, dict[str, int]]
    bad: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]
    notes: dict[str, int]
    unread: dict[str, int]
    sizes: tuple[tuple[int, int], tuple[int, int]] | None
    pictures: dict[str, int] = field(default_factory=dict)
    pixels: dict[str, dict[str, float]] = field(default_factory=dict)
    imbalance: dict[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    duplicates: tuple[Duplicate, ...] = ()
    hashes: dict[str, str] = field(default_factory=dict)
    changes: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.bad and not self.problems and not any(self.changes.values())

    @property
    def kinds(self) -> dict[str, int]:
        """How many files have each kind of fault (`picture_file.KINDS`, mask, no partner), are duplicates, changed."""
        kinds = Counter(_kind(reason) for _, reason in self.bad)
        kinds["in several parts"] = sum(len(one.parts) > 1 for one in self.duplicates)
        kinds["of several classes"] = sum(one.contradictory for one in self.duplicates)
        kinds["twice in a part"] = sum(one.copies for one in self.duplicates)
        kinds.update({change: len(files) for change, files in self.changes.items()})
        kinds["not read"] = sum(self.unread.values())
        return {kind: count for kind, count in kinds.items() if count}

    def to_json(self) -> str:
        """One object: `ok`, `kinds` and all fields but `hashes`."""
        fields = asdict(self)
        del fields["hashes"]
        return json.dumps({"ok": self.ok, "kinds": self.kinds, **fields}, indent=2)


def format_report(report: CheckReport) -> str:
    """The report as text for people: a table of counts, then every problem and every bad file."""
    classes = dict.fromkeys(name for counts in report.counts.values() for name in counts)
    wide = max([15, *map(len, classes)]) + 2
    good = sum(report.pictures.values()) or sum(sum(counts.values()) for counts in report.counts.values())
    lines = [f"{report.path}: {good} good pictures"]
    lines.append("class".ljust(wide) + "".join(part.rjust(12) for part in report.counts))
    for name in classes:
        row = (str(counts.get(name, "-")).rjust(12) for counts in report.counts.values())
        lines.append(name.ljust(wide) + "".join(row))
    if report.pixels:
        lines.append("share of pixels".ljust(wide) + "".join(part.rjust(12) for part in report.pixels))
        for name in next(iter(report.pixels.values())):
            row = (f"{shares[name]:.2%}".rjust(12) for shares in report.pixels.values())
            lines.append(name.ljust(wide) + "".join(row))
    if report.sizes is not None:
        (low_height, high_height), (low_width, high_width) = report.sizes
        lines.append(f"heights {low_height} to {high_height}, widths {low_width} to {high_width} pixels")
    if report.layout in HINTS:
        lines.append(f"note: {HINTS[report.layout]}")
    lines += [f"note: {remark}" for remark in report.remarks]
    lines += [f"note: {count} x {note}" for note, count in report.notes.items()]
    if report.unread:
        endings = ", ".join(f"{count} x {ending}" for ending, count in report.unread.items())
        lines.append(f"note: files that are not read as pictures: {endings}")
    lines += [f"PROBLEM: {problem}" for problem in report.problems]
    lines += [f"BAD: {file}: {reason}" for file, reason in report.bad]
    lines += [f"{change.upper()}: {file}" for change, files in report.changes.items() for file in files]
    wrong = f"{len(report.problems)} problems, {len(report.bad)} bad files"
    if report.changes:
        wrong += "".join(f", {len(files)} {change}" for change, files in report.changes.items())
    lines.append("nothing wrong" if report.ok else wrong)
    return "\n".join(lines)


def _kind(reason: str) -> str:
    """Of why a file is bad."""
    start = reason.split(":")[0]
    if start in KINDS:
        return start
    return "no partner" if reason.startswith(("no mask", "no picture")) else "mask"


def size_range(sizes: list[tuple[int, int]]) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Smallest and largest height, then width."""
    if not sizes:
        return None
    heights, widths = zip(*sizes, strict=True)
    return (min(heights), max(heights)), (min(widths), max(widths))
