"""What a folder holds, file by file with hashes: nothing else would tell of a flipped byte."""

import hashlib
import json
from collections.abc import Iterator

from etils import epath

from jaxvision.outputs import write_whole

NAME = "MANIFEST.json"


def write_manifest(folder: epath.Path) -> None:
    """Writes MANIFEST.json, the SHA-256 of every file in a folder; the folder is whole once it is there."""
    files = {path: _digest(content) for path, content in _contents(folder)}
    write_whole(folder / NAME, json.dumps({"sha256": files}, indent=1).encode())


def faults(folder: epath.Path) -> list[str]:
    """What is wrong with a folder, a line each: files missing, changed or foreign. Empty: it is as it was written."""
    try:
        listed = dict(json.loads((folder / NAME).read_text())["sha256"].items())
    except FileNotFoundError:
        return [f"{NAME}: missing; the folder was not written to its end"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"{NAME}: cannot be read ({error})"]
    found: dict[str, str] = {}
    try:
        for path, content in _contents(folder):
            found[path] = _digest(content)
    except OSError as error:
        return [f"{error.filename}: cannot be read ({error.strerror})"]
    wrong = [f"{path}: missing" for path in listed if path not in found]
    wrong += [f"{path}: changed" for path in listed if path in found and found[path] != listed[path]]
    return wrong + [f"{path}: not of this checkpoint" for path in found if path not in listed]


def _contents(folder: epath.Path) -> Iterator[tuple[str, bytes]]:
    """(path in the folder, content) of each file but the manifest."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from ((f"{path.name}/{name}", content) for name, content in _contents(path))
        elif path.name != NAME:
            yield path.name, path.read_bytes()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
