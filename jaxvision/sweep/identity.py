"""What decides a trial's numbers: its configuration, the data, the code. Whether a folder's trial is the one wanted."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from etils import epath

from jaxvision.config import Run
from jaxvision.errors import UserError
from jaxvision.train.folder import read_config
from jaxvision.train.resume import deciding_fields, differing_fields

CODE = ("python", "packages", "source")


@dataclass(frozen=True)
class Identity:
    """run: of the configuration `resume.deciding_fields` count. data: its fingerprint. code: as `folder.code_version`
    gives it and environment.json has it."""

    run: Run
    data: str
    code: dict[str, Any]

    @property
    def digest(self) -> str:
        """sha256 of configuration, data and code."""
        parts = [deciding_fields(self.run), self.data, {name: self.code.get(name) for name in CODE}]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Differences:
    """Between a folder's trial and the one wanted, a text each; all empty where it is that."""

    config: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    code: tuple[str, ...] = ()


def read_identity(folder: epath.PathLike) -> Identity | None:
    """Of the trial in a run folder; None where it had no time yet to write it down, or it cannot be read."""
    try:
        run = read_config(folder)
        environment = json.loads((epath.Path(folder) / "environment.json").read_text())
        return Identity(run, environment["data_fingerprint"], environment)
    except (OSError, UserError, ValueError, KeyError):
        return None


def differences(there: Identity, here: Identity) -> Differences:
    """How the trial in a folder differs from the one that is wanted."""
    data = () if there.data == here.data else (f"fingerprint {there.data[:12]} there, {here.data[:12]} here",)
    return Differences(tuple(differing_fields(there.run, here.run)), data, tuple(_code(there.code, here.code)))


def _code(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    found = [] if there.get("python") == here.get("python") else [f"python {there.get('python')} there,"
                                                                  f" {here.get('python')} here"]  # fmt: skip
    theirs, ours = there.get("packages") or {}, here.get("packages") or {}
    found += [
        f"{name} {theirs.get(name, 'absent')} there, {ours.get(name, 'absent')} here"
        for name in sorted({*theirs, *ours})
        if theirs.get(name) != ours.get(name)
    ]
    if there.get("source") != here.get("source"):
        found.append(f"jaxvision's source {_source(there)} there, {_source(here)} here")
    return found


def _source(code: dict[str, Any]) -> str:
    git = code.get("git") or {}
    at = f" (commit {git['commit'][:10]}{', changed' if git.get('dirty') else ''})" if git.get("commit") else ""
    return f"{(code.get('source') or 'unknown')[:12]}{at}"
