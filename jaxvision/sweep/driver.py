"""From an `Ablation` to a folder of trials: what is to be done, what is there already, and doing the rest."""

import fnmatch
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from rich.console import Console

from jaxvision.ablation import Ablation
from jaxvision.config import Data, Run
from jaxvision.data import Dataset, open_dataset
from jaxvision.errors import ConfigError, RunFolderError, StoppedError, UserError, nearest
from jaxvision.models import abstract_model
from jaxvision.report.plan import NAME, Plan, PlannedArm, PlannedTrial, failure_file, read_plan, write_plan
from jaxvision.serialize import to_json
from jaxvision.sweep.identity import Differences, Identity, differences, read_identity
from jaxvision.sweep.loop import run_in_turn
from jaxvision.sweep.progress import Progress
from jaxvision.sweep.ray_engine import Cluster, require_ray, run_with_ray
from jaxvision.sweep.trial import Job
from jaxvision.train.folder import code_version, write_text
from jaxvision.train.freeze import select
from jaxvision.train.lock import RunLock
from jaxvision.train.signals import StopSignal
from jaxvision.train.task import make_task

REPLACED = "replaced"
"""Folder in a sweep's: the run folders of trials that were run again."""


@dataclass(frozen=True)
class Settings:
    """How to run trials, which changes nothing of what comes of them.

    retries: of a trial that crashes (killed, out of memory), not of one that was refused with a message. arms: patterns
    of names to run now; none: all. rerun: trials of another configuration, data or code are run again, and their
    folders moved to `replaced/`.
    """

    engine: Literal["loop", "ray"] = "loop"
    cluster: Cluster = field(default_factory=Cluster)
    retries: int = 1
    arms: tuple[str, ...] = ()
    rerun: bool = False


@dataclass(frozen=True)
class Sweep:
    """What a folder is to hold, and how what it holds differs from that. `differing` has those alone that do, by
    run folder."""

    folder: Path
    plan: Plan
    runs: dict[str, Run]
    differing: dict[str, Differences]


def prepare(ablation: Ablation, folder: Path) -> Sweep:
    """Opens the data and makes every arm's model as shapes, so that what is wrong is said before anything runs, and
    compares with what is in the folder. Writes nothing.

    Raises: UserError: a fault of the ablation, its data or models; a folder of something else.
    """
    arms, trials = ablation.arms(), ablation.trials()
    _require_own(folder, ablation)
    datasets: dict[Data, Dataset] = {}
    for arm in arms:
        # As a stream: no picture is decoded for this.
        data = replace(arm.run.data, residence="stream", cache="off")
        datasets.setdefault(arm.run.data, open_dataset(data))
        _require_model(arm.run, datasets[arm.run.data], f"{ablation.name}: arm {arm.name}")
    code = code_version()
    planned, differing = [], {}
    for trial in trials:
        name = f"{trial.arm}/seed-{trial.seed}"
        wanted = Identity(trial.run, datasets[trial.run.data].fingerprint, code)
        there = read_identity(folder / name)
        if there is not None and (found := differences(there, wanted)) != Differences():
            differing[name] = found
        # What is there is what it was made with.
        digest = (there or wanted).digest
        planned.append(PlannedTrial(trial.arm, trial.seed, name, digest))
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
    return Sweep(folder, plan, {f"{trial.arm}/seed-{trial.seed}": trial.run for trial in trials}, differing)


def ablate(ablation: Ablation, folder: str | os.PathLike[str], settings: Settings = Settings(), *, again: str) -> bool:
    """Runs the trials of an ablation that its folder does not hold yet.

    Args:
      folder: the sweep's; made where it is not there.
      again: the command that goes on where this is stopped.

    Returns: whether all of them (of `settings.arms`) are finished; the others have failed.

    Raises:
      UserError: see `prepare`; or trials in the folder are of another configuration or other data.
      StoppedError: SIGTERM or Ctrl-C came; the trials that were at work have saved what it takes to go on.
    """
    console = Console(highlight=False, stderr=True)
    if settings.engine == "ray":
        require_ray()
    sweep = prepare(ablation, Path(folder))
    chosen = choose(sweep.plan, settings.arms)
    _require_same(sweep, settings)
    sweep.folder.mkdir(parents=True, exist_ok=True)
    with RunLock(sweep.folder):
        _tell_of_others(sweep, console)
        _set_aside(sweep, settings, console)
        write_plan(sweep.folder, sweep.plan)
        jobs = [job for trial in chosen if not (job := _job(sweep, trial)).finished]
        with StopSignal() as stop, Progress(sweep.folder, sweep.plan, chosen, console) as progress:
            told = lambda: stop.received is not None  # noqa: E731
            if jobs and settings.engine == "ray":
                run_with_ray(
                    jobs,
                    folder=sweep.folder,
                    cluster=settings.cluster,
                    retries=settings.retries,
                    stop=told,
                    tick=progress.refresh,
                )
            else:
                run_in_turn(jobs, retries=settings.retries, stop=told, tick=progress.refresh)
    left = [job for job in jobs if not job.finished]
    if stop.received is not None and left:
        raise StoppedError(
            stop.received,
            f"stopped by {stop.received.name}; {len(left)} of {len(chosen)} trials are left. Go on with: {again}",
        )
    for job in left:
        console.print(f"failed: {job.arm}, seed {job.seed}: {job.log}", markup=False, soft_wrap=True)
    return not left


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


