"""A trial as its run folder tells it. What is read is checked once, here: a damaged folder counts as failed."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from etils import epath
from pydantic import TypeAdapter, ValidationError

from jaxvision.config import Run
from jaxvision.errors import RunFolderError
from jaxvision.report.plan import State
from jaxvision.train.folder import read_config, read_environment, read_lines
from jaxvision.train.result import Result, read_result


@dataclass(frozen=True)
class Revision:
    """Of a git checkout. dirty: files differ from it."""

    commit: str
    dirty: bool


@dataclass(frozen=True)
class Environment:
    """What of environment.json is told. source: hash of the package's files. What is not there is empty."""

    data_fingerprint: str
    split_seed: int | None = None
    source: str = ""
    git: Revision | None = None
    backend: str = ""
    devices: tuple[str, ...] = ()
    cpu: str = ""
    cpu_count: int = 0
    python: str = ""
    packages: dict[str, str] = field(default_factory=dict)
    xla_flags: str = ""


@dataclass(frozen=True)
class Trial:
    """One run of an arm. place: its folder below the sweep's, or as it was given. message: why it failed. result,
    environment: of a finished one; config: where the folder has it. metrics: a record an epoch, or more. rates: images
    per second in training."""

    arm: str
    seed: int
    folder: epath.Path
    place: str
    status: State
    message: str = ""
    config: Run | None = None
    result: Result | None = None
    environment: Environment | None = None
    metrics: Sequence[Mapping[str, Any]] = ()
    rates: Sequence[float] = ()


def read_trial(trial: Trial) -> Trial:
    """With what the folder says; one that cannot be read counts as failed, so that the others are reported on."""
    folder = trial.folder
    try:
        if trial.status == "finished" or (folder / "config.json").exists():
            trial = replace(trial, config=read_config(folder))
        if trial.status != "finished":
            return trial
        return replace(
            trial,
            result=_result(folder),
            environment=_environment(folder),
            metrics=list(read_records(folder / "metrics.jsonl")),
            rates=list(_rates(folder / "timing.jsonl")),
        )
    except (ValueError, OSError) as error:  # UserErrors are ValueErrors, and so is JSON with a number too long
        return replace(trial, status="failed", message=as_text(f"its folder cannot be read: {error}"))


def as_text(path: object) -> str:
    """A path, or words with one, whose bytes need not be UTF-8, as a page and a picture can show it."""
    return str(path).encode(errors="replace").decode()


def _result(folder: epath.Path) -> Result:
    result = read_result(folder)
    if not math.isfinite(result.seconds):
        raise RunFolderError(f"{folder / 'result.json'}: damaged: seconds: must be finite. Received: {result.seconds}")
    return result


def _environment(folder: epath.Path) -> Environment:
    document = read_environment(folder)
    try:
        return TypeAdapter(Environment).validate_python(document)
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise RunFolderError(f"{folder / 'environment.json'}: damaged: {'; '.join(faults)}") from error


def read_records(path: epath.Path) -> Iterator[Mapping[str, Any]]:
    """Yields the records of a metrics.jsonl: numbers or None by name, each with its phase and epoch.

    Raises: RunFolderError: there is no such file, or a line is damaged.
    """
    for number, record in enumerate(read_lines(path), 1):
        is_record = all(
            type(value) in (int, float) or (value is None and name not in ("phase", "epoch"))
            for name, value in {"phase": None, "epoch": None, **record}.items()
        )
        if not is_record:
            raise RunFolderError(f"{path}, line {number}: damaged: no record of an epoch. Received: {record!r:.80}")
        yield record


def _rates(path: epath.Path) -> Iterator[float]:
    """Of the lines that tell one. A run that was killed leaves a line cut off, and is as good as any when resumed."""
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            rate = json.loads(line)["images_per_second"]
        except (ValueError, TypeError, KeyError):
            continue
        if type(rate) in (int, float) and 0 < rate < math.inf:
            yield rate
