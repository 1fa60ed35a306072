"""Whether a trial is finished: its result can be read."""

import functools
import os
from pathlib import Path

from jaxvision.report.plan import PlannedTrial, State, trial_state
from jaxvision.train.result import read_result


def has_result(run_dir: Path) -> bool:
    """Whether a run folder has a result, and a whole one."""
    try:
        file = os.stat(run_dir / "result.json")
    except OSError:
        return False
    return _is_whole(run_dir, file.st_mtime_ns, file.st_size)


@functools.lru_cache(maxsize=100_000)  # a sweep asks twice a second for each of its trials
def _is_whole(run_dir: Path, _changed: int, _size: int) -> bool:
    try:
        read_result(run_dir)
    except ValueError:
        return False
    return True


def state_of(folder: Path, trial: PlannedTrial) -> State:
    """How far a trial is. One whose result is damaged has failed, and is run again."""
    state = trial_state(folder, trial)
    return "failed" if state == "finished" and not has_result(folder / trial.folder) else state
