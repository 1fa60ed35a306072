"""Many runs in one compiled program: seeds, and numbers such as learning rates."""

import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from etils import epath

from jaxvision.bucket import expanded, require_reachable
from jaxvision.changes import changed
from jaxvision.config import Run
from jaxvision.errors import ConfigError, NonFiniteLossError, RunFolderError, StoppedError
from jaxvision.train.compilation import keep_compiled
from jaxvision.train.folder import new_run_folder, require_free
from jaxvision.train.lock import RunLock
from jaxvision.train.member import Member
from jaxvision.train.memory import keep_memory
from jaxvision.train.prepared import described, prepare
from jaxvision.train.result import Result, read_result
from jaxvision.train.resume import begun_run, default_folder
from jaxvision.train.saving import writing_run
from jaxvision.train.train_members import train_members


def fit_many(
    run: Run,
    seeds: Iterable[int],
    *,
    arms: Mapping[str, Mapping[str, Any]] | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    data: Mapping[str, Any] | None = None,
    progress: bool = True,
    resume: bool = False,
) -> tuple[Result, ...]:
    """Trains a run with each of these seeds at once, in one compiled program, by `jax.vmap` over the runs.

    Each is a run of its own, in the folder run_dir/seed-SEED, with its own order of examples, best checkpoint and early
    stop: that of `fit` with this seed, to rounding. With several devices each trains some of the runs.

    Args:
      run: what to do. Its pictures must fit in the device's memory (`run.data.residence`).
      arms: {name: changes}, such as {"slow": {"phases.0.optimizer.learning_rate": 1e-4}}: each with each seed, in
        run_dir/NAME/seed-SEED. Numbers of the optimizer and the loss and rates of dropout (`jaxvision.varied`).
      run_dir: a new folder; None: runs/NAME, or runs/NAME-2 and so on where that exists.
      data, progress: as of `fit`.
      resume: go on with the runs in `run_dir` (None: runs/NAME); those at the same place go on together. With the same
        runs together as before, to the same bits; otherwise to rounding.

    Returns: the results, seed by seed of each arm.

    Raises:
      UserError: as `fit`; or runs that cannot be trained together. StoppedError: as `fit`.
      NonFiniteLossError: of some runs the loss was no number. They end there, and the others are trained and tested
        before it is raised; `jaxvision.read_result` reads them.
    """
    runs = _expanded(run, seeds, arms)
    parent = default_folder(run) if run_dir is None else epath.Path(expanded(run_dir))
    require_reachable(parent)
    own = not parent.exists()
    if not resume and run_dir is not None:
        require_free(parent)
    if not resume and run_dir is None:
        parent = new_run_folder(run.name)
    try:
        members = [(each, parent / name) for name, each in runs.items()]
        return fit_together(members, data=data, progress=progress, resume=resume)
    except StoppedError as stopped:
        call = f'fit_many(..., run_dir="{parent}", resume=True)'
        raise StoppedError(stopped.signal, f"{stopped} Go on with: {call}") from None
    finally:
        for folder in (*(parent / name for name in arms or ()), parent) if own else ():
            if folder.exists() and not any(folder.iterdir()):
                folder.rmdir()


def fit_together(
    runs: Sequence[tuple[Run, epath.PathLike]],
    *,
    data: Mapping[str, Any] | None = None,
    progress: bool = True,
    resume: bool = False,
) -> tuple[Result, ...]:
    """Trains runs into their folders as `fit_many` does: alike but for name, seed and numbers that may vary."""
    started = time.perf_counter()
    keep_memory()
    keep_compiled()
    folders = [epath.Path(expanded(folder)) for _, folder in runs]
    checked = [described(run, data) for run, _ in runs]
    begun = [resume and begun_run(run, folder) is not None for run, folder in zip(checked, folders, strict=True)]
    for folder, is_begun in zip(folders, begun, strict=True):
        if not is_begun:
            require_free(folder)
    left = [number for number, folder in enumerate(folders) if not (begun[number] and _is_done(folder))]
    members: list[Member] = []
    if left:
        of_left = [checked[number] for number in left]
        prepared = prepare(of_left, data, progress=progress, repeats=all(begun[number] for number in left))
        with ExitStack() as stack:
            for number in left:
                folder = folders[number] if begun[number] else new_run_folder(runs[number][0].name, folders[number])
                stack.enter_context(writing_run(folder))
                stack.enter_context(RunLock(folder))
                if _is_done(folder):
                    raise RunFolderError(f"run folder {folder}: another process has just finished it. Resume again.")
            members = train_members(
                prepared,
                [folders[number] for number in left],
                [begun[number] for number in left],
                progress=progress,
                started=started,
            )
    if failed := [member for member in members if member.failed is not None]:
        said = "\n".join(f"  {member.folder}: {member.failed}" for member in failed)
        raise NonFiniteLossError(f"{len(failed)} of {len(runs)} runs failed, the others are finished:\n{said}")
    return tuple(map(read_result, folders))


def _is_done(folder: epath.Path) -> bool:
    return (folder / "result.json").exists()


def _expanded(run: Run, seeds: Iterable[int], arms: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Run]:
    """{folder below the common one: run}."""
    given = list(seeds) if isinstance(seeds, Iterable) else []
    if not given or len(set(given)) < len(given):
        raise ConfigError(f"seeds: one or more, each once, such as range(8). Received: {seeds!r}")
    for name in arms or ():
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._=+-]*", name):
            raise ConfigError(f"arms: a name is part of a folder's: letters, digits and . _ = + -. Received: {name!r}")
    described = {"": run} if arms is None else {name: changed(run, arms[name], f"arms: {name}") for name in arms}
    if not described:
        raise ConfigError("arms: none given. Leave arms out, or give {name: changes}. Received: {}")
    return {
        f"{name}/seed-{seed}".lstrip("/"): replace(
            each, name=f"{run.name}/{name}/seed-{seed}".replace("//", "/"), seed=seed
        )
        for name, each in described.items()
        for seed in given
    }
