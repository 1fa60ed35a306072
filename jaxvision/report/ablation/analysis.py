"""Everything a report says, computed; what is made of it is JSON as it is, Markdown, pictures and a page."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jaxvision.report.ablation.cost import Cost, Costs
from jaxvision.report.ablation.differences import changed_fields, described
from jaxvision.report.ablation.measure import Measure, Point, choose_measure, curve
from jaxvision.report.ablation.provenance import OF_NUMBERS, provenance
from jaxvision.report.ablation.sweep import Arm, Sweep
from jaxvision.report.statistics import CONFIDENCE, Contrast, Interval, contrast, effect_weights, holm, mean_interval
from jaxvision.train.deciding import is_deciding


@dataclass(frozen=True)
class Compared:
    """A comparison, and its p value after Holm's correction over all comparisons of the report."""

    contrast: Contrast
    p_holm: float | None = None


@dataclass(frozen=True)
class ArmReport:
    """An arm. values: {seed: value}. interval: of their mean, None without values. compared: with the base by seed,
    None of the base, and where no seed is in both. changes: {field: (value in the base, value here)}. curves: {part:
    bands}."""

    name: str
    levels: Mapping[str, str]
    changes: Mapping[str, tuple[Any, Any]]
    planned: int
    values: Mapping[int, float]
    interval: Interval | None
    compared: Compared | None
    cost: Cost
    curves: Mapping[str, Sequence[Point]]


@dataclass(frozen=True)
class Effect:
    """Of taking `chosen` ({factor: level}) instead of the base's levels: of one factor, over all levels of the others;
    or of two, how much more both do than their effects added up. compared: None where no seed has all the arms
    concerned."""

    chosen: Mapping[str, str]
    instead: Mapping[str, str]
    compared: Compared | None


@dataclass(frozen=True)
class TrialReport:
    """A planned run and what became of it. Of a run whose config.json cannot be read arm is "" and seed None."""

    arm: str
    seed: int | None
    folder: str
    status: str
    message: str
    value: float | None
    epochs: int | None
    seconds: float | None


@dataclass(frozen=True)
class Report:
    """What a report says. effects: of single factors, then of pairs; None where the arms are not all combinations of
    the factors' levels. comparisons: how many were corrected together. notes: what a reader must know of the trials."""

    name: str
    summary: str
    design: str | None
    base: str
    factors: Mapping[str, Sequence[str]]
    measure: Measure
    confidence: float
    arms: Sequence[ArmReport]
    effects: Sequence[Effect] | None
    comparisons: int
    trials: Sequence[TrialReport]
    provenance: Mapping[str, Mapping[str, Sequence[str]]]
    notes: Sequence[str]

    def counts(self) -> dict[str, int]:
        """Trials by status, of those there are."""
        statuses = [trial.status for trial in self.trials]
        return {name: statuses.count(name) for name in dict.fromkeys(["finished", *statuses])}


def analyse(sweep: Sweep, *, metric: str | None = None, part: str | None = None) -> Report:
    """The report of a sweep by a metric on a part; see `choose_measure` for what is taken otherwise, and for errors."""
    measure = choose_measure(sweep, metric=metric, part=part)
    values = {arm.name: measure.by_seed(arm) for arm in sweep.arms}
    costs = Costs()
    arms = [_arm(arm, sweep, measure, values, costs) for arm in sweep.arms]
    effects = _effects(sweep, values)
    arms, effects, comparisons = _corrected(arms, effects)
    return Report(
        name=sweep.name,
        summary=sweep.summary,
        design=sweep.design,
        base=sweep.base,
        factors=sweep.factors,
        measure=measure,
        confidence=CONFIDENCE,
        arms=arms,
        effects=effects,
        comparisons=comparisons,
        trials=[
            TrialReport(
                trial.arm,
                trial.seed,
                trial.place,
                trial.status,
                trial.message,
                measure.of(trial),
                trial.result.epochs if trial.result else None,
                trial.result.seconds if trial.result else None,
            )
            for trial in sweep.trials
        ]
        + [TrialReport("", None, place, "failed", why, None, None, None) for place, why in sweep.unread.items()],
        provenance=provenance(sweep.trials),
        notes=_notes(sweep, measure),
    )


