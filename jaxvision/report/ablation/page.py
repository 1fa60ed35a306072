"""The report as an HTML page that is one file."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from jaxvision.report.ablation.analysis import ArmReport, Compared, Report, TrialReport
from jaxvision.report.ablation.conclusion import conclusion
from jaxvision.report.ablation.interactive import SCRIPT, STYLE
from jaxvision.report.ablation.plots import curves, forest, wrapping
from jaxvision.report.ablation.rows import arm_rows, difference_rows, effect_rows
from jaxvision.report.ablation.words import (
    DESIGN_WORDS,
    NOT_KNOWN,
    amount,
    arm_label,
    asked,
    bounds,
    count,
    effect_name,
    is_told,
    method,
    metric_name,
    number,
    p_value,
    signed,
    trials_words,
)
from jaxvision.report.page import PERCENT, Child, Markup, Section, document, element, facts, joined, row_head, table_of
from jaxvision.train.result import duration

Pages = Mapping[str, str]
"""Addresses of files about single trials, {run folder as the report names it: address}."""


def as_page(report: Report, pages: Pages) -> str:
    """The page."""
    sections = [
        Section("Conclusion", asked(report), [_findings(report)]),
        _arms_section(report),
    ]
    if report.effects:
        sections.append(_effects(report))
    sections += [
        Section("Curves", f"{report.measure.metric.replace('_', ' ').capitalize()} over the epochs.", curves(report)),
    ]
    if len(report.arms) > 1:
        intro = "Fields in which its configuration differs from the base's."
        sections.append(Section("What each arm changes", intro, [_changes(report)]))
    sections += [
        Section("Trials", f"{trials_words(report)}.", [_trials(report, pages)]),
        Section("Where they ran", "What the trials share, and where they differ.", [_provenance(report)]),
        Section("How the numbers are made", "", [element("p", words) for words in method(report)]),
    ]  # fmt: skip
    return document(report.name, sections, lead=_lead(report), style=STYLE, script=SCRIPT)


def _lead(report: Report) -> list[Markup]:
    base = next(arm for arm in report.arms if arm.name == report.base)
    is_compared = len(report.arms) > 1
    seeds = {trial.seed for trial in report.trials} - {None}
    tiles: dict[str, Child] = {
        f"{metric_name(report)} of the base" if is_compared else metric_name(report): number(
            base.interval.mean if base.interval else None
        ),
        "arms": len(report.arms),
        "seeds": len(seeds),
        "trials finished": f"{report.counts()['finished']} of {len(report.trials)}",
    }
    about: dict[str, Child] = {"design": DESIGN_WORDS.get(report.design, report.design)}
    about |= {"base": wrapping(report.base)} if is_compared else {}
    about |= {f"factor {name}": ", ".join(levels) for name, levels in report.factors.items()}
    parts = [element("p", report.summary) if report.summary else None, facts(tiles, class_="tiles"), facts(about)]
    if report.notes:
        parts.append(element("ul", *(element("li", note) for note in report.notes), class_="notes"))
    return [part for part in parts if part is not None]


def _findings(report: Report) -> Markup:
    return element("ul", *(element("li", words) for words in conclusion(report)), class_="findings")


def _arms_section(report: Report) -> Section:
    intro = "Runs that differ in nothing but their seed are an arm."
    base = next(arm for arm in report.arms if arm.name == report.base).interval
    words = {"mean": "mean", "reference": "mean of the base", "told": "differs from the base (p < 0.05)"}
    parts = [
        element("h3", f"{metric_name(report).capitalize()} over seeds"),
        forest(arm_rows(report), reference=base.mean if base and len(report.arms) > 1 else None, words=words),
    ]
    differences = difference_rows(report)
    if differences:
        words = {**words, "mean": "mean of the differences", "reference": "no difference"}
        parts += [
            element("h3", "Difference to the base, seed by seed"),
            forest(differences, reference=0.0, words=words),
        ]
    parts.append(element("h3", "All numbers"))
    if report.comparisons > 1:
        words_of_p = "p is corrected for how many comparisons there are, intervals are not."
        parts.append(element("p", words_of_p, class_="soft"))
    parts.append(_arms(report))
    return Section("Arms", intro, parts)


def _heads(*heads: tuple[str, bool]) -> list[Markup]:
    """Names of columns, and whether they hold numbers."""
    return [
        element("th", name, scope="col", data_kind="number")
        if is_number
        else element("th", name, scope="col", class_="words")
        for name, is_number in heads
    ]


def _cell(words: Child, value: float | str | None = None, *, class_: str | None = None) -> Markup:
    """A cell with what it is sorted by."""
    return element("td", words, data_value="" if value is None else value, class_=class_)


def _arms(report: Report) -> Markup:
    seeds = sorted({seed for arm in report.arms for seed in arm.values})
    p_name = "p (Holm)" if report.comparisons > 1 else "p"
    compared = [("difference to the base", True), (f"its 95{PERCENT} interval", True), (p_name, True)]
    head = _heads(
        ("arm", False), ("seeds", True), (metric_name(report), True), (f"95{PERCENT} interval", True),
        *(compared if len(report.arms) > 1 else ()), ("parameters", True), ("FLOPs of a prediction", True),
        ("time of a run", True), ("images/s in training", True), *((f"seed {seed}", True) for seed in seeds),
    )  # fmt: skip
    rows = [_arm_row(report, arm, seeds) for arm in report.arms]
    return _sortable("arms", "Arms: means over seeds and what they cost", head, rows)


def _arm_row(report: Report, arm: ArmReport, seeds: Sequence[int]) -> list[Markup]:
    interval, cost = arm.interval, arm.cost
    return [
        row_head(wrapping(arm_label(report, arm.name))),
        _cell(f"{len(arm.values)} of {arm.planned}", len(arm.values)),
        _cell(number(interval.mean if interval else None), interval.mean if interval else None),
        _cell(bounds(interval), interval.low if interval else None),
        *(_comparison(arm.compared) if len(report.arms) > 1 else ()),
        _cell(NOT_KNOWN if cost.parameters is None else f"{cost.parameters:,}", cost.parameters),
        _cell(amount(cost.flops), cost.flops),
        _cell(NOT_KNOWN if cost.seconds is None else duration(cost.seconds), cost.seconds),
        _cell(NOT_KNOWN if cost.images_per_second is None else f"{cost.images_per_second:,.0f}",
              cost.images_per_second),
        *(_cell(number(arm.values.get(seed)), arm.values.get(seed)) for seed in seeds),
    ]  # fmt: skip


def _comparison(compared: Compared | None) -> list[Markup]:
    """Difference, interval, p."""
    found = compared.contrast if compared else None
    told = "told" if is_told(compared) else None
    p = compared.p_holm if compared else None
    return [
        _cell(signed(found.mean if found else None), found.mean if found else None, class_=told),
        _cell(bounds(found, sign=True), found.low if found else None, class_=told),
        _cell(p_value(p), p, class_=told),
    ]


def _effects(report: Report) -> Section:
    rows = []
    for effect in report.effects or ():
        found = effect.compared.contrast if effect.compared else None
        rows.append([
            row_head(effect_name(effect.chosen, effect.instead)),
            element("td", "factor" if len(effect.chosen) == 1 else "pair", class_="words"),
            *_comparison(effect.compared),
            _cell(count(found.n, "seed") if found else "no seed has all arms", found.n if found else None),
        ])  # fmt: skip
    p_name = "p (Holm)" if report.comparisons > 1 else "p"
    head = _heads(("effect", False), ("kind", False), ("effect on the mean", True), (f"95{PERCENT} interval", True),
                  (p_name, True), ("of", True))  # fmt: skip
    intro = (
        f"What a level does to {metric_name(report)} instead of the base's, over all levels of the other factors; and"
        " how much more two do together than their effects added up."
    )
    parts = [_sortable("effects", "Effects of factors and of pairs", head, rows)]
    drawn = effect_rows(report)
    if drawn:
        words = {"mean": "mean of the seeds' effects", "reference": "no effect", "told": "an effect (p < 0.05)"}
        parts.insert(0, forest(drawn, reference=0.0, words=words))
    return Section("Effects", intro, parts)


def _changes(report: Report) -> Markup:
    rows = [
        [row_head(wrapping(arm.name)), *(_code(words) for words in (field, _value(before), _value(after)))]
        for arm in report.arms
        for field, (before, after) in arm.changes.items()
    ]
    if not rows:
        return element("p", "No arm differs from the base.")
    head = _heads(("arm", False), ("field", False), ("base", False), ("here", False))
    return _sortable("changes", "Fields that differ from the base", head, rows)


def _code(words: str) -> Markup:
    return element("td", element("code", wrapping(words)), class_="words")


def _value(value: Any) -> str:
    return NOT_KNOWN if value is None else value if isinstance(value, str) else json.dumps(value)


def _trials(report: Report, pages: Pages) -> Markup:
    rows = [_trial_row(trial, pages.get(trial.folder)) for trial in report.trials]
    head = _heads(("arm", False), ("seed", True), ("status", False), (metric_name(report), True), ("epochs", True),
                  ("time", True), ("page or message", False),
                  ("run folder", False))  # fmt: skip
    return _sortable("trials", "All trials that were planned", head, rows)


def _trial_row(trial: TrialReport, page: str | None) -> list[Markup]:
    more: Child = None
    if page is not None:
        more = element("a", f"page of {trial.arm}, seed {trial.seed}", href=page)
    elif trial.message:
        first, _, rest = trial.message.partition("\n")
        more = joined([element("span", first), element("details", element("summary", "all of it"),
                                                       element("pre", trial.message)) if rest else None])  # fmt: skip
    return [
        row_head(wrapping(trial.arm or NOT_KNOWN)),
        _cell(NOT_KNOWN if trial.seed is None else trial.seed, trial.seed),
        element("td", element("span", trial.status, class_=f"status {trial.status}"), class_="words"),
        _cell(number(trial.value), trial.value),
        _cell(NOT_KNOWN if trial.epochs is None else trial.epochs, trial.epochs),
        _cell(NOT_KNOWN if trial.seconds is None else duration(trial.seconds), trial.seconds),
        element("td", more, class_="words"),
        element("td", element("code", trial.folder), class_="path"),
    ]


def _provenance(report: Report) -> Markup:
    rows = []
    for what, by_value in report.provenance.items():
        common = len(by_value) == 1
        for value, trials in by_value.items():
            which = "all" if common else f"{count(len(trials), 'trial')}: {', '.join(trials)}"
            rows.append([row_head(what), *(element("td", words, class_="words") for words in (value, which))])
    head = _heads(("what", False), ("value", False), ("of", False))
    return _sortable("provenance", "Data, source, versions and devices of the finished trials", head, rows)


def _sortable(name: str, caption: str, head: Sequence[Markup], rows: Sequence[Sequence[Markup]]) -> Markup:
    return table_of(caption, head, rows, class_="sortable", id_=f"table-{name}")
