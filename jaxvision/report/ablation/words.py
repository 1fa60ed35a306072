"""Numbers and methods in words, as the page and the Markdown say them."""

from collections.abc import Mapping, Sequence

from jaxvision.report.ablation.analysis import Compared, Report
from jaxvision.report.page import PERCENT
from jaxvision.report.results import METRIC_WORDS
from jaxvision.report.statistics import Interval

LEVEL = 0.05
"""Of p after correction, below which a difference is told."""

NOT_KNOWN = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"

PART_WORDS = {"train": "training", "validation": "validation", "test": "test"}

DESIGN_WORDS = {
    "factorial": "factorial: all combinations of the parts",
    "grid": "grid: all combinations of the levels",
    "leave-one-out": "leave one out: the base, and the base without each part",
    "one-at-a-time": "one at a time: the base, and every other level of each factor alone",
    None: "runs grouped by configuration",
}


def number(value: float | None) -> str:
    """0.9871"""
    return NOT_KNOWN if value is None else f"{value:.4f}".replace("-", MINUS)


def signed(value: float | None) -> str:
    """+0.0123"""
    return NOT_KNOWN if value is None else f"{value:+.4f}".replace("-", MINUS)


def bounds(interval: Interval | None, *, sign: bool = False) -> str:
    """0.9812 to 0.9930"""
    if interval is None or interval.low is None:
        return NOT_KNOWN
    show = signed if sign else number
    return f"{show(interval.low)} to {show(interval.high)}"


def p_value(p: float | None) -> str:
    """0.012, or < 0.001"""
    if p is None:
        return NOT_KNOWN
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def amount(value: float | None) -> str:
    """1.2 k, 104 k, 6.3 M, 18.9 G"""
    if value is None:
        return NOT_KNOWN
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}" if value < 999.5 * size else f"{value / size:,.0f} {unit}"
    return f"{value:.0f}"


def percent(share: float) -> str:
    """95 %"""
    return f"{100 * share:.0f}{PERCENT}"


def count(n: int, what: str) -> str:
    """1 seed, 3 seeds"""
    return f"{n:,} {what}{'s' * (n != 1)}"


def listed(names: Sequence[str]) -> str:
    """a, b and c"""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def metric_name(report: Report) -> str:
    """validation accuracy"""
    words = METRIC_WORDS.get(report.measure.metric, report.measure.metric.replace("_", " "))
    return f"{PART_WORDS[report.measure.part]} {words}"


def arm_label(report: Report, name: str) -> str:
    """without-dropout, or full (base)"""
    return f"{name} (base)" if name == report.base and len(report.arms) > 1 else name


def effect_name(chosen: Mapping[str, str], instead: Mapping[str, str]) -> str:
    """dropout: with instead of without; or of a pair: dropout with x augmentation with."""
    if len(chosen) == 1:
        ((factor, level),) = chosen.items()
        return f"{factor}: {level} instead of {instead[factor]}"
    return f" {TIMES} ".join(f"{factor} {level}" for factor, level in chosen.items())


def is_told(compared: Compared | None) -> bool:
    """Whether a difference can be told from none."""
    return compared is not None and compared.p_holm is not None and compared.p_holm < LEVEL


def asked(report: Report) -> str:
    """What the numbers are."""
    better = "lower" if report.measure.lower_is_better else "higher"
    words = f"{metric_name(report).capitalize()} of each run's best checkpoint ({better} is better)."
    if report.measure.part == "validation":
        words += (
            " Where the best checkpoint is chosen on the same validation part, the numbers are a little too good, in"
            " all arms alike."
        )
    if report.measure.part == "train":
        words += " It was measured on what was trained on, and says nothing about other pictures."
    return words


def trials_words(report: Report) -> str:
    """16 of 18 trials finished; 1 failed, 1 missing."""
    counts = report.counts()
    others = [f"{n} {status}" for status, n in counts.items() if status != "finished"]
    rest = f"; {', '.join(others)}" if others else ""
    return f"{counts['finished']} of {count(len(report.trials), 'trial')} finished{rest}"


def method(report: Report) -> list[str]:
    """How the numbers are made, a paragraph each."""
    said = [
        f"An interval is Student's t interval of {percent(report.confidence)} over seeds: mean \N{PLUS-MINUS SIGN}"
        " t(n \N{MINUS SIGN} 1) s / \N{SQUARE ROOT}n. It speaks of other seeds on the same data, not of other data. One"
        " seed gives no interval."
    ]
    if len(report.arms) > 1:
        said.append(
            "A difference to the base is taken seed by seed, of the seeds that are finished in both, and then averaged:"
            " the paired t test. Its interval is not corrected for the number of comparisons."
        )
    if report.comparisons > 1:
        kinds = "differences to the base, effects of factors and pairs" if report.effects else "differences to the base"
        said.append(
            f"p is corrected by Holm's method for the {report.comparisons} comparisons of this report ({kinds}): below"
            f" {LEVEL:.2f} it counts as a difference, and the chance that any is told where there is none is at most"
            f" {percent(LEVEL)}."
        )
    elif report.comparisons == 1:
        said.append(f"There is one comparison, whose p needs no correction; below {LEVEL:.2f} it counts.")
    if report.effects is not None:
        said.append(
            "The effect of a factor's level is the mean of all arms that have it less the mean of those with the base's"
            " level, for each seed that all of them have. That of a pair is a difference of differences: how much the"
            " one changes what the other does; 0 where effects add up."
        )
    elif len(report.factors) > 1:
        said.append(
            "The arms are not all combinations of the factors' levels, so that effects over all levels and of pairs"
            " cannot be had; each level alone is compared with the base."
        )
    return said
