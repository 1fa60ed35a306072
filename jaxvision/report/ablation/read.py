"""Reading what there is to report on: a sweep's folder, or run folders."""

import os
from collections.abc import Sequence

from etils import epath

from jaxvision.bucket import real_place
from jaxvision.errors import RunFolderError
from jaxvision.report.ablation.loose import loose_sweep
from jaxvision.report.ablation.sweep import Arm, Sweep
from jaxvision.report.ablation.trial import Trial, read_trial
from jaxvision.report.plan import NAME, PlannedTrial, failure_file, read_plan, trial_state


def read_sweep(folders: Sequence[str | os.PathLike[str]]) -> Sweep:
    """Reads a sweep's folder (it has ablation.json); or run folders, and all run folders below other folders, where
    runs that differ only in their seed are an arm and the first is the base. A folder given twice counts once.

    Raises:
      RunFolderError: nothing to report on in one of the folders, a sweep's folder beside others, a damaged
        ablation.json, the same seed twice in an arm.
    """
    by_place: dict[str, epath.Path] = {}
    for folder in folders:
        by_place.setdefault(real_place(folder), epath.Path(folder))
    paths = list(by_place.values())
    for path in paths:
        if not path.exists():
            raise RunFolderError(f"report: there is no such folder. Received: {str(path)!r}")
    planned = [path for path in paths if (path / NAME).exists()]
    if planned and len(paths) > 1:
        raise RunFolderError(
            f"report: {planned[0]} is a sweep's folder, which is reported on alone. Received: {len(paths)} folders"
        )
    try:
        return _planned(planned[0]) if planned else loose_sweep(paths)
    except OSError as error:
        raise RunFolderError(f"report: {error.filename}: cannot be read. Received: {error.strerror}") from error


def _planned(folder: epath.Path) -> Sweep:
    plan = read_plan(folder)
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
    message = _message(failure_file(folder, trial)) if status == "failed" else ""
    return read_trial(Trial(trial.arm, trial.seed, folder / trial.folder, trial.folder, status, message))


def _message(path: epath.Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace").strip()
    except OSError as error:
        return f"{path}: cannot be read. Received: {error.strerror or error}"
