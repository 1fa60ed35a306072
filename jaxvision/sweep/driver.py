"""Running the trials that an ablation's folder does not hold yet."""

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from rich.console import Console

from jaxvision.ablation import Ablation
from jaxvision.bucket import expanded
from jaxvision.errors import RunFolderError, StoppedError
from jaxvision.report.plan import NAME, PlannedTrial, failure_file, read_plan, write_plan
from jaxvision.serialize import to_json
from jaxvision.sweep.identity import code_differences, read_identity
from jaxvision.sweep.loop import run_in_turn
from jaxvision.sweep.prepare import REPLACED, Sweep, choose, prepare, require_same, usable
from jaxvision.sweep.progress import Progress
from jaxvision.sweep.ray_engine import Cluster, require_ray, run_with_ray
from jaxvision.sweep.together import groups_together
from jaxvision.sweep.trial import Job, owned
from jaxvision.train.folder import write_text
from jaxvision.train.lock import RunLock
from jaxvision.train.signals import StopSignal


@dataclass(frozen=True)
class Settings:
    """How to run trials, which changes nothing of what comes of them.

    retries: of a trial that crashes (killed, out of memory), not of one that was refused with a message. arms: patterns
    of names to run now; none: all. rerun: of these, trials of another configuration, data or code are run again, and
    their folders moved to `replaced/`. vectorize: those that differ in seeds and numbers alone are trained in one
    program, at most `together` of them; None: all.
    """

    engine: Literal["loop", "ray"] = "loop"
    cluster: Cluster = field(default_factory=Cluster)
    retries: int = 1
    arms: tuple[str, ...] = ()
    rerun: bool = False
    vectorize: bool = False
    together: int | None = None


def ablate(ablation: Ablation, folder: str | os.PathLike[str], settings: Settings = Settings(), *, again: str) -> bool:
    """Runs the trials of an ablation that its folder does not hold yet.

    Args:
      folder: the sweep's; made where it is not there.
      again: the command that goes on where this is stopped.

    Returns: whether all of them (of `settings.arms`) are finished; the others have failed.

    Raises:
      UserError: see `prepare`; trials in the folder are of another configuration or other data; it cannot be written.
      StoppedError: SIGTERM or Ctrl-C came; the trials that were at work have saved what it takes to go on.
    """
    if settings.engine == "ray":
        require_ray()
    sweep = prepare(ablation, Path(expanded(folder)))
    chosen = choose(sweep.plan, settings.arms)
    require_same(sweep, rerun=settings.rerun)
    with usable(sweep.folder):
        return _run(sweep, chosen, settings, again)


def _run(sweep: Sweep, chosen: Sequence[PlannedTrial], settings: Settings, again: str) -> bool:
    console = Console(highlight=False, stderr=True)
    sweep.folder.mkdir(parents=True, exist_ok=True)
    with RunLock(sweep.folder):
        _tell_of_others(sweep, console)
        every = {trial.folder: _job(sweep, trial) for trial in chosen}
        moved = _set_aside(sweep, every, console) if settings.rerun else set()
        _tell_of_code(sweep, moved, console)
        trials = [
            replace(trial, digest=sweep.wanted[trial.folder].digest) if trial.folder in moved else trial
            for trial in sweep.plan.trials
        ]
        write_plan(sweep.folder, replace(sweep.plan, trials=tuple(trials)))
        left = {name: job for name, job in every.items() if not job.finished}
        jobs = _jobs_together(sweep, left, settings) if settings.vectorize else [*left.values()]
        ended = _watch_code(sweep, console)
        with StopSignal() as stop, Progress(sweep.folder, sweep.plan, chosen, console, ended=ended) as progress:
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
    unfinished = [(name, job) for name, job in left.items() if not job.finished]
    if stop.received is not None and unfinished:
        raise StoppedError(
            stop.received,
            f"stopped by {stop.received.name}; {len(unfinished)} of {len(chosen)} trials are left. Go on with: {again}",
        )
    for _, job in unfinished:
        console.print(f"failed: {job.name}: {job.logs[0]}", markup=False, soft_wrap=True)
    return not unfinished


