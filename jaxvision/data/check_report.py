"""What `check` finds, as a value and as text."""

import json
from dataclasses import asdict, dataclass, field

HINTS = {
    "flat": "one folder for all classes; to train from it: jaxvision prepare dogs-vs-cats, or a folder for each class",
    "unsorted": "no folders that tell the class; to train a classifier, make one for each class",
}


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
    sizes: smallest and largest height, then width, in pixels.
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

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.bad and not self.problems

    def to_json(self) -> str:
        return json.dumps({"ok": self.ok, **asdict(self)}, indent=2, ensure_ascii=False)


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
    lines += [f"note: {count} x {note}" for note, count in report.notes.items()]
    if report.unread:
        endings = ", ".join(f"{count} x {ending}" for ending, count in report.unread.items())
        lines.append(f"note: files that are not read as pictures: {endings}")
    lines += [f"PROBLEM: {problem}" for problem in report.problems]
    lines += [f"BAD: {file}: {reason}" for file, reason in report.bad]
    lines.append("nothing wrong" if report.ok else f"{len(report.problems)} problems, {len(report.bad)} bad files")
    return "\n".join(lines)


def size_range(sizes: list[tuple[int, int]]) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Smallest and largest height, then width."""
    if not sizes:
        return None
    heights, widths = zip(*sizes, strict=True)
    return (min(heights), max(heights)), (min(widths), max(widths))
