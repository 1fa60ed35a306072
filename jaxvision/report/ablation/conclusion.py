"""What a report finds, in plain words, and what cannot be told from so few seeds."""

from collections.abc import Sequence

from jaxvision.report.ablation.analysis import ArmReport, Compared, Effect, Report
from jaxvision.report.ablation.words import (
    bounds,
    count,
    effect_name,
    is_told,
    listed,
    metric_name,
    number,
    p_value,
    percent,
    signed,
)


def conclusion(report: Report) -> list[str]:
    """Sentences, one for each finding, and what cannot be told."""
    arms = [arm for arm in report.arms if arm.name != report.base]
    base = next(arm for arm in report.arms if arm.name == report.base)
    if not base.values:
        return [f"The base, {report.base}, has no finished trial: nothing can be compared with it."]
    told = [arm for arm in arms if is_told(arm.compared)]
    said = [_overview(report, told, len(arms)), *(_difference(report, arm) for arm in told)] if arms else []
    said += _untold(report, [arm for arm in arms if arm.compared and not is_told(arm.compared)])
    for words, found in (
        ("has no finished trial", [arm.name for arm in arms if not arm.values]),
        ("has no seed in common with the base", [arm.name for arm in arms if arm.values and not arm.compared]),
    ):
        said += [f"{name} {words}: nothing is said of it." for name in found]
    return [*said, *_effects(report)] or ["There is one arm alone, and nothing to compare it with."]


def _overview(report: Report, told: Sequence[ArmReport], of: int) -> str:
    """Of 5 arms beside the base, full, 2 differ from it: 0 better, 2 worse."""
    better = sum(_is_better(report, arm) for arm in told)
    differ = f"{len(told)} differ{'s' * (len(told) == 1)}" if told else "none can be told to differ"
    how = f": {better} better, {len(told) - better} worse" if told else ""
    return f"Of {count(of, 'arm')} beside the base, {report.base}, {differ} from it{how}."


def _is_better(report: Report, arm: ArmReport) -> bool:
    assert arm.compared is not None
    return (arm.compared.contrast.mean < 0) == report.measure.lower_is_better


def _difference(report: Report, arm: ArmReport) -> str:
    assert arm.compared is not None
    better = "better" if _is_better(report, arm) else "worse"
    return f"{arm.name} is {better} than the base: {metric_name(report)} {_by(arm.compared, report)}."


def _by(compared: Compared, report: Report) -> str:
    """lower by 0.0210 (95 % interval -0.03 to -0.01, p = 0.012 after Holm's correction, 3 seeds)"""
    found = compared.contrast
    corrected = " after Holm's correction" if report.comparisons > 1 else ""
    return (
        f"{'higher' if found.mean > 0 else 'lower'} by {number(abs(found.mean))} ({percent(report.confidence)} interval"
        f" {bounds(found, sign=True)}, {_is(compared.p_holm)}{corrected}, {count(found.n, 'seed')})"
    )


def _is(p: float | None) -> str:
    """p < 0.001, p = 0.012"""
    words = p_value(p)
    return f"p {words if words.startswith('<') else f'= {words}'}".replace(" ", "\N{NO-BREAK SPACE}")


def _untold(report: Report, arms: Sequence[ArmReport]) -> list[str]:
    """Arms whose difference to the base is not told, by why."""
    tested = [arm for arm in arms if arm.compared and arm.compared.p_holm is not None]
    single = [arm.name for arm in arms if arm.compared and arm.compared.contrast.n == 1]
    rigid = [arm.name for arm in arms if arm not in tested and arm.name not in single]
    said = []
    by_seeds: dict[int, list[ArmReport]] = {}
    for arm in tested:
        assert arm.compared is not None
        by_seeds.setdefault(arm.compared.contrast.n, []).append(arm)
    for n, each in by_seeds.items():
        lows = [arm.compared.contrast.low for arm in each if arm.compared]
        highs = [arm.compared.contrast.high for arm in each if arm.compared]
        low, high = (signed(choose(v for v in ends if v is not None)) for choose, ends in ((min, lows), (max, highs)))
        said.append(
            f"No difference to the base can be told with {count(n, 'seed')} for {listed([arm.name for arm in each])}."
            f" That is not the same as none: differences from {low} to {high} are within"
            f" {'its interval' if len(each) == 1 else 'their intervals'}."
        )
    if single:
        said.append(
            f"{listed(single)}: one seed in common with the base, so there is no interval, and no difference can be"
            " told from chance. Run more seeds."
        )
    if rigid:
        said.append(
            f"{listed(rigid)}: the same difference to the base with every seed, from whose spread no interval can be"
            " made."
        )
    return said


def _effects(report: Report) -> list[str]:
    """What is told of factors and pairs, and what cannot be."""
    effects = report.effects or ()
    said = [_effect(report, effect) for effect in effects if is_told(effect.compared)]
    tested = [effect for effect in effects if effect.compared and effect.compared.p_holm is not None]
    open_ = [effect for effect in tested if not is_told(effect.compared)]
    if open_:
        names = listed([effect_name(effect.chosen, effect.instead) for effect in open_])
        said.append(f"No effect can be told over all levels of the other factors for {names}.")
    few = [effect for effect in effects if effect not in tested]
    if few:
        names = listed([effect_name(effect.chosen, effect.instead) for effect in few])
        said.append(
            f"Too few seeds are finished in all arms concerned for an interval over all levels of the other factors for"
            f" {names}."
        )
    return said


def _effect(report: Report, effect: Effect) -> str:
    assert effect.compared is not None
    words, name = _by(effect.compared, report), effect_name(effect.chosen, effect.instead)
    if len(effect.chosen) == 1:
        return f"Over all levels of the other factors, {name} makes {metric_name(report)} {words}."
    return f"{name}: both together make {metric_name(report)} {words} than their effects added up."
