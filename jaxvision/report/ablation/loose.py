"""Run folders that no sweep planned: runs that differ only in their seed are an arm."""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

from etils import epath

from jaxvision.bucket import real_place
from jaxvision.config import Run
from jaxvision.errors import RunFolderError
from jaxvision.report.ablation.differences import described
from jaxvision.report.ablation.sweep import Arm, Sweep
from jaxvision.report.ablation.trial import Trial, as_text, read_trial
from jaxvision.report.plan import State
from jaxvision.train.deciding import is_deciding

Fields = dict[str, Any]
"""{dotted field: value}: what makes runs an arm."""


def loose_sweep(paths: Sequence[epath.Path]) -> Sweep:
    """All run folders that are given or below what is given, each once; the first arm is the base.

    Raises: RunFolderError: no run folder in one of the paths, or none that can be read; finished runs of an arm with
      the same seed.
    """
    trials = [run_folder_trial(folder) for folder in distinct_run_folders(paths)]
    unread = {trial.place: trial.message for trial in trials if not trial.config}
    if len(unread) == len(trials):
        raise RunFolderError("\n".join(["report: there is no run that can be read:", *unread.values()]))
    arms = _arms([trial for trial in trials if trial.config])
    _require_different(arms)
    name = ", ".join(as_text(path.name or path) for path in paths)
    return Sweep(name, "", None, arms[0].name, {}, arms, unread)


def distinct_run_folders(paths: Sequence[epath.Path]) -> list[epath.Path]:
    """Returns the run folders that are given or below what is given, each once, in the order found.

    Raises: RunFolderError: there is no run folder in one of the paths.
    """
    folders: dict[str, epath.Path] = {}  # by the place that links lead to
    for path in paths:
        found = {real_place(folder): folder for folder in run_folders(path)}
        if not found:
            raise RunFolderError(
                "There is no run folder (with config.json) and no sweep folder (with ablation.json) here. "
                f"Received: {str(path)!r}"
            )
        folders |= {real: folder for real, folder in found.items() if real not in folders}
    return list(folders.values())


def run_folders(path: epath.Path) -> Iterator[epath.Path]:
    """The folder itself where it is a run's, or else those below it, in the order of their names. Each folder is looked
    into once, wherever links lead."""
    seen: set[str] = set()

    def below(folder: epath.Path) -> Iterator[epath.Path]:
        if (real := real_place(folder)) in seen:
            return
        seen.add(real)
        if (folder / "config.json").exists():
            yield folder
        elif folder.is_dir():
            for each in sorted(folder.iterdir()):
                yield from below(each)

    return below(path)


def run_folder_trial(folder: epath.Path) -> Trial:
    """Reads a run folder that no sweep planned. One that cannot be read is a failed trial with a message."""
    status = cast(State, "finished" if (folder / "result.json").exists() else "begun")
    trial = read_trial(Trial("", 0, folder, as_text(folder), status))
    return replace(trial, seed=trial.config.seed) if trial.config else trial


def _arms(trials: Sequence[Trial]) -> tuple[Arm, ...]:
    groups: dict[str, list[Trial]] = {}
    for trial, deciding in zip(trials, _deciding(trials), strict=True):
        groups.setdefault(json.dumps(deciding), []).append(trial)
    described_by = [json.loads(key) for key in groups]
    changes = [_changes(fields, described_by[0]) for fields in described_by]
    names = _names(list(groups.values()), described_by, changes)
    return tuple(
        Arm(
            name,
            tuple(replace(trial, arm=name) for trial in sorted(each, key=lambda trial: trial.seed)),
            changes=changed,
        )
        for name, each, changed in zip(names, groups.values(), changes, strict=True)
    )


def _deciding(trials: Sequence[Trial]) -> list[Fields]:
    """Of each trial what has a part in its numbers; its data's place too, where the data is not the same."""
    data = {trial.environment.data_fingerprint for trial in trials if trial.environment}
    return [
        {
            name: value
            for name, value in described(cast(Run, trial.config)).items()
            if is_deciding(name) or (name == "data.path" and len(data) > 1)
        }
        for trial in trials
    ]


def _changes(fields: Fields, base: Fields) -> Fields:
    return {name: fields.get(name) for name in dict.fromkeys([*base, *fields]) if fields.get(name) != base.get(name)}


def _names(groups: Sequence[Sequence[Trial]], described_by: Sequence[Fields], changes: Sequence[Fields]) -> list[str]:
    """Of arms: their runs' names where these tell them apart, or else what differs from the base, and of the base what
    it has instead."""
    names = [{cast(Run, trial.config).name for trial in trials} for trials in groups]
    if len(groups) == 1 or (all(len(each) == 1 for each in names) and len(set.union(*names)) == len(groups)):
        return [cast(Run, trials[0].config).name for trials in groups]
    base = {name: described_by[0][name] for changed in changes for name in changed if name in described_by[0]}
    return [", ".join(f"{name} {value}" for name, value in each.items()) for each in (base, *changes[1:])]


def _require_different(arms: Sequence[Arm]) -> None:
    twice = []
    for arm in arms:
        finished = [trial for trial in arm.trials if trial.result]
        for one, other in itertools.pairwise(finished):  # they stand in the order of their seeds
            if one.seed == other.seed:
                twice.append(f"{other.place}: seed {one.seed} of the same run as {one.place}")
    if twice:
        raise RunFolderError(
            "report: the same run with the same seed adds nothing. Leave out one of each pair, by giving the run"
            " folders to report on:\n" + "\n".join(twice)
        )
