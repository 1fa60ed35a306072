"""Which number arms are compared by, and its values."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxvision.config import PARTS
from jaxvision.errors import ConfigError, RunFolderError, nearest
from jaxvision.report.ablation.sweep import Arm, Sweep
from jaxvision.report.ablation.trial import Trial
from jaxvision.train.result import Metrics

PREFERRED = ("test", "validation", "train")
MOST_MESSAGES = 5


@dataclass(frozen=True)
class Measure:
    """A metric on a part of the data, of each run's best checkpoint."""

    metric: str
    part: str

    @property
    def lower_is_better(self) -> bool:
        return self.metric == "loss"

    def of(self, trial: Trial) -> float | None:
        """None where the trial has none, or one that is not finite."""
        value = _metrics(trial, self.part).get(self.metric)
        return value if value is not None and np.isfinite(value) else None

    def by_seed(self, arm: Arm) -> dict[int, float]:
        """Of the arm's finished trials."""
        values = {trial.seed: self.of(trial) for trial in arm.trials}
        return {seed: value for seed, value in values.items() if value is not None}


@dataclass(frozen=True)
class Point:
    """After so many epochs, over all phases: mean, lowest and highest over the seeds that trained so long."""

    epoch: int
    mean: float
    low: float
    high: float
    n: int


def choose_measure(sweep: Sweep, *, metric: str | None = None, part: str | None = None) -> Measure:
    """The runs' own headline metric, on the test part where all finished trials have one, else on the validation part,
    else on the training part; or what is asked for.

    Raises: RunFolderError: no finished trial. ConfigError: no such metric or part, or runs judged by different metrics.
    """
    finished = [trial for trial in sweep.trials if trial.result]
    if not finished:
        raise RunFolderError("\n".join([_none_finished(sweep), *_messages(sweep)]))
    shared = [name for name in PREFERRED if all(_metrics(trial, name) for trial in finished)]
    if not shared:
        raise RunFolderError(f"report: there is no part of the data that all finished trials of {sweep.name} have.")
    if part is None:
        part = shared[0]
    elif part not in shared:
        raise ConfigError(f"part: not all finished trials were measured on it. All have: {', '.join(shared)}. "
                          f"Received: {part!r}")  # fmt: skip
    headlines = sorted({trial.result.headline for trial in finished if trial.result})
    if metric is None and len(headlines) > 1:
        raise ConfigError(f"metric: the runs are judged by different ones, {', '.join(headlines)}; say which.")
    metric = metric or headlines[0]
    known = list(dict.fromkeys(name for trial in finished for name in _metrics(trial, part)))
    if metric not in known:
        raise ConfigError(
            f"metric: no finished trial has it on the {part} part.{nearest(metric, known)} There are: "
            f"{', '.join(known)}. Received: {metric!r}"
        )
    measure = Measure(metric, part)
    if all(measure.of(trial) is None for trial in finished):
        raise RunFolderError(f"report: of no finished trial of {sweep.name} is the {part} {metric} a finite number.")
    return measure


def _none_finished(sweep: Sweep) -> str:
    """report: none of the 18 trials of NAME is finished: 2 failed, 16 missing."""
    states = Counter([trial.status for trial in sweep.trials] + ["failed"] * len(sweep.unread))
    each = ", ".join(f"{number} {state}" for state, number in states.items())
    return f"report: none of the {states.total()} trials of {sweep.name} is finished: {each}."


def _messages(sweep: Sweep) -> list[str]:
    """The first lines of why trials failed, of a few."""
    said = [f"{trial.place}: {trial.message.splitlines()[0]}" for trial in sweep.trials if trial.message]
    said += [f"{place}: {message.splitlines()[0]}" for place, message in sweep.unread.items()]
    return [*said[:MOST_MESSAGES], *([f"and {len(said) - MOST_MESSAGES} more"] if len(said) > MOST_MESSAGES else [])]


def curve(trials: Sequence[Trial], name: str) -> list[Point]:
    """The band of a metric, such as "validation/accuracy", over finished trials."""
    values: dict[int, list[float]] = {}
    for trial in trials:
        if trial.result:
            for epoch, value in _epochs(trial.metrics, name).items():
                values.setdefault(epoch, []).append(value)
    return [
        Point(epoch, float(np.mean(each)), min(each), max(each), len(each)) for epoch, each in sorted(values.items())
    ]


def _epochs(metrics: Sequence[Mapping[str, Any]], name: str) -> dict[int, float]:
    """Values at the end of epochs, counted over all phases."""
    ends = list(dict.fromkeys((record["phase"], record["epoch"]) for record in metrics))
    # Of an epoch validated several times, or resumed, the last record counts.
    last = {(record["phase"], record["epoch"]): record[name] for record in metrics if name in record}
    return {
        number: float(value)
        for number, end in enumerate(ends, 1)
        if (value := last.get(end)) is not None and np.isfinite(value)
    }


def _metrics(trial: Trial, part: str) -> Metrics:
    assert part in PARTS
    return getattr(trial.result, part, None) or {}