def _tell_of_others(sweep: Sweep, console: Console) -> None:
    """Fewer seeds or other levels than before leave run folders that no table shows any more."""
    if not (sweep.folder / NAME).exists():
        return
    before = {trial.folder for trial in read_plan(sweep.folder).trials} - set(sweep.wanted)
    if there := sorted(name for name in before if (sweep.folder / name).exists()):
        console.print(
            f"no part of this ablation any more, and left as they are: {', '.join(there)}", markup=False, soft_wrap=True
        )


def _set_aside(sweep: Sweep, jobs: Mapping[str, Job], console: Console) -> set[str]:
    """Moves away the folders of trials to be run again, each once nothing is at work in it. Returns which."""
    moved = set()
    for name, job in jobs.items():
        if name not in sweep.differing:
            continue
        names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        to = next(path for each in names if not (path := sweep.folder / REPLACED / each).exists())
        to.parent.mkdir(parents=True, exist_ok=True)
        with owned(job):
            (sweep.folder / name).rename(to)
        console.print(f"{sweep.folder / name}: moved to {to}", markup=False, soft_wrap=True)
        moved.add(name)
    return moved


def _tell_of_code(sweep: Sweep, moved: set[str], console: Console) -> None:
    """Says which trials are kept although something has changed since."""
    kept = [found for name, found in sweep.differing.items() if name not in moved]
    for what, texts in (
        ("configuration or data are not those", [found.config + found.data for found in kept]),
        ("code is not that", [found.code for found in kept]),
    ):
        if count := sum(map(bool, texts)):
            changed = list(dict.fromkeys(itertools.chain.from_iterable(texts)))
            console.print(
                f"warning: the {what} of {count} trials here: {'; '.join(changed[:5])}. They are kept; --rerun runs"
                " them again",
                markup=False,
                soft_wrap=True,
            )


def _watch_code(sweep: Sweep, console: Console) -> Callable[[PlannedTrial], None]:
    """To be told of trials that have finished: warns of the first that other code trained than the sweep began with."""
    told = False

    def ended(trial: PlannedTrial) -> None:
        nonlocal told
        if told or trial.folder in sweep.differing:
            return
        try:
            there = read_identity(sweep.folder / trial.folder)
        except RunFolderError:  # which the next sweep will say
            return
        if there is not None and (changed := code_differences(there.code, sweep.code)):
            told = True
            console.print(
                f"warning: the code has changed since this sweep began: {trial.arm}, seed {trial.seed}:"
                f" {'; '.join(changed[:5])}. Arms that different code trained do not compare",
                markup=False,
                soft_wrap=True,
            )

    return ended


def _job(sweep: Sweep, trial: PlannedTrial) -> Job:
    config = sweep.folder / "configs" / f"{trial.folder}.json"
    # Workers of a cluster may be elsewhere.
    folder = sweep.folder.absolute()
    job = Job(
        name=f"{trial.arm}, seed {trial.seed}",
        arguments=("train", str(config), "--run-dir", str(sweep.folder / trial.folder), "--resume"),
        run_dirs=(folder / trial.folder,),
        logs=(folder / "logs" / f"{trial.folder}.log",),
        failures=(Path(failure_file(folder, trial)),),
        cwd=Path.cwd(),
    )
    for file in (config, *job.logs, *job.failures):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_text(config, to_json(sweep.wanted[trial.folder].run))
    return job


def _jobs_together(sweep: Sweep, left: Mapping[str, Job], settings: Settings) -> list[Job]:
    """The jobs of trials that can be trained in one program, as one each, and the others as they are."""
    jobs = []
    for names in groups_together(sweep, list(left), settings.together):
        parts = [left[name] for name in names]
        if len(parts) == 1:
            jobs += parts
            continue
        pairs = [f"{sweep.folder / 'configs' / name}.json={sweep.folder / name}" for name in names]
        jobs.append(
            Job(
                name=f"{len(parts)} trials together, the first of them {parts[0].name}",
                arguments=("train-together", *pairs),
                run_dirs=tuple(part.run_dirs[0] for part in parts),
                logs=tuple(part.logs[0] for part in parts),
                failures=tuple(part.failures[0] for part in parts),
                cwd=Path.cwd(),
            )
        )
    return jobs
