"""ablation.json: what trials a sweep's folder is to hold."""

import dataclasses
import json
import os
from dataclasses import dataclass
from typing import Any, Literal

from etils import epath
from pydantic import TypeAdapter, ValidationError

from jaxvision.errors import RunFolderError
from jaxvision.train.folder import read_text, write_json

NAME = "ablation.json"
SCHEMA_VERSION = 1

State = Literal["finished", "failed", "begun", "missing"]


@dataclass(frozen=True)
class PlannedArm:
    """levels: {factor: level}. changes: to the base, {dotted field: value}; lists stand for tuples."""

    name: str
    levels: dict[str, str]
    changes: dict[str, Any]


@dataclass(frozen=True)
class PlannedTrial:
    """folder: its run folder, below the sweep's. digest: of configuration, data and code."""

    arm: str
    seed: int
    folder: str
    digest: str


@dataclass(frozen=True)
class Plan:
    """A sweep. base: the name of the arm that the others are compared with. factors: levels of each, the base's first.
    trials: in the order in which they run."""

    name: str
    summary: str
    design: str
    base: str
    factors: dict[str, tuple[str, ...]]
    seeds: tuple[int, ...]
    arms: tuple[PlannedArm, ...]
    trials: tuple[PlannedTrial, ...]
    schema_version: int = SCHEMA_VERSION


def write_plan(folder: epath.PathLike, plan: Plan) -> None:
    """Writes ablation.json whole. RunFolderError: it cannot be written."""
    document = dataclasses.asdict(plan)
    write_json(epath.Path(folder) / NAME, {"schema_version": document.pop("schema_version"), **document})


def read_plan(folder: epath.PathLike) -> Plan:
    """What ablation.json says.

    Raises: RunFolderError: there is none, it is damaged or contradicts itself, or a newer jaxvision wrote it.
    """
    path = epath.Path(folder) / NAME
    if not path.exists():
        raise RunFolderError(f"{epath.Path(folder)}: has no {NAME}: not the folder of an ablation. Received: "
                             f"{os.fspath(folder)!r}")  # fmt: skip
    try:
        document = json.loads(read_text(path))
        version = document.get("schema_version")
        if version != SCHEMA_VERSION:
            raise RunFolderError(f"{path}: schema_version must be {SCHEMA_VERSION}. Received: {version!r}")
        plan = TypeAdapter(Plan).validate_python(document)
    except (ValidationError, json.JSONDecodeError, AttributeError) as error:
        raise RunFolderError(f"{path}: damaged: {error}") from error
    names = [arm.name for arm in plan.arms]
    for what, name in [("base", plan.base), *(("arm of a trial", trial.arm) for trial in plan.trials)]:
        if name not in names:
            raise RunFolderError(f"{path}: {what}: must be one of the arms, {', '.join(names)}. Received: {name!r}")
    return plan


def failure_file(folder: epath.PathLike, trial: PlannedTrial) -> epath.Path:
    """Where the message of a trial's last attempt is, if that failed."""
    return epath.Path(folder) / "failed" / f"{trial.folder}.txt"


def trial_state(folder: epath.PathLike, trial: PlannedTrial) -> State:
    """How far a trial of a sweep's folder is, as the files there tell."""
    run_dir = epath.Path(folder) / trial.folder
    if (run_dir / "result.json").exists():
        return "finished"
    if failure_file(folder, trial).exists():
        return "failed"
    return "begun" if (run_dir / "config.json").exists() else "missing"