def _arm(
    arm: Arm, sweep: Sweep, measure: Measure, values: Mapping[str, Mapping[int, float]], costs: Costs
) -> ArmReport:
    found = contrast(values, {arm.name: 1.0, sweep.base: -1.0}) if arm.name != sweep.base else None
    own = values[arm.name]
    return ArmReport(
        name=arm.name,
        levels=arm.levels,
        changes=_changes(arm, sweep),
        planned=len(arm.trials),
        values=own,
        interval=mean_interval(list(own.values())) if own else None,
        compared=Compared(found) if found else None,
        cost=costs.of(arm),
        curves={part: curve(arm.trials, f"{part}/{measure.metric}") for part in ("train", "validation")},
    )


def _changes(arm: Arm, sweep: Sweep) -> dict[str, tuple[Any, Any]]:
    """As the run folders have it, of what has a part in the numbers or was planned; of an arm without any, or whose
    base has none, as it was planned."""
    if arm.name == sweep.base:
        return {}
    base = next(other for other in sweep.arms if other.name == sweep.base)
    ours, theirs = (next((trial.config for trial in each.trials if trial.config), None) for each in (arm, base))
    if ours is None or theirs is None:
        return {name: (None, value) for name, value in arm.changes.items()}
    changed = changed_fields(ours, theirs)
    return {name: values for name, values in changed.items() if is_deciding(name) or name in arm.changes}


def _effects(sweep: Sweep, values: Mapping[str, Mapping[int, float]]) -> list[Effect] | None:
    """None of one factor alone, too: its effect is the arms' difference to the base."""
    names, levels = list(sweep.factors), list(sweep.factors.values())
    cells = {tuple(arm.levels.get(name, "") for name in names): values[arm.name] for arm in sweep.arms}
    if len(names) < 2 or set(cells) != set(itertools.product(*levels)):
        return None
    singles = [{number: level} for number, each in enumerate(levels) for level in each[1:]]
    pairs = [{**a, **b} for a, b in itertools.combinations(singles, 2) if not a.keys() & b.keys()]
    effects = []
    for chosen in (*singles, *pairs):
        found = contrast(cells, effect_weights(levels, chosen))
        effects.append(
            Effect(
                {names[number]: level for number, level in chosen.items()},
                {names[number]: levels[number][0] for number in chosen},
                Compared(found) if found else None,
            )
        )
    return effects


def _corrected(
    arms: Sequence[ArmReport], effects: Sequence[Effect] | None
) -> tuple[list[ArmReport], list[Effect] | None, int]:
    """Holm's correction over all comparisons together."""
    compared = [arm.compared for arm in arms] + [effect.compared for effect in effects or ()]
    p_values = [each.contrast.p for each in compared if each and each.contrast.p is not None]
    corrected = iter(holm(p_values))

    def with_holm(item: Any) -> Any:
        if item.compared is None or item.compared.contrast.p is None:
            return item
        return replace(item, compared=replace(item.compared, p_holm=next(corrected)))

    return (
        [with_holm(arm) for arm in arms],
        None if effects is None else [with_holm(effect) for effect in effects],
        len(p_values),
    )


def _notes(sweep: Sweep, measure: Measure) -> list[str]:
    notes = []
    for arm in sweep.arms:
        finished = [trial for trial in arm.trials if trial.result]
        lost = [str(trial.seed) for trial in finished if measure.of(trial) is None]
        if lost:
            notes.append(f"{arm.name}: no finite {measure.metric} with seed {', '.join(lost)}, which counts nowhere.")
    for what, by_value in provenance(sweep.trials).items():
        if what in OF_NUMBERS and len(by_value) > 1:
            each = "; ".join(f"{value} ({_trials(len(trials))})" for value, trials in by_value.items())
            notes.append(f"Not all trials have the same {what}: {each}. What differs may be owed to that.")
    return [*notes, *_undeciding(sweep)]


def _undeciding(sweep: Sweep) -> list[str]:
    """Of fields in which runs differ and are of the same arm."""
    planned = {name for arm in sweep.arms for name in arm.changes}
    found: dict[str, dict[str, int]] = {}
    for trial in sweep.trials:
        for name, value in described(trial.config).items() if trial.config else ():
            if not is_deciding(name) and name not in planned:
                by_value = found.setdefault(name, {})
                by_value[json.dumps(value)] = by_value.get(json.dumps(value), 0) + 1
    return [
        f"Not all trials have the same {name}, which is no arm of its own: "
        + "; ".join(f"{value} ({_trials(n)})" for value, n in by_value.items())
        + "."
        for name, by_value in found.items()
        if len(by_value) > 1
    ]


def _trials(n: int) -> str:
    return f"{n} trial{'s' * (n != 1)}"