def _require_own(folder: Path, ablation: Ablation) -> None:
    if not folder.exists():
        return
    if (folder / NAME).exists():
        if (name := read_plan(folder).name) != ablation.name:
            raise RunFolderError(f"{folder}: is of the ablation {name!r}. Give another --out. Received:"
                                 f" {ablation.name!r}")  # fmt: skip
    elif not folder.is_dir() or any(path.name[0] != "." for path in folder.iterdir()):
        raise RunFolderError(f"{folder}: already there, and not an ablation's. Give another --out, or remove it.")


def _require_model(run: Run, dataset: Dataset, where: str) -> None:
    try:
        outputs = make_task(run, len(dataset.class_names), dataset.class_names).num_outputs
        model = abstract_model(run.model.name, dataset.image_shape, outputs, **run.model.options)
        for number, phase in enumerate(run.phases):
            select(model, phase, where=f"phases.{number}.trainable")
    except UserError as error:
        raise ConfigError(f"{where}: {error}") from error


def _require_same(sweep: Sweep, settings: Settings) -> None:
    """Trials of one table are of one kind: what another configuration or other data gave is not kept beside new ones,
    and not thrown away either."""
    said = [
        f"  {name}: {'; '.join(found.config + found.data)}"
        for name, found in sweep.differing.items()
        if found.config or found.data
    ]
    if said and not settings.rerun:
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


def _tell_of_others(sweep: Sweep, console: Console) -> None:
    """Fewer seeds or other levels than before leave run folders that no table shows any more."""
    if not (sweep.folder / NAME).exists():
        return
    before = {trial.folder for trial in read_plan(sweep.folder).trials} - set(sweep.runs)
    if there := sorted(name for name in before if (sweep.folder / name).exists()):
        console.print(
            f"no part of this ablation any more, and left as they are: {', '.join(there)}", markup=False, soft_wrap=True
        )


def _set_aside(sweep: Sweep, settings: Settings, console: Console) -> None:
    """Moves away the folders of trials to be run again; says which are kept although the code has changed since."""
    if not settings.rerun:
        if sweep.differing:
            changed = list(dict.fromkeys(text for found in sweep.differing.values() for text in found.code))
            console.print(
                f"warning: the code is not that of {len(sweep.differing)} trials here: {'; '.join(changed[:5])}. They"
                " are kept; --rerun runs them again",
                markup=False,
                soft_wrap=True,
            )
        return
    for name in sweep.differing:
        names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        to = next(path for each in names if not (path := sweep.folder / REPLACED / each).exists())
        to.parent.mkdir(parents=True, exist_ok=True)
        (sweep.folder / name).rename(to)
        console.print(f"{sweep.folder / name}: moved to {to}", markup=False, soft_wrap=True)


def _job(sweep: Sweep, trial: PlannedTrial) -> Job:
    config = sweep.folder / "configs" / f"{trial.folder}.json"
    config.parent.mkdir(parents=True, exist_ok=True)
    write_text(config, to_json(sweep.runs[trial.folder]))
    # Workers of a cluster may be elsewhere.
    folder = sweep.folder.absolute()
    return Job(
        arm=trial.arm,
        seed=trial.seed,
        arguments=("train", str(config), "--run-dir", str(sweep.folder / trial.folder), "--resume"),
        run_dir=folder / trial.folder,
        log=folder / "logs" / f"{trial.folder}.log",
        failure=Path(failure_file(folder, trial)),
        cwd=Path.cwd(),
    )
