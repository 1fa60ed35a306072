"""What names of files, folders and classes mean: clutter of systems, parts of a dataset, names that look the same."""

import os
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from jaxvision.errors import DataError

SYSTEM_NAMES = {
    name.casefold(): name
    for name in (
        "__MACOSX", "Thumbs.db", "ehthumbs.db", "desktop.ini", "@eaDir", "#recycle", "lost+found", "$RECYCLE.BIN",
        "System Volume Information", "Icon\r", "__pycache__", ".DS_Store", ".ipynb_checkpoints", ".git",
    )
}  # fmt: skip
"""Files and folders that operating systems, file servers and editors leave among others."""

PART_WORD = re.compile(
    r"(?:(?P<train>train(?:ing)?|trn)|(?P<validation>val(?:id(?:ation)?)?|dev|eval(?:uation)?)|(?P<test>test(?:ing)?))"
    r"(?:set|data|images|imgs)?"
)
FILLERS = {"set", "data", "dataset", "images", "image", "imgs", "img", "split", "part", "subset", "folder", "seg"}
"""Words beside that of a part that change nothing about it: training_set, seg_train, images_val."""

LATIN_TWINS = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u03bf\u03b1\u03bd", "aeopcyxijsoav"
)
"""Cyrillic and Greek letters that are drawn as Latin ones."""

DIGITS = re.compile(r"\d+(?:\.0*)?", re.ASCII)


def composed(name: str) -> str:
    """The name with composed letters (Unicode NFC): macOS may store the same name decomposed."""
    return unicodedata.normalize("NFC", name)


def clutter(name: str) -> str | None:
    """The kind of a hidden file or folder, or one that a system left behind, for counts; None for any other."""
    if name.startswith("._"):
        return "._*"  # AppleDouble: what macOS knows of a file, beside it on other file systems and in archives
    return SYSTEM_NAMES.get(name.casefold()) or ("hidden" if name.startswith(".") else None)


def warn_clutter(where: str | os.PathLike[str], skipped: Sequence[str]) -> None:
    """Warn once of all hidden and system files and folders below `where`, which are skipped."""
    if skipped:
        kinds = Counter(clutter(os.path.basename(path)) for path in skipped).most_common()
        counts = ", ".join(f"{kind}: {count}" for kind, count in kinds)
        warnings.warn(
            f"{where}: {len(skipped)} hidden or system files and folders are skipped ({counts}), such as {skipped[0]}.",
            stacklevel=3,
        )


def part_meant(name: str) -> str | None:
    """The part of a dataset, of config.PARTS, that a folder of this name usually holds; None for any other name."""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]
    words = [word for word in words if word not in FILLERS]
    match = PART_WORD.fullmatch(words[0]) if len(words) == 1 else None
    return match and match.lastgroup


def renames(names: Iterable[str]) -> str:
    """'Training -> train, val or dev -> validation': the names of parts to give, or '' where none is to change."""
    by_part: dict[str, list[str]] = {}
    for name in names:
        if (part := part_meant(Path(name).name)) is not None:
            by_part.setdefault(part, []).append(name)
    changed = {part: found for part, found in sorted(by_part.items(), key=_part_order) if found != [part]}
    return ", ".join(f"{' or '.join(found)} -> {part}" for part, found in changed.items())


def _part_order(item: tuple[str, list[str]]) -> int:
    return ("train", "validation", "test").index(item[0])


def check_look_alikes(class_names: Sequence[str], where: str | os.PathLike[str]) -> None:
    """Refuse classes whose names look the same, and warn of those that differ in little.

    Raises: DataError: names that differ only in how Unicode composes them, in spaces, or in what is not drawn.
    """
    if found := _groups(class_names, _drawn):
        raise DataError(
            f"{where}: the names of these classes look the same: {_listed(found)}. Merge them, or rename one. "
            f"Received: {len(class_names)} classes."
        )
    # A single letter or digit may be what the classes are about.
    if found := _groups([name for name in class_names if len(_drawn(name)) > 1], _folded):
        warnings.warn(
            f"{where}: the names of these classes are almost the same: {_listed(found)}. They are different classes; "
            "if they should be one, merge them.",
            stacklevel=3,
        )


def _groups(names: Iterable[str], key: Callable[[str], str]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _listed(groups: Sequence[Sequence[str]]) -> str:
    """The groups, with escapes for all but ASCII, which show what differs."""
    return "; ".join(" and ".join(map(ascii, group)) for group in groups)


def _drawn(name: str) -> str:
    """What is seen of a name: composed, without characters that are not drawn and without superfluous spaces."""
    seen = "".join(letter for letter in composed(name) if unicodedata.category(letter) != "Cf")
    return " ".join(seen.split())


def _folded(name: str) -> str:
    """A name without case, word separators, forms of letters and leading zeros."""
    folded = unicodedata.normalize("NFKC", _drawn(name)).casefold().translate(LATIN_TWINS)
    folded = " ".join(re.split(r"[\s_-]+", folded))
    return str(int(float(folded))) if DIGITS.fullmatch(folded) else folded
