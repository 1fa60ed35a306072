"""Rows of the report's forest plots: arms, their differences to the base, effects."""

from jaxvision.figures.forest import Row
from jaxvision.report.ablation.analysis import Compared, Report
from jaxvision.report.ablation.words import arm_label, bounds, effect_name, is_told, number, signed


def arm_rows(report: Report) -> list[Row]:
    """Means of all arms."""
    rows = []
    for arm in report.arms:
        name, interval = arm_label(report, arm.name), arm.interval
        if interval is None:
            rows.append(Row(name, None, None, None, (), "no finished trial"))
            continue
        note = number(interval.mean) + (f" [{bounds(interval)}]" if interval.low is not None else "")
        values = tuple(arm.values.values())
        rows.append(Row(name, interval.mean, interval.low, interval.high, values, note, is_told(arm.compared)))
    return rows


def difference_rows(report: Report) -> list[Row]:
    """Differences to the base of the arms that have any."""
    return [_row(arm.name, arm.compared) for arm in report.arms if arm.compared]


def effect_rows(report: Report) -> list[Row]:
    """Effects of factors and pairs that can be had."""
    return [
        _row(effect_name(effect.chosen, effect.instead), effect.compared)
        for effect in report.effects or ()
        if effect.compared
    ]


def _row(name: str, compared: Compared) -> Row:
    found = compared.contrast
    note = signed(found.mean) + (f" [{bounds(found, sign=True)}]" if found.low is not None else "")
    return Row(name, found.mean, found.low, found.high, found.values, note, is_told(compared))
