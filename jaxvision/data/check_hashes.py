"""Hashes of a dataset's files, as `sha256sum` writes them: what has changed since shows, damage that decodes too."""

import hashlib
import os
import posixpath
import re
from collections.abc import Mapping
from pathlib import Path

from jaxvision.errors import DataError

LINE = re.compile(r"(\\?)([0-9a-fA-F]{64}) [ *](.+)")
ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}
LETTERS = {escaped: letter for letter, escaped in ESCAPES.items()}


def hash_list(hashes: Mapping[str, str]) -> bytes:
    """sha256 by name as lines of text; in the dataset's folder `sha256sum --check FILE` understands them."""
    lines = []
    for name, sha256 in hashes.items():
        escaped = "".join(ESCAPES.get(letter, letter) for letter in name)
        lines.append(f"{'' if escaped == name else chr(92)}{sha256}  {escaped}\n")
    return "".join(lines).encode(errors="surrogateescape")


def read_hash_list(path: str | os.PathLike[str]) -> dict[str, str]:
    """The opposite of `hash_list`. Raises: DataError: no such file, or a line that is none of a hash list."""
    try:
        content = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise DataError(f"{path}: no file of hashes. Received: {error.strerror}.") from error
    hashes = {}
    for number, line in enumerate(content.decode(errors="surrogateescape").split("\n"), start=1):
        if not line:
            continue
        if (match := LINE.fullmatch(line.removesuffix("\r"))) is None:
            raise DataError(
                f"{path}, line {number}: not a sha256 and a file name, as `jaxvision check DATA --hashes FILE` writes "
                f"them. Received: {line[:80]!r}."
            )
        marked, sha256, name = match.groups()
        if marked:
            name = re.sub(r"\\.", lambda pair: LETTERS.get(pair[0], pair[0]), name)
        hashes[posixpath.normpath(name)] = sha256.lower()  # `find . | xargs sha256sum` says ./name
    return hashes


def changes(hashes: Mapping[str, str], path: Path, against: str | os.PathLike[str]) -> dict[str, tuple[str, ...]]:
    """Files 'changed', 'missing' and 'new' since the hashes in `against` were made. path: the dataset's."""
    before, root = read_hash_list(against), path if path.is_dir() else path.parent
    gone = [name for name in before if name not in hashes]
    # There, but not read as a picture: another kind of file, or one that cannot be read now.
    unread = [name for name in gone if os.path.lexists(root / name)]
    unread_changed = [name for name in unread if _sha256(root / name) != before[name]]
    changed = [name for name in before if name in hashes and hashes[name] != before[name]]
    return {
        "changed": tuple(sorted([*changed, *unread_changed])),
        "missing": tuple(sorted(set(gone) - set(unread))),
        "new": tuple(sorted(hashes.keys() - before.keys())),
    }


def _sha256(path: Path) -> str | None:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
