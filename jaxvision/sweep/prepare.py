"""What an ablation's folder is to hold, what is there already, and whether the two go together. Writes nothing."""

import contextlib
import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxvision.ablation import Ablation
from jaxvision.config import Data, Run
from jaxvision.data import Dataset, open_dataset
from jaxvision.data.examples import compare, record_of
from jaxvision.errors import ConfigError, RunFolderError, UserError, nearest
from jaxvision.models import abstract_model, model_options
from jaxvision.outputs import require_writable
from jaxvision.report.plan import NAME, Plan, PlannedArm, PlannedTrial, read_plan
from jaxvision.sweep.finished import state_of
from jaxvision.sweep.identity import Differences, Identity, differences, read_identity
from jaxvision.train.checks import require_monitor
from jaxvision.train.folder import code_version
from jaxvision.train.freeze import select
from jaxvision.train.run_data import read_examples
from jaxvision.train.task import make_task

REPLACED = "replaced"
"""Folder in a sweep's: the run folders of trials that were run again."""


@dataclass(frozen=True)
class Sweep:
    """What a folder is to hold, and how what it holds differs from that. wanted: what each trial is to be, by run
    folder; `differing` has those alone whose folders have something else. code: of now."""

    folder: Path
    plan: Plan
    wanted: dict[str, Identity]
    differing: dict[str, Differences]
    code: dict[str, Any]


def prepare(ablation: Ablation, folder: Path) -> Sweep:
    """Opens the data and makes every arm's model as shapes, so that what is wrong is said before anything runs, and
    compares with what is in the folder.

    Raises: UserError: a fault of the ablation, its data or models; a folder of something else.
    """
    arms, trials = ablation.arms(), ablation.trials()
    with usable(folder):
        _require_own(folder, ablation)
    datasets: dict[Data, Dataset] = {}
    for arm in arms:
        if arm.run.data not in datasets:
            # As a stream: no picture is decoded for this.
            datasets[arm.run.data] = open_dataset(replace(arm.run.data, residence="stream", cache="off"))
        _require_model(arm.run, datasets[arm.run.data], f"{ablation.name}: arm {arm.name}")
    require_defaults(ablation)
    code = code_version()
    planned, every = [], {}
    differing: dict[str, Differences] = {}
    for trial in trials:
        name = f"{trial.arm}/seed-{trial.seed}"
        wanted = every[name] = Identity(trial.run, datasets[trial.run.data].fingerprint, code)
        try:
            there = read_identity(folder / name)
            found = Differences() if there is None else differences(there, wanted)
        except RunFolderError as error:
            there, found = None, Differences(config=(str(error),))
        if found.data and not any(other.data for other in differing.values()):  # of one trial: it reads the files
            found = replace(found, data=_data_differences(folder / name, datasets[trial.run.data]) or found.data)
        if found != Differences():
            differing[name] = found
        # What is there is what it was made with.
        planned.append(PlannedTrial(trial.arm, trial.seed, name, (there or wanted).digest))
    plan = Plan(
        name=ablation.name,
        summary=ablation.summary,
        design=ablation.design,
        base=arms[0].name,
        factors=ablation.level_names(),
        seeds=tuple(dict.fromkeys(trial.seed for trial in trials)),
        arms=tuple(PlannedArm(arm.name, arm.levels, arm.changes) for arm in arms),
        trials=tuple(planned),
    )
    return Sweep(folder, plan, every, differing, code)


def _data_differences(folder: Path, dataset: Dataset) -> tuple[str, ...]:
    """How the data differs from that of a trial, where its folder keeps a list of the examples."""
    before = read_examples(folder)
    said = "" if before is None else str(compare(before, record_of(dataset)).differences)
    return (f"data: {said}",) if said else ()


def choose(plan: Plan, patterns: Sequence[str]) -> list[PlannedTrial]:
    """The trials of the arms that any of the patterns matches; all where there is none."""
    names = [arm.name for arm in plan.arms]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise ConfigError(f"--arms: no arm is called so.{nearest(pattern, names)} Arms: {', '.join(names)}."
                              f" Received: {pattern!r}")  # fmt: skip
    return [
        trial
        for trial in plan.trials
        if not patterns or any(fnmatch.fnmatch(trial.arm, pattern) for pattern in patterns)
    ]


def left(sweep: Sweep, chosen: Sequence[PlannedTrial], *, rerun: bool) -> list[PlannedTrial]:
    """Those of the chosen trials that are to run: not finished, or to be run again."""
    return [
        trial
        for trial in chosen
        if state_of(sweep.folder, trial) != "finished" or (rerun and trial.folder in sweep.differing)
    ]


def require_same(sweep: Sweep, *, rerun: bool) -> None:
    """Trials of one table are of one kind: what another configuration or other data gave is not kept beside new ones,
    and not thrown away either. Raises RunFolderError where that is so, unless such trials are to be run again."""
    said = [
        f"  {name}: {'; '.join(found.config + found.data)}"
        for name, found in sweep.differing.items()
        if found.config or found.data
    ]
    if said and not rerun:
        raise RunFolderError(
            "\n".join(
                [
                    f"{sweep.folder}: has trials of another configuration or other data. Give another --out, or --rerun"
                    f" to move them to {sweep.folder / REPLACED} and run them again:",
                    *said[:10],
                    *([f"  and {len(said) - 10} more"] if len(said) > 10 else []),
                ]
            )
        )


def require_defaults(ablation: Ablation) -> None:
    """Raises ConfigError where a first level says of an option that the base leaves alone what the model does not do by
    default: the base arm would not be the base."""
    defaults = model_options(ablation.base.model.name)
    for factor, level, option, value in ablation.assumed():
        default = defaults.get(option)
        if option in defaults and (list(default) if isinstance(default, tuple) else default) != value:
            raise ConfigError(
                f"{ablation.name}: factor {factor!r}, level {level!r}: the first level is the base's, and by default"
                f" {ablation.base.model.name} has {option} {default!r}. Say model.options.{option} in the base."
                f" Received: {value!r}"
            )


@contextlib.contextmanager
def usable(folder: Path) -> Iterator[None]:
    """Errors of the file system, as RunFolderError."""
    try:
        yield
    except OSError as error:
        raise RunFolderError(
            f"{folder}: cannot be used: {error.filename or folder}: {error.strerror or error}. Mend it, or give another"
            f" --out. Received: {str(folder)!r}"
        ) from error


def _require_own(folder: Path, ablation: Ablation) -> None:
    if not folder.exists():
        require_writable(folder)
    elif (folder / NAME).exists():
        if (name := read_plan(folder).name) != ablation.name:
            raise RunFolderError(f"{folder}: is of the ablation {name!r}. Give another --out. Received:"
                                 f" {ablation.name!r}")  # fmt: skip
    elif not folder.is_dir() or any(path.name[0] != "." for path in folder.iterdir()):
        raise RunFolderError(f"{folder}: already there, and not an ablation's. Give another --out, or remove it.")


def _require_model(run: Run, dataset: Dataset, where: str) -> None:
    try:
        task = make_task(run, len(dataset.class_names), dataset.class_names)
        require_monitor(run, dataset, task, repeats=False)
        model = abstract_model(run.model.name, dataset.image_shape, task.num_outputs, **run.model.options)
        for number, phase in enumerate(run.phases):
            select(model, phase, where=f"phases.{number}.trainable")
    except UserError as error:
        raise ConfigError(f"{where}: {error}") from error
