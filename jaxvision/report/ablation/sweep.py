"""What there is to report on: arms and their trials, from a sweep's folder or from run folders alone."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from etils import epath

from jaxvision.config import Run
from jaxvision.errors import RunFolderError, UserError
from jaxvision.report.plan import NAME, PlannedTrial, State, failure_file, read_plan, trial_state
from jaxvision.serialize import fields, to_json
from jaxvision.train.folder import read_config, read_environment, read_lines
from jaxvision.train.result import Result, read_result


@dataclass(frozen=True)
class Trial:
    """One run of an arm. place: its folder below the sweep's, or as it was given. message: why it failed. result: of a
    finished one; config: where the folder has it."""

    arm: str
    seed: int
    folder: epath.Path
    place: str
    status: State
    message: str = ""
    config: Run | None = None
    result: Result | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    metrics: Sequence[Mapping[str, Any]] = ()
    timing: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Arm:
    """Runs that differ in nothing but their seed. levels: {factor: level} where the sweep has factors. changes: to the
    base, {field: value}, as the sweep planned them."""

    name: str
    trials: tuple[Trial, ...]
    levels: Mapping[str, str] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sweep:
    """Arms, one of which is the base. design: None of runs that no sweep planned. factors: {factor: levels}, the base's
    first."""

    name: str
    summary: str
    design: str | None
    base: str
    factors: Mapping[str, tuple[str, ...]]
    arms: tuple[Arm, ...]

    @property
    def trials(self) -> tuple[Trial, ...]:
        return tuple(trial for arm in self.arms for trial in arm.trials)


def read_sweep(folders: Sequence[str | os.PathLike[str]]) -> Sweep:
    """Reads a sweep's folder (it has ablation.json); or run folders, and all run folders below other folders, where
    equal configurations are an arm and the first is the base.

    Raises:
      RunFolderError: nothing to report on, a sweep's folder beside others, the same seed twice in an arm.
      ConfigError: a damaged config.json.
    """
    paths = [epath.Path(folder) for folder in folders]
    planned = [path for path in paths if (path / NAME).exists()]
    if planned and len(paths) > 1:
        raise RunFolderError(
            f"report: {planned[0]} is a sweep's folder, which is reported on alone. Received: {len(paths)} folders"
        )
    if planned:
        return _planned(planned[0])
    found = [folder for path in paths for folder in run_folders(path)]
    if not found:
        raise RunFolderError(
            "report: no run folder (with config.json) and no sweep's (with ablation.json) in what was given. "
            f"Received: {', '.join(map(str, paths)) or 'nothing'}"
        )
    return _grouped(list(dict.fromkeys(found)), ", ".join(path.name or str(path) for path in paths))


def run_folders(path: epath.Path) -> Iterator[epath.Path]:
    """The folder itself where it is a run's, or else those below it, in the order of their names."""
    if (path / "config.json").exists():
        yield path
    elif path.is_dir():
        for below in sorted(path.iterdir()):
            yield from run_folders(below)


def comparable(run: Run) -> dict[str, Any]:
    """{dotted field: value} of a run, without its seed and its name: what makes it another experiment."""
    found = dict(fields(json.loads(to_json(run))))
    return {name: value for name, value in found.items() if name not in ("seed", "name", "schema_version")}


def changed_fields(run: Run, base: Run) -> dict[str, tuple[Any, Any]]:
    """{dotted field: (value in the base, value in the run)} where they differ; None where one has no such field."""
    before, after = comparable(base), comparable(run)
    return {
        name: (before.get(name), after.get(name))
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    }


def _planned(folder: epath.Path) -> Sweep:
    plan = read_plan(folder)
    if plan.base not in (arm.name for arm in plan.arms):
        raise RunFolderError(f"{folder / NAME}: base: must be one of the arms. Received: {plan.base!r}")
    arms = tuple(
        Arm(
            arm.name,
            tuple(_planned_trial(folder, trial) for trial in plan.trials if trial.arm == arm.name),
            arm.levels,
            arm.changes,
        )
        for arm in plan.arms
    )
    return Sweep(plan.name, plan.summary, plan.design, plan.base, plan.factors, arms)


def _planned_trial(folder: epath.Path, trial: PlannedTrial) -> Trial:
    status = trial_state(folder, trial)
    message = failure_file(folder, trial).read_text().strip() if status == "failed" else ""
    return _read(Trial(trial.arm, trial.seed, folder / trial.folder, trial.folder, status, message))


def _grouped(folders: Sequence[epath.Path], name: str) -> Sweep:
    groups: dict[str, list[Trial]] = {}
    for folder in folders:
        run, status = read_config(folder), cast(State, "finished" if (folder / "result.json").exists() else "begun")
        groups.setdefault(json.dumps(comparable(run)), []).append(
            _read(Trial("", run.seed, folder, str(folder), status))
        )
    for trials in groups.values():
        finished = [trial for trial in trials if trial.status == "finished"]
        for number, trial in enumerate(finished):
            if trial.seed in (other.seed for other in finished[:number]):
                raise RunFolderError(
                    f"{trial.folder}: the seed {trial.seed} is there twice; the same run repeated adds nothing."
                )
    arms = tuple(
        Arm(name, tuple(replace(trial, arm=name) for trial in sorted(trials, key=lambda trial: trial.seed)))
        for name, trials in zip(_names(list(groups.values())), groups.values(), strict=True)
    )
    return Sweep(name, "", None, arms[0].name, {}, arms)


def _names(groups: Sequence[Sequence[Trial]]) -> list[str]:
    """Of arms: their runs' names where these tell them apart, or else what differs from the base."""
    configs = [[trial.config for trial in trials if trial.config] for trials in groups]
    names = [{config.name for config in each} for each in configs]
    if all(len(each) == 1 for each in names) and len(set.union(*names)) == len(groups):
        return [each[0].name for each in configs]
    base = configs[0][0]
    differences = [
        ", ".join(f"{name} {value}" for name, (_, value) in changed_fields(each[0], base).items())
        for each in configs[1:]
    ]
    return [base.name, *differences]


def _read(trial: Trial) -> Trial:
    """With what the folder says; one that cannot be read counts as failed, so that the others are reported on."""
    folder = trial.folder
    try:
        if (folder / "config.json").exists():
            trial = replace(trial, config=read_config(folder))
        if trial.status != "finished":
            return trial
        return replace(
            trial,
            result=read_result(folder),
            environment=read_environment(folder),
            metrics=read_lines(folder / "metrics.jsonl"),
            timing=read_lines(folder / "timing.jsonl"),
        )
    except UserError as error:
        return replace(trial, status="failed", message=f"its folder cannot be read: {error}")
