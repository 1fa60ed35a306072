"""The report as Markdown, to be pasted into a README."""

from collections.abc import Sequence

from jaxvision.report.ablation.analysis import ArmReport, Report
from jaxvision.report.ablation.conclusion import conclusion
from jaxvision.report.ablation.words import (
    NOT_KNOWN,
    amount,
    arm_label,
    asked,
    bounds,
    count,
    effect_name,
    method,
    metric_name,
    number,
    p_value,
    signed,
    trials_words,
)
from jaxvision.report.page import PERCENT
from jaxvision.train.result import duration


def as_markdown(report: Report, *, picture: str) -> str:
    """The report in short: findings, the arms, effects, what did not finish. picture: address of the forest plot."""
    paragraphs = [f"### {_text(report.name)}"]
    paragraphs += [_text(report.summary)] if report.summary else []
    paragraphs.append(f"{asked(report)} {trials_words(report)}.")
    paragraphs.append("\n".join(f"- {_text(sentence)}" for sentence in (*conclusion(report), *report.notes)))
    paragraphs.append(f"![{_text(metric_name(report))} of the arms with intervals](<{picture}>)")
    paragraphs.append(_arms(report))
    if report.effects:
        paragraphs.append(_effects(report))
    if rows := _unfinished(report):
        paragraphs.append(_table(["not finished", "", "message"], rows, numbers=0))
    paragraphs.append(" ".join(method(report)))
    return "\n\n".join(paragraphs) + "\n"


def _unfinished(report: Report) -> list[list[str]]:
    """A row for the seeds of an arm that ended alike."""
    seeds: dict[tuple[str, str, str], list[str]] = {}
    for trial in report.trials:
        if trial.status != "finished":
            first = trial.message.splitlines()[0] if trial.message else ""
            key = (trial.arm or trial.folder, trial.status, first)
            seeds.setdefault(key, []).extend([] if trial.seed is None else [str(trial.seed)])
    return [
        [f"{arm}, seed{'s' * (len(each) != 1)} {', '.join(each)}" if each else arm, status, message]
        for (arm, status, message), each in seeds.items()
    ]


def _arms(report: Report) -> str:
    p_name = "p (Holm)" if report.comparisons > 1 else "p"
    interval = f"95{PERCENT} interval"
    compared = ["difference to the base", interval, p_name] if len(report.arms) > 1 else []
    head = ["arm", "seeds", metric_name(report), interval, *compared, "parameters", "FLOPs", "time"]
    return _table(head, [_row(report, arm) for arm in report.arms], numbers=len(head) - 1)


def _row(report: Report, arm: ArmReport) -> list[str]:
    compared = arm.compared
    difference = compared.contrast if compared else None
    of_base = [
        signed(difference.mean if difference else None),
        bounds(difference, sign=True),
        p_value(compared.p_holm if compared else None),
    ]
    return [
        arm_label(report, arm.name),
        f"{len(arm.values)} of {arm.planned}",
        number(arm.interval.mean if arm.interval else None),
        bounds(arm.interval),
        *(of_base if len(report.arms) > 1 else ()),
        NOT_KNOWN if arm.cost.parameters is None else f"{arm.cost.parameters:,}",
        amount(arm.cost.flops),
        NOT_KNOWN if arm.cost.seconds is None else duration(arm.cost.seconds),
    ]


def _effects(report: Report) -> str:
    rows = []
    for effect in report.effects or ():
        compared = effect.compared
        found = compared.contrast if compared else None
        rows.append([
            effect_name(effect.chosen, effect.instead),
            signed(found.mean if found else None),
            bounds(found, sign=True),
            p_value(compared.p_holm if compared else None),
            count(found.n, "seed") if found else NOT_KNOWN,
        ])  # fmt: skip
    p_name = "p (Holm)" if report.comparisons > 1 else "p"
    return _table(["effect", "on the mean", f"95{PERCENT} interval", p_name, "of"], rows, numbers=4)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: int) -> str:
    """numbers: how many of the last columns stand to the right."""
    rule = ["---"] * (len(head) - numbers) + ["---:"] * numbers
    return "\n".join("| " + " | ".join(map(_text, row)) + " |" for row in (head, rule, *rows))


def _text(words: str) -> str:
    """As text in a table: no bar ends a cell, nothing is markup."""
    return "".join(f"\\{letter}" if letter in "|<>*_`[]\\" else letter for letter in " ".join(words.split()))
