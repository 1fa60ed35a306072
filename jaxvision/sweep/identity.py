"""What decides a trial's numbers: its configuration, the data, the code. Whether a folder's trial is the one wanted."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from etils import epath

from jaxvision.config import Run
from jaxvision.errors import RunFolderError, UserError
from jaxvision.train.deciding import deciding_fields, differing_fields
from jaxvision.train.folder import read_config, read_environment

CODE = ("python", "packages", "source")


@dataclass(frozen=True)
class Identity:
    """run: its `deciding_fields` count, the weights it starts from too. data: its fingerprint. code: as
    `folder.code_version` gives it and environment.json has it."""

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
    """Between a folder's trial and the one wanted, a text each; all empty where it is that. config: also of files that
    cannot be read, so that nobody knows."""

    config: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    code: tuple[str, ...] = ()


def read_identity(folder: epath.PathLike) -> Identity | None:
    """Of the trial in a run folder; None where it has not begun, or was stopped before it had written it down.

    Raises: RunFolderError: config.json or environment.json cannot be read.
    """
    folder = epath.Path(folder)
    files = [folder / "config.json", folder / "environment.json"]
    if not (folder / "result.json").exists() and not all(file.exists() for file in files):
        return None
    try:
        run = read_config(folder)
    except (UserError, OSError) as error:
        raise RunFolderError("config.json cannot be read") from error
    try:
        code = read_environment(folder)
        packages = {name: str(version) for name, version in dict(code.get("packages") or {}).items()}
        code = {**code, "packages": packages, "git": dict(code.get("git") or {})}
    except (ValueError, TypeError, OSError) as error:  # UserErrors are ValueErrors
        raise RunFolderError("environment.json cannot be read") from error
    return Identity(run, code["data_fingerprint"], code)


def differences(there: Identity, here: Identity) -> Differences:
    """How the trial in a folder differs from the one that is wanted."""
    data = () if there.data == here.data else (f"fingerprint {there.data[:12]} there, {here.data[:12]} here",)
    return Differences(
        tuple(differing_fields(there.run, here.run)), data, tuple(code_differences(there.code, here.code))
    )


def code_differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """How the code of two environment.json differs, a text each."""
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
    at = f" (commit {str(git['commit'])[:10]}{', changed' if git.get('dirty') else ''})" if git.get("commit") else ""
    return f"{str(code.get('source') or 'unknown')[:12]}{at}"
